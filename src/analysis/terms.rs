//! The judge's numbers, each of a type that refuses what it cannot mean, so
//! that no formula behind them has to check its input again.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::types::Share;

/// A canary's share of the traffic, neither nothing nor everything: only such
/// a split compares two arms.
///
/// It is the share that the split was *designed* to have, fixed before the
/// stage begins, never the proportion that was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Share", into = "Share")]
pub struct Exposure(Share);

impl Exposure {
    /// `None` for 0 % and for 100 %.
    #[must_use]
    pub fn new(share: Share) -> Option<Self> {
        (share != Share::ZERO && share != Share::ALL).then_some(Self(share))
    }

    /// The share of the canary.
    #[must_use]
    pub const fn share(self) -> Share {
        self.0
    }

    /// A number from 0.0001 to 0.9999.
    #[must_use]
    pub fn fraction(self) -> f64 {
        self.0.fraction()
    }
}

impl TryFrom<Share> for Exposure {
    type Error = Error;
    fn try_from(share: Share) -> Result<Self, Error> {
        Self::new(share)
            .ok_or_else(|| invalid("share", share.fraction(), "above 0% and below 100%"))
    }
}

impl From<Exposure> for Share {
    fn from(exposure: Exposure) -> Self {
        exposure.0
    }
}

fn invalid(what: &str, value: f64, expected: &str) -> Error {
    Error::invalid(format!("{what} {value}: expected {expected}"))
}

/// A number in a range, refused outside of it (NaN too).
macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:literal, |$value:ident| $fine:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            #[doc = concat!("Refuses what is not ", $expected, " (invalid argument).")]
            pub fn new($value: f64) -> Result<Self, Error> {
                if $fine { Ok(Self($value)) } else { Err(invalid($what, $value, $expected)) }
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = Error;
            fn try_from(value: f64) -> Result<Self, Error> {
                Self::new(value)
            }
        }

        impl From<$name> for f64 {
            fn from(number: $name) -> Self {
                number.0
            }
        }
    };
}

number! {
    /// The probability of a wrong answer that one is ready to bear (α or β).
    Level, "error probability", "from 1e-12 to 0.5", |value| (1e-12..=0.5).contains(&value)
}
number! {
    /// A ratio of two event rates, canary over champion, that a guard tests
    /// against.
    Margin, "margin", "from 0.01 to 100", |value| (0.01..=100.0).contains(&value)
}
number! {
    /// Events per request.
    Rate, "rate", "from 1e-9 to 0.999", |value| (1e-9..=0.999).contains(&value)
}

impl Level {
    /// The default for a false "worse", over a whole rollout.
    pub const WORSE: Self = Self(0.01);
    /// The default for a false "not worse", of each guard and margin.
    pub const NOT_WORSE: Self = Self(0.05);
    /// The default of the traffic check. It stops a rollout, and what it is made
    /// for (a bug, a retry storm) is never a close call.
    pub const TRAFFIC: Self = Self(0.001);
    /// The default of intervals of quality, each by itself.
    pub const QUALITY: Self = Self(0.05);
    /// The default for a false "moved", of all columns of one window together.
    pub const DRIFT: Self = Self(0.01);

    /// What each of `parts` tests may use, so that all of them together stay
    /// within this level (Bonferroni). No part gets less than the smallest
    /// level that there is.
    #[must_use]
    pub fn split(self, parts: usize) -> Self {
        Self((self.0 / parts.max(1) as f64).max(1e-12))
    }

    /// The logarithm that evidence must reach: `ln(1/α)`.
    #[must_use]
    pub fn ln_threshold(self) -> f64 {
        -self.0.ln()
    }
}

impl Margin {
    /// As bad as the champion, no more and no less.
    pub const ONE: Self = Self(1.0);
    /// The default for latency: a canary has colder caches and smaller
    /// batches, which is no fault of its.
    pub const LATENCY: Self = Self(1.25);

    /// How many times the champion's rate a canary may have at most before it
    /// leaves a stage, by the stage's share: 10 below 5 %, 5 below 25 %, 2
    /// below 50 %, 1.5 from there on.
    ///
    /// The bound shrinks as exposure grows. To show an equal canary better
    /// than 1.5 at 1 % takes thousands of events; to show it better than 10
    /// takes some forty, and a canary at 1 % cannot do more harm than that.
    #[must_use]
    pub fn by_exposure(exposure: Exposure) -> Self {
        Self(match exposure.share().basis_points() {
            ..500 => 10.0,
            500..2_500 => 5.0,
            2_500..5_000 => 2.0,
            5_000.. => 1.5,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The exposure of so many percent.
    pub(crate) fn percent(percent: f64) -> Exposure {
        Exposure::new(Share::from_percent(percent).unwrap()).unwrap()
    }

    #[test]
    fn what_a_number_cannot_mean_is_refused() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1e-300, 1e300] {
            assert!(Level::new(bad).is_err(), "{bad}");
            assert!(Margin::new(bad).is_err(), "{bad}");
            assert!(Rate::new(bad).is_err(), "{bad}");
        }
        assert!(Level::new(1.0).is_err() && Rate::new(1.0).is_err());
        assert!(Exposure::new(Share::ZERO).is_none() && Exposure::new(Share::ALL).is_none());
        let error = Level::new(1.5).unwrap_err().to_string();
        assert!(error.contains("1.5") && error.contains("0.5"), "{error}");
    }

    #[test]
    fn a_level_is_split_over_its_tests() {
        let level = Level::new(0.01).unwrap();
        assert_eq!(level.split(4).get(), 0.0025);
        assert_eq!(level.split(0), level);
        assert!(Level::new(level.split(usize::MAX).get()).is_ok());
    }

    #[test]
    fn margins_shrink_with_exposure() {
        let cases = [
            (0.01, 10.0),
            (1.0, 10.0),
            (4.99, 10.0),
            (5.0, 5.0),
            (10.0, 5.0),
            (25.0, 2.0),
            (49.99, 2.0),
            (50.0, 1.5),
            (99.99, 1.5),
        ];
        for (share, margin) in cases {
            assert_eq!(Margin::by_exposure(percent(share)).get(), margin, "{share}%");
        }
    }
}
