//! One value of a file, and how it becomes an element of a tensor.

use std::borrow::Cow;

use half::f16;
use serde_json::Value;

use crate::types::Data;

/// The most characters of a wrong value that are shown.
const SHOWN_MAX: usize = 60;

/// A value as the file has it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) enum Cell<'a> {
    /// An empty cell, a null.
    Missing,
    Bool(bool),
    Integer(i128),
    Number(f64),
    Text(Cow<'a, [u8]>),
}

impl Cell<'_> {
    /// Adds it to the elements of a tensor; the error says what was expected, and what
    /// came. What is missing becomes what a client can send: NaN, or an empty text.
    pub(in crate::cli) fn put(&self, data: &mut Data) -> Result<(), String> {
        macro_rules! whole {
            ($v:ident, $T:ty) => {{
                let found = self.whole()?;
                let fits = <$T>::try_from(found);
                $v.push(
                    fits.map_err(|_| {
                        format!("expected {} to {}, got {found}", <$T>::MIN, <$T>::MAX)
                    })?,
                )
            }};
        }
        match data {
            Data::Bool(v) => v.push(self.truth()?),
            Data::Uint8(v) => whole!(v, u8),
            Data::Uint16(v) => whole!(v, u16),
            Data::Uint32(v) => whole!(v, u32),
            Data::Uint64(v) => whole!(v, u64),
            Data::Int8(v) => whole!(v, i8),
            Data::Int16(v) => whole!(v, i16),
            Data::Int32(v) => whole!(v, i32),
            Data::Int64(v) => whole!(v, i64),
            Data::Fp16(v) => v.push(f16::from_f64(self.number()?)),
            Data::Fp32(v) => v.push(self.single()?),
            Data::Fp64(v) => v.push(self.number()?),
            Data::Bytes(v) => v.push(self.text()?),
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "what the model takes")]
    fn number(&self) -> Result<f64, String> {
        match self {
            Self::Missing => Ok(f64::NAN),
            Self::Bool(truth) => Ok(f64::from(u8::from(*truth))),
            Self::Integer(whole) => Ok(*whole as f64),
            Self::Number(number) => Ok(*number),
            Self::Text(text) => parsed(text).ok_or_else(|| self.no("a number")),
        }
    }

    /// A text is rounded once.
    #[expect(clippy::cast_possible_truncation, reason = "what the model takes")]
    fn single(&self) -> Result<f32, String> {
        match self {
            Self::Text(text) => words(text)
                .and_then(|text| text.parse().ok())
                .map_or_else(|| self.number().map(|number| number as f32), Ok),
            _ => self.number().map(|number| number as f32),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    fn whole(&self) -> Result<i128, String> {
        let rounded = |number: f64| {
            let whole = number.fract() == 0.0 && number.abs() < 1e18;
            whole.then_some(number as i128)
        };
        let found = match self {
            Self::Integer(whole) => Some(*whole),
            Self::Bool(truth) => Some(i128::from(*truth)),
            Self::Number(number) => rounded(*number),
            Self::Text(text) => {
                let exact = words(text).and_then(|text| text.parse().ok());
                exact.or_else(|| parsed(text).and_then(rounded))
            }
            Self::Missing => None,
        };
        found.ok_or_else(|| self.no("a whole number"))
    }

    fn truth(&self) -> Result<bool, String> {
        match self.whole() {
            Ok(0) => Ok(false),
            Ok(1) => Ok(true),
            _ => Err(self.no("true or false")),
        }
    }

    /// As a label: a text as it is, since `1.0` may be the name of a class. `None` without a
    /// value.
    pub(in crate::cli) fn label(&self) -> Result<Option<Value>, String> {
        let number = |number: f64| Value::from(number);
        Ok(match self {
            Self::Missing => None,
            Self::Bool(truth) => Some(Value::from(*truth)),
            Self::Integer(_) => Some(number(self.number()?)),
            Self::Number(own) if own.is_nan() => None,
            Self::Number(own) if own.is_finite() => Some(number(*own)),
            Self::Number(_) => return Err(self.no("a finite number")),
            Self::Text(text) => {
                let text = words(text).ok_or_else(|| self.no("UTF-8"))?;
                (!text.is_empty()).then(|| Value::from(text))
            }
        })
    }

    /// As a number of a row, from 0.
    pub(in crate::cli) fn row(&self) -> Result<u32, String> {
        match self {
            Self::Missing => Ok(0),
            _ => u32::try_from(self.whole()?).map_err(|_| self.no("a row's number, from 0")),
        }
    }

    /// As the text that it is.
    pub(in crate::cli) fn word(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) => words(text).ok_or_else(|| self.no("UTF-8")),
            _ => Err(self.no("a text")),
        }
    }

    fn text(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.to_vec()),
            Self::Missing => Ok(Vec::new()),
            _ => Err(self.no("a text")),
        }
    }

    fn no(&self, expected: &str) -> String {
        let got = match self {
            Self::Missing if expected == "a text" => return "expected a text, got nothing".into(),
            Self::Missing => {
                let why = "nothing, which no client can send";
                return format!("expected {expected}, got {why}; fill it in, or leave the row out");
            }
            Self::Bool(truth) => truth.to_string(),
            Self::Integer(whole) => whole.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => {
                let text = String::from_utf8_lossy(text);
                let shown: String = text.chars().take(SHOWN_MAX).collect();
                let more = if shown.len() < text.len() { "…" } else { "" };
                format!("{shown:?}{more}")
            }
        };
        format!("expected {expected}, got {got}")
    }
}

