//! Shares of the traffic.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};

/// A share of the traffic, in steps of 0.01 %: a canary's weight, a shadow's
/// sample rate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Share(u16);

impl Share {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self(10_000);

    /// A share in basis points (0.01 %), 0 to 10,000.
    #[must_use]
    pub const fn from_basis_points(points: u16) -> Option<Self> {
        if points > 10_000 { None } else { Some(Self(points)) }
    }

    /// A share in percent; more than two decimals are refused.
    pub fn from_percent(percent: f64) -> Result<Self, Error> {
        let points = percent * 100.0;
        let exact = (points - points.round()).abs() < 1e-6;
        if !(0.0..=10_000.0).contains(&points) || !exact {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("share {percent}%: expected 0% to 100% in steps of 0.01%"),
            ));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=10000")]
        Ok(Self(points.round() as u16))
    }

    /// Basis points (0.01 %).
    #[must_use]
    pub const fn basis_points(self) -> u16 {
        self.0
    }

    /// Percent.
    #[must_use]
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// A number from 0 to 1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent())
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Share {
    type Err = Error;
    /// `5%`, `0.25 %` or `5`: always percent.
    fn from_str(s: &str) -> Result<Self, Error> {
        let number = s.trim().strip_suffix('%').unwrap_or(s).trim();
        let percent: f64 = number.parse().map_err(|_| {
            Error::new(
                ErrorCode::InvalidArgument,
                format!("share {s:?}: expected a percentage like \"5%\" or \"0.25%\""),
            )
        })?;
        Self::from_percent(percent)
    }
}

impl Serialize for Share {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages_with_two_decimals() {
        for (text, points) in
            [("5%", 500), ("0.25 %", 25), ("100", 10_000), ("0.01%", 1), ("0%", 0)]
        {
            assert_eq!(text.parse::<Share>().unwrap().basis_points(), points, "{text}");
        }
        for bad in ["", "%", "-1%", "100.01%", "0.001%", "NaN", "inf", "five"] {
            assert!(bad.parse::<Share>().is_err(), "{bad:?}");
        }
        assert_eq!(Share::from_percent(12.5).unwrap().to_string(), "12.5%");
    }
}
