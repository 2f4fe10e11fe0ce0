//! `POST /v1/feedback`: labels of predictions. One object, several of them one after
//! another (JSON lines), or all in `{"feedback": […]}`.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};
use crate::protocol::json;
use crate::protocol::reply::{self, Reply};
use crate::types::{Label, LabelValue, PredictionId, Receipt};

/// The most labels of one request.
pub(super) const LABELS_MAX: usize = 100_000;

/// What may stand in an object; which of it must, is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item<'a> {
    feedback: Option<Bounded<Self>>,
    #[serde(borrow)]
    prediction_id: Option<Cow<'a, str>>,
    row: Option<u32>,
    label: Option<LabelValue>,
    labels: Option<Bounded<LabelValue>>,
}

/// A list of at most [`LABELS_MAX`], which is found out before more are read.
struct Bounded<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Elements<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = Bounded<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Bounded<T>, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element()? {
                    if elements.len() == LABELS_MAX {
                        return Err(de::Error::custom(format!(
                            "expected at most {LABELS_MAX} labels; send them in several requests"
                        )));
                    }
                    elements.push(element);
                }
                Ok(Bounded(elements))
            }
        }

        from.deserialize_seq(Elements(PhantomData))
    }
}

/// Reads a body.
///
/// # Errors
/// It is no JSON, or an object misses something; the error says which.
pub(super) fn labels(body: &[u8]) -> Result<Vec<Label>> {
    let text = json::utf8(body)?;
    let mut labels = Vec::new();
    let items = serde_json::Deserializer::from_str(text).into_iter::<Item<'_>>();
    for (place, item) in items.enumerate() {
        let item = item.map_err(|error| Error::invalid(format!("malformed JSON: {error}")))?;
        let at = if place == 0 { String::new() } else { format!("object {place}: ") };
        add_all(&mut labels, item, &at)?;
    }
    if labels.is_empty() {
        return Err(Error::invalid(
            "expected labels, such as {\"prediction_id\": \"…\", \"label\": 1}; got none",
        ));
    }
    Ok(labels)
}

impl Item<'_> {
    const fn is_alone(&self) -> bool {
        self.prediction_id.is_none()
            && self.row.is_none()
            && self.label.is_none()
            && self.labels.is_none()
    }
}

/// Adds the labels of one object, or of all in its list.
fn add_all(labels: &mut Vec<Label>, item: Item<'_>, at: &str) -> Result<()> {
    if item.feedback.is_some() && !item.is_alone() {
        let message = format!("{at}expected \"feedback\" alone, or one prediction's label");
        return Err(Error::invalid(message));
    }
    let Some(Bounded(several)) = item.feedback else { return add(labels, item, at) };
    for (i, one) in several.into_iter().enumerate() {
        if one.feedback.is_some() {
            let message = format!("{at}feedback[{i}]: expected no \"feedback\" in it");
            return Err(Error::invalid(message));
        }
        add(labels, one, &format!("{at}feedback[{i}]: "))?;
    }
    Ok(())
}

/// Adds the labels of one object.
fn add(labels: &mut Vec<Label>, item: Item<'_>, at: &str) -> Result<()> {
    let wrong = |what: &str| Error::invalid(format!("{at}{what}"));
    let id = item.prediction_id.ok_or_else(|| wrong("\"prediction_id\" is missing"))?;
    let id: PredictionId = id.parse().map_err(|error: Error| wrong(error.message()))?;
    let many = match (item.label, item.labels, item.row) {
        (Some(label), None, row) => vec![(row.unwrap_or(0), label)],
        (None, Some(Bounded(many)), None) => (0..).zip(many).collect(),
        (None, Some(_), Some(_)) => {
            return Err(wrong("expected \"label\" with \"row\"; \"labels\" are of all rows"));
        }
        (Some(_), Some(_), _) => return Err(wrong("expected \"label\" or \"labels\", got both")),
        (None, None, _) => return Err(wrong("\"label\" is missing, and \"labels\" as well")),
    };
    if labels.len() + many.len() > LABELS_MAX {
        return Err(wrong(&format!(
            "expected at most {LABELS_MAX} labels, got more; send them in several requests"
        )));
    }
    labels.extend(many.into_iter().map(|(row, value)| Label { id, row, value }));
    Ok(())
}

