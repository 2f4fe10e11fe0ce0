//! Elements in the fields of a message, each datatype in its own.

use half::f16;

use crate::protocol::grpc::pb::InferTensorContents;
use crate::protocol::v2::Elements;
use crate::types::{Data, Datatype};

/// The field of a datatype.
const fn field(datatype: Datatype) -> Option<&'static str> {
    match datatype {
        Datatype::Bool => Some("bool_contents"),
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => Some("int_contents"),
        Datatype::Int64 => Some("int64_contents"),
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => Some("uint_contents"),
        Datatype::Uint64 => Some("uint64_contents"),
        Datatype::Fp32 => Some("fp32_contents"),
        Datatype::Fp64 => Some("fp64_contents"),
        Datatype::Bytes => Some("bytes_contents"),
        Datatype::Fp16 => None,
    }
}

impl InferTensorContents {
    fn lens(&self) -> [(&'static str, usize); 8] {
        [
            ("bool_contents", self.bool_contents.len()),
            ("int_contents", self.int_contents.len()),
            ("int64_contents", self.int64_contents.len()),
            ("uint_contents", self.uint_contents.len()),
            ("uint64_contents", self.uint64_contents.len()),
            ("fp32_contents", self.fp32_contents.len()),
            ("fp64_contents", self.fp64_contents.len()),
            ("bytes_contents", self.bytes_contents.len()),
        ]
    }

    /// Whether there are no elements in any field.
    pub(super) fn is_empty(&self) -> bool {
        self.lens().iter().all(|(_, len)| *len == 0)
    }
}

impl Elements for InferTensorContents {
    fn read(&self, datatype: Datatype) -> Result<Data, String> {
        let own = field(datatype).ok_or_else(|| {
            format!("{datatype} has no field in contents; send it in raw_input_contents")
        })?;
        if let Some((other, _)) = self.lens().iter().find(|(name, len)| *len > 0 && *name != own) {
            return Err(format!("elements stand in {other}; those of {datatype} belong in {own}"));
        }
        let (int, uint) = (&self.int_contents, &self.uint_contents);
        Ok(match datatype {
            Datatype::Bool => Data::Bool(self.bool_contents.clone()),
            Datatype::Int8 => Data::Int8(narrow(int, datatype)?),
            Datatype::Int16 => Data::Int16(narrow(int, datatype)?),
            Datatype::Int32 => Data::Int32(int.clone()),
            Datatype::Int64 => Data::Int64(self.int64_contents.clone()),
            Datatype::Uint8 => Data::Uint8(narrow(uint, datatype)?),
            Datatype::Uint16 => Data::Uint16(narrow(uint, datatype)?),
            Datatype::Uint32 => Data::Uint32(uint.clone()),
            Datatype::Uint64 => Data::Uint64(self.uint64_contents.clone()),
            Datatype::Fp32 => Data::Fp32(self.fp32_contents.clone()),
            Datatype::Fp64 => Data::Fp64(self.fp64_contents.clone()),
            Datatype::Bytes => {
                Data::Bytes(self.bytes_contents.iter().map(|b| b.to_vec()).collect())
            }
            Datatype::Fp16 => Data::Fp16(Vec::<f16>::new()),
        })
    }

    /// Only one field has elements, or the request is refused in the end.
    fn nth_key(&self, n: usize) -> Option<Vec<u8>> {
        if let Some(string) = self.bytes_contents.get(n) {
            return Some(string.to_vec()).filter(|key| !key.is_empty());
        }
        fn text<T: ToString>(values: &[T], n: usize) -> Option<String> {
            values.get(n).map(ToString::to_string)
        }
        let number = text(&self.bool_contents, n)
            .or_else(|| text(&self.int_contents, n))
            .or_else(|| text(&self.int64_contents, n))
            .or_else(|| text(&self.uint_contents, n))
            .or_else(|| text(&self.uint64_contents, n))
            .or_else(|| text(&self.fp32_contents, n))
            .or_else(|| text(&self.fp64_contents, n));
        number.map(String::into_bytes)
    }
}

/// Elements of a smaller type than their field's.
fn narrow<T, N: TryFrom<T>>(values: &[T], datatype: Datatype) -> Result<Vec<N>, String>
where
    T: Copy + std::fmt::Display,
{
    let mut narrow = Vec::with_capacity(values.len());
    for (i, value) in values.iter().enumerate() {
        let fits = N::try_from(*value);
        narrow.push(fits.map_err(|_| format!("element {i} is {value}, which is no {datatype}"))?);
    }
    Ok(narrow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_datatype_has_its_field() {
        let contents =
            InferTensorContents { int_contents: vec![-128, 127], ..InferTensorContents::default() };
        assert_eq!(contents.read(Datatype::Int8), Ok(Data::Int8(vec![-128, 127])));
        assert_eq!(contents.read(Datatype::Int16), Ok(Data::Int16(vec![-128, 127])));
        assert_eq!(contents.nth_key(1).unwrap(), b"127");
        let wrong = contents.read(Datatype::Int64).unwrap_err();
        assert_eq!(
            wrong,
            "elements stand in int_contents; those of INT64 belong in int64_contents"
        );
        let wide =
            InferTensorContents { uint_contents: vec![7, 256], ..InferTensorContents::default() };
        let wrong = wide.read(Datatype::Uint8).unwrap_err();
        assert_eq!(wrong, "element 1 is 256, which is no UINT8");
        for datatype in Datatype::ALL {
            let got = InferTensorContents::default().read(datatype);
            match datatype {
                Datatype::Fp16 => assert!(got.unwrap_err().contains("raw_input_contents")),
                _ => assert_eq!(got, Ok(Data::zeros(datatype, 0))),
            }
        }
        assert_eq!(InferTensorContents::default().nth_key(0), None);
    }
}
