//! `[labels]` and `[groups]` of a `model.toml`: checked. Pure.

use std::collections::{BTreeMap, HashSet};

use http::HeaderName;
use serde::Deserialize;

use crate::types::{
    CLASSES_MAX, GROUPINGS_MAX, GROUPS_MAX, GUARDED_GROUPS_MAX, GroupSource, Grouping,
    GuardPolicies, LabelSettings, Share, Task,
};

/// The longest name of a class or group, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// `[labels]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLabels {
    #[serde(default = "everything")]
    keep: Share,
    #[serde(default)]
    classes: Vec<String>,
    wrong_beyond: Option<f64>,
    wrong_max: Option<Share>,
}

const fn everything() -> Share {
    Share::ALL
}

/// `[groups.<name>]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGrouping {
    column: Option<String>,
    header: Option<String>,
    parameter: Option<String>,
    values: Vec<String>,
}

/// Checks both; `None` without `[labels]`.
pub(super) fn check(
    labels: Option<RawLabels>,
    groups: BTreeMap<String, RawGrouping>,
) -> Result<Option<LabelSettings>, String> {
    let Some(RawLabels { keep, classes, wrong_beyond, wrong_max }) = labels else {
        return match groups.keys().next() {
            Some(name) => Err(format!(
                "groups.{name}: expected a table [labels] as well: groups are told of answers \
                 that are kept"
            )),
            None => Ok(None),
        };
    };
    if classes.len() > CLASSES_MAX || classes.len() == 1 {
        let got = classes.len();
        return Err(format!("labels.classes: expected 2 to {CLASSES_MAX} names, got {got}"));
    }
    check_names("labels.classes", &classes)?;
    if groups.len() > GROUPINGS_MAX {
        return Err(format!("groups: expected at most {GROUPINGS_MAX}, got {}", groups.len()));
    }
    if let Some(beyond) = wrong_beyond
        && !(beyond.is_finite() && beyond >= 0.0)
    {
        return Err(format!("labels.wrong_beyond: expected a number from 0, got {beyond}"));
    }
    let groupings = groups.into_iter().map(|(name, raw)| grouping(name, raw));
    let groupings = groupings.collect::<Result<_, _>>()?;
    Ok(Some(LabelSettings { keep, classes, wrong_beyond, wrong_max, groupings }))
}

/// Whether what is said of labels fits what the model answers.
pub(super) fn check_task(labels: Option<&LabelSettings>, task: Option<Task>) -> Result<(), String> {
    let numbers = task == Some(Task::Regression);
    if numbers && labels.is_some_and(|labels| labels.wrong_max.is_some()) {
        return Err(
            "labels.wrong_max: expected a model that answers classes; see the errors of a \
                    regression"
                .to_owned(),
        );
    }
    Ok(())
}

/// Whether the guards that judge by labels, groups or both have what they judge by.
pub(super) fn check_guards(
    guards: &GuardPolicies,
    labels: Option<&LabelSettings>,
    task: Option<Task>,
) -> Result<(), String> {
    for (name, own) in [("wrong", &guards.wrong), ("fairness", &guards.fairness)] {
        if !own.enabled {
            continue;
        }
        let at = |problem: &str| Err(format!("rollout.guards.{name}: expected {problem}"));
        let Some(labels) = labels else {
            return at("a table [labels] as well: it judges by labels");
        };
        // Without either it is not known beforehand whether classes are answered.
        let has_classes = task == Some(Task::Classification) || !labels.classes.is_empty();
        if !has_classes && labels.wrong_beyond.is_none() {
            return at(
                "task = \"classification\", or labels.wrong_beyond: how far off a number is \
                       wrong",
            );
        }
        if name == "fairness" {
            check_groups(name, labels)?;
        }
    }
    if guards.parity.enabled {
        let at = |problem: &str| Err(format!("rollout.guards.parity: expected {problem}"));
        let Some(labels) = labels else {
            return at("a table [labels] as well: it judges by the answers that are kept");
        };
        if task != Some(Task::Classification) {
            return at("task = \"classification\": it compares how often a class is answered");
        }
        if labels.keep == Share::ZERO {
            return at("labels.keep above 0%: it judges by the answers that are kept");
        }
        if labels.classes.len() != 2 {
            return at(&format!(
                "two classes in labels.classes, the second being what groups are selected for; got \
                 {}",
                labels.classes.len()
            ));
        }
        check_groups("parity", labels)?;
    }
    Ok(())
}

