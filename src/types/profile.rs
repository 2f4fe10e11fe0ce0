//! What a version's inputs and outputs looked like on the data that it was made
//! from, in frozen bins: what live traffic is compared with.

mod bins;
mod builder;
mod pick;
mod rarity;
mod together;

use serde::{Deserialize, Serialize};

pub use builder::ProfileBuilder;
pub(crate) use builder::rows_of as rows_of_request;
pub use pick::{PICKED_MAX, Picker};
pub use rarity::{Rarity, RowRarity, SeenRow, WhyOdd};
pub use together::{Combination, Together};

use crate::error::{Error, Result};
use crate::types::{Digest, ModelName};

/// The most inputs and outputs, column by column, that a profile may have.
pub const FEATURES_MAX: usize = 512;
/// The most bins of one of them.
pub const BINS_MAX: usize = 64;
/// The fewest rows, of a reference and of a window, with which a column is judged. Below,
/// the noise of ten bins alone is near a population stability index of 0.1.
pub const JUDGED_ROWS_MIN: u64 = 200;
/// The most bytes of a category.
pub const CATEGORY_BYTES_MAX: usize = 256;
/// The most bytes of a name, and of where the rows came from.
const NAME_BYTES_MAX: usize = 4096;

/// `profile.json`: the reference distribution of each column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The form of this file; see [`Profile::SCHEMA`].
    pub schema: u32,
    /// The model that it is of.
    pub model: ModelName,
    /// The artifact that gave the outputs.
    pub artifact: Digest,
    /// Where the rows came from, for people: a file's name, or "live traffic".
    pub source: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Rows that were counted.
    pub rows: u64,
    /// The inputs, column by column.
    pub inputs: Vec<Feature>,
    /// The outputs, column by column.
    pub outputs: Vec<Feature>,
    /// Which inputs had no value together; not known of older ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_together: Option<Together>,
}

/// One column of an input or output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// What people call it: unique among the inputs, and among the outputs.
    pub name: String,
    /// The tensor that it is a column of.
    pub tensor: String,
    /// Which column, from 0; 0 where the tensor has a value per row.
    pub column: usize,
    /// How its values are sorted into bins.
    pub bins: Bins,
    /// How many rows fell where.
    pub counts: Counts,
}

/// How values are sorted into bins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bins {
    /// Numbers: bin `i` is from bound `i` to below bound `i + 1`, the last one with
    /// its upper bound. Ascending; the first is the lowest value that was seen, the
    /// last the highest; one value alone is written twice.
    Bounds(Vec<f64>),
    /// Whole numbers and truth values that were few: a bin each, ascending.
    Integers(Vec<i64>),
    /// Texts: a bin each, the most frequent first.
    Texts(Vec<String>),
}

/// How many rows fell where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// No value: an empty cell, an empty text.
    #[serde(default)]
    pub missing: u64,
    /// NaN.
    #[serde(default)]
    pub nan: u64,
    /// Below the lowest bound.
    #[serde(default)]
    pub below: u64,
    /// Above the highest bound.
    #[serde(default)]
    pub above: u64,
    /// A whole number or text without a bin of its own.
    #[serde(default)]
    pub other: u64,
    /// In each bin.
    pub bins: Vec<u64>,
}

impl Counts {
    /// How many places there are beside the bins.
    pub const APART: usize = 5;

    /// All rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        let apart = [self.missing, self.nan, self.below, self.above, self.other];
        apart.iter().chain(&self.bins).fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// By place: missing, NaN, below, above, other, then the bins.
    #[must_use]
    pub fn by_place(&self) -> Vec<u64> {
        let mut places = vec![self.missing, self.nan, self.below, self.above, self.other];
        places.extend(&self.bins);
        places
    }

