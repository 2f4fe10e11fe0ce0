//! Numbers out of decimal text, fast where the result is certain.
//!
//! Eight digits are read at a time, and the value is put together from whole
//! digits and a power of ten. What this cannot prove to be right (too many
//! digits, too large an exponent, too near the middle of two floats, wrong
//! grammar) is `None`, and is left to the standard library and to serde_json:
//! nothing here ever decides that a text is wrong.

/// Digits and a power of ten: `±digits × 10^exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    /// Whether it has a minus.
    pub(super) negative: bool,
    /// Below 10^18.
    pub(super) digits: u64,
    /// The power of ten.
    pub(super) exponent: i32,
    /// Whether it has neither a fraction nor an exponent.
    pub(super) whole: bool,
}

/// 10^0 to 10^18.
const TENS: [u64; 19] = {
    let mut tens = [1; 19];
    let mut i = 1;
    while i < tens.len() {
        tens[i] = tens[i - 1] * 10;
        i += 1;
    }
    tens
};

/// Powers of ten as doubles: exact up to 10^22, correctly rounded beyond.
const POWERS: [f64; 38] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31, 1e32,
    1e33, 1e34, 1e35, 1e36, 1e37,
];

/// The largest power of ten that is exact in a double.
const EXACT_POWER: usize = 22;
/// Whole numbers up to here are exact in a double.
const EXACT_WHOLE: u64 = 1 << 53;
/// Digits of an exponent; more are left to others.
const EXPONENT_DIGITS_MAX: usize = 3;

/// The number at `at`, and the offset behind it, if it is one for certain: its
/// grammar is JSON's, and what follows cannot belong to it.
#[inline(always)]
pub(super) fn decimal(bytes: &[u8], at: usize) -> Option<(Decimal, usize)> {
    let negative = *bytes.get(at)? == b'-';
    let start = at + usize::from(negative);
    let (mut digits, mut at) = more_digits(bytes, start, 0)?;
    let leading_zero = at - start > 1 && bytes.get(start) == Some(&b'0');
    if at == start || leading_zero {
        return None;
    }
    let mut next = bytes.get(at).copied();
    let mut exponent = 0;
    let mut whole = true;
    if next == Some(b'.') {
        let start = at + 1;
        (digits, at) = fraction(bytes, start, digits)?;
        if at == start {
            return None;
        }
        // At most as many as there are digits below 10^18, and zeros in front.
        exponent = -i32::try_from(at - start).ok()?;
        whole = false;
        next = bytes.get(at).copied();
    }
    if matches!(next, Some(b'e' | b'E')) {
        let (power, end) = power(bytes, at + 1)?;
        exponent += power;
        at = end;
        whole = false;
        next = bytes.get(at).copied();
    }
    matches!(next, None | Some(b',' | b']' | b'}' | b' ' | b'\n' | b'\t' | b'\r'))
        .then_some((Decimal { negative, digits, exponent, whole }, at))
}

/// Appends the digits at `at` to `digits`; `None` from 10^18 on.
#[inline]
fn more_digits(bytes: &[u8], mut at: usize, mut digits: u64) -> Option<(u64, usize)> {
    loop {
        let chunk = eight_bytes(bytes, at);
        let count = digits_in(chunk);
        if digits >= TENS[18 - count] {
            return None;
        }
        digits = digits * TENS[count] + value_of(chunk, count);
        at += count;
        if count < 8 {
            return Some((digits, at));
        }
    }
}

/// The same for a fraction, which is longer: up to sixteen digits are read
/// without a branch that depends on how many there are.
#[inline(always)]
fn fraction(bytes: &[u8], at: usize, digits: u64) -> Option<(u64, usize)> {
    let Some((first, rest)) = bytes.get(at..).and_then(<[u8]>::split_first_chunk) else {
        return more_digits(bytes, at, digits);
    };
    let Some(second) = rest.first_chunk() else { return more_digits(bytes, at, digits) };
    let (first, second) = (u64::from_le_bytes(*first), u64::from_le_bytes(*second));
    let before = digits_in(first);
    let behind = digits_in(second) * usize::from(before == 8);
    let count = before + behind;
    if digits >= TENS[18 - count] {
        return None;
    }
    let value = value_of(first, before) * TENS[behind] + value_of(second, behind);
    let digits = digits * TENS[count] + value;
    if count == 16 { more_digits(bytes, at + 16, digits) } else { Some((digits, at + count)) }
}

/// The eight bytes at `at`, the first one lowest; zeros behind the end.
#[inline]
fn eight_bytes(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => last_bytes(bytes, at),
    }
}

