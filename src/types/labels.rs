//! What a model's owner wants kept of its answers, to be joined with labels.

use http::HeaderName;
use serde::{Deserialize, Serialize};

use crate::types::feedback::{LabelValue, RowAnswer, Truth};
use crate::types::{Data, Share};

/// The most classes of a model whose quality is told.
pub const CLASSES_MAX: usize = 32;
/// The most ways to divide a model's rows into groups.
pub const GROUPINGS_MAX: usize = 8;
/// The most groups of one way.
pub const GROUPS_MAX: usize = 32;
/// The most groups that a rollout's guard judges.
pub const GUARDED_GROUPS_MAX: usize = 32;
/// The most rows of one request that are kept; the first ones.
pub const KEPT_ROWS_MAX: usize = 1024;
/// The group of rows whose value is none of those declared.
pub const OTHER: u8 = u8::MAX;

/// `[labels]` and `[groups]` of `model.toml`, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelSettings {
    /// The share of answered requests that is kept.
    pub keep: Share,
    /// Names of the classes, in the order of the model's scores; empty where they are the
    /// whole numbers from 0.
    pub classes: Vec<String>,
    /// A number that is farther than this from its label is wrong; `None` calls none so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong_beyond: Option<f64>,
    /// There is an alert when a larger share of the labelled answers is wrong; `None` for
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong_max: Option<Share>,
    /// Ways to divide the rows.
    pub groupings: Vec<Grouping>,
}

/// One way to divide the rows into groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grouping {
    /// Its name.
    pub name: String,
    /// Where the value comes from.
    pub source: GroupSource,
    /// The values that make a group; all others make one together.
    pub values: Vec<String>,
}

/// Where the value comes from that a row is put into a group by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupSource {
    /// A column of the inputs.
    Column(String),
    /// A header, or metadata of gRPC.
    Header(#[serde(with = "header")] HeaderName),
    /// A parameter of the request, or a key beside the rows of its body.
    Parameter(String),
}

