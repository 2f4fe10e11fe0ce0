//! Elements of a tensor as bytes, and back. Pure.

use half::f16;

use crate::types::{Data, Datatype};

/// The elements of a range as raw little-endian bytes; a text is its length in four
/// bytes, and its bytes.
pub(super) fn encode(data: &Data, range: std::ops::Range<usize>) -> Vec<u8> {
    macro_rules! raw {
        ($v:expr) => {
            $v[range].iter().flat_map(|x| x.to_le_bytes()).collect()
        };
    }
    match data {
        Data::Bool(v) => v[range].iter().map(|x| u8::from(*x)).collect(),
        Data::Uint8(v) => v[range].to_vec(),
        Data::Uint16(v) => raw!(v),
        Data::Uint32(v) => raw!(v),
        Data::Uint64(v) => raw!(v),
        Data::Int8(v) => raw!(v),
        Data::Int16(v) => raw!(v),
        Data::Int32(v) => raw!(v),
        Data::Int64(v) => raw!(v),
        Data::Fp16(v) => raw!(v),
        Data::Fp32(v) => raw!(v),
        Data::Fp64(v) => raw!(v),
        Data::Bytes(v) => {
            let mut bytes = Vec::new();
            for text in &v[range] {
                // No text of a request is as long.
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                bytes.extend(length.to_le_bytes());
                bytes.extend_from_slice(text);
            }
            bytes
        }
    }
}

/// The elements that [`encode`] made such bytes of; `None` if it made them of others.
pub(super) fn decode(datatype: Datatype, bytes: &[u8]) -> Option<Data> {
    macro_rules! raw {
        ($T:ty) => {{
            let (elements, rest) = bytes.as_chunks::<{ size_of::<$T>() }>();
            rest.is_empty().then(|| elements.iter().map(|x| <$T>::from_le_bytes(*x)).collect())?
        }};
    }
    Some(match datatype {
        Datatype::Bool => Data::Bool(bytes.iter().map(|x| *x != 0).collect()),
        Datatype::Uint8 => Data::Uint8(bytes.to_vec()),
        Datatype::Uint16 => Data::Uint16(raw!(u16)),
        Datatype::Uint32 => Data::Uint32(raw!(u32)),
        Datatype::Uint64 => Data::Uint64(raw!(u64)),
        Datatype::Int8 => Data::Int8(raw!(i8)),
        Datatype::Int16 => Data::Int16(raw!(i16)),
        Datatype::Int32 => Data::Int32(raw!(i32)),
        Datatype::Int64 => Data::Int64(raw!(i64)),
        Datatype::Fp16 => Data::Fp16(raw!(f16)),
        Datatype::Fp32 => Data::Fp32(raw!(f32)),
        Datatype::Fp64 => Data::Fp64(raw!(f64)),
        Datatype::Bytes => Data::Bytes(texts(bytes)?),
    })
}

fn texts(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (text, rest) = rest.split_at_checked(length)?;
        texts.push(text.to_vec());
        bytes = rest;
    }
    bytes.is_empty().then_some(texts)
}

/// The dimensions as `3,224,224`.
pub(super) fn shape_text(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The dimensions of such a text.
pub(super) fn shape_of_text(text: &str) -> Option<Vec<usize>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(',').map(|dim| dim.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datatype_reads_back() {
        for datatype in Datatype::ALL {
            let data = match datatype {
                Datatype::Bytes => Data::Bytes(vec![b"a".to_vec(), vec![], vec![0xff; 300]]),
                Datatype::Fp32 => Data::Fp32(vec![1.5, f32::INFINITY, -0.0]),
                _ => Data::zeros(datatype, 3),
            };
            assert_eq!(decode(datatype, &encode(&data, 0..3)), Some(data.clone()), "{datatype}");
            assert_eq!(decode(datatype, &encode(&data, 1..2)), data.slice(1..2), "{datatype}");
            if datatype.size() != Some(1) {
                assert_eq!(decode(datatype, &[1; 7]), None, "{datatype}");
            }
        }
        let Some(Data::Fp64(nan)) =
            decode(Datatype::Fp64, &encode(&Data::Fp64(vec![f64::NAN]), 0..1))
        else {
            panic!()
        };
        assert!(nan[0].is_nan());
    }

    #[test]
    fn shapes_read_back() {
        for shape in [&[][..], &[3], &[3, 224, 0]] {
            assert_eq!(shape_of_text(&shape_text(shape)).unwrap(), shape);
        }
        assert_eq!(shape_of_text("3,x"), None);
    }
}
