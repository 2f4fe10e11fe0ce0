//! Tensors as JSON, written into one buffer.

use half::f16;

use crate::for_each_datatype;
use crate::protocol::json::base64;
use crate::types::Data;

/// Why an element cannot stand in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Unwritable {
    /// `NaN`, `inf` or `-inf`, at this index of the flat buffer.
    NonFinite(usize, &'static str),
    /// Bytes that are no text, at this index of the flat buffer.
    NotText(usize),
}

/// Names for the entries of a last dimension, as they stand in JSON: quoted,
/// escaped, and with the colon behind. None where the entries have no names.
#[derive(Default)]
pub(in crate::protocol) struct Keys(Vec<Vec<u8>>);

impl Keys {
    /// Prepares them, once for all rows.
    pub(in crate::protocol) fn new(names: &[String]) -> Self {
        let key = |name: &String| {
            let mut key = Vec::with_capacity(name.len() + 3);
            json(&mut key, name.as_str());
            key.push(b':');
            key
        };
        Self(names.iter().map(key).collect())
    }
}

/// How bytes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::protocol) enum NoText {
    /// As text; what is none is an error.
    #[default]
    Refused,
    /// As text; what is none as an object, [`base64::KEY`].
    Encoded,
    /// As an object, even if it is text.
    AllEncoded,
}

/// Writes JSON text.
pub(in crate::protocol) struct Writer {
    /// What is written so far.
    pub(in crate::protocol) out: Vec<u8>,
    null_for_nonfinite: bool,
    /// What becomes of bytes that are no text.
    pub(in crate::protocol) no_text: NoText,
    /// Whether a number that JSON does not have was met.
    pub(in crate::protocol) met_nonfinite: bool,
}

impl Writer {
    /// An empty text. With `null_for_nonfinite`, NaN and the infinities
    /// become `null`; without, they are an error.
    pub(in crate::protocol) fn new(capacity: usize, null_for_nonfinite: bool) -> Self {
        let out = Vec::with_capacity(capacity);
        Self { out, null_for_nonfinite, no_text: NoText::default(), met_nonfinite: false }
    }

    /// Text as it stands.
    pub(in crate::protocol) fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// A quoted and escaped string.
    pub(in crate::protocol) fn string(&mut self, text: &str) {
        json(&mut self.out, text);
    }

    /// A number.
    pub(in crate::protocol) fn number(&mut self, number: u64) {
        json(&mut self.out, &number);
    }

    /// The elements from `start` on as nested arrays of shape `dims`, the
    /// innermost as objects where they have `keys`; a bare value when `dims`
    /// is empty.
    pub(in crate::protocol) fn nested(
        &mut self,
        data: &Data,
        start: usize,
        dims: &[usize],
        keys: &Keys,
    ) -> Result<(), Unwritable> {
        let count: usize = dims.iter().product();
        for_each_datatype!(data, v => {
            let end = start.saturating_add(count).min(v.len());
            self.level(&v[start.min(end)..end], start, dims, keys)
        })
    }

