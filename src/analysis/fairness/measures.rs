//! Ranges of rates between groups, and when they are beyond a margin.

use serde::Serialize;
use utoipa::ToSchema;

use super::super::quality::Proportion;
use super::{Disparity, FairnessMargins, GroupRates};

/// How far groups are apart in one rate.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RateRange {
    /// The highest rate less the lowest, 0 to 1.
    pub difference: f64,
    /// The least that it may be, given the intervals; 0 to 1.
    pub difference_min: f64,
    /// The group with the highest rate; the first of several.
    pub highest: String,
    /// The group with the lowest rate; the first of several.
    pub lowest: String,
    /// The groups between which the least difference is, the higher one first.
    #[serde(skip)]
    apart: (String, String),
}

/// The lowest rate as a share of the highest.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RateRatio {
    /// The lowest over the highest, 0 to 1.
    pub ratio: f64,
    /// The most that it may be, given the intervals; 0 to 1.
    pub ratio_max: f64,
    /// The group with the highest rate; the first of several.
    pub highest: String,
    /// The group with the lowest rate; the first of several.
    pub lowest: String,
    /// The groups between which the highest ratio is, the higher one first.
    #[serde(skip)]
    apart: (String, String),
}

/// What is compared between groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FairnessMeasure {
    /// The difference of selection rates.
    DemographicParity,
    /// The ratio of selection rates.
    DemographicParityRatio,
    /// The difference of true positive rates.
    EqualOpportunity,
    /// The larger one of the differences of true and of false positive rates.
    EqualisedOdds,
    /// The difference of positive predictive values.
    PredictiveParity,
}

impl FairnessMeasure {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DemographicParity => "demographic parity",
            Self::DemographicParityRatio => "demographic parity ratio",
            Self::EqualOpportunity => "equal opportunity",
            Self::EqualisedOdds => "equalised odds",
            Self::PredictiveParity => "predictive parity",
        }
    }
}

/// A measure is beyond its margin, whatever the rates are within their intervals.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct FairnessAlert {
    /// Which one.
    pub measure: FairnessMeasure,
    /// A group whose rate is shown to be higher…
    pub higher: String,
    /// …than that of this one, by more than the margin.
    pub lower: String,
    /// The least that the difference may be, or the most that the ratio may be; 0 to 1.
    pub bound: f64,
    /// The margin that the bound is beyond.
    pub margin: f64,
}

/// A group's name and its rate.
type Named<'a> = (&'a str, Proportion);

impl Disparity {
    /// Fills in the measures and the alerts.
    pub(super) fn compare(&mut self, margins: FairnessMargins) {
        let selection = self.rates(|group| Some(group.selection_rate));
        let hits = range(&self.rates(|group| group.true_positive_rate));
        let false_alarms = range(&self.rates(|group| group.false_positive_rate));
        let predictive = range(&self.rates(|group| group.positive_predictive_value));
        let (parity, ratio) = (range(&selection), ratio(&selection));
        self.demographic_parity = parity;
        self.demographic_parity_ratio = ratio;
        self.equalised_odds = hits.clone().zip(false_alarms).map(|(a, b)| larger(a, b));
        self.equal_opportunity = hits;
        self.predictive_parity = predictive;
        self.alerts = self.alerts(margins);
    }

    /// The rates that are of enough rows.
    fn rates(&self, rate: impl Fn(&GroupRates) -> Option<Proportion>) -> Vec<Named<'_>> {
        let named = |group| rate(group).map(|rate| (group.group.as_str(), rate));
        let rates = self.groups.iter().filter_map(named);
        rates.filter(|(_, rate)| rate.of >= self.rows_min).collect()
    }

    fn alerts(&self, margins: FairnessMargins) -> Vec<FairnessAlert> {
        let differences = [
            (FairnessMeasure::DemographicParity, &self.demographic_parity),
            (FairnessMeasure::EqualOpportunity, &self.equal_opportunity),
            (FairnessMeasure::EqualisedOdds, &self.equalised_odds),
            (FairnessMeasure::PredictiveParity, &self.predictive_parity),
        ];
        let ratio = self.demographic_parity_ratio.iter().filter_map(|r| r.alert(margins.ratio));
        let alert = |(measure, range): (FairnessMeasure, &Option<RateRange>)| {
            range.as_ref().and_then(|range| range.alert(measure, margins.difference))
        };
        ratio.chain(differences.into_iter().filter_map(alert)).collect()
    }
}

