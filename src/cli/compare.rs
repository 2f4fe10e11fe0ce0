//! `foreshadow compare`: champion, canary and shadows side by side.

use clap::Args;

use crate::cli::client::{Admin, ClientArgs};
use crate::cli::failure::Failure;
use crate::cli::figures::{by_reason, count_and_rate, difference, seconds};
use crate::cli::reply::{
    ArmFigures, Comparison, Disagreement, Disagreements, ShadowFigures, Tensor,
};
use crate::cli::table::Sheet;
use crate::cli::{ModelArg, output};

/// The most disagreements shown for each shadow.
const WORST_SHOWN: usize = 5;
/// The most numbers shown of a tensor.
const NUMBERS_SHOWN: usize = 12;

/// Compare champion, canary and shadows of a model.
#[derive(Debug, Args)]
#[command(after_help = "\
The first table counts what clients were answered, the second what the shadows
made of copies of the champion's requests. p50 and p99 are times in the engine;
CPU/run is what to compare a shadow's cost by, as it only runs on what is left.

Examples:
  foreshadow compare churn
  foreshadow compare churn --worst
  foreshadow compare churn --json")]
pub(super) struct CompareArgs {
    #[command(flatten)]
    which: ModelArg,
    /// Show the requests on which a shadow differed most, too
    #[arg(long)]
    worst: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: &CompareArgs) -> Result<(), Failure> {
    let admin = args.client.connect()?;
    let mut reply = admin.get_json(&format!("/v1/models/{}/compare", args.which.model)).await?;
    let comparison: Comparison = admin.parse(reply.clone())?;
    let mut text = render(&comparison);
    for (i, shadow) in comparison.shadows.iter().enumerate().filter(|_| args.worst) {
        let worst = worst(&admin, &comparison.model, shadow.version).await?;
        let parsed: Disagreements = admin.parse(worst.clone())?;
        text.push_str(&render_worst(shadow.version, &parsed.disagreements));
        let shadow = reply.get_mut("shadows").and_then(|all| all.get_mut(i)?.as_object_mut());
        if let Some(shadow) = shadow {
            shadow.insert("worst".into(), worst["disagreements"].clone());
        }
    }
    if args.client.json {
        return output::print_json(&reply);
    }
    output::print(&text);
    Ok(())
}

async fn worst(admin: &Admin, model: &str, version: u64) -> Result<serde_json::Value, Failure> {
    admin.get_json(&format!("/v1/models/{model}/shadows/{version}/disagreements")).await
}

/// Both tables.
pub(super) fn render(comparison: &Comparison) -> String {
    let mut text = format!("{}: {}\n\n", comparison.model, comparison.plan.in_words());
    text.push_str(&answers(comparison));
    if !comparison.shadows.is_empty() {
        text.push_str("\n\nShadows, on copies of the champion's requests:\n\n");
        text.push_str(&shadows(comparison));
    }
    text.push('\n');
    text
}

fn answers(comparison: &Comparison) -> String {
    let mut sheet = Sheet::new(&[
        "role",
        "version",
        "share",
        "requests",
        "errors",
        "non-finite",
        "p50",
        "p99",
        "CPU/run",
    ]);
    let roles = [("champion", &comparison.champion), ("canary", &comparison.canary)];
    for (role, figures) in roles {
        if let Some(figures) = figures {
            sheet.row(answer(role, figures));
        }
    }
    sheet.render()
}

fn answer(role: &str, figures: &ArmFigures) -> [String; 9] {
    let requests = figures.ok + figures.failed;
    [
        role.to_owned(),
        figures.version.to_string(),
        figures.share.clone(),
        requests.to_string(),
        count_and_rate(figures.failed, requests),
        count_and_rate(figures.nonfinite, requests),
        seconds(figures.inference_p50_seconds),
        seconds(figures.inference_p99_seconds),
        seconds(figures.cpu_mean_seconds),
    ]
}

fn shadows(comparison: &Comparison) -> String {
    let mut sheet = Sheet::new(&[
        "version",
        "sample",
        "compared",
        "rows disagree",
        "max diff",
        "mean diff",
        "CPU/run",
        "dropped",
        "failed",
    ]);
    for shadow in &comparison.shadows {
        sheet.row([
            shadow.version.to_string(),
            shadow.sample.clone(),
            shadow.compared.to_string(),
            count_and_rate(shadow.rows_disagreed, shadow.rows),
            difference_max(shadow),
            difference(shadow.difference_mean),
            seconds(shadow.cpu_mean_seconds),
            by_reason(&shadow.dropped),
            by_reason(&shadow.failures),
        ]);
    }
    sheet.render() + &comparison.shadows.iter().filter_map(noise).collect::<String>()
}

/// How often the champion differs from itself, where that is looked at.
fn noise(shadow: &ShadowFigures) -> Option<String> {
    let noise = shadow.noise.as_ref()?;
    let of = |count, all| format!("{} of {all}", count_and_rate(count, all));
    let failed = match noise.champion_failed {
        0 => String::new(),
        failed => format!("; {failed} it could not run again"),
    };
    Some(format!(
        "\n\nA lot gives each copy to either. From the champion's answer differ:\n  champion {}{failed}\n  \
         shadow {} {}",
        of(noise.champion_disagreed, noise.champion_compared),
        shadow.version,
        of(noise.shadow_disagreed, noise.shadow_compared),
    ))
}

/// JSON has no infinity: what was compared and has no largest difference had
/// a number beside something that is none.
fn difference_max(shadow: &ShadowFigures) -> String {
    if shadow.compared > 0 && shadow.difference_max.is_none() {
        return "infinite".into();
    }
    difference(shadow.difference_max)
}

