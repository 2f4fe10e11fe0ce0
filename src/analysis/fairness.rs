//! Fairness on live traffic: does a model treat groups alike?
//!
//! Four rates are compared between groups, each for one class, the *positive* one:
//!
//! - how often it is answered (selection rate; needs no labels): *demographic parity*;
//! - how often to those who are of it (TPR): *equal opportunity* (Hardt, Price & Srebro 2016);
//! - the larger of the ranges of that and of how often to those who are not (FPR):
//!   *equalised odds* (the same);
//! - how many of those to whom it was answered are of it (PPV): *predictive parity*
//!   (Chouldechova 2017).
//!
//! Groups differ by chance, so that a difference alone says little. Each rate of each of G
//! groups has an interval ([`Proportion`]) at level/G, which holds at every look; all
//! G of one rate hold together with a probability of 1 − level. An alert is given only where
//! every set of rates within the intervals is beyond the margin: a false one has, over
//! all looks, a probability of at most the level for each rate, and twice that for equalised
//! odds, which looks at two.
//!
//! G counts all groups that are given, also those with too few rows: else the level
//! would be used again whenever one has grown large enough.

mod measures;

use serde::Serialize;
use utoipa::ToSchema;

use super::quality::{Proportion, Quality};
use super::terms::Level;

pub use measures::{FairnessAlert, FairnessMeasure, RateRange, RateRatio};

/// What differs so much is unfair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FairnessMargins {
    /// The lowest rate as a share of the highest must not be below this, 0 to 1.
    pub ratio: f64,
    /// The highest rate less the lowest must not be above this, 0 to 1.
    pub difference: f64,
}

impl Default for FairnessMargins {
    /// The four-fifths rule of the US Uniform Guidelines on Employee Selection Procedures
    /// (29 CFR 1607.4 D), and a tenth.
    fn default() -> Self {
        Self { ratio: 0.8, difference: 0.1 }
    }
}

/// How differently groups are treated.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Disparity {
    /// The probability that any group's interval of one rate ever misses.
    pub level: f64,
    /// The class that is compared, by its place among the model's classes.
    pub positive: u16,
    /// The fewest rows that a rate must be of to be compared.
    pub rows_min: u64,
    /// The groups that are compared, in the order given.
    pub groups: Vec<GroupRates>,
    /// The groups that have too few rows.
    pub too_small: Vec<SmallGroup>,
    /// Range of the selection rates; not with fewer than two groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demographic_parity: Option<RateRange>,
    /// The lowest selection rate as a share of the highest; not where both are 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demographic_parity_ratio: Option<RateRatio>,
    /// Range of the true positive rates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub equal_opportunity: Option<RateRange>,
    /// The larger one of the ranges of true and of false positive rates; only with both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub equalised_odds: Option<RateRange>,
    /// Range of the positive predictive values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predictive_parity: Option<RateRange>,
    /// What is beyond its margin, and no chance.
    pub alerts: Vec<FairnessAlert>,
}

/// A group's rates. Each has its own rows, and is compared if they are enough.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct GroupRates {
    /// Its name.
    pub group: String,
    /// How often the positive class is answered.
    pub selection_rate: Proportion,
    /// How often it is answered to labelled rows that are of it (TPR).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub true_positive_rate: Option<Proportion>,
    /// How often it is answered to labelled rows that are not of it (FPR).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub false_positive_rate: Option<Proportion>,
    /// How many of the labelled rows to which it is answered are of it (PPV).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positive_predictive_value: Option<Proportion>,
}

/// A group with too few rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SmallGroup {
    /// Its name.
    pub group: String,
    /// Rows to which a class was answered.
    pub rows: u64,
}

/// Compares groups by their names, with the usual margins.
///
/// `rows_min` is the fewest rows that a rate must be of to be compared (at least 1). A
/// group without as many answered rows is listed as too small; of one with fewer of, say,
/// positive rows, the rate is shown with its interval, and the comparison leaves it out.
#[must_use]
pub fn disparity(
    groups: &[(&str, &Quality)],
    positive: u16,
    rows_min: u64,
    level: Level,
) -> Disparity {
    disparity_beyond(groups, positive, rows_min, level, FairnessMargins::default())
}

/// [`disparity`] with other margins. A margin that is NaN never alerts.
#[must_use]
pub fn disparity_beyond(
    groups: &[(&str, &Quality)],
    positive: u16,
    rows_min: u64,
    level: Level,
    margins: FairnessMargins,
) -> Disparity {
    let mut found = Disparity {
        level: level.get(),
        positive,
        rows_min,
        groups: Vec::new(),
        too_small: Vec::new(),
        demographic_parity: None,
        demographic_parity_ratio: None,
        equal_opportunity: None,
        equalised_odds: None,
        predictive_parity: None,
        alerts: Vec::new(),
    };
    let each = level.split(groups.len());
    for (name, quality) in groups {
        let (_, rows) = quality.selected(positive);
        match GroupRates::new(name, quality, positive, each).filter(|_| rows >= rows_min) {
            Some(rates) => found.groups.push(rates),
            None => found.too_small.push(SmallGroup { group: (*name).to_owned(), rows }),
        }
    }
    found.compare(margins);
    found
}

impl GroupRates {
    /// `None` without rows.
    fn new(name: &str, quality: &Quality, positive: u16, level: Level) -> Option<Self> {
        let (selected, rows) = quality.selected(positive);
        let labelled = quality.against_others(positive);
        Proportion::new(selected, rows, level).map(|selection_rate| Self {
            group: name.to_owned(),
            selection_rate,
            true_positive_rate: Proportion::new(labelled.hits, labelled.positives, level),
            false_positive_rate: Proportion::new(labelled.false_alarms, labelled.negatives, level),
            positive_predictive_value: Proportion::new(labelled.hits, labelled.answers, level),
        })
    }
}

#[cfg(test)]
mod tests;