    fn level<T: Printed>(
        &mut self,
        values: &[T],
        start: usize,
        dims: &[usize],
        keys: &Keys,
    ) -> Result<(), Unwritable> {
        let Some((&size, inner)) = dims.split_first() else {
            return values.first().map_or(Ok(()), |value| value.print(self, start));
        };
        if inner.is_empty() && !keys.0.is_empty() && keys.0.len() == size {
            return self.object(values, start, keys);
        }
        self.out.push(b'[');
        let step = values.len().checked_div(size).unwrap_or(0);
        for i in 0..size {
            if i > 0 {
                self.comma();
            }
            let from = i * step;
            self.level(&values[from..from + step], start + from, inner, keys)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn object<T: Printed>(
        &mut self,
        values: &[T],
        start: usize,
        keys: &Keys,
    ) -> Result<(), Unwritable> {
        self.out.push(b'{');
        for (i, (value, key)) in values.iter().zip(&keys.0).enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(key);
            value.print(self, start + i)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    /// `{"b64":"…"}`.
    fn encoded(&mut self, bytes: &[u8]) {
        self.raw("{\"");
        self.raw(base64::KEY);
        self.raw("\":\"");
        base64::encode(bytes, &mut self.out);
        self.raw("\"}");
    }

    fn comma(&mut self) {
        self.out.push(b',');
    }

    fn nonfinite(&mut self, at: usize, name: &'static str) -> Result<(), Unwritable> {
        self.met_nonfinite = true;
        if !self.null_for_nonfinite {
            return Err(Unwritable::NonFinite(at, name));
        }
        self.raw("null");
        Ok(())
    }
}

/// Writing into memory cannot fail, and neither can the values used here.
fn json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("strings and numbers go into memory without an error");
}

/// How an element is printed; `at` is its index in the flat buffer.
trait Printed {
    fn print(&self, writer: &mut Writer, at: usize) -> Result<(), Unwritable>;
}

macro_rules! plain {
    ($($type:ty),*) => {$(
        impl Printed for $type {
            fn print(&self, writer: &mut Writer, _: usize) -> Result<(), Unwritable> {
                json(&mut writer.out, self);
                Ok(())
            }
        }
    )*};
}

plain!(bool, u8, u16, u32, u64, i8, i16, i32, i64);

macro_rules! floating {
    ($($type:ty),*) => {$(
        impl Printed for $type {
            fn print(&self, writer: &mut Writer, at: usize) -> Result<(), Unwritable> {
                if self.is_finite() {
                    json(&mut writer.out, self);
                    return Ok(());
                }
                let name = match () {
                    () if self.is_nan() => "NaN",
                    () if self.is_sign_negative() => "-Infinity",
                    () => "Infinity",
                };
                writer.nonfinite(at, name)
            }
        }
    )*};
}

floating!(f32, f64);

impl Printed for f16 {
    fn print(&self, writer: &mut Writer, at: usize) -> Result<(), Unwritable> {
        self.to_f32().print(writer, at)
    }
}

impl Printed for Vec<u8> {
    fn print(&self, writer: &mut Writer, at: usize) -> Result<(), Unwritable> {
        match (std::str::from_utf8(self), writer.no_text) {
            (_, NoText::AllEncoded) | (Err(_), NoText::Encoded) => writer.encoded(self),
            (Ok(text), _) => writer.string(text),
            (Err(_), NoText::Refused) => return Err(Unwritable::NotText(at)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(data: &Data, start: usize, dims: &[usize]) -> Result<String, Unwritable> {
        let mut writer = Writer::new(0, false);
        writer.nested(data, start, dims, &Keys::default())?;
        Ok(String::from_utf8(writer.out).unwrap())
    }

    #[test]
    fn values_are_printed_shortest_and_exact() {
        let cases = [
            (Data::Fp32(vec![0.1, 1.0, -3.5e-9, 16_777_216.0]), "[0.1,1.0,-3.5e-9,16777216.0]"),
            (Data::Fp64(vec![0.1]), "[0.1]"),
            (Data::Fp16(vec![f16::from_f32(0.5)]), "[0.5]"),
            (Data::Int64(vec![i64::MIN, i64::MAX]), "[-9223372036854775808,9223372036854775807]"),
            (Data::Uint64(vec![u64::MAX]), "[18446744073709551615]"),
            (Data::Bool(vec![true, false]), "[true,false]"),
            (Data::Bytes(vec![b"a\"\n\xc3\xa9".to_vec()]), "[\"a\\\"\\né\"]"),
        ];
        for (data, expected) in cases {
            assert_eq!(text(&data, 0, &[data.len()]).unwrap(), expected);
        }
    }

    #[test]
    fn shapes_become_nesting() {
        let data = Data::Uint8((0..6).collect());
        assert_eq!(text(&data, 0, &[3, 2]).unwrap(), "[[0,1],[2,3],[4,5]]");
        assert_eq!(text(&data, 2, &[2]).unwrap(), "[2,3]");
        assert_eq!(text(&data, 5, &[]).unwrap(), "5");
        assert_eq!(text(&Data::Uint8(vec![]), 0, &[0, 2]).unwrap(), "[]");
        assert_eq!(text(&Data::Uint8(vec![]), 0, &[2, 0]).unwrap(), "[[],[]]");
    }

    #[test]
    fn named_entries_become_objects() {
        let keys = Keys::new(&["no".to_owned(), "say \"yes\"".to_owned()]);
        let text = |data: &Data, dims: &[usize]| {
            let mut writer = Writer::new(0, false);
            writer.nested(data, 0, dims, &keys).unwrap();
            String::from_utf8(writer.out).unwrap()
        };
        let data = Data::Int8(vec![1, 2, 3, 4]);
        let rows = r#"[{"no":1,"say \"yes\"":2},{"no":3,"say \"yes\"":4}]"#;
        assert_eq!(text(&data, &[2, 2]), rows);
        assert_eq!(text(&data, &[4]), "[1,2,3,4]");
        assert_eq!(text(&Data::Int8(vec![]), &[0, 2]), "[]");
    }

    #[test]
    fn what_json_lacks_is_an_error_or_null() {
        for (value, name) in
            [(f32::NAN, "NaN"), (f32::INFINITY, "Infinity"), (f32::NEG_INFINITY, "-Infinity")]
        {
            let data = Data::Fp32(vec![1.0, 2.0, value]);
            assert_eq!(text(&data, 1, &[2]), Err(Unwritable::NonFinite(2, name)));
            let mut writer = Writer::new(0, true);
            writer.nested(&data, 0, &[3], &Keys::default()).unwrap();
            assert_eq!(writer.out, b"[1.0,2.0,null]");
            assert!(writer.met_nonfinite);
        }
        assert_eq!(text(&Data::Bytes(vec![vec![0xff]]), 0, &[1]), Err(Unwritable::NotText(0)));
        let data = Data::Bytes(vec![vec![0xff], b"hi".to_vec()]);
        let encoded = r#"[{"b64":"/w=="},{"b64":"aGk="}]"#;
        for (no_text, expected) in
            [(NoText::Encoded, r#"[{"b64":"/w=="},"hi"]"#), (NoText::AllEncoded, encoded)]
        {
            let mut writer = Writer::new(0, false);
            writer.no_text = no_text;
            writer.nested(&data, 0, &[2], &Keys::default()).unwrap();
            assert_eq!(String::from_utf8(writer.out).unwrap(), expected);
        }
    }
}