    /// The reverse of [`Counts::by_place`]; what is not there is zero.
    #[must_use]
    pub fn from_places(places: &[u64]) -> Self {
        let at = |place: usize| places.get(place).copied().unwrap_or(0);
        let bins = places.get(Self::APART..).unwrap_or_default().to_vec();
        Self { missing: at(0), nan: at(1), below: at(2), above: at(3), other: at(4), bins }
    }
}

/// Where a value is counted, as an index into [`Counts::by_place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceOf(pub usize);

impl PlaceOf {
    /// No value.
    pub const MISSING: Self = Self(0);
    /// NaN.
    pub const NAN: Self = Self(1);
    /// Below the lowest bound.
    pub const BELOW: Self = Self(2);
    /// Above the highest bound.
    pub const ABOVE: Self = Self(3);
    /// Without a bin of its own.
    pub const OTHER: Self = Self(4);

    /// In a bin.
    #[must_use]
    pub const fn bin(index: usize) -> Self {
        Self(Counts::APART + index)
    }
}

impl Bins {
    /// How many bins there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Bounds(bounds) => bounds.len().saturating_sub(1),
            Self::Integers(values) => values.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether each is of one value, so that a value may be without a bin; otherwise they
    /// are ranges.
    #[must_use]
    pub const fn are_values(&self) -> bool {
        matches!(self, Self::Integers(_) | Self::Texts(_))
    }

    /// Where a number belongs.
    #[must_use]
    pub fn place(&self, number: f64) -> PlaceOf {
        if number.is_nan() {
            return PlaceOf::NAN;
        }
        match self {
            Self::Bounds(bounds) => {
                let (Some(lowest), Some(highest)) = (bounds.first(), bounds.last()) else {
                    return PlaceOf::OTHER;
                };
                if number < *lowest {
                    return PlaceOf::BELOW;
                }
                if number > *highest {
                    return PlaceOf::ABOVE;
                }
                let above = bounds.partition_point(|bound| *bound <= number);
                PlaceOf::bin(above.clamp(1, bounds.len() - 1) - 1)
            }
            Self::Integers(values) => {
                // Zero has one sign here.
                let number = number + 0.0;
                #[expect(clippy::cast_precision_loss, reason = "compared, not kept")]
                let place = values.binary_search_by(|value| (*value as f64).total_cmp(&number));
                place.map_or(PlaceOf::OTHER, PlaceOf::bin)
            }
            Self::Texts(_) => PlaceOf::OTHER,
        }
    }

    /// Where a text belongs.
    #[must_use]
    pub fn place_text(&self, text: &[u8]) -> PlaceOf {
        match self {
            _ if text.is_empty() => PlaceOf::MISSING,
            Self::Texts(texts) => {
                let place = texts.iter().position(|known| known.as_bytes() == text);
                place.map_or(PlaceOf::OTHER, PlaceOf::bin)
            }
            Self::Bounds(_) | Self::Integers(_) => PlaceOf::OTHER,
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.len() > BINS_MAX {
            return Err(format!("expected at most {BINS_MAX} bins, got {}", self.len()));
        }
        match self {
            Self::Bounds(bounds) => {
                let ascend = bounds.windows(2).all(|pair| pair[0] < pair[1]);
                let one_value = bounds.len() == 2 && bounds[0] == bounds[1];
                let finite = bounds.iter().all(|bound| bound.is_finite());
                if bounds.len() == 1 || !finite || !(ascend || one_value) {
                    return Err(format!("bounds: expected ascending numbers, got {bounds:?}"));
                }
            }
            Self::Integers(values) => {
                if !values.windows(2).all(|pair| pair[0] < pair[1]) {
                    return Err(format!("integers: expected them ascending, got {values:?}"));
                }
            }
            Self::Texts(texts) => {
                let long = texts.iter().find(|text| text.len() > CATEGORY_BYTES_MAX);
                if let Some(long) = long {
                    let bytes = long.len();
                    return Err(format!(
                        "texts: expected at most {CATEGORY_BYTES_MAX} bytes, got {bytes}"
                    ));
                }
                let different: std::collections::BTreeSet<_> = texts.iter().collect();
                if different.len() != texts.len() {
                    return Err("texts: one is there twice".to_owned());
                }
            }
        }
        Ok(())
    }
}

impl Profile {
    /// The form that this program writes and reads.
    pub const SCHEMA: u32 = 1;
    /// Its name in a version's folder.
    pub const FILE: &str = "profile.json";

