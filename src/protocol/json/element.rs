//! One JSON scalar as one element of a tensor.

use ::half::f16;

use crate::protocol::json::number::{Decimal, decimal};
use crate::protocol::json::{Token, half, unescape};

/// An element type that JSON can carry.
pub(in crate::protocol) trait Element: Sized + Clone + Default {
    /// Whether it may come as encoded bytes.
    const BYTES: bool = false;

    /// Reads a scalar; the error says what was expected and what came.
    fn read(token: Token<'_>) -> Result<Self, String>;

    /// The element that bytes are, where [`Self::BYTES`] says that they may be one.
    fn of_bytes(_bytes: Vec<u8>) -> Result<Self, String> {
        Self::read(Token::ObjectOpen)
    }

    /// The element at `at` and the offset behind it, where both are certain at
    /// a glance: then it is what [`Self::read`] gives.
    fn scan(_bytes: &[u8], _at: usize) -> Option<(Self, usize)> {
        None
    }
}

/// Characters of a wrong value that a message repeats.
const SHOWN_MAX: usize = 40;

fn shown(word: &str) -> String {
    if word.chars().nth(SHOWN_MAX).is_none() {
        return word.to_owned();
    }
    word.chars().take(SHOWN_MAX).chain(['…']).collect()
}

/// The text of a number that is to become a `datatype`.
fn number<'a>(token: Token<'a>, datatype: &str) -> Result<&'a str, String> {
    match token {
        Token::Word(word) if !matches!(word, "null" | "true" | "false") => Ok(word),
        other => Err(format!("expected a number ({datatype}), got {}", other.kind())),
    }
}

impl Element for bool {
    fn read(token: Token<'_>) -> Result<Self, String> {
        match token {
            Token::Word("true") => Ok(true),
            Token::Word("false") => Ok(false),
            other => Err(format!("expected true or false (BOOL), got {}", other.kind())),
        }
    }

    fn scan(bytes: &[u8], at: usize) -> Option<(Self, usize)> {
        let rest = bytes.get(at..)?;
        let (value, end) = match rest {
            [b't', b'r', b'u', b'e', ..] => (true, at + 4),
            [b'f', b'a', b'l', b's', b'e', ..] => (false, at + 5),
            _ => return None,
        };
        matches!(bytes.get(end), None | Some(b',' | b']' | b'}')).then_some((value, end))
    }
}

impl Element for Vec<u8> {
    const BYTES: bool = true;

    fn read(token: Token<'_>) -> Result<Self, String> {
        match token {
            Token::String(inner) => Ok(unescape(inner)?.into_owned().into_bytes()),
            other => Err(format!("expected a string (BYTES), got {}", other.kind())),
        }
    }

    fn of_bytes(bytes: Vec<u8>) -> Result<Self, String> {
        Ok(bytes)
    }
}

/// Whole numbers up to here are exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

macro_rules! integers {
    ($($type:ty => $name:literal),*) => {$(
        impl Element for $type {
            fn read(token: Token<'_>) -> Result<Self, String> {
                let word = number(token, $name)?;
                if let Ok(value) = word.parse() {
                    return Ok(value);
                }
                let value: f64 = word.parse().map_err(|_| format!("{} is no number", shown(word)))?;
                if value.fract() != 0.0 {
                    return Err(format!("{} is not a whole number, which {} needs", shown(word), $name));
                }
                // Some clients write whole numbers as 3.0 or 1e3.
                #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
                let whole = (value.abs() <= EXACT).then_some(value as i64);
                whole.and_then(|whole| Self::try_from(whole).ok()).ok_or_else(|| {
                    format!(
                        "{} is out of range for {} ({} to {})",
                        shown(word), $name, Self::MIN, Self::MAX
                    )
                })
            }

            #[inline(always)]
            fn scan(bytes: &[u8], at: usize) -> Option<(Self, usize)> {
                let (decimal, end) = decimal(bytes, at)?;
                Some((Self::try_from(decimal.to_i64()?).ok()?, end))
            }
        }
    )*};
}

integers!(
    u8 => "UINT8", u16 => "UINT16", u32 => "UINT32", u64 => "UINT64",
    i8 => "INT8", i16 => "INT16", i32 => "INT32", i64 => "INT64"
);

