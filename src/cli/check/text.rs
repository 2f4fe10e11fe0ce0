//! What was checked, for the terminal.

use crate::cli::figures::seconds;
use crate::cli::report;
use crate::registry::{CheckStep, Checked, Status};

/// All of it.
pub(super) fn render(checked: &[Checked]) -> String {
    let mut text: String = checked.iter().map(one).collect();
    let passed = checked.iter().filter(|one| one.passed).count();
    let all = checked.len();
    let versions = if all == 1 { "version" } else { "versions" };
    text.push_str(&format!("{passed} of {all} {versions} passed"));
    text
}

fn one(checked: &Checked) -> String {
    let verdict = if checked.passed { "passed" } else { "FAILED" };
    let (time, found) = (seconds(Some(checked.seconds)), &checked.report);
    let folder = &checked.folder;
    let head = format!("{} {} ({folder}): {verdict} in {time}", checked.model, checked.version);
    let engine = format!("{} {}", found.engine, found.engine_version);
    let engine = (!found.engine.is_empty()).then(|| report::line("engine", &engine));
    let mut blocks = vec![
        std::iter::once(head)
            .chain(engine)
            .chain(report::signature(found))
            .chain(report::findings(found))
            .collect::<Vec<_>>()
            .join("\n"),
    ];
    blocks.extend(report::costs(found).map(|table| indented(&table)));
    blocks.push(steps(&checked.steps));
    blocks.join("\n\n") + "\n\n"
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!(" {line}")).collect::<Vec<_>>().join("\n")
}

/// One line for each step; one for all golden cases if none failed.
fn steps(steps: &[CheckStep]) -> String {
    let is_case = |step: &&CheckStep| step.name.starts_with("golden case");
    let cases = steps.iter().filter(is_case).count();
    let fold = steps.iter().filter(is_case).all(|step| step.status == Status::Passed);
    let mut lines = Vec::new();
    let mut folded = false;
    for step in steps {
        if fold && is_case(&step) {
            if !std::mem::replace(&mut folded, true) {
                let plural = if cases == 1 { "" } else { "s" };
                lines.push(format!("  ok    golden: {cases} case{plural}"));
            }
            continue;
        }
        lines.push(line(step));
    }
    lines.join("\n")
}

fn line(step: &CheckStep) -> String {
    let word = match step.status {
        Status::Passed => "ok   ",
        Status::Failed => "FAIL ",
        Status::Skipped => "-    ",
    };
    let detail = step.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
    format!("  {word} {}{detail}", step.name)
}