#[cold]
fn last_bytes(bytes: &[u8], at: usize) -> u64 {
    let mut chunk = [0; 8];
    let rest = bytes.get(at..).unwrap_or_default();
    chunk[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(chunk)
}

/// How many digits a chunk begins with.
#[inline]
const fn digits_in(chunk: u64) -> usize {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    // A digit becomes its value, 0 to 9, and every other byte more.
    let values = chunk ^ ZEROS;
    // The high bit of each byte that is no digit. No sum carries over.
    let others = (((values & LOW) + 0x7676_7676_7676_7676) | values) & !LOW;
    (others.trailing_zeros() / 8) as usize
}

/// Eight times the digit zero.
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// The value of the first `count` bytes of a chunk, which are digits.
#[inline]
fn value_of(chunk: u64, count: usize) -> u64 {
    const PAIRS: u64 = 0x0000_00ff_0000_00ff;
    // As if zeros stood in front: the first byte is the highest digit.
    let values = (chunk ^ ZEROS).checked_shl(64 - 8 * count as u32).unwrap_or(0);
    // Neighbours are joined: to pairs, to fours, to eight.
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8);
    let low = (pairs & PAIRS).wrapping_mul(100 + (1_000_000 << 32));
    let high = ((pairs >> 16) & PAIRS).wrapping_mul(1 + (10_000 << 32));
    low.wrapping_add(high) >> 32
}

/// The exponent at `at`, behind its `e`.
fn power(bytes: &[u8], mut at: usize) -> Option<(i32, usize)> {
    let negative = bytes.get(at) == Some(&b'-');
    if negative || bytes.get(at) == Some(&b'+') {
        at += 1;
    }
    let start = at;
    let mut power = 0;
    while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
        power = power * 10 + i32::from(digit - b'0');
        at += 1;
        if at - start > EXPONENT_DIGITS_MAX {
            return None;
        }
    }
    (at > start).then_some((if negative { -power } else { power }, at))
}

impl Decimal {
    fn signed(self, value: f64) -> f64 {
        if self.negative { -value } else { value }
    }

    /// `digits × 10^exponent`, within three roundings to a double.
    #[inline]
    fn near(self) -> Option<f64> {
        let power = *POWERS.get(usize::try_from(self.exponent.unsigned_abs()).ok()?)?;
        #[expect(clippy::cast_precision_loss, reason = "one of the three")]
        // Signed conversion is one instruction; there are 60 bits at most.
        let digits = self.digits as i64 as f64;
        Some(if self.exponent < 0 { digits / power } else { digits * power })
    }