fn render_worst(version: u64, worst: &[Disagreement]) -> String {
    if worst.is_empty() {
        return format!("\nShadow {version} never disagreed.\n");
    }
    let mut text = format!("\nShadow {version} disagreed most here:\n");
    for found in distinct(worst).into_iter().take(WORST_SHOWN) {
        text.push_str(&format!(
            "\n  {}: {} of {} rows disagree, max diff {}\n",
            found.prediction_id,
            found.rows_disagreed,
            found.rows,
            difference(found.difference_max)
        ));
        let parts =
            [("input", &found.inputs), ("champion", &found.champion), ("shadow", &found.shadow)];
        for (part, tensors) in parts {
            for tensor in tensors {
                let names = if part == "input" { &found.features[..] } else { &[] };
                text.push_str(&format!("    {part:<9}{}\n", numbers(tensor, names)));
            }
        }
    }
    text
}

/// Of requests with equal inputs the first is enough to look at.
fn distinct(worst: &[Disagreement]) -> Vec<&Disagreement> {
    let mut kept: Vec<&Disagreement> = Vec::new();
    for found in worst {
        if kept.iter().all(|earlier| earlier.inputs != found.inputs) {
            kept.push(found);
        }
    }
    kept
}

/// A tensor's name and first numbers; of a single row with named columns the
/// names and the numbers.
fn numbers(tensor: &Tensor, names: &[String]) -> String {
    let shown = tensor.data.iter().take(NUMBERS_SHOWN);
    let shown: Vec<_> = if names.len() == tensor.data.len() {
        shown.zip(names).map(|(number, name)| format!("{name} {number}")).collect()
    } else {
        shown.map(ToString::to_string).collect()
    };
    let more = if tensor.data.len() > NUMBERS_SHOWN {
        format!(", … ({} in all)", tensor.data.len())
    } else {
        String::new()
    };
    format!("{}: {}{more}", tensor.name, shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn comparison() -> Comparison {
        let arm = |version: u64, share: &str, ok: u64, failed: u64| {
            json!({
                "version": version, "share": share, "ok": ok, "failed": failed, "failures": {},
                "inference_p50_seconds": 12.34e-6, "inference_p99_seconds": 1.5e-3,
                "cpu_mean_seconds": 11e-6, "nonfinite": 0
            })
        };
        let comparison = json!({
            "model": "churn",
            "plan": {
                "generation": 1, "champion": {"version": 1},
                "canary": {"version": 2, "weight": "10%"},
                "shadows": [{"version": 3, "sample": "100%"}], "previous_champion": null
            },
            "champion": arm(1, "90%", 5400, 0),
            "canary": arm(2, "10%", 588, 12),
            "shadows": [{
                "version": 3, "sample": "100%", "compared": 5390, "disagreed": 221, "rows": 5390,
                "rows_disagreed": 221, "disagreement_rate": 0.041,
                "failures": {"panic": 2, "timeout": 1}, "dropped": {"queue_count": 10},
                "difference_max": 0.4321, "difference_mean": 0.0000123,
                "cpu_mean_seconds": 9.4e-6, "inference_p50_seconds": 1e-5,
                "inference_p99_seconds": null
            }]
        });
        serde_json::from_value(comparison).unwrap()
    }

    #[test]
    fn the_tables_are_golden_and_fit_a_terminal() {
        let text = render(&comparison());
        crate::golden::check("cli/compare-output.txt", &text);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        for figure in ["12 (2.00 %)", "221 (4.10 %)", "12.3 µs", "1.2e-5", "queue_count 10"] {
            assert!(text.contains(figure), "{figure:?} is not in {text}");
        }
    }

    #[test]
    fn the_champions_own_noise_stands_beside_the_shadows() {
        let mut comparison = comparison();
        comparison.shadows[0].noise = serde_json::from_value(json!({
            "champion_compared": 200, "champion_disagreed": 4, "champion_failed": 1,
            "shadow_compared": 210, "shadow_disagreed": 0
        }))
        .unwrap();
        let text = render(&comparison);
        let lines = "\n\nA lot gives each copy to either. From the champion's answer differ:\n  \
                     champion 4 (2.00 %) of 200; 1 it could not run again\n  shadow 3 0 of 210";
        assert!(text.contains(lines), "{text}");
    }

    #[test]
    fn worst_disagreements_are_shown_with_input_and_both_answers() {
        assert!(render_worst(3, &[]).contains("never disagreed"));
        let tensor = |name: &str, n: usize| json!({"name": name, "datatype": "FP32", "shape": [n], "data": vec![0.5; n]});
        let found = |id: &str, width| {
            json!({
                "prediction_id": id, "rows": 1, "rows_disagreed": 1, "difference_max": 0.25,
                "features": ["age"], "inputs": [tensor("x", width)], "champion": [tensor("y", 2)], "shadow": [tensor("y", 2)]
            })
        };
        let found = json!([found("p-1", 20), found("p-2", 20), found("p-3", 1)]);
        let found: Vec<Disagreement> = serde_json::from_value(found).unwrap();
        let text = render_worst(3, &found);
        assert!(text.contains("p-1: 1 of 1 rows disagree, max diff 0.250"), "{text}");
        assert!(text.contains("(20 in all)") && text.contains("shadow   y: 0.5, 0.5"), "{text}");
        // The second has the first one's input.
        assert!(!text.contains("p-2") && text.contains("p-3"), "{text}");
        assert!(text.contains("input    x: age 0.5\n"), "{text}");
    }
}