/// Whether there are groups, and not too many to be judged.
fn check_groups(guard: &str, labels: &LabelSettings) -> Result<(), String> {
    let groups: usize = labels.groupings.iter().map(|own| own.values.len() + 1).sum();
    if (1..=GUARDED_GROUPS_MAX).contains(&groups) {
        return Ok(());
    }
    Err(format!(
        "rollout.guards.{guard}: expected 1 to {GUARDED_GROUPS_MAX} groups in [groups], with those \
         of other values; got {groups}"
    ))
}

fn grouping(name: String, raw: RawGrouping) -> Result<Grouping, String> {
    let at = |problem: String| format!("groups.{name}: {problem}");
    let source = match (raw.column, raw.header, raw.parameter) {
        (Some(column), None, None) => GroupSource::Column(column),
        (None, None, Some(parameter)) => {
            check_names(&format!("groups.{name}.parameter"), std::slice::from_ref(&parameter))?;
            GroupSource::Parameter(parameter)
        }
        (None, Some(header), None) => {
            let name = header.parse::<HeaderName>();
            GroupSource::Header(name.map_err(|_| {
                at(format!("header: expected a header's name, such as \"x-plan\", got {header:?}"))
            })?)
        }
        (None, None, None) => {
            return Err(at("expected column, header or parameter, got none".into()));
        }
        _ => return Err(at("expected column, header or parameter, got several".into())),
    };
    if !(1..=GROUPS_MAX).contains(&raw.values.len()) {
        let got = raw.values.len();
        return Err(at(format!("values: expected 1 to {GROUPS_MAX}, got {got}")));
    }
    check_names(&format!("groups.{name}.values"), &raw.values)?;
    Ok(Grouping { name, source, values: raw.values })
}

