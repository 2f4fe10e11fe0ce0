//! Decimal text to FP16, rounded once.
//!
//! By way of a double it would be rounded twice: a text a little above the middle
//! of two FP16 numbers becomes that middle as a double, and then goes to the even
//! one, which may be the lower. So a double that is such a middle is compared
//! with the text itself.

use std::cmp::Ordering;

use ::half::f16;

/// Digits behind the point of a middle of two FP16 numbers, at most: it is a
/// multiple of 2^-25.
const DIGITS: usize = 25;
/// The power of two of the smallest normal FP16 number.
const EXPONENT_MIN: i32 = -14;
/// The digits of FP16 in base two, behind the first.
const BITS: i32 = 10;

/// The FP16 number nearest to `value`; `None` if there is none, or if `value` lies
/// in the middle of two, and only its text can tell.
pub(super) fn nearest(value: f64) -> Option<f16> {
    let place = Place::of(value);
    place.rounded(place.units.round_ties_even()).filter(|_| !place.is_middle())
}

/// The FP16 number nearest to the number `text`, which is `value` as a double; of
/// two the even one. `None` beyond the range.
pub(super) fn nearest_to_text(text: &str, value: f64) -> Option<f16> {
    let place = Place::of(value);
    let units = match place.is_middle().then(|| compare(text, value)) {
        Some(Ordering::Less) => place.units.floor(),
        Some(Ordering::Greater) => place.units.ceil(),
        Some(Ordering::Equal) | None => place.units.round_ties_even(),
    };
    place.rounded(units)
}

/// A number's size in units of the last place that FP16 has there.
struct Place {
    value: f64,
    unit: f64,
    units: f64,
}

impl Place {
    fn of(value: f64) -> Self {
        let exponent = i32::try_from(value.abs().to_bits() >> 52).unwrap_or(0) - 1023;
        // A power of two: neither it nor the quotient is rounded.
        let unit = 2_f64.powi(exponent.max(EXPONENT_MIN) - BITS);
        Self { value, unit, units: value.abs() / unit }
    }

    #[expect(clippy::float_cmp, reason = "both are exact")]
    fn is_middle(&self) -> bool {
        self.units.fract() == 0.5
    }

    /// So many units, with the sign; `None` beyond the range.
    fn rounded(&self, units: f64) -> Option<f16> {
        let size = units * self.unit;
        let fits = size <= f16::MAX.to_f64();
        // Exact: FP16 has this number.
        fits.then(|| f16::from_f64(size.copysign(self.value)))
    }
}

/// The size of the number `text` beside that of `middle`, exactly.
fn compare(text: &str, middle: f64) -> Ordering {
    let (text, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let Ok(power) = power.parse::<i64>() else { return Ordering::Equal };
    let written = format!("{:.DIGITS$}", middle.abs());
    digits(text, power).cmp(&digits(&written, 0))
}

/// Where the point stands behind the first digit that is not 0, and the digits
/// from there on, without zeros at the end.
fn digits(text: &str, power: i64) -> (i64, Vec<u8>) {
    let text = text.trim_start_matches('-');
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let zeros = all.iter().take_while(|digit| **digit == b'0').count();
    let end = all.iter().rposition(|digit| *digit != b'0').map_or(zeros, |last| last + 1);
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let point = count(whole.len()).saturating_add(power).saturating_sub(count(zeros));
    (point, all[zeros..end].to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<f64> {
        nearest_to_text(text, text.parse().unwrap()).map(f16::to_f64)
    }

    #[test]
    fn a_number_is_rounded_once() {
        for (text, expected) in [
            ("0", 0.0),
            ("-0.0", -0.0),
            ("1.5", 1.5),
            ("65504", 65504.0),
            // The middle of 1 and the next: to the even one; a little above, to that.
            ("1.00048828125", 1.0),
            ("1.000488282", 1.000_976_562_5),
            ("1.000488281250000000000000000000000000001", 1.000_976_562_5),
            ("-1.00048828125000000000000000000000000000", -1.0),
            ("1.00048828124999999999999999999999999999", 1.0),
            ("10.0048828125000000000000000001e-1", 1.000_976_562_5),
            ("0.000100048828125000000000000000000001E+4", 1.000_976_562_5),
            // The middle of the next and the one behind it.
            ("1.00146484375", 1.001_953_125),
            ("1.00146484374999999999999999999999", 1.000_976_562_5),
            // The smallest, and half of it.
            ("2.98023223876953125e-8", 0.0),
            ("2.98023223876953125000000000000001e-8", 5.960_464_477_539_063e-8),
            ("-2.98023223876953124999999999999999e-8", -0.0),
            ("1e-400", 0.0),
            ("65519.99999999999999999999999999999", 65504.0),
        ] {
            let got = read(text).unwrap();
            assert_eq!(got.to_bits(), f64::to_bits(expected), "{text}: {got}");
        }
        for text in ["65520", "65520.000000000000000000000001", "-1e5", "1e308"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        /// Around every middle: itself to the even one, what is below it down, what
        /// is above it up, however little.
        #[test]
        fn around_a_middle(bits in 0_u16..0x7bff, zeros in 0_usize..40) {
            let (low, high) = (f16::from_bits(bits), f16::from_bits(bits + 1));
            // Exact, with one digit more than FP16 has.
            let middle = f64::midpoint(low.to_f64(), high.to_f64());
            let even = if bits % 2 == 0 { low } else { high };
            let text = format!("{middle:.DIGITS$}");
            prop_assert_eq!(nearest_to_text(&text, middle), Some(even));
            prop_assert_eq!(nearest(middle), None);
            let above = format!("{text}{}1", "0".repeat(zeros));
            prop_assert_eq!(nearest_to_text(&above, above.parse().unwrap()), Some(high));
            // One less in the last digit, and nines behind it.
            let digits: u128 = text.replace('.', "").parse().unwrap();
            let below = format!("{}{}e-{}", digits - 1, "9".repeat(zeros + 1), DIGITS + zeros + 1);
            prop_assert_eq!(nearest_to_text(&below, below.parse().unwrap()), Some(low));
        }

        #[test]
        fn what_fp16_has_stays(bits in any::<u16>()) {
            let number = f16::from_bits(bits);
            prop_assume!(number.is_finite());
            prop_assert_eq!(nearest(number.to_f64()).map(f16::to_bits), Some(bits));
        }
    }
}
