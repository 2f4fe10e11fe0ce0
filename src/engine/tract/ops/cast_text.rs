//! Casts from and to strings, with onnxruntime's formats: eight digits, as
//! C's `%.8g` writes them; numbers are read as far as a string is one.

use std::borrow::Cow;

use half::f16;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use crate::engine::onnx_ml::{BadValue, Fact, Kernel};

/// Significant digits.
const DIGITS: i32 = 8;

/// Any number to a string.
#[derive(Debug)]
pub(super) struct ToText;

/// A string to a number of this datatype.
#[derive(Debug)]
pub(super) struct FromText(pub(super) DatumType);

impl Kernel for ToText {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        Ok(tvec![Fact::new(DatumType::String, inputs[0].shape.iter().cloned())])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        Ok(tvec![tensor1(&texts(inputs[0])?).into_shape(inputs[0].shape())?])
    }
}

impl Kernel for FromText {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        Ok(tvec![Fact::new(self.0, inputs[0].shape.iter().cloned())])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let view = inputs[0].try_as_plain_ram()?;
        let numbers = numbers(view.as_slice::<String>()?, self.0)?;
        Ok(tvec![numbers.into_shape(inputs[0].shape())?])
    }
}

fn texts(tensor: &Tensor) -> TractResult<Vec<String>> {
    // Shapes that are still symbolic are INT64.
    let tensor = match tensor.datum_type() {
        DatumType::TDim => tensor.cast_to::<i64>()?,
        _ => Cow::Borrowed(tensor),
    };
    let view = tensor.try_as_plain_ram()?;
    macro_rules! each {
        ($type:ty, $text:expr) => {
            view.as_slice::<$type>()?.iter().map($text).collect()
        };
    }
    Ok(match tensor.datum_type() {
        DatumType::Bool => each!(bool, |&x| u8::from(x).to_string()),
        DatumType::U8 => each!(u8, ToString::to_string),
        DatumType::U16 => each!(u16, ToString::to_string),
        DatumType::U32 => each!(u32, ToString::to_string),
        DatumType::U64 => each!(u64, ToString::to_string),
        DatumType::I8 => each!(i8, ToString::to_string),
        DatumType::I16 => each!(i16, ToString::to_string),
        DatumType::I32 => each!(i32, ToString::to_string),
        DatumType::I64 => each!(i64, ToString::to_string),
        DatumType::F16 => each!(f16, |&x| float_text(x.to_f64())),
        DatumType::F32 => each!(f32, |&x| float_text(f64::from(x))),
        DatumType::F64 => each!(f64, |&x| float_text(x)),
        other => bail!("a cast of {other:?} to strings is not supported"),
    })
}

fn float_text(x: f64) -> String {
    if x.is_nan() {
        return "NaN".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "INF" } else { "-INF" }.into();
    }
    // Rounded to the digits first: that decides on the exponent.
    let scientific = format!("{x:.*e}", DIGITS as usize - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..DIGITS).contains(&exponent) {
        let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or(0);
        return trimmed(&format!("{x:.decimals$}")).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs())
}

/// Without the zeros at the end of a fraction.
fn trimmed(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers beyond the datatype wrap, as in onnxruntime"
)]
fn numbers(texts: &[String], to: DatumType) -> TractResult<Tensor> {
    macro_rules! each {
        ($read:ident, $convert:expr) => {{
            let numbers = texts.iter().enumerate().map(|(i, text)| {
                let read = $read(text);
                read.map($convert)
                    .ok_or_else(|| BadValue(format!("element {i}, {text:?}, is no number")).into())
            });
            tensor1(&numbers.collect::<TractResult<Vec<_>>>()?)
        }};
    }
    Ok(match to {
        DatumType::Bool => each!(integer, |x| x != 0),
        DatumType::U8 => each!(integer, |x| x as u8),
        DatumType::U16 => each!(integer, |x| x as u16),
        DatumType::U32 => each!(integer, |x| x as u32),
        DatumType::U64 => each!(integer, |x| x as u64),
        DatumType::I8 => each!(integer, |x| x as i8),
        DatumType::I16 => each!(integer, |x| x as i16),
        DatumType::I32 => each!(integer, |x| x as i32),
        DatumType::I64 => each!(integer, |x| x as i64),
        DatumType::F16 => each!(float, f16::from_f64),
        DatumType::F32 => each!(float, |x| x as f32),
        DatumType::F64 => each!(float, |x| x),
        other => bail!("a cast of strings to {other:?} is not supported"),
    })
}

/// The whole number that a text begins with.
fn integer(text: &str) -> Option<i128> {
    let text = text.trim_start();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.len() - unsigned.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number = text[..text.len() - unsigned.len() + digits].parse::<i128>().ok()?;
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number).then_some(number)
}