    /// Checks what the types do not.
    ///
    /// # Errors
    /// It is of another schema, has too many columns or bins, a name is there twice, or
    /// its counts do not fit its bins.
    pub fn check(&self) -> Result<()> {
        if self.schema != Self::SCHEMA {
            return Err(Error::invalid(format!(
                "schema: expected {}, got {}; make the profile anew with this program",
                Self::SCHEMA,
                self.schema
            )));
        }
        for (what, text) in [("source", &self.source), ("created", &self.created)] {
            short(text).map_err(|why| Error::invalid(format!("{what}: {why}")))?;
        }
        let columns = self.inputs.len() + self.outputs.len();
        if columns > FEATURES_MAX {
            return Err(Error::invalid(format!(
                "expected at most {FEATURES_MAX} inputs and outputs, got {columns}"
            )));
        }
        for (kind, features) in [("inputs", &self.inputs), ("outputs", &self.outputs)] {
            let mut names = std::collections::BTreeSet::new();
            for (at, feature) in features.iter().enumerate() {
                for (what, text) in [("name", &feature.name), ("tensor", &feature.tensor)] {
                    short(text)
                        .map_err(|why| Error::invalid(format!("{kind}[{at}].{what}: {why}")))?;
                }
                let at = |why: String| Error::invalid(format!("{kind} {:?}: {why}", feature.name));
                if !names.insert(&feature.name) {
                    return Err(at("is there twice".to_owned()));
                }
                feature.bins.check().map_err(at)?;
                let (bins, counts) = (feature.bins.len(), feature.counts.bins.len());
                if bins != counts {
                    return Err(at(format!("expected {bins} counts, one per bin, got {counts}")));
                }
                let counted = feature.counts.rows();
                if counted != self.rows {
                    return Err(at(format!("its counts are of {counted} rows, not {}", self.rows)));
                }
            }
        }
        if let Some(together) = &self.missing_together {
            let checked = together.check(self.rows, &self.inputs);
            checked.map_err(|why| Error::invalid(format!("missing_together: {why}")))?;
        }
        Ok(())
    }
}

fn short(text: &str) -> Result<(), String> {
    if text.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(format!("expected at most {NAME_BYTES_MAX} bytes, got {}", text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_one_place() {
        let bounds = Bins::Bounds(vec![0.0, 1.0, 2.5]);
        let cases = [
            (-0.1, PlaceOf::BELOW),
            (0.0, PlaceOf::bin(0)),
            (0.99, PlaceOf::bin(0)),
            (1.0, PlaceOf::bin(1)),
            (2.5, PlaceOf::bin(1)),
            (2.6, PlaceOf::ABOVE),
            (f64::NAN, PlaceOf::NAN),
            (f64::INFINITY, PlaceOf::ABOVE),
            (f64::NEG_INFINITY, PlaceOf::BELOW),
        ];
        for (number, place) in cases {
            assert_eq!(bounds.place(number), place, "{number}");
        }
        let one = Bins::Bounds(vec![3.0, 3.0]);
        let places = [2.0, 3.0, 4.0].map(|number| one.place(number));
        assert_eq!(places, [PlaceOf::BELOW, PlaceOf::bin(0), PlaceOf::ABOVE]);
        let integers = Bins::Integers(vec![-1, 0, 7]);
        let places = [-1.0, 7.0, 3.0, -0.0].map(|number| integers.place(number));
        assert_eq!(places, [PlaceOf::bin(0), PlaceOf::bin(2), PlaceOf::OTHER, PlaceOf::bin(1)]);
        let texts = Bins::Texts(vec!["a".into(), "b".into()]);
        let places = ["b", "c", ""].map(|text| texts.place_text(text.as_bytes()));
        assert_eq!(places, [PlaceOf::bin(1), PlaceOf::OTHER, PlaceOf::MISSING]);
        assert_eq!(texts.place(1.0), PlaceOf::OTHER);
        assert_eq!(Bins::Bounds(vec![]).place(1.0), PlaceOf::OTHER);
    }

    #[test]
    fn counts_go_to_places_and_back() {
        let counts = Counts { missing: 1, nan: 2, below: 3, above: 4, other: 5, bins: vec![6, 7] };
        assert_eq!(counts.by_place(), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(Counts::from_places(&counts.by_place()), counts);
        assert_eq!(counts.rows(), 28);
        assert_eq!(Counts::from_places(&[]), Counts::default());
    }

    fn profile() -> Profile {
        let counts = Counts { bins: vec![4, 6], ..Counts::default() };
        let feature = |name: &str, bins| Feature {
            name: name.into(),
            tensor: "x".into(),
            column: 0,
            bins,
            counts: counts.clone(),
        };
        Profile {
            schema: Profile::SCHEMA,
            model: ModelName::new("m").unwrap(),
            artifact: Digest::new([1; 32]),
            source: "train.csv".into(),
            created: "2026-01-01T00:00:00Z".into(),
            rows: 10,
            inputs: vec![
                feature("a", Bins::Bounds(vec![0.0, 1.0, 2.0])),
                feature("b", Bins::Texts(vec!["x".into(), "y".into()])),
            ],
            outputs: vec![feature("a", Bins::Integers(vec![0, 1]))],
            missing_together: None,
        }
    }

    type Change = fn(&mut Profile);

    #[test]
    fn a_profile_that_contradicts_itself_is_refused() {
        profile().check().unwrap();
        let cases: [(Change, &str); 11] = [
            (
                |p| p.schema = 2,
                "schema: expected 1, got 2; make the profile anew with this program",
            ),
            (|p| p.rows = 9, "inputs \"a\": its counts are of 10 rows, not 9"),
            (|p| p.inputs[1].name = "a".into(), "inputs \"a\": is there twice"),
            (
                |p| p.inputs[0].bins = Bins::Bounds(vec![0.0, 2.0, 1.0]),
                "inputs \"a\": bounds: expected ascending numbers, got [0.0, 2.0, 1.0]",
            ),
            (
                |p| p.inputs[0].bins = Bins::Bounds(vec![0.0, 1.0]),
                "inputs \"a\": expected 1 counts, one per bin, got 2",
            ),
            (
                |p| p.outputs[0].bins = Bins::Integers(vec![1, 0]),
                "outputs \"a\": integers: expected them ascending, got [1, 0]",
            ),
            (
                |p| p.inputs[1].bins = Bins::Texts(vec!["x".into(), "x".into()]),
                "inputs \"b\": texts: one is there twice",
            ),
            (
                |p| p.inputs[1].bins = Bins::Texts(vec![String::new(); 65]),
                "inputs \"b\": expected at most 64 bins, got 65",
            ),
            (|p| p.source = "x".repeat(4097), "source: expected at most 4096 bytes, got 4097"),
            (
                |p| p.inputs[1].name = "x".repeat(5000),
                "inputs[1].name: expected at most 4096 bytes, got 5000",
            ),
            (
                |p| p.outputs[0].tensor = "x".repeat(4097),
                "outputs[0].tensor: expected at most 4096 bytes, got 4097",
            ),
        ];
        for (change, expected) in cases {
            let mut changed = profile();
            change(&mut changed);
            assert_eq!(changed.check().unwrap_err().message(), expected);
        }
    }
}