fn check_names(key: &str, names: &[String]) -> Result<(), String> {
    let mut seen = HashSet::new();
    for (i, name) in names.iter().enumerate() {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            let got = name.len();
            return Err(format!("{key}[{i}]: expected 1 to {NAME_BYTES_MAX} bytes, got {got}"));
        }
        if !seen.insert(name) {
            return Err(format!("{key}[{i}]: {name:?} is named twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        labels: Option<RawLabels>,
        #[serde(default)]
        groups: BTreeMap<String, RawGrouping>,
    }

    fn parse(text: &str) -> Result<Option<LabelSettings>, String> {
        let File { labels, groups } = toml::from_str(text).unwrap();
        check(labels, groups)
    }

    #[test]
    fn nothing_is_kept_by_itself() {
        assert_eq!(parse(""), Ok(None));
        let kept = parse("[labels]").unwrap().unwrap();
        assert_eq!((kept.keep, kept.classes.len(), kept.groupings.len()), (Share::ALL, 0, 0));
    }

    #[test]
    fn everything_can_be_said() {
        let text = r#"
            [labels]
            keep = "25%"
            classes = ["no", "yes"]
            [groups.plan]
            column = "plan"
            values = ["basic", "pro"]
            [groups.land]
            header = "X-Land"
            values = ["de"]
            [groups.shop]
            parameter = "shop"
            values = ["7"]
        "#;
        let kept = parse(text).unwrap().unwrap();
        assert_eq!(kept.keep.percent(), 25.0);
        assert_eq!(kept.classes, ["no", "yes"]);
        let sources: Vec<_> = kept.groupings.iter().map(|g| (&*g.name, &g.source)).collect();
        let header = GroupSource::Header(HeaderName::from_static("x-land"));
        let column = GroupSource::Column("plan".into());
        let parameter = GroupSource::Parameter("shop".into());
        assert_eq!(sources, [("land", &header), ("plan", &column), ("shop", &parameter)]);
    }

    #[test]
    fn guards_by_labels_need_labels() {
        let mut guards = crate::types::RolloutPolicy::default().guards;
        assert_eq!(check_guards(&guards, None, None), Ok(()));
        guards.wrong.enabled = true;
        let told = |guards: &GuardPolicies, labels: &str, task| {
            check_guards(guards, parse(labels).unwrap().as_ref(), task).unwrap_err()
        };
        assert_eq!(
            told(&guards, "", None),
            "rollout.guards.wrong: expected a table [labels] as well: it judges by labels"
        );
        let regression = Some(Task::Regression);
        assert_eq!(
            told(&guards, "[labels]", regression),
            "rollout.guards.wrong: expected task = \"classification\", or labels.wrong_beyond: how \
             far off a number is wrong"
        );
        let labels = parse("[labels]\nwrong_beyond = 2").unwrap().unwrap();
        assert_eq!(check_guards(&guards, Some(&labels), regression), Ok(()));
        guards.fairness.enabled = true;
        assert_eq!(
            told(&guards, "[labels]\nclasses = [\"a\", \"b\"]", None),
            "rollout.guards.fairness: expected 1 to 32 groups in [groups], with those of other \
             values; got 0"
        );
    }

    #[test]
    fn parity_needs_two_classes_and_groups() {
        let mut guards = crate::types::RolloutPolicy::default().guards;
        guards.parity.enabled = true;
        let check =
            |labels: &str, task| check_guards(&guards, parse(labels).unwrap().as_ref(), Some(task));
        let told = |labels: &str| check(labels, Task::Classification).unwrap_err();
        assert_eq!(
            told(""),
            "rollout.guards.parity: expected a table [labels] as well: it judges by the answers \
             that are kept"
        );
        assert_eq!(
            check("[labels]", Task::Regression).unwrap_err(),
            "rollout.guards.parity: expected task = \"classification\": it compares how often a \
             class is answered"
        );
        assert_eq!(
            told("[labels]\nkeep = \"0%\""),
            "rollout.guards.parity: expected labels.keep above 0%: it judges by the answers that \
             are kept"
        );
        assert_eq!(
            told("[labels]"),
            "rollout.guards.parity: expected two classes in labels.classes, the second being what \
             groups are selected for; got 0"
        );
        let classes = "[labels]\nclasses = [\"no\", \"yes\"]\n";
        assert_eq!(
            told(classes),
            "rollout.guards.parity: expected 1 to 32 groups in [groups], with those of other \
             values; got 0"
        );
        let groups = "[groups.plan]\nheader = \"x-plan\"\nvalues = [\"pro\"]";
        assert_eq!(check(&format!("{classes}{groups}"), Task::Classification), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let group = |body: &str| format!("[labels]\n[groups.g]\n{body}");
        let cases = [
            (
                "[groups.g]\ncolumn = \"a\"\nvalues = [\"b\"]".to_owned(),
                "groups.g: expected a table [labels] as well: groups are told of answers that are \
                 kept",
            ),
            ("[labels]\nclasses = [\"a\"]".into(), "labels.classes: expected 2 to 32 names, got 1"),
            (
                "[labels]\nwrong_beyond = -1.0".into(),
                "labels.wrong_beyond: expected a number from 0, got -1",
            ),
            (
                "[labels]\nclasses = [\"a\", \"a\"]".into(),
                "labels.classes[1]: \"a\" is named twice",
            ),
            (group("values = [\"a\"]"), "groups.g: expected column, header or parameter, got none"),
            (
                group("header = \"a b\"\nvalues = [\"a\"]"),
                "groups.g: header: expected a header's name, such as \"x-plan\", got \"a b\"",
            ),
            (
                group("column = \"a\"\nheader = \"b\"\nvalues = [\"a\"]"),
                "groups.g: expected column, header or parameter, got several",
            ),
            (group("column = \"a\"\nvalues = []"), "groups.g: values: expected 1 to 32, got 0"),
            (
                group("column = \"a\"\nvalues = [\"\"]"),
                "groups.g.values[0]: expected 1 to 128 bytes, got 0",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(&text).unwrap_err(), expected, "{text}");
        }
    }
}
