//! Kept answers with their labels, as they are shown. Pure, over what the store had.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use utoipa::ToSchema;

use crate::monitor::quality::book::Book;
use crate::monitor::quality::who::Who;
use crate::monitor::rounds::rfc3339;
use crate::store::{NewPrediction, Page, PageOf, Stored};
use crate::types::{LabelSettings, LabelValue, ModelName, RowAnswer, Truth, VersionId};

/// Rows of a page, unless one request has more: a reply of some megabytes.
const ROWS_MAX: usize = 20_000;
/// And their bytes, as they are stored.
const BYTES_MAX: usize = 4 << 20;

/// Which of a model's answers are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswersOf {
    /// The model.
    pub model: ModelName,
    /// Those behind this cursor; 0 for the oldest.
    pub after: u64,
    /// The most requests.
    pub limit: usize,
    /// Whether only rows with a label are.
    pub labelled: bool,
}

/// A page of answers.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AnswersView {
    /// Row by row, the oldest first; those of one request are never divided. There may be
    /// none although more follow.
    pub answers: Vec<AnswerView>,
    /// The cursor of the next page; null behind the last one.
    pub next: Option<u64>,
    /// The cursor behind everything that is kept now: who stops there has an end, however
    /// much comes meanwhile.
    pub end: u64,
}

/// What was answered to a row of a request, and what turned out to be true.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AnswerView {
    /// The id that the reply had.
    pub prediction_id: String,
    /// The row of the request, from 0.
    pub row: u32,
    /// When it was answered.
    pub time: String,
    /// The version that answered.
    #[schema(value_type = u64)]
    pub version: VersionId,
    /// `champion` or `canary`.
    pub role: String,
    /// The class, by its name or number, or the number; null if it was none.
    #[schema(value_type = Value)]
    pub answer: Option<AnswerValue>,
    /// A probability for each class, in their order; absent where the model gives none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub scores: Vec<f64>,
    /// Its groups, by what the rows are divided by.
    pub groups: BTreeMap<String, String>,
    /// What turned out to be true, in the words of `answer`, however it was reported; absent
    /// if nobody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value, required = false)]
    pub label: Option<AnswerValue>,
}

/// An answer by itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum AnswerValue {
    /// The name of a class.
    Name(String),
    /// The number of a class that has no name.
    Class(u16),
    /// A number.
    Number(f64),
}

/// What to ask the store for.
pub(super) fn page_of(book: &Book, asked: &AnswersOf) -> PageOf {
    let own = book.who.iter().filter(|(_, who)| who.model == asked.model);
    PageOf {
        after: i64::try_from(asked.after).unwrap_or(i64::MAX),
        answerers: own.map(|(number, _)| *number).collect(),
        labelled: asked.labelled,
        requests_max: asked.limit,
        rows_max: ROWS_MAX,
        bytes_max: BYTES_MAX,
    }
}

/// A page as it is shown.
pub(super) fn view(book: &Book, asked: &AnswersOf, page: &Page) -> AnswersView {
    let mut answers = Vec::new();
    for Stored { prediction, .. } in &page.stored {
        if let Some(who) = book.who.get(&prediction.answerer) {
            answers.extend(rows(who, prediction, asked.labelled));
        }
    }
    let cursor = |place: i64| u64::try_from(place).ok();
    let (next, end) = (page.next.and_then(cursor), cursor(page.last).unwrap_or(asked.after));
    AnswersView { answers, next, end }
}

/// The rows of a request.
fn rows(who: &Who, prediction: &NewPrediction, labelled: bool) -> impl Iterator<Item = AnswerView> {
    let mut labels: BTreeMap<u32, LabelValue> = prediction.truths.iter().cloned().collect();
    let (id, time) = (prediction.id.to_string(), time(prediction.at));
    prediction.rows.iter().zip(0..).filter_map(move |((answer, groups), row)| {
        let label = labels.remove(&row).and_then(|label| meant(&who.labels, answer, &label));
        (label.is_some() || !labelled).then(|| AnswerView {
            prediction_id: id.clone(),
            row,
            time: time.clone(),
            version: who.version,
            role: who.role.clone(),
            answer: answer.as_ref().map(|answer| value(&who.labels, answer)),
            scores: scores(answer),
            groups: named(&who.labels, groups),
            label,
        })
    })
}

fn value(labels: &LabelSettings, answer: &RowAnswer) -> AnswerValue {
    match answer {
        RowAnswer::Value(number) => AnswerValue::Number(*number),
        RowAnswer::Class { class, .. } => match labels.classes.get(usize::from(*class)) {
            Some(name) => AnswerValue::Name(name.clone()),
            None => AnswerValue::Class(*class),
        },
    }
}

/// What a label means; `None` of one that was kept only since it shows its answer to be wrong,
/// and is nothing that the model might have answered.
fn meant(
    labels: &LabelSettings,
    answer: &Option<RowAnswer>,
    label: &LabelValue,
) -> Option<AnswerValue> {
    // A class that this version does not have may be one of the model's.
    let class = || RowAnswer::Class { class: 0, scores: Vec::new() };
    let bases = match answer {
        Some(RowAnswer::Class { .. }) => vec![class()],
        Some(RowAnswer::Value(_)) => vec![RowAnswer::Value(0.0)],
        None if labels.classes.is_empty() => vec![class(), RowAnswer::Value(0.0)],
        None => vec![class()],
    };
    let truth = bases.iter().find_map(|basis| labels.truth(basis, label).ok())?;
    Some(match truth {
        Truth::Class(class) => value(labels, &RowAnswer::Class { class, scores: Vec::new() }),
        Truth::Value(number) => AnswerValue::Number(number),
    })
}