macro_rules! floats {
    ($($type:ty => $name:literal by $scanned:expr),*) => {$(
        impl Element for $type {
            fn read(token: Token<'_>) -> Result<Self, String> {
                let word = number(token, $name)?;
                let value: Self = word.parse().map_err(|_| format!("{} is no number", shown(word)))?;
                if value.is_finite() {
                    return Ok(value);
                }
                Err(format!("{} is out of range for {} (up to {:e})", shown(word), $name, Self::MAX))
            }

            #[inline(always)]
            fn scan(bytes: &[u8], at: usize) -> Option<(Self, usize)> {
                let (decimal, end) = decimal(bytes, at)?;
                Some(($scanned(decimal)?, end))
            }
        }
    )*};
}

floats!(
    f32 => "FP32" by Decimal::to_f32,
    f64 => "FP64" by Decimal::to_f64
);

impl Element for f16 {
    fn read(token: Token<'_>) -> Result<Self, String> {
        let word = number(token, "FP16")?;
        let value = word.parse().map_err(|_| format!("{} is no number", shown(word)))?;
        half::nearest_to_text(word, value).ok_or_else(|| {
            format!("{} is out of range for FP16 (up to {:e})", shown(word), Self::MAX)
        })
    }

    #[inline(always)]
    fn scan(bytes: &[u8], at: usize) -> Option<(Self, usize)> {
        let (decimal, end) = decimal(bytes, at)?;
        Some((half::nearest(decimal.to_f64()?)?, end))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error<T: Element>(word: &'static str) -> String {
        T::read(Token::Word(word)).err().unwrap()
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let cases = [
            (error::<u8>("300"), "300 is out of range for UINT8 (0 to 255)"),
            (error::<u8>("-1"), "-1 is out of range for UINT8 (0 to 255)"),
            (error::<i64>("1.5"), "1.5 is not a whole number, which INT64 needs"),
            (
                error::<i64>("9223372036854775808"),
                "9223372036854775808 is out of range for INT64 (-9223372036854775808 to 9223372036854775807)",
            ),
            (error::<f32>("1e39"), "1e39 is out of range for FP32 (up to 3.4028235e38)"),
            (
                error::<f64>("-1e999"),
                "-1e999 is out of range for FP64 (up to 1.7976931348623157e308)",
            ),
            (error::<f32>("null"), "expected a number (FP32), got null"),
            (error::<f32>("true"), "expected a number (FP32), got a boolean"),
            (error::<bool>("1"), "expected true or false (BOOL), got a number"),
            (error::<Vec<u8>>("1"), "expected a string (BYTES), got a number"),
        ];
        for (got, expected) in cases {
            assert_eq!(got, expected);
        }
        let half = f16::read(Token::Word("70000")).unwrap_err();
        assert!(half.starts_with("70000 is out of range for FP16"), "{half}");
    }

    #[test]
    fn whole_numbers_are_exact() {
        assert_eq!(i64::read(Token::Word("9223372036854775807")).unwrap(), i64::MAX);
        assert_eq!(u64::read(Token::Word("18446744073709551615")).unwrap(), u64::MAX);
        assert_eq!(i32::read(Token::Word("3.0")).unwrap(), 3);
        assert_eq!(u8::read(Token::Word("-0")).unwrap(), 0);
        assert_eq!(u16::read(Token::Word("1e3")).unwrap(), 1000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        /// Whatever is read at a glance is what is read with care.
        #[test]
        fn a_glance_is_right(text in "(true|false|null|-?[0-9]{1,20}(\\.[0-9]{1,20})?([eE]-?[0-9]{1,2})?)[,\\]} ]?") {
            fn check<T: Element + PartialEq + std::fmt::Debug>(text: &str) {
                let Some((value, end)) = T::scan(text.as_bytes(), 0) else { return };
                assert_eq!(Ok(value), T::read(Token::Word(&text[..end])), "{text}");
            }
            check::<bool>(&text);
            check::<u8>(&text);
            check::<u16>(&text);
            check::<u32>(&text);
            check::<u64>(&text);
            check::<i8>(&text);
            check::<i16>(&text);
            check::<i32>(&text);
            check::<i64>(&text);
            check::<f16>(&text);
            check::<f32>(&text);
            check::<f64>(&text);
        }
    }

    #[test]
    fn long_values_are_cut_in_messages() {
        let word = "9".repeat(1000);
        let error = u8::read(Token::Word(&word)).unwrap_err();
        assert!(error.len() < 100, "{error}");
    }
}
