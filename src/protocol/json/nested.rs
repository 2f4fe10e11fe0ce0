//! Nested arrays of a known rank into one flat buffer.

use crate::for_each_datatype;
use crate::protocol::json::{Element, Token, Tokens};
use crate::types::Data;

/// The size of one dimension while a value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Size {
    /// It must be this.
    Fixed(usize),
    /// The first array decides.
    Open,
    /// An earlier array had this many.
    Seen(usize),
}

impl Size {
    /// The size, once it is known.
    pub(in crate::protocol) const fn get(self) -> Option<usize> {
        match self {
            Self::Fixed(size) | Self::Seen(size) => Some(size),
            Self::Open => None,
        }
    }
}

/// What does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum What {
    /// An array has the wrong number of values.
    Length {
        /// The dimension, from 0.
        axis: usize,
        /// What the model, or an earlier array, says.
        expected: usize,
        /// What came.
        got: usize,
        /// Whether the model says so; else the arrays differ among themselves.
        fixed: bool,
    },
    /// A value stands where the rank says that an array must stand.
    NoArray(&'static str),
    /// A value does not fit the datatype.
    Value(String),
}

/// Something that does not fit, and the offset in the body where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::protocol) struct Fault {
    /// Offset in the body.
    pub(in crate::protocol) at: usize,
    /// What is wrong.
    pub(in crate::protocol) what: What,
}

/// Reads one value of rank `sizes.len()` and appends its elements to `data`;
/// open sizes become those of the first arrays.
pub(in crate::protocol) fn fill(
    tokens: &mut Tokens<'_>,
    data: &mut Data,
    sizes: &mut [Size],
) -> Result<(), Fault> {
    for_each_datatype!(data, v => level(tokens, v, sizes, 0))
}

/// Reads the dimensions from `axis` on. The depth of the calls is the rank.
fn level<T: Element>(
    tokens: &mut Tokens<'_>,
    out: &mut Vec<T>,
    sizes: &mut [Size],
    axis: usize,
) -> Result<(), Fault> {
    if axis >= sizes.len() {
        let token = tokens.next();
        return push(tokens, token, out);
    }
    let token = tokens.next();
    let at = tokens.last();
    if token != Token::ArrayOpen {
        return Err(Fault { at, what: What::NoArray(token.kind()) });
    }
    let got = if axis + 1 == sizes.len() {
        let before = out.len();
        loop {
            match tokens.next() {
                Token::ArrayClose => break,
                token => push(tokens, token, out)?,
            }
        }
        out.len() - before
    } else {
        let mut count = 0;
        while tokens.peek() != Token::ArrayClose {
            level(tokens, out, sizes, axis + 1)?;
            count += 1;
        }
        tokens.next();
        count
    };
    let (expected, fixed) = match sizes[axis] {
        Size::Open => {
            sizes[axis] = Size::Seen(got);
            return Ok(());
        }
        Size::Fixed(size) => (size, true),
        Size::Seen(size) => (size, false),
    };
    if expected == got {
        return Ok(());
    }
    Err(Fault { at, what: What::Length { axis, expected, got, fixed } })
}

fn push<T: Element>(tokens: &Tokens<'_>, token: Token<'_>, out: &mut Vec<T>) -> Result<(), Fault> {
    match T::read(token) {
        Ok(value) => {
            out.push(value);
            Ok(())
        }
        Err(why) => Err(Fault { at: tokens.last(), what: What::Value(why) }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::Datatype;

    fn read(text: &str, sizes: &mut [Size]) -> Result<Vec<f32>, Fault> {
        let mut data = Data::with_capacity(Datatype::Fp32, 0);
        fill(&mut Tokens::whole(text), &mut data, sizes)?;
        match data {
            Data::Fp32(values) => Ok(values),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn arrays_become_flat() {
        let mut sizes = [Size::Open, Size::Fixed(2)];
        assert_eq!(read("[[1,2],[3,4.5],[5,6]]", &mut sizes).unwrap(), [1., 2., 3., 4.5, 5., 6.]);
        assert_eq!(sizes, [Size::Seen(3), Size::Fixed(2)]);
        assert_eq!(read("7", &mut []).unwrap(), [7.]);
    }

    #[test]
    fn what_does_not_fit_has_its_place() {
        let length = |axis, expected, got, fixed| What::Length { axis, expected, got, fixed };
        let cases = [
            ("[[1,2],[3]]", [Size::Open, Size::Fixed(2)], 7, length(1, 2, 1, true)),
            ("[[1,2],[3]]", [Size::Open, Size::Open], 7, length(1, 2, 1, false)),
            ("[[1]]", [Size::Fixed(2), Size::Open], 0, length(0, 2, 1, true)),
            ("[1]", [Size::Open, Size::Open], 1, What::NoArray("a number")),
            (
                "[[[1]]]",
                [Size::Open, Size::Open],
                2,
                What::Value("expected a number (FP32), got an array".into()),
            ),
            (
                "[[1,null]]",
                [Size::Open, Size::Open],
                4,
                What::Value("expected a number (FP32), got null".into()),
            ),
        ];
        for (text, mut sizes, at, what) in cases {
            assert_eq!(read(text, &mut sizes).unwrap_err(), Fault { at, what }, "{text}");
        }
    }

    proptest! {
        /// Not even on text that is no JSON.
        #[test]
        fn never_panics(text in r#"[\[\]{}",:\\0-9.eE+\-a-z ]{0,64}"#, rank in 0_usize..4) {
            for datatype in Datatype::ALL {
                let mut data = Data::with_capacity(datatype, 0);
                let _ = fill(&mut Tokens::whole(&text), &mut data, &mut vec![Size::Open; rank]);
            }
        }
    }
}