fn scores(answer: &Option<RowAnswer>) -> Vec<f64> {
    match answer {
        Some(RowAnswer::Class { scores, .. }) => scores.clone(),
        _ => Vec::new(),
    }
}

fn named(labels: &LabelSettings, groups: &[u8]) -> BTreeMap<String, String> {
    let named = labels.groupings.iter().zip(groups);
    let named = named.map(|(of, group)| (of.name.clone(), of.group_name(*group).to_owned()));
    named.collect()
}

/// A time in milliseconds since 1970.
fn time(at: i64) -> String {
    let since = Duration::from_millis(u64::try_from(at).unwrap_or(0));
    rfc3339(SystemTime::UNIX_EPOCH + since)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::types::{Digest, GroupSource, Grouping, OTHER, PredictionId, Share};

    fn book() -> Book {
        let source = GroupSource::Column("plan".into());
        let values = vec!["basic".to_owned(), "pro".to_owned()];
        let labels = LabelSettings {
            keep: Share::ALL,
            classes: vec!["stays".into(), "leaves".into()],
            wrong_beyond: None,
            wrong_max: None,
            groupings: vec![Grouping { name: "plan".into(), source, values }],
        };
        let who = |model: &str| Who {
            model: ModelName::new(model).unwrap(),
            version: VersionId::new(3).unwrap(),
            digest: Digest::new([1; 32]),
            role: "canary".into(),
            split: None,
            labels: labels.clone(),
        };
        let mut book = Book::default();
        book.who.extend([(1, who("m")), (2, who("other"))]);
        book
    }

    fn asked(labelled: bool) -> AnswersOf {
        AnswersOf { model: ModelName::new("m").unwrap(), after: u64::MAX, limit: 7, labelled }
    }

    fn page() -> Page {
        let class =
            |class, scores: &[f64]| Some(RowAnswer::Class { class, scores: scores.to_vec() });
        let group = |group| {
            let mut groups = [OTHER; 8];
            groups[0] = group;
            groups
        };
        let prediction = NewPrediction {
            id: PredictionId([0xab; 16]),
            at: 1_500,
            answerer: 1,
            key: None,
            rows: vec![
                (class(1, &[0.25, 0.75]), group(1)),
                (class(2, &[]), group(OTHER)),
                (None, group(0)),
                (Some(RowAnswer::Value(2.0)), group(0)),
            ],
            truths: vec![(2, LabelValue::Text("leaves".into())), (0, LabelValue::Number(1.0))],
        };
        Page { stored: vec![Stored { n: 9, prediction }], next: Some(9), last: 12 }
    }

    #[test]
    fn rows_are_shown_with_their_labels() {
        let shown = view(&book(), &asked(true), &page());
        let common = |row: u32, answer: serde_json::Value| {
            json!({"prediction_id": "ab".repeat(16), "row": row, "version": 3, "role": "canary",
                   "time": "1970-01-01T00:00:01.500Z", "answer": answer})
        };
        let with = |mut row: serde_json::Value, more: serde_json::Value| {
            row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            row
        };
        let one = with(
            common(0, json!("leaves")),
            json!({"scores": [0.25, 0.75], "groups": {"plan": "pro"}, "label": "leaves"}),
        );
        let three =
            with(common(2, json!(null)), json!({"groups": {"plan": "basic"}, "label": "leaves"}));
        let expected = json!({"answers": [one, three], "next": 9, "end": 12});
        assert_eq!(serde_json::to_value(&shown).unwrap(), expected);

        let all = serde_json::to_value(view(&book(), &asked(false), &page())).unwrap();
        let answers: Vec<_> = (0..4).map(|row| &all["answers"][row]["answer"]).collect();
        // A class that has no name any more is told by its number.
        assert_eq!(answers, [&json!("leaves"), &json!(2), &json!(null), &json!(2.0)]);
        assert_eq!(all["answers"][1]["groups"]["plan"], "(other)");
        assert!(all["answers"][1].get("label").is_none());
    }

    #[test]
    fn a_label_is_told_in_the_words_of_the_answer() {
        let book = book();
        let named = &book.who[&1].labels;
        let numbers = &LabelSettings { classes: vec![], ..named.clone() };
        let class = Some(RowAnswer::Class { class: 0, scores: vec![] });
        let text = |text: &str| LabelValue::Text(text.into());
        let leaves = || Some(AnswerValue::Name("leaves".into()));
        let cases = [
            (named, &class, LabelValue::Number(1.0), leaves()),
            (named, &class, LabelValue::Bool(true), leaves()),
            (named, &None, text("leaves"), leaves()),
            // It shows that what was no answer is wrong, and is none itself.
            (named, &None, text("laeves"), None),
            (numbers, &class, text("3.0"), Some(AnswerValue::Class(3))),
            (numbers, &Some(RowAnswer::Value(2.5)), text("20.0"), Some(AnswerValue::Number(20.0))),
            (numbers, &None, text("20.5"), Some(AnswerValue::Number(20.5))),
        ];
        for (labels, answer, label, expected) in cases {
            assert_eq!(meant(labels, answer, &label), expected, "{label}");
        }
    }

    #[test]
    fn only_the_models_own_answers_are_asked_for() {
        let of = page_of(&book(), &asked(true));
        assert_eq!((of.answerers, of.after, of.requests_max), (vec![1], i64::MAX, 7));
    }
}