fn words(text: &[u8]) -> Option<&str> {
    std::str::from_utf8(text).ok().map(str::trim)
}

/// A number, or the truth as pandas and others write it.
fn parsed(text: &[u8]) -> Option<f64> {
    let text = words(text)?;
    let truth = || match text {
        "true" | "True" | "TRUE" => Some(1.0),
        "false" | "False" | "FALSE" => Some(0.0),
        _ => None,
    };
    text.parse().ok().or_else(truth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Datatype;

    fn text(text: &str) -> Cell<'_> {
        Cell::Text(Cow::Borrowed(text.as_bytes()))
    }

    fn put(cell: &Cell<'_>, datatype: Datatype) -> Result<Data, String> {
        let mut data = Data::with_capacity(datatype, 1);
        cell.put(&mut data).map(|()| data)
    }

    #[test]
    fn a_value_becomes_what_the_model_takes() {
        let cases = [
            (text("1.5"), Data::Fp32(vec![1.5])),
            (text(" 16777217 "), Data::Fp32(vec![16_777_216.0])),
            (text("True"), Data::Fp32(vec![1.0])),
            (text("1e3"), Data::Fp64(vec![1000.0])),
            (text("-inf"), Data::Fp16(vec![f16::NEG_INFINITY])),
            (Cell::Bool(true), Data::Fp64(vec![1.0])),
            (Cell::Integer(-3), Data::Fp32(vec![-3.0])),
            (text("7"), Data::Int64(vec![7])),
            (text("9223372036854775807"), Data::Int64(vec![i64::MAX])),
            (text("7.0"), Data::Uint8(vec![7])),
            (Cell::Number(-4.0), Data::Int16(vec![-4])),
            (text("false"), Data::Bool(vec![false])),
            (Cell::Integer(1), Data::Bool(vec![true])),
            (text(" a b"), Data::Bytes(vec![b" a b".to_vec()])),
            (Cell::Missing, Data::Bytes(vec![vec![]])),
        ];
        for (cell, expected) in cases {
            assert_eq!(put(&cell, expected.datatype()), Ok(expected), "{cell:?}");
        }
        let Ok(Data::Fp32(missing)) = put(&Cell::Missing, Datatype::Fp32) else { panic!() };
        assert!(missing[0].is_nan());
    }

    #[test]
    fn a_label_is_a_number_only_where_the_file_has_numbers() {
        let cases = [
            (text(" 1 "), Some(Value::from("1"))),
            (text("  "), None),
            (text("yes"), Some(Value::from("yes"))),
            (text("True"), Some(Value::from("True"))),
            (text("nan"), Some(Value::from("nan"))),
            (Cell::Integer(3), Some(Value::from(3.0))),
            (Cell::Bool(true), Some(Value::from(true))),
            (Cell::Number(f64::NAN), None),
            (Cell::Missing, None),
        ];
        for (cell, expected) in cases {
            assert_eq!(cell.label(), Ok(expected), "{cell:?}");
        }
        let problem = Cell::Number(f64::INFINITY).label().unwrap_err();
        assert_eq!(problem, "expected a finite number, got inf");
        assert_eq!((Cell::Missing.row(), text("7").row()), (Ok(0), Ok(7)));
        assert_eq!(text("-1").row().unwrap_err(), "expected a row's number, from 0, got \"-1\"");
        assert_eq!(Cell::Integer(1).word().unwrap_err(), "expected a text, got 1");
        assert_eq!(Cell::Missing.word().unwrap_err(), "expected a text, got nothing");
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let cases = [
            (text("abc"), Datatype::Fp32, "expected a number, got \"abc\""),
            (text("abc"), Datatype::Fp64, "expected a number, got \"abc\""),
            (text("1.5"), Datatype::Int64, "expected a whole number, got \"1.5\""),
            (Cell::Number(0.5), Datatype::Int8, "expected a whole number, got 0.5"),
            (text("256"), Datatype::Uint8, "expected 0 to 255, got 256"),
            (Cell::Integer(-1), Datatype::Uint64, "expected 0 to 18446744073709551615, got -1"),
            (text("2"), Datatype::Bool, "expected true or false, got \"2\""),
            (Cell::Number(1.0), Datatype::Bytes, "expected a text, got 1"),
            (
                Cell::Missing,
                Datatype::Int32,
                "expected a whole number, got nothing, which no client can send; fill it in, or \
                 leave the row out",
            ),
        ];
        for (cell, datatype, expected) in cases {
            assert_eq!(put(&cell, datatype).unwrap_err(), expected, "{cell:?}");
        }
        let long = put(&text(&"x".repeat(1000)), Datatype::Fp32).unwrap_err();
        assert!(long.len() < 100 && long.ends_with("x\"…"), "{long}");
    }
}
