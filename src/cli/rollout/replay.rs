//! A rollout's decisions made again, for people.

use serde::Deserialize;

/// What came out, as the API shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Replayed {
    id: u64,
    pub(super) same: bool,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Step {
    entry: u64,
    time: String,
    action: String,
    guards: usize,
    decision: Option<String>,
    different: Vec<String>,
}

impl Replayed {
    pub(super) fn render(&self) -> String {
        let verdict = if self.same { "comes out the same" } else { "does NOT come out the same" };
        let mut text = format!("rollout {} {verdict}", self.id);
        for Step { entry, time, action, guards, decision, different } in &self.steps {
            let time = time.split_once('.').map_or(time.as_str(), |(whole, _)| whole);
            text.push_str(&format!("\n  #{entry}  {time}  {action}: {guards} guards"));
            if let Some(decision) = decision {
                text.push_str(&format!(", {}", decision.replace('_', " ")));
            }
            match different.as_slice() {
                [] => text.push_str(", the same"),
                names => text.push_str(&format!(", DIFFERENT: {}", names.join(", "))),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let step = |different: &[&str]| {
            serde_json::json!({
                "entry": 9, "time": "2026-01-02T03:04:05.678Z", "action": "rollout 7: promoted",
                "guards": 7, "decision": (different.is_empty()).then_some("roll_back"),
                "different": different,
            })
        };
        let replayed: Replayed = serde_json::from_value(serde_json::json!({
            "id": 7, "same": false, "steps": [step(&[]), step(&["errors"])],
        }))
        .unwrap();
        assert_eq!(
            replayed.render(),
            "rollout 7 does NOT come out the same\n  \
             #9  2026-01-02T03:04:05  rollout 7: promoted: 7 guards, roll back, the same\n  \
             #9  2026-01-02T03:04:05  rollout 7: promoted: 7 guards, DIFFERENT: errors"
        );
    }
}
