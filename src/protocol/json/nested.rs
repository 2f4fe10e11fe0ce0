//! Nested arrays of a known rank into one flat buffer.

use crate::for_each_datatype;
use crate::protocol::json::{Element, Reader};
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
    /// This is no JSON.
    Malformed,
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
    reader: &mut Reader<'_>,
    data: &mut Data,
    sizes: &mut [Size],
) -> Result<(), Fault> {
    for_each_datatype!(data, v => level(reader, v, sizes, 0))
}

/// Reads the dimensions from `axis` on. The depth of the calls is the rank.
fn level<T: Element>(
    reader: &mut Reader<'_>,
    out: &mut Vec<T>,
    sizes: &mut [Size],
    axis: usize,
) -> Result<(), Fault> {
    if axis >= sizes.len() {
        out.push(reader.scalar()?);
        return Ok(());
    }
    if !reader.take(b'[') {
        let kind = reader.kind();
        return Err(Fault { at: reader.last(), what: What::NoArray(kind) });
    }
    let at = reader.last();
    let got = if axis + 1 == sizes.len() {
        let before = out.len();
        reader.scalars(out)?;
        out.len() - before
    } else {
        let mut count = 0;
        while reader.element(count == 0)? {
            level(reader, out, sizes, axis + 1)?;
            count += 1;
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;
    use crate::protocol::json::testing::damage;
    use crate::protocol::json::{Token, Tokens};
    use crate::types::Datatype;

    fn read(text: &str, sizes: &mut [Size]) -> Result<Vec<f32>, Fault> {
        let mut data = Data::with_capacity(Datatype::Fp32, 0);
        fill(&mut Reader::whole(text), &mut data, sizes)?;
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

    /// What [`fill`] should find in text that is JSON, by serde_json's numbers
    /// and by tokens that take no notice of commas.
    fn expected(
        tokens: &mut Tokens<'_>,
        out: &mut Vec<f32>,
        sizes: &mut [Size],
        axis: usize,
    ) -> Result<(), What> {
        let token = tokens.next();
        if axis >= sizes.len() {
            out.push(f32::read(token).map_err(What::Value)?);
            return Ok(());
        }
        if token != Token::ArrayOpen {
            return Err(What::NoArray(token.kind()));
        }
        let mut got = 0;
        while tokens.peek() != Token::ArrayClose {
            expected(tokens, out, sizes, axis + 1)?;
            got += 1;
        }
        tokens.next();
        match std::mem::replace(&mut sizes[axis], Size::Seen(got)) {
            Size::Seen(size) if size != got => {
                Err(What::Length { axis, expected: size, got, fixed: false })
            }
            _ => Ok(()),
        }
    }

    /// Arrays of numbers as deep as `rank`, mostly of one shape.
    fn arrays(rank: u32) -> impl Strategy<Value = String> {
        let number = prop_oneof![
            8 => any::<f32>().prop_map(|x| x.to_string()),
            4 => any::<f64>().prop_map(|x| format!("{x:e}")),
            4 => any::<i16>().prop_map(|x| x.to_string()),
            1 => Just("null".to_owned()),
            1 => Just("1e39".to_owned()),
        ];
        let blank = prop_oneof![Just(""), Just(" "), Just("\n\t")];
        (0..rank).fold(number.boxed(), |inner, _| {
            let list = proptest::collection::vec(inner, 0..4);
            (list, blank.clone())
                .prop_map(|(list, blank)| format!("[{blank}{}]", list.join(&format!(",{blank}"))))
                .boxed()
        })
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_stands_there(
            text in (0_u32..4).prop_flat_map(arrays),
            rank in 0_usize..4,
        ) {
            let (mut sizes, mut other) = (vec![Size::Open; rank], vec![Size::Open; rank]);
            let mut values = Vec::new();
            let wanted = expected(&mut Tokens::new(&text), &mut values, &mut other, 0);
            match (read(&text, &mut sizes), wanted) {
                (Ok(got), Ok(())) => {
                    prop_assert_eq!(got, values);
                    prop_assert_eq!(sizes, other);
                }
                (got, wanted) => prop_assert_eq!(got.map_err(|f| f.what).err(), wanted.err()),
            }
        }

        /// Damaged text is never read, unless it is JSON all the same.
        #[test]
        fn what_is_read_to_its_end_is_json(
            text in (0_u32..4).prop_flat_map(arrays),
            rank in 0_usize..4,
            at in any::<usize>(),
            mark in any::<usize>(),
            how in any::<u8>(),
        ) {
            let text = damage(&text, at, mark, how);
            let is_json = serde_json::from_str::<&RawValue>(&text).is_ok();
            for datatype in Datatype::ALL {
                let mut reader = Reader::whole(&text);
                let mut data = Data::with_capacity(datatype, 0);
                let read = fill(&mut reader, &mut data, &mut vec![Size::Open; rank]);
                match read {
                    Ok(()) if reader.end().is_ok() => prop_assert!(is_json, "{}", text),
                    Err(Fault { what: What::Malformed, .. }) => prop_assert!(!is_json, "{}", text),
                    _ => {}
                }
            }
        }

        /// Not even on text that is no JSON.
        #[test]
        fn never_panics(text in r#"[\[\]{}",:\\0-9.eE+\-a-z ]{0,64}"#, rank in 0_usize..4) {
            for datatype in Datatype::ALL {
                let mut data = Data::with_capacity(datatype, 0);
                let _ = fill(&mut Reader::whole(&text), &mut data, &mut vec![Size::Open; rank]);
            }
        }
    }
}
