//! The figures in the documents, between markers:
//!
//! ```text
//! <!-- onnx: summary -->1 of 2 cases pass (tract alone: 0)<!-- end -->
//! ```
//!
//! `summary` is a half sentence, `figures` a table by group, `operators` and
//! `cases` are tables of what does not pass.

use std::collections::BTreeMap;
use std::path::Path;

use crate::case;
use crate::outcome::Status;
use crate::results::Results;
use crate::suite::Suite;

const END: &str = "<!-- end -->";

/// `text` with the figures of `suite` renewed.
pub(crate) fn update(
    text: &str,
    suite: &Suite,
    folder: &Path,
    results: &Results,
) -> Result<String, String> {
    let text = replace(text, &suite.name, "summary", &results.summary())?;
    let text = replace(&text, &suite.name, "figures", &figures(suite, results))?;
    let text = replace(&text, &suite.name, "cases", &cases(results))?;
    replace(&text, &suite.name, "operators", &operators(folder, results))
}

/// Puts `figures` between the markers, where the text has them.
fn replace(text: &str, suite: &str, kind: &str, figures: &str) -> Result<String, String> {
    let marker = format!("<!-- {suite}: {kind} -->");
    let Some((before, rest)) = text.split_once(&marker) else { return Ok(text.to_owned()) };
    let (_, after) = rest.split_once(END).ok_or_else(|| format!("{marker} without {END}"))?;
    Ok(format!("{before}{marker}{figures}{END}{after}"))
}

/// A row for each group (the names up to the first `/`), and the sum.
fn figures(suite: &Suite, results: &Results) -> String {
    let mut groups = results.cases.keys().filter_map(|name| name.split_once('/'));
    let mut prefixes: Vec<String> = Vec::new();
    for (group, _) in groups.by_ref() {
        let prefix = format!("{group}/");
        if prefixes.last() != Some(&prefix) {
            prefixes.push(prefix);
        }
    }
    let mut text = format!("\n{}\n\n| | cases |", suite.title);
    Status::ALL.iter().for_each(|status| text += &format!(" {} |", status.as_str()));
    text += " tract alone passes |\n| --- | ---: |";
    Status::ALL.iter().for_each(|_| text += " ---: |");
    text += " ---: |\n";
    for prefix in prefixes.iter().map(String::as_str).chain([""]) {
        let cases = results.cases.keys().filter(|name| name.starts_with(prefix)).count();
        let name = if prefix.is_empty() { "all" } else { prefix.trim_end_matches('/') };
        text += &format!("| {name} | {cases} |");
        for status in Status::ALL {
            text += &format!(" {} |", results.count_of(prefix, status).0);
        }
        text += &format!(" {} |\n", results.count_of(prefix, Status::Passed).1);
    }
    text
}

/// Every case that does not pass, with its reason.
fn cases(results: &Results) -> String {
    let mut text = "\n| case | status | reason |\n| --- | --- | --- |\n".to_owned();
    for (name, outcome) in results.not_passed() {
        let reason = escape(&outcome.reason);
        text += &format!("| {name} | {} | {reason} |\n", outcome.status.as_str());
    }
    text
}

/// What does not pass, by the operators that the cases are about.
fn operators(folder: &Path, results: &Results) -> String {
    let mut rows: BTreeMap<String, ([usize; 5], &str)> = BTreeMap::new();
    for (name, outcome) in results.not_passed() {
        let (counts, first) = rows.entry(subject(&folder.join(name), &outcome.reason)).or_default();
        let at = Status::ALL.iter().position(|status| *status == outcome.status);
        counts[at.unwrap_or(0)] += 1;
        if first.is_empty() {
            *first = &outcome.reason;
        }
    }
    let mut text = "\n| operators | failed | unsupported | crashed | the first reason |\n\
                    | --- | ---: | ---: | ---: | --- |\n"
        .to_owned();
    for (operators, ([_, failed, unsupported, crashed, _], first)) in rows {
        let first = escape(&first.chars().take(90).collect::<String>());
        text += &format!("| {operators} | {failed} | {unsupported} | {crashed} | {first} |\n");
    }
    text
}

/// The operators that the engine lacks, or those of a small graph.
fn subject(case: &Path, reason: &str) -> String {
    if let Some(missing) = reason.strip_prefix("unsupported operators: ") {
        let mut names = missing.split("), ").filter_map(|part| part.split(' ').next());
        let mut names = names.by_ref().collect::<Vec<_>>();
        names.sort_unstable();
        names.dedup();
        return names.join(", ");
    }
    match case::operators(case) {
        names if (1..=3).contains(&names.len()) => names.join(", "),
        _ => "(larger graphs)".into(),
    }
}

fn escape(reason: &str) -> String {
    reason.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_between_the_markers_is_replaced() {
        let text = "a <!-- s: summary -->old<!-- end --> b <!-- t: summary -->x<!-- end -->";
        let renewed = replace(text, "s", "summary", "new").unwrap();
        assert_eq!(
            renewed,
            "a <!-- s: summary -->new<!-- end --> b <!-- t: summary -->x<!-- end -->"
        );
        assert_eq!(replace(text, "s", "cases", "new").unwrap(), text);
        assert!(replace("<!-- s: summary -->old", "s", "summary", "new").is_err());
    }

    #[test]
    fn missing_operators_are_the_subject() {
        let reason = "unsupported operators: A.B (node \"x\"), C (node \"y, z\"), A.B (node \"z\")";
        assert_eq!(subject(Path::new("/none"), reason), "A.B, C");
        assert_eq!(subject(Path::new("/none"), "panic"), "(larger graphs)");
    }
}
