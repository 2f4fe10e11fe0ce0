//! How long a rollout will take, for people.

use serde::Deserialize;

use crate::cli::rollout::render::short;
use crate::cli::table::Sheet;

/// A forecast, as the API shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Forecast {
    model: String,
    requests_per_second: f64,
    stages: Vec<Stage>,
}

#[derive(Debug, Deserialize)]
struct Stage {
    stage: String,
    max_seconds: f64,
    guards: Vec<Guard>,
    limits: Vec<Limit>,
    reachable: bool,
}

#[derive(Debug, Deserialize)]
struct Guard {
    guard: String,
    champion_rate: f64,
    margin: f64,
    not_worse_seconds: Option<f64>,
    fault_seconds: Vec<Option<f64>>,
    reachable: bool,
    tightest: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Limit {
    guard: String,
    limit: f64,
    not_worse_seconds: Option<f64>,
    fault_seconds: Vec<Option<f64>>,
    reachable: bool,
}

impl Forecast {
    pub(super) fn render(&self) -> String {
        let mut text = format!(
            "{}: {:.1} requests a second at present. Times are medians for one guard.\n",
            self.model, self.requests_per_second
        );
        for stage in &self.stages {
            text.push_str(&format!("\n{}\n{}", stage.title(), stage.table()));
        }
        text
    }
}

impl Stage {
    fn title(&self) -> String {
        let max = short(self.max_seconds);
        if self.stage.starts_with("watch") {
            return format!("{}: ends after {max} unless a fault is found", self.stage);
        }
        if self.reachable {
            return format!("{}: an equal version passes within {max}", self.stage);
        }
        format!("{}: STOPS in front of you after {max}, for want of traffic", self.stage)
    }

    fn table(&self) -> String {
        let mut sheet =
            Sheet::new(&["guard", "champion", "margin", "not worse", "2×", "3×", "5×", "fits"]);
        for guard in &self.guards {
            let fault = |i: usize| time(guard.fault_seconds.get(i).copied().flatten());
            let fits = match (guard.reachable, guard.tightest) {
                (true, _) => "yes".to_owned(),
                (false, Some(margin)) => format!("with margin {margin:.1}"),
                (false, None) => "no".to_owned(),
            };
            sheet.row([
                guard.guard.clone(),
                format!("{:.4}%", guard.champion_rate * 100.0),
                format!("{}", guard.margin),
                time(guard.not_worse_seconds),
                fault(1),
                fault(2),
                fault(3),
                fits,
            ]);
        }
        for limit in &self.limits {
            let fault = |i: usize| time(limit.fault_seconds.get(i).copied().flatten());
            sheet.row([
                limit.guard.clone(),
                String::new(),
                format!("{}%", limit.limit * 100.0),
                time(limit.not_worse_seconds),
                fault(1),
                fault(2),
                fault(3),
                if limit.reachable { "yes" } else { "no" }.to_owned(),
            ]);
        }
        sheet.render()
    }
}

fn time(seconds: Option<f64>) -> String {
    seconds.map_or("never".to_owned(), short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_without_the_traffic_for_it_says_so() {
        let guard = |reachable| {
            serde_json::json!({
                "guard": "errors", "champion_rate": 0.001, "margin": 10.0,
                "not_worse_seconds": 90.0, "fault_seconds": [null, 60.0, 30.0, 10.0],
                "reachable": reachable, "tightest": 25.0,
            })
        };
        let stage = |reachable| {
            serde_json::json!({
                "stage": "canary 1%", "max_seconds": 3600.0, "guards": [guard(reachable)],
                "limits": [{
                    "guard": "latency", "limit": 0.01, "not_worse_seconds": 7_200.0,
                    "fault_seconds": [null, null, 60.0, 10.0], "reachable": false,
                }],
                "reachable": reachable,
            })
        };
        let forecast: Forecast = serde_json::from_value(serde_json::json!({
            "model": "churn", "requests_per_second": 12.34, "stages": [stage(true), stage(false)],
        }))
        .unwrap();
        let text = forecast.render();
        assert!(text.starts_with("churn: 12.3 requests a second at present."), "{text}");
        assert!(text.contains("canary 1%: an equal version passes within 1h\n"), "{text}");
        assert!(text.contains("canary 1%: STOPS in front of you after 1h"), "{text}");
        assert!(text.contains("latency") && text.contains("2h"), "{text}");
        assert!(text.contains("1m 30s") && text.contains("with margin 25.0"), "{text}");
    }
}