    /// The nearest single-precision number, if it is finite and certain.
    ///
    /// Digits, power and quotient are rounded to a double each, so the quotient
    /// is off by less than 2 × 3 half units of its last place. It rounds to the
    /// same float as the exact value does unless the middle of two floats lies
    /// between them: so it must be farther than that from the middle, where the
    /// 29 bits that a float lacks are a one and zeros.
    #[inline(always)]
    pub(super) fn to_f32(self) -> Option<f32> {
        const LACKING: u64 = (1 << 29) - 1;
        const MIDDLE: u64 = 1 << 28;
        const UNSURE: u64 = 8;
        if self.digits == 0 {
            return Some(if self.negative { -0.0 } else { 0.0 });
        }
        let near = self.near()?;
        let normal = near >= f64::from(f32::MIN_POSITIVE) && near < f64::from(f32::MAX);
        if !normal || (near.to_bits() & LACKING).abs_diff(MIDDLE) <= UNSURE {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest")]
        Some(self.signed(near) as f32)
    }

    /// The nearest double-precision number, if it is certain: the quotient or
    /// product of two exact numbers is rounded once (Clinger 1990).
    #[inline]
    pub(super) fn to_f64(self) -> Option<f64> {
        let exact =
            self.digits <= EXACT_WHOLE && self.exponent.unsigned_abs() as usize <= EXACT_POWER;
        exact.then(|| self.near().map(|value| self.signed(value))).flatten()
    }

    /// The whole number, if it is written as one.
    #[inline]
    pub(super) fn to_i64(self) -> Option<i64> {
        let digits = i64::try_from(self.digits).ok().filter(|_| self.whole)?;
        Some(if self.negative { -digits } else { digits })
    }
}

/// Whether this is a number by JSON's grammar.
pub(super) fn is_number(word: &[u8]) -> bool {
    let rest = word.strip_prefix(b"-").unwrap_or(word);
    let (whole, rest) = split_digits(rest);
    if whole.is_empty() || (whole[0] == b'0' && whole.len() > 1) {
        return false;
    }
    let rest = match rest.strip_prefix(b".").map(split_digits) {
        Some(([], _)) => return false,
        Some((_, rest)) => rest,
        None => rest,
    };
    let [b'e' | b'E', rest @ ..] = rest else { return rest.is_empty() };
    let rest = match rest {
        [b'+' | b'-', rest @ ..] => rest,
        rest => rest,
    };
    !rest.is_empty() && rest.iter().all(u8::is_ascii_digit)
}

fn split_digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    let count = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    bytes.split_at(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(word: &str) -> Option<Decimal> {
        let (decimal, end) = decimal(word.as_bytes(), 0)?;
        (end == word.len()).then_some(decimal)
    }

    #[test]
    fn what_clients_write_needs_no_second_way() {
        for word in [
            "0",
            "-0",
            "1",
            "-12",
            "255",
            "0.5",
            "-0.123456789",
            "3.4028234e38",
            "1e-5",
            "1.2345678901234567e-05",
            "0.12345678901234567",
            "0.00012345678901234567",
            "-123456.78901234567",
            "16777216",
            "1E+2",
        ] {
            let fast = whole(word).unwrap().to_f32().unwrap();
            assert_eq!(fast.to_bits(), word.parse::<f32>().unwrap().to_bits(), "{word}");
        }
        for word in ["0", "-0", "0.1", "123456.789", "9007199254740992", "1e22", "-5e-22"] {
            let fast = whole(word).unwrap().to_f64().unwrap();
            assert_eq!(fast.to_bits(), word.parse::<f64>().unwrap().to_bits(), "{word}");
        }
        for word in ["0", "-0", "7", "-128", "999999999999999999"] {
            assert_eq!(whole(word).unwrap().to_i64(), word.parse().ok(), "{word}");
        }
    }

    #[test]
    fn what_is_not_certain_is_left_to_others() {
        // The middle of two floats, and a hair beside it.
        for word in ["16777217", "16777217.000000001", "0.5000000298023224"] {
            assert_eq!(whole(word).unwrap().to_f32(), None, "{word}");
        }
        assert_eq!(whole("1e39").and_then(Decimal::to_f32), None);
        assert_eq!(whole("1e-44").and_then(Decimal::to_f32), None);
        assert_eq!(whole("12345678901234567.5").unwrap().to_f64(), None);
        assert_eq!(whole("1e23").unwrap().to_f64(), None);
        assert_eq!(whole("1.0").unwrap().to_i64(), None);
        for word in [
            "",
            "-",
            "+1",
            ".5",
            "1.",
            "01",
            "-01",
            "1e",
            "1e+",
            "1.e5",
            "0x1",
            "1a",
            "NaN",
            "Infinity",
            "1e1234",
            "1234567890123456789",
            "1:",
            "1\"",
            "1[",
            "--1",
            "1-",
        ] {
            assert_eq!(whole(word), None, "{word}");
        }
    }

    #[test]
    fn the_grammar_is_jsons() {
        for word in ["0", "-0", "10", "1.50", "1e5", "1E+05", "-1.2e-3", "0.0e0"] {
            assert!(is_number(word.as_bytes()), "{word}");
        }
        for word in
            ["", "-", "+1", "01", "-01", "1.", ".1", "1e", "1e+", "1.e1", "1 ", "1e5.0", "٣"]
        {
            assert!(!is_number(word.as_bytes()), "{word}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        /// The standard library is the judge of the value, the grammar of the
        /// text.
        #[test]
        fn what_is_certain_is_right(word in "-?[0-9]{0,20}(\\.[0-9]{0,24})?([eE][+-]?[0-9]{0,3})?[,a\\]]?") {
            if let Some((decimal, end)) = decimal(word.as_bytes(), 0) {
                let number = &word[..end];
                prop_assert!(is_number(number.as_bytes()), "{}", number);
                if let Some(fast) = decimal.to_f32() {
                    prop_assert_eq!(fast.to_bits(), number.parse::<f32>().unwrap().to_bits());
                }
                if let Some(fast) = decimal.to_f64() {
                    prop_assert_eq!(fast.to_bits(), number.parse::<f64>().unwrap().to_bits());
                }
                if let Some(fast) = decimal.to_i64() {
                    prop_assert_eq!(fast, number.parse::<i64>().unwrap());
                }
            }
        }

        /// Near the middle of two floats, from both sides, at every length.
        #[test]
        fn middles_are_rounded_like_the_standard_library(
            bits in 0x0080_0000_u32..0x7f7f_ffff,
            nudge in -40_i64..40,
            precision in 0_usize..20,
        ) {
            let (low, high) = (f64::from(f32::from_bits(bits)), f64::from(f32::from_bits(bits + 1)));
            let middle = f64::midpoint(low, high);
            let near = f64::from_bits(middle.to_bits().wrapping_add_signed(nudge));
            for word in [format!("{near:e}"), format!("{near:.precision$e}"), near.to_string()] {
                if let Some(fast) = whole(&word).and_then(Decimal::to_f32) {
                    prop_assert_eq!(fast.to_bits(), word.parse::<f32>().unwrap().to_bits(), "{}", word);
                }
            }
        }

        /// As `json.dumps` writes single and double precision.
        #[test]
        fn floats_read_back(single in any::<f32>(), double in any::<f64>()) {
            for word in [single.to_string(), format!("{single:e}"), f64::from(single).to_string()] {
                if let Some(fast) = whole(&word).and_then(Decimal::to_f32) {
                    prop_assert_eq!(fast.to_bits(), single.to_bits(), "{}", word);
                }
            }
            for word in [double.to_string(), format!("{double:e}")] {
                if let Some(fast) = whole(&word).and_then(Decimal::to_f64) {
                    prop_assert_eq!(fast.to_bits(), double.to_bits(), "{}", word);
                }
            }
        }
    }
}
