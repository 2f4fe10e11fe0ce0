//! Labels in memory, by the row that they are of. Pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::capture::dataset::sheet::{Value, ValueType};
use crate::types::{LabelValue, PredictionId};

/// Above this, not every whole number is a `f64`: 2^53.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// The most bytes of texts that differ: as names of classes they are few.
const TEXT_BYTES_MAX: usize = 256 << 20;

/// What labels are seen to be, all of them together. A text that is how people write a
/// number or a truth is one: who reports labels from a CSV file has nothing but texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LabelTypes {
    truths: bool,
    whole: bool,
    fractions: bool,
    texts: bool,
}

impl LabelTypes {
    /// Looks at one more.
    pub fn see(&mut self, label: &LabelValue) {
        let seen = match *plain(label) {
            LabelValue::Bool(_) => &mut self.truths,
            LabelValue::Number(number) if whole(number).is_some() => &mut self.whole,
            LabelValue::Number(_) => &mut self.fractions,
            LabelValue::Text(_) => &mut self.texts,
        };
        *seen = true;
    }

    /// The one type that all of them have: a text, if nothing else is.
    #[must_use]
    pub const fn value_type(self) -> ValueType {
        match self {
            Self { truths: true, whole: false, fractions: false, texts: false } => ValueType::Bool,
            Self { truths: false, whole: true, fractions: false, texts: false } => ValueType::Int,
            Self { truths: false, texts: false, fractions: true, .. } => ValueType::Number,
            _ => ValueType::Text,
        }
    }
}

/// A label as a value of this type, which [`LabelTypes::value_type`] told.
#[must_use]
pub fn label_value(label: &LabelValue, of: ValueType) -> Value<'_> {
    match (&*plain(label), of) {
        (LabelValue::Bool(truth), ValueType::Bool) => return Value::Bool(*truth),
        (LabelValue::Number(number), ValueType::Number) => return Value::Number(*number),
        (LabelValue::Number(number), ValueType::Int) => {
            return whole(*number).map_or(Value::Missing, Value::Int);
        }
        _ => {}
    }
    Value::Text(match label {
        LabelValue::Bool(truth) => Cow::Owned(truth.to_string()),
        LabelValue::Number(number) => Cow::Owned(number.to_string()),
        LabelValue::Text(text) => Cow::Borrowed(text),
    })
}

/// What a text says, where it is how a number or a truth is written: `7`, and not `007`.
fn plain(label: &LabelValue) -> Cow<'_, LabelValue> {
    let LabelValue::Text(text) = label else { return Cow::Borrowed(label) };
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    let number = number.filter(|number| number.to_string() == *text).map(LabelValue::Number);
    let truth = || text.parse().ok().map(LabelValue::Bool);
    number.or_else(truth).map_or(Cow::Borrowed(label), Cow::Owned)
}

fn whole(number: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
    (number.fract() == 0.0 && number.abs() < WHOLE_MAX).then_some(number as i64)
}

/// A label: of texts only which one, as few differ.
#[derive(Clone, Copy)]
enum Kept {
    Bool(bool),
    Number(f64),
    Text(u32),
}

struct Entry {
    id: PredictionId,
    row: u32,
    label: Kept,
    taken: bool,
}

/// Labels by their rows.
#[derive(Default)]
pub struct Labels {
    entries: Vec<Entry>,
    texts: Vec<Arc<str>>,
    places: HashMap<Arc<str>, u32>,
    text_bytes: usize,
    types: LabelTypes,
}

/// What there is for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// No label.
    Nothing,
    /// The label in this place.
    Label(usize),
    /// A label that was taken before.
    Again,
}

impl Labels {
    /// The most that are held: some 40 bytes each.
    pub const MAX: usize = 20_000_000;

