//! `[capture]`: which answered requests are stored.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;

use crate::types::{CaptureRule, Share};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCapture {
    sample: Share,
    #[serde(default)]
    drop: Vec<String>,
    #[serde(default)]
    hash: Vec<String>,
    #[serde(default)]
    outputs_only: bool,
}

impl RawCapture {
    /// `None` where nothing is drawn.
    pub(super) fn check(self) -> Result<Option<Arc<CaptureRule>>, String> {
        let Self { sample, drop, hash, outputs_only } = self;
        let mut seen = HashSet::new();
        for (key, names) in [("drop", &drop), ("hash", &hash)] {
            for (i, name) in names.iter().enumerate() {
                if name.is_empty() {
                    return Err(format!("capture.{key}[{i}]: expected a column's name, got \"\""));
                }
                if !seen.insert(name) {
                    return Err(format!(
                        "capture.{key}[{i}]: {name:?} is named twice; expected once, in drop or \
                         in hash"
                    ));
                }
            }
        }
        let rule = CaptureRule { sample, drop, hash, outputs_only };
        Ok((sample > Share::ZERO).then(|| Arc::new(rule)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ModelFile;
    use super::*;

    fn parse(text: &str) -> Result<Option<Arc<CaptureRule>>, String> {
        let text = format!("[capture]\n{text}");
        ModelFile::parse(&text, &["tract"]).map(|file| file.settings.capture.clone())
    }

    #[test]
    fn what_is_stored_is_said_and_nothing_is_where_nothing_is_said() {
        assert_eq!(ModelFile::parse("", &["tract"]).unwrap().settings.capture, None);
        assert_eq!(parse("sample = \"0%\"").unwrap(), None);
        let rule =
            parse("sample = \"2.5%\"\ndrop = [\"name\"]\nhash = [\"email\"]\noutputs_only = true");
        let expected = CaptureRule {
            sample: Share::from_percent(2.5).unwrap(),
            drop: vec!["name".into()],
            hash: vec!["email".into()],
            outputs_only: true,
        };
        assert_eq!(rule.unwrap().as_deref(), Some(&expected));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("drop = []", "`sample`"),
            ("sample = \"200%\"", "200"),
            ("sample = \"5%\"\ndrop = [\"\"]", "capture.drop[0]: expected a column's name"),
            ("sample = \"5%\"\ndrop = [\"a\"]\nhash = [\"b\", \"a\"]", "capture.hash[1]: \"a\""),
            ("sample = \"5%\"\nkeep = []", "`keep`"),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(expected), "{expected:?} is not in {problem}");
        }
    }
}