/// What became of them. It is an error if the only one was refused: of several, the receipt
/// tells which.
pub(super) fn reply(receipt: &Receipt, sent: usize) -> Result<Reply> {
    let problem = receipt.problems.first();
    match problem {
        Some(problem) if sent == 1 && receipt.refused == 1 => {
            Err(Error::invalid(format!("label {}: {}", problem.label, problem.problem)))
        }
        _ => Ok(reply::value(receipt)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "000102030405060708090a0b0c0d0e0f";

    fn read(text: &str) -> Result<Vec<(u32, LabelValue)>, String> {
        let labels = labels(text.as_bytes()).map_err(|error| error.message().to_owned())?;
        assert!(labels.iter().all(|label| label.id.to_string() == ID));
        Ok(labels.into_iter().map(|label| (label.row, label.value)).collect())
    }

    #[test]
    fn labels_come_alone_in_lines_and_in_a_list() {
        let (one, yes) = (LabelValue::Number(1.0), LabelValue::Text("yes".into()));
        let cases = [
            (r#"{"prediction_id": "ID", "label": 1}"#.to_owned(), vec![(0, one.clone())]),
            (r#"{"prediction_id": "ID", "row": 7, "label": "yes"}"#.to_owned(), vec![(7, yes)]),
            (
                r#"{"prediction_id": "ID", "labels": [1, true]}"#.to_owned(),
                vec![(0, one.clone()), (1, LabelValue::Bool(true))],
            ),
            (
                "{\"prediction_id\": \"ID\", \"label\": 1}\n\n{\"prediction_id\": \"ID\", \
                 \"row\": 2, \"label\": 1}\n"
                    .to_owned(),
                vec![(0, one.clone()), (2, one.clone())],
            ),
            (r#"{"feedback": [{"prediction_id": "ID", "label": 1}]}"#.to_owned(), vec![(0, one)]),
        ];
        for (text, expected) in cases {
            assert_eq!(read(&text.replace("ID", ID)).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let cases = [
            ("", "expected labels, such as"),
            ("{", "malformed JSON: EOF while parsing an object at line 1 column 1"),
            (r#"{"label": 1}"#, "\"prediction_id\" is missing"),
            (
                r#"{"prediction_id": "abc", "label": 1}"#,
                "prediction_id: expected 32 hex digits, as the reply had them, got \"abc\"",
            ),
            (r#"{"prediction_id": "ID"}"#, "\"label\" is missing, and \"labels\" as well"),
            (
                r#"{"prediction_id": "ID", "label": null}"#,
                "\"label\" is missing, and \"labels\" as well",
            ),
            (
                r#"{"prediction_id": "ID", "label": [1]}"#,
                "malformed JSON: invalid type: sequence, expected a number, a text, true or false",
            ),
            (
                r#"{"prediction_id": "ID", "label": 1, "row": -1}"#,
                "malformed JSON: invalid value: integer `-1`, expected u32",
            ),
            (
                r#"{"prediction_id": "ID", "label": 1, "value": 1}"#,
                "malformed JSON: unknown field `value`",
            ),
            (
                r#"{"feedback": [{"prediction_id": "ID", "label": 1}, {"label": 1}]}"#,
                "feedback[1]: \"prediction_id\" is missing",
            ),
            (
                r#"{"feedback": [], "label": 1}"#,
                "expected \"feedback\" alone, or one prediction's label",
            ),
            (
                r#"{"prediction_id": "ID", "label": 1} {"label": 1}"#,
                "object 1: \"prediction_id\" is missing",
            ),
            (r#"{"prediction_id": "ID", "label": 1e999}"#, "malformed JSON: number out of range"),
        ];
        for (text, expected) in cases {
            let error = read(&text.replace("ID", ID)).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let many =
            format!("{{\"prediction_id\": \"{ID}\", \"labels\": [{}1]}}", "1,".repeat(LABELS_MAX));
        let error = read(&many).unwrap_err();
        assert!(error.contains("expected at most 100000 labels"), "{error}");
    }

    #[test]
    fn a_text_that_is_too_long_is_no_label() {
        let long = "x".repeat(257);
        let error = read(&format!("{{\"prediction_id\": \"{ID}\", \"label\": \"{long}\"}}"));
        assert!(error.unwrap_err().contains("a text of at most 256 bytes"));
    }

    #[test]
    fn one_that_is_refused_is_an_error_and_several_have_a_receipt() {
        let problems = vec![crate::types::Problem { label: 0, problem: "no".into() }];
        let receipt =
            |refused| Receipt { refused, problems: problems.clone(), ..Receipt::default() };
        assert_eq!(reply(&receipt(1), 1).err().unwrap().message(), "label 0: no");
        assert!(reply(&receipt(2), 2).is_ok() && reply(&receipt(1), 2).is_ok());
    }
}
