//! Predictions that are kept until their labels come, and labels as they are reported.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::error::{Error, Result};
use crate::types::Share;

/// The id of one answered request: 128 bits, as 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PredictionId(pub [u8; 16]);

impl PredictionId {
    /// Whether it is among a share of all. It ends with a keyed hash, whose bits are as good
    /// as drawn: of one share the same ids are among it, whoever asks, and a smaller share is
    /// part of a larger one.
    #[must_use]
    pub fn is_among(self, share: Share) -> bool {
        let Self([.., a, b, c, d]) = self;
        let point = u64::from(u32::from_be_bytes([a, b, c, d]));
        point * 10_000 < u64::from(share.basis_points()) << 32
    }
}

impl FromStr for PredictionId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut id = [0; 16];
        let digits = text.as_bytes();
        let misfit = || {
            let got: String = text.chars().take(40).collect();
            Error::invalid(format!(
                "prediction_id: expected 32 hex digits, as the reply had them, got {got:?}"
            ))
        };
        if digits.len() != 32 {
            return Err(misfit());
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        for (byte, pair) in id.iter_mut().zip(digits.as_chunks::<2>().0) {
            *byte = digit(pair[0]).ok_or_else(misfit)? << 4 | digit(pair[1]).ok_or_else(misfit)?;
        }
        Ok(Self(id))
    }
}

impl fmt::Display for PredictionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a version answered to one row.
#[derive(Clone, Debug, PartialEq)]
pub enum RowAnswer {
    /// A class, by its place among the model's classes.
    Class {
        /// The class that was answered.
        class: u16,
        /// A probability for each class, in their order; empty where the model gives none.
        scores: Vec<f64>,
    },
    /// A number.
    Value(f64),
}

/// What turned out to be true of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Truth {
    /// The class, by its place among the model's classes.
    Class(u16),
    /// The number.
    Value(f64),
}

/// What a label says, as it was reported.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum LabelValue {
    /// `true` or `false`.
    Bool(bool),
    /// A number; finite.
    Number(f64),
    /// A text of at most 256 bytes.
    Text(String),
}

impl<'de> Deserialize<'de> for LabelValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(LabelVisitor)
    }
}

/// The longest text of a label, in bytes.
const LABEL_BYTES_MAX: usize = 256;

struct LabelVisitor;

impl Visitor<'_> for LabelVisitor {
    type Value = LabelValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a text, true or false")
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<LabelValue, E> {
        Ok(LabelValue::Bool(truth))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<LabelValue, E> {
        Ok(LabelValue::Number(number))
    }

    #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 it is no class and no measure")]
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<LabelValue, E> {
        Ok(LabelValue::Number(number as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 it is no class and no measure")]
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<LabelValue, E> {
        Ok(LabelValue::Number(number as f64))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<LabelValue, E> {
        if text.len() > LABEL_BYTES_MAX {
            let message = format!(
                "label: expected a text of at most {LABEL_BYTES_MAX} bytes, got {}",
                text.len()
            );
            return Err(E::custom(message));
        }
        Ok(LabelValue::Text(text.to_owned()))
    }
}

impl fmt::Display for LabelValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(truth) => truth.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// What turned out to be true of one row of one prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// The prediction.
    pub id: PredictionId,
    /// The row of its request, from 0.
    pub row: u32,
    /// What is true.
    pub value: LabelValue,
}

/// What became of labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Receipt {
    /// Joined with their predictions.
    pub joined: u64,
    /// Reported before, with the same value.
    pub duplicate: u64,
    /// Reported before, with another value; the first one stays.
    pub conflicting: u64,
    /// For a prediction that was made too long ago.
    pub late: u64,
    /// For no prediction that is kept; kept in case that it comes.
    pub waiting: u64,
    /// For no prediction that is kept, and too many wait already: not kept.
    pub dropped: u64,
    /// Not of the kind that the prediction is, or for a row that it has not.
    pub refused: u64,
    /// The first of those refused: which label of the request, and why.
    pub problems: Vec<Problem>,
}

/// Why a label was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// Its place among the request's labels, from 0.
    pub label: usize,
    /// What was expected, and what came.
    pub problem: String,
}

/// Labels on their way into the store.
pub type Reporting<'a> = Pin<Box<dyn Future<Output = Result<Receipt>> + Send + 'a>>;

/// Where labels are reported to.
pub trait Feedback: Send + Sync {
    /// Takes labels; what the receipt says is on the disk when it is given.
    ///
    /// # Errors
    /// `Unavailable` where too many are on their way already; what keeps them from being
    /// stored.
    fn report(&self, labels: Vec<Label>) -> Reporting<'_>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(last: u32) -> PredictionId {
        let mut id = [0; 16];
        id[12..].copy_from_slice(&last.to_be_bytes());
        PredictionId(id)
    }

    #[test]
    fn a_share_is_taken_by_id() {
        let half = Share::from_percent(50.0).unwrap();
        assert!(id(0).is_among(half) && id(u32::MAX / 2).is_among(half));
        assert!(!id(u32::MAX / 2 + 1).is_among(half) && !id(u32::MAX).is_among(half));
        assert!(id(u32::MAX).is_among(Share::ALL) && !id(0).is_among(Share::ZERO));
    }

    #[test]
    fn a_smaller_share_is_part_of_a_larger_one() {
        let [one, ten] = [1.0, 10.0].map(|percent| Share::from_percent(percent).unwrap());
        // Spread as a hash is.
        let ids: Vec<_> = (0..100_000_u32).map(|n| id(n.wrapping_mul(0x9e37_79b9))).collect();
        let among = |share| ids.iter().filter(move |id| id.is_among(share));
        assert!((900..1100).contains(&among(one).count()), "{}", among(one).count());
        assert!((9_000..11_000).contains(&among(ten).count()), "{}", among(ten).count());
        assert!(among(one).all(|id| id.is_among(ten)));
    }
}