/// A header's name as text.
mod header {
    use http::HeaderName;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(name: &HeaderName, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<HeaderName, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl Grouping {
    /// The group of a value, by its place among [`Grouping::values`].
    #[must_use]
    pub fn group(&self, value: &[u8]) -> u8 {
        let at = self.values.iter().position(|known| known.as_bytes() == value);
        at.and_then(|at| u8::try_from(at).ok()).unwrap_or(OTHER)
    }

    /// What a group is called.
    #[must_use]
    pub fn group_name(&self, group: u8) -> &str {
        self.values.get(usize::from(group)).map_or("(other)", |name| name)
    }
}

impl LabelSettings {
    /// The place of a class that is named so.
    #[must_use]
    pub fn class_named(&self, name: &[u8]) -> Option<u16> {
        let at = self.classes.iter().position(|class| class.as_bytes() == name);
        at.and_then(|at| u16::try_from(at).ok())
    }

    /// The place of a class that is this whole number: the class of this name where names are
    /// numbers, else the number itself.
    #[must_use]
    pub fn class_numbered(&self, number: i64) -> Option<u16> {
        if self.classes.iter().any(|class| class.parse::<i64>().is_ok()) {
            return self.class_named(number.to_string().as_bytes());
        }
        let classes = if self.classes.is_empty() { CLASSES_MAX } else { self.classes.len() };
        u16::try_from(number).ok().filter(|class| usize::from(*class) < classes)
    }

    /// The class of element `i` of a label output.
    #[must_use]
    pub fn class_of(&self, data: &Data, i: usize) -> Option<u16> {
        match data {
            Data::Bytes(texts) => {
                let text = texts.get(i)?;
                self.class_named(text).or_else(|| {
                    let number = std::str::from_utf8(text).ok()?.parse().ok()?;
                    self.classes.is_empty().then(|| self.class_numbered(number))?
                })
            }
            Data::Bool(truths) => self.class_of_bool(truths.get(i).copied()?),
            numbers => self.class_of_float(numbers.as_f64(i)?),
        }
    }

    fn class_of_bool(&self, truth: bool) -> Option<u16> {
        let named = self.class_named(if truth { b"true" } else { b"false" });
        named.or_else(|| self.class_numbered(i64::from(truth)))
    }

    fn class_of_float(&self, number: f64) -> Option<u16> {
        // Beyond 2^53 a number is no class.
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
        (number.fract() == 0.0 && number.abs() < 1e15)
            .then(|| self.class_numbered(number as i64))
            .flatten()
    }

    /// Whether an answer is wrong by its label. What is no answer at all (`None`), and one of
    /// a version that does not have the true class, is.
    #[must_use]
    pub fn is_wrong(&self, answer: Option<&RowAnswer>, label: &LabelValue) -> bool {
        let Some(answer) = answer else { return true };
        match (answer, self.truth(answer, label)) {
            (RowAnswer::Class { class, .. }, Ok(Truth::Class(truth))) => *class != truth,
            (RowAnswer::Value(value), Ok(Truth::Value(truth))) => {
                self.wrong_beyond.is_some_and(|beyond| (value - truth).abs() > beyond)
            }
            (RowAnswer::Class { .. }, Err(_)) => {
                !self.classes.is_empty() && self.class_of_label(label).is_some()
            }
            _ => false,
        }
    }

    fn class_of_label(&self, label: &LabelValue) -> Option<u16> {
        match label {
            LabelValue::Text(text) => self.class_of_text(text),
            LabelValue::Bool(truth) => self.class_of_bool(*truth),
            LabelValue::Number(number) => self.class_of_float(*number),
        }
    }

    /// What a label says was true of a row that was answered so; the error says what was
    /// expected instead.
    pub fn truth(&self, answer: &RowAnswer, label: &LabelValue) -> Result<Truth, String> {
        match answer {
            RowAnswer::Value(_) => match label {
                LabelValue::Number(value) => Ok(Truth::Value(*value)),
                LabelValue::Text(text) => {
                    let number = text.trim().parse::<f64>().ok().filter(|own| own.is_finite());
                    number
                        .map(Truth::Value)
                        .ok_or_else(|| format!("expected a number, got {label}"))
                }
                other => Err(format!("expected a number, got {other}")),
            },
            RowAnswer::Class { scores, .. } => {
                let class = self.class_of_label(label);
                // Without names the scores tell how many there are.
                let most = if scores.is_empty() { CLASSES_MAX } else { scores.len() };
                let class = class.filter(|class| usize::from(*class) < most);
                class.map(Truth::Class).ok_or_else(|| {
                    let classes = self.class_list(most);
                    format!("expected one of the classes {classes}, got {label}")
                })
            }
        }
    }

    fn class_of_text(&self, text: &str) -> Option<u16> {
        let number = || self.class_of_float(text.parse().ok()?);
        let truth = || match text {
            "true" | "True" | "TRUE" => self.class_of_bool(true),
            "false" | "False" | "FALSE" => self.class_of_bool(false),
            _ => None,
        };
        self.class_named(text.as_bytes()).or_else(number).or_else(truth)
    }

    fn class_list(&self, most: usize) -> String {
        if self.classes.is_empty() {
            return format!("0 to {}", most - 1);
        }
        self.classes.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(classes: &[&str]) -> LabelSettings {
        let classes = classes.iter().map(|class| (*class).to_owned()).collect();
        LabelSettings {
            keep: Share::ALL,
            classes,
            wrong_beyond: None,
            wrong_max: None,
            groupings: vec![],
        }
    }

    fn answer(class: u16) -> RowAnswer {
        RowAnswer::Class { class, scores: vec![] }
    }

    #[test]
    fn a_label_is_a_class_by_name_by_number_and_by_truth() {
        let named = settings(&["no", "yes"]);
        let numbered = settings(&[]);
        let text = |text: &str| LabelValue::Text(text.to_owned());
        let cases = [
            (&named, text("yes"), Ok(Truth::Class(1))),
            (&named, text("1"), Ok(Truth::Class(1))),
            (&named, LabelValue::Number(1.0), Ok(Truth::Class(1))),
            (&named, text("2"), Err("expected one of the classes no, yes, got \"2\"")),
            (&named, text("maybe"), Err("expected one of the classes no, yes, got \"maybe\"")),
            (&numbered, text("1"), Ok(Truth::Class(1))),
            (&numbered, LabelValue::Number(3.0), Ok(Truth::Class(3))),
            (&numbered, text("3.0"), Ok(Truth::Class(3))),
            (&numbered, text("True"), Ok(Truth::Class(1))),
            (&numbered, LabelValue::Bool(true), Ok(Truth::Class(1))),
            (
                &numbered,
                LabelValue::Number(0.5),
                Err("expected one of the classes 0 to 31, got 0.5"),
            ),
            (
                &numbered,
                LabelValue::Number(32.0),
                Err("expected one of the classes 0 to 31, got 32"),
            ),
            (
                &numbered,
                LabelValue::Number(-1.0),
                Err("expected one of the classes 0 to 31, got -1"),
            ),
        ];
        for (settings, label, expected) in cases {
            let got = settings.truth(&answer(0), &label);
            assert_eq!(got, expected.map_err(str::to_owned), "{label}");
        }
        let scored = RowAnswer::Class { class: 0, scores: vec![0.5, 0.5] };
        let error = numbered.truth(&scored, &LabelValue::Number(7.0)).unwrap_err();
        assert_eq!(error, "expected one of the classes 0 to 1, got 7");
        assert_eq!(named.class_of(&Data::Int64(vec![1]), 0), Some(1));
        let digits = settings(&["10", "20"]);
        assert_eq!(digits.truth(&answer(0), &LabelValue::Number(20.0)), Ok(Truth::Class(1)));
        assert_eq!(digits.class_of(&Data::Int64(vec![20]), 0), Some(1));
        assert_eq!(digits.class_of(&Data::Bytes(vec![b"10".to_vec()]), 0), Some(0));
        assert_eq!(digits.class_of(&Data::Int64(vec![20]), 1), None);
    }

    #[test]
    fn another_class_is_wrong_and_a_number_that_is_far_off() {
        let named = settings(&["no", "yes"]);
        let mut settings = settings(&[]);
        let number = LabelValue::Number;
        assert!(settings.is_wrong(Some(&answer(1)), &number(0.0)));
        assert!(!settings.is_wrong(Some(&answer(1)), &number(1.0)));
        // No answer, and a class that the version does not have while the model does.
        assert!(settings.is_wrong(None, &number(1.0)));
        let one = RowAnswer::Class { class: 0, scores: vec![1.0] };
        assert!(named.is_wrong(Some(&one), &number(1.0)));
        assert!(!settings.is_wrong(Some(&one), &number(1.0)), "nobody said that there is one");
        assert!(!named.is_wrong(Some(&one), &number(7.0)));
        let value = RowAnswer::Value(2.0);
        assert!(!settings.is_wrong(Some(&value), &number(3.5)), "nobody said how far");
        settings.wrong_beyond = Some(1.5);
        assert!(!settings.is_wrong(Some(&value), &number(3.5)));
        settings.wrong_beyond = Some(1.25);
        assert!(settings.is_wrong(Some(&value), &number(3.5)));
    }

    #[test]
    fn a_number_needs_a_number() {
        let (settings, value) = (settings(&[]), RowAnswer::Value(2.5));
        assert_eq!(settings.truth(&value, &LabelValue::Number(3.5)), Ok(Truth::Value(3.5)));
        let text = LabelValue::Text(" 3.5 ".into());
        assert_eq!(settings.truth(&value, &text), Ok(Truth::Value(3.5)));
        let error = settings.truth(&value, &LabelValue::Text("nan".into())).unwrap_err();
        assert_eq!(error, "expected a number, got \"nan\"");
        let error = settings.truth(&value, &LabelValue::Bool(true)).unwrap_err();
        assert_eq!(error, "expected a number, got true");
    }

    #[test]
    fn other_values_make_one_group() {
        let values = vec!["basic".to_owned(), "pro".to_owned()];
        let source = GroupSource::Header(HeaderName::from_static("x-plan"));
        let grouping = Grouping { name: "plan".into(), source, values };
        assert_eq!((grouping.group(b"pro"), grouping.group(b"gold")), (1, OTHER));
        assert_eq!((grouping.group_name(1), grouping.group_name(OTHER)), ("pro", "(other)"));
        let json = serde_json::to_string(&grouping).unwrap();
        assert_eq!(serde_json::from_str::<Grouping>(&json).unwrap(), grouping);
    }
}
