//! `[labels]` and `[groups]` of a `model.toml`: checked. Pure.

use std::collections::{BTreeMap, HashSet};

use http::HeaderName;
use serde::Deserialize;

use crate::types::{
    CLASSES_MAX, GROUPINGS_MAX, GROUPS_MAX, GroupSource, Grouping, LabelSettings, Share,
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
    values: Vec<String>,
}

/// Checks both; `None` without `[labels]`.
pub(super) fn check(
    labels: Option<RawLabels>,
    groups: BTreeMap<String, RawGrouping>,
) -> Result<Option<LabelSettings>, String> {
    let Some(RawLabels { keep, classes }) = labels else {
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
    let groupings = groups.into_iter().map(|(name, raw)| grouping(name, raw));
    Ok(Some(LabelSettings { keep, classes, groupings: groupings.collect::<Result<_, _>>()? }))
}

fn grouping(name: String, raw: RawGrouping) -> Result<Grouping, String> {
    let at = |problem: String| format!("groups.{name}: {problem}");
    let source = match (raw.column, raw.header) {
        (Some(column), None) => GroupSource::Column(column),
        (None, Some(header)) => {
            let name = header.parse::<HeaderName>();
            GroupSource::Header(name.map_err(|_| {
                at(format!("header: expected a header's name, such as \"x-plan\", got {header:?}"))
            })?)
        }
        (Some(_), Some(_)) => return Err(at("expected column or header, got both".into())),
        (None, None) => return Err(at("expected column or header, got neither".into())),
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
        "#;
        let kept = parse(text).unwrap().unwrap();
        assert_eq!(kept.keep.percent(), 25.0);
        assert_eq!(kept.classes, ["no", "yes"]);
        let sources: Vec<_> = kept.groupings.iter().map(|g| (&*g.name, &g.source)).collect();
        let header = GroupSource::Header(HeaderName::from_static("x-land"));
        let column = GroupSource::Column("plan".into());
        assert_eq!(sources, [("land", &header), ("plan", &column)]);
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
                "[labels]\nclasses = [\"a\", \"a\"]".into(),
                "labels.classes[1]: \"a\" is named twice",
            ),
            (group("values = [\"a\"]"), "groups.g: expected column or header, got neither"),
            (
                group("header = \"a b\"\nvalues = [\"a\"]"),
                "groups.g: header: expected a header's name, such as \"x-plan\", got \"a b\"",
            ),
            (
                group("column = \"a\"\nheader = \"b\"\nvalues = [\"a\"]"),
                "groups.g: expected column or header, got both",
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