/// The number that a text begins with, in decimal, or what is none or infinite.
/// Looks at each byte once or twice: a text is as long as a request likes.
fn float(text: &str) -> Option<f64> {
    let text = text.trim_start();
    let sign = text.len() - text.strip_prefix(['+', '-']).unwrap_or(text).len();
    let unsigned = &text[sign..];
    let starts_with = |word: &&str| {
        unsigned.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    let length = match ["infinity", "inf", "nan"].iter().find(|word| starts_with(word)) {
        Some(word) => word.len(),
        None if starts_with(&"0x") => return None,
        None => decimal_len(unsigned.as_bytes()),
    };
    text[..sign + length].parse().ok()
}

/// How long the decimal number is that a text begins with: digits with a point
/// among them, and an exponent if it has digits too.
fn decimal_len(text: &[u8]) -> usize {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let at = |i: usize, wanted: &[u8]| text.get(i).is_some_and(|byte| wanted.contains(byte));
    let whole = digits(0);
    let mantissa = if at(whole, b".") { whole + 1 + digits(whole + 1) } else { whole };
    if !at(mantissa, b"eE") {
        return mantissa;
    }
    let start = mantissa + 1 + usize::from(at(mantissa + 1, b"+-"));
    match digits(start) {
        0 => mantissa,
        count => start + count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What onnxruntime 1.32 gives.
    #[test]
    fn floats_are_written_as_onnxruntime_writes_them() {
        let singles = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (1.234_567_9, "1.2345679"),
            (1e10, "1e+10"),
            (1.234_567_9e8, "1.2345679e+08"),
            (0.1, "0.1"),
            (1e5, "100000"),
            (-2.5e-5, "-2.4999999e-05"),
            (0.0001, "9.9999997e-05"),
            (1e22, "9.9999998e+21"),
            (f32::NAN, "NaN"),
            (f32::NEG_INFINITY, "-INF"),
        ];
        for (x, expected) in singles {
            assert_eq!(texts(&tensor1(&[x])).unwrap(), [expected]);
        }
        for (x, expected) in [(0.0001, "0.0001"), (123_456_789.0, "1.2345679e+08"), (1e-5, "1e-05")]
        {
            assert_eq!(texts(&tensor1(&[x])).unwrap(), [expected]);
        }
        assert_eq!(texts(&tensor1(&[f16::from_f32(0.1)])).unwrap(), ["0.099975586"]);
        assert_eq!(texts(&tensor1(&[true, false])).unwrap(), ["1", "0"]);
        assert_eq!(texts(&tensor1(&[i64::MIN])).unwrap(), ["-9223372036854775808"]);
    }

    #[test]
    fn numbers_are_read_as_far_as_a_text_is_one() {
        let read = |text: &str, to| numbers(&[text.to_owned()], to);
        let numbers = [("1.5", 1.5), (" +4 ", 4.0), ("1e3", 1000.0), ("12x", 12.0), ("1_0", 1.0)];
        for (text, expected) in numbers.into_iter().chain([("-INF", f64::NEG_INFINITY)]) {
            assert_eq!(read(text, DatumType::F64).unwrap(), tensor1(&[expected]), "{text}");
        }
        for (text, expected) in
            [("3.7", 3_i64), ("1e3", 1), ("-5", -5), ("99999999999", 99_999_999_999)]
        {
            assert_eq!(read(text, DatumType::I64).unwrap(), tensor1(&[expected]), "{text}");
        }
        assert_eq!(read("99999999999", DatumType::I32).unwrap(), tensor1(&[1_215_752_191]));
        assert_eq!(read("-5", DatumType::U8).unwrap(), tensor1(&[251_u8]));
        for (text, to) in [("abc", DatumType::F32), ("", DatumType::I64), ("nan", DatumType::I32)] {
            assert!(read(text, to).unwrap_err().to_string().contains("is no number"), "{text}");
        }
        assert!(read("é", DatumType::F32).is_err() && read("1é", DatumType::I8).is_ok());
    }

    #[test]
    fn a_float_ends_where_no_more_of_it_comes() {
        let cases = [
            ("1.", Some(1.0)),
            (".5", Some(0.5)),
            ("-.5e-1x", Some(-0.05)),
            ("1e", Some(1.0)),
            ("1e+", Some(1.0)),
            ("2E+2.5", Some(200.0)),
            ("1.2.3", Some(1.2)),
            ("Infinite", Some(f64::INFINITY)),
            ("-infinity", Some(f64::NEG_INFINITY)),
            ("0", Some(0.0)),
            ("0x10", None),
            ("+-1", None),
            (".", None),
            (".e5", None),
            ("é1", None),
            ("-", None),
        ];
        for (text, expected) in cases {
            assert_eq!(float(text), expected, "{text}");
        }
        assert!(float("NaNs").is_some_and(f64::is_nan));
    }

    /// With one attempt for each place where the number could end, this would
    /// take hours.
    #[test]
    fn a_long_text_is_read_in_a_time_that_grows_with_it() {
        let text = "1".repeat(2_000_000) + &"x".repeat(2_000_000);
        assert_eq!(float(&text), Some(f64::INFINITY));
        assert_eq!(integer(&text), None);
    }
}