impl RateRange {
    fn alert(&self, measure: FairnessMeasure, margin: f64) -> Option<FairnessAlert> {
        let beyond = self.difference_min > margin;
        beyond.then(|| FairnessAlert::new(measure, &self.apart, self.difference_min, margin))
    }
}

impl RateRatio {
    fn alert(&self, margin: f64) -> Option<FairnessAlert> {
        let measure = FairnessMeasure::DemographicParityRatio;
        let beyond = self.ratio_max < margin;
        beyond.then(|| FairnessAlert::new(measure, &self.apart, self.ratio_max, margin))
    }
}

impl FairnessAlert {
    fn new(measure: FairnessMeasure, apart: &(String, String), bound: f64, margin: f64) -> Self {
        let (higher, lower) = apart.clone();
        Self { measure, higher, lower, bound, margin }
    }
}

/// The extremes of some rates: by the rates, and by what their intervals allow at least.
struct Extremes<'a> {
    highest: Named<'a>,
    lowest: Named<'a>,
    /// The one whose interval begins highest: the highest rate is not below that.
    surely_high: Named<'a>,
    /// The one whose interval ends lowest: the lowest rate is not above that.
    surely_low: Named<'a>,
}

impl<'a> Extremes<'a> {
    /// `None` of fewer than two.
    fn of(rates: &[Named<'a>]) -> Option<Self> {
        // The first of equal ones, either way.
        let best = |key: fn(&Proportion) -> f64| {
            let by = |a: &Named<'_>, b: &Named<'_>| key(&a.1).total_cmp(&key(&b.1));
            rates.iter().copied().min_by(by)
        };
        Some(Self {
            highest: best(|rate| -rate.value)?,
            lowest: best(|rate| rate.value)?,
            surely_high: best(|rate| -rate.lower)?,
            surely_low: best(|rate| rate.upper)?,
        })
        .filter(|_| rates.len() >= 2)
    }

    fn names(&self) -> (String, String) {
        (self.highest.0.to_owned(), self.lowest.0.to_owned())
    }

    fn apart(&self) -> (String, String) {
        (self.surely_high.0.to_owned(), self.surely_low.0.to_owned())
    }
}

fn range(rates: &[Named<'_>]) -> Option<RateRange> {
    let extremes = Extremes::of(rates)?;
    let (highest, lowest) = extremes.names();
    Some(RateRange {
        difference: extremes.highest.1.value - extremes.lowest.1.value,
        difference_min: (extremes.surely_high.1.lower - extremes.surely_low.1.upper).max(0.0),
        highest,
        lowest,
        apart: extremes.apart(),
    })
}

fn ratio(rates: &[Named<'_>]) -> Option<RateRatio> {
    let extremes = Extremes::of(rates)?;
    let (highest, lowest) = extremes.names();
    let share = |low: f64, high: f64| if low < high { low / high } else { 1.0 };
    (extremes.highest.1.value > 0.0).then(|| RateRatio {
        ratio: share(extremes.lowest.1.value, extremes.highest.1.value),
        ratio_max: share(extremes.surely_low.1.upper, extremes.surely_high.1.lower),
        highest,
        lowest,
        apart: extremes.apart(),
    })
}

/// The range with the larger difference; and what at least one of them is apart.
fn larger(a: RateRange, b: RateRange) -> RateRange {
    let (shown, other) = if a.difference >= b.difference { (a, b) } else { (b, a) };
    if other.difference_min > shown.difference_min {
        RateRange { difference_min: other.difference_min, apart: other.apart, ..shown }
    } else {
        shown
    }
}