    /// Adds one.
    ///
    /// # Errors
    /// There are too many of them.
    pub fn add(&mut self, id: PredictionId, row: u32, label: &LabelValue) -> Result<(), String> {
        if self.entries.len() >= Self::MAX {
            return Err(format!(
                "expected at most {} rows with a label, which are held in memory; there are more: \
                 export them without captures, and join the files elsewhere",
                Self::MAX
            ));
        }
        self.types.see(label);
        let label = match label {
            LabelValue::Bool(truth) => Kept::Bool(*truth),
            LabelValue::Number(number) => Kept::Number(*number),
            LabelValue::Text(text) => Kept::Text(self.text(text)?),
        };
        self.entries.push(Entry { id, row, label, taken: false });
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<u32, String> {
        if let Some(place) = self.places.get(text) {
            return Ok(*place);
        }
        self.text_bytes += text.len();
        let place = u32::try_from(self.texts.len()).ok();
        let place = place.filter(|_| self.text_bytes <= TEXT_BYTES_MAX).ok_or_else(|| {
            format!(
                "expected labels with at most {TEXT_BYTES_MAX} bytes of texts that differ, which \
                 are held in memory; there are more: are they classes?"
            )
        })?;
        let text = Arc::<str>::from(text);
        self.texts.push(Arc::clone(&text));
        self.places.insert(text, place);
        Ok(place)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Their type.
    pub(super) const fn value_type(&self) -> ValueType {
        self.types.value_type()
    }

    /// Puts them in the order that [`Labels::take`] needs; of several for one row one stays.
    pub(super) fn sort(&mut self) {
        self.entries.sort_unstable_by_key(|entry| (entry.id, entry.row));
        self.entries.dedup_by_key(|entry| (entry.id, entry.row));
    }

    /// Takes the label of a row.
    pub(super) fn take(&mut self, id: PredictionId, row: u32) -> Taken {
        let found = self.entries.binary_search_by_key(&(id, row), |entry| (entry.id, entry.row));
        let Ok(at) = found else { return Taken::Nothing };
        let again = std::mem::replace(&mut self.entries[at].taken, true);
        if again { Taken::Again } else { Taken::Label(at) }
    }

    /// The label in a place.
    pub(super) fn label(&self, at: usize) -> LabelValue {
        match self.entries[at].label {
            Kept::Bool(truth) => LabelValue::Bool(truth),
            Kept::Number(number) => LabelValue::Number(number),
            Kept::Text(place) => {
                let text = usize::try_from(place).ok().and_then(|place| self.texts.get(place));
                LabelValue::Text(text.map(ToString::to_string).unwrap_or_default())
            }
        }
    }

    /// How many nobody has taken.
    pub(super) fn left(&self) -> usize {
        self.entries.iter().filter(|entry| !entry.taken).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> LabelValue {
        LabelValue::Text(text.to_owned())
    }

    #[test]
    fn all_labels_have_one_type() {
        use LabelValue::{Bool, Number};
        let cases: [(&[LabelValue], ValueType, &[Value<'_>]); 10] = [
            (&[], ValueType::Text, &[]),
            (&[Bool(true), Bool(false)], ValueType::Bool, &[Value::Bool(true), Value::Bool(false)]),
            (&[Number(1.0), Number(-0.0)], ValueType::Int, &[Value::Int(1), Value::Int(0)]),
            (
                &[Number(1.0), Number(0.5)],
                ValueType::Number,
                &[Value::Number(1.0), Value::Number(0.5)],
            ),
            (&[text("1"), Number(0.0)], ValueType::Int, &[Value::Int(1), Value::Int(0)]),
            (&[text("true")], ValueType::Bool, &[Value::Bool(true)]),
            (
                &[text("007"), text("8")],
                ValueType::Text,
                &[Value::Text("007".into()), Value::Text("8".into())],
            ),
            (&[Number(1e300)], ValueType::Number, &[Value::Number(1e300)]),
            (
                &[Number(1.0), text("1"), Bool(true)],
                ValueType::Text,
                &[Value::Text("1".into()), Value::Text("1".into()), Value::Text("true".into())],
            ),
            (
                &[Number(1.0), Bool(true)],
                ValueType::Text,
                &[Value::Text("1".into()), Value::Text("true".into())],
            ),
        ];
        for (labels, expected, values) in cases {
            let mut types = LabelTypes::default();
            labels.iter().for_each(|label| types.see(label));
            let of = types.value_type();
            let got: Vec<_> = labels.iter().map(|label| label_value(label, of)).collect();
            assert_eq!((of, &got[..]), (expected, values), "{labels:?}");
        }
    }

    #[test]
    fn each_label_is_taken_once() {
        let mut labels = Labels::default();
        let id = |n: u8| PredictionId([n; 16]);
        for (n, row, label) in [(9, 1, "b"), (9, 0, "a"), (3, 0, "b"), (3, 0, "b")] {
            labels.add(id(n), row, &text(label)).unwrap();
        }
        assert_eq!((labels.len(), labels.texts.len()), (4, 2));
        labels.sort();
        let Taken::Label(at) = labels.take(id(9), 1) else { panic!() };
        assert_eq!(labels.label(at), text("b"));
        assert_eq!(labels.take(id(9), 1), Taken::Again);
        assert_eq!(
            (labels.take(id(9), 2), labels.take(id(4), 0)),
            (Taken::Nothing, Taken::Nothing)
        );
        assert_eq!(labels.left(), 2);
    }
}
