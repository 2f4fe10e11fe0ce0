//! Raw tensors: little-endian elements, row-major; strings with a `u32` length
//! before each; booleans as a byte of 0 or 1.

use half::f16;

use crate::error::{Error, Result};
use crate::types::{Data, Datatype, Dim, Tensor, TensorSpec, element_count};

/// Reads the elements of a tensor; `bytes` must hold exactly `shape`.
pub(super) fn decode(
    name: &str,
    datatype: Datatype,
    shape: &[usize],
    bytes: &[u8],
) -> Result<Data> {
    let wrong = |why: String| Error::invalid(format!("input {name:?}: {why}"));
    let count =
        element_count(shape).ok_or_else(|| wrong(format!("shape {shape:?} is too large")))?;
    if let Some(size) = datatype.size()
        && count.checked_mul(size) != Some(bytes.len())
    {
        return Err(wrong(format!(
            "shape {shape:?} of {datatype} means {count} elements of {size} bytes, got {} bytes",
            bytes.len()
        )));
    }
    Ok(match datatype {
        Datatype::Bool => Data::Bool(booleans(bytes).map_err(wrong)?),
        Datatype::Bytes => Data::Bytes(strings(bytes, count).map_err(wrong)?),
        Datatype::Uint8 => Data::Uint8(bytes.to_vec()),
        Datatype::Uint16 => Data::Uint16(numbers(bytes, u16::from_le_bytes)),
        Datatype::Uint32 => Data::Uint32(numbers(bytes, u32::from_le_bytes)),
        Datatype::Uint64 => Data::Uint64(numbers(bytes, u64::from_le_bytes)),
        Datatype::Int8 => Data::Int8(numbers(bytes, i8::from_le_bytes)),
        Datatype::Int16 => Data::Int16(numbers(bytes, i16::from_le_bytes)),
        Datatype::Int32 => Data::Int32(numbers(bytes, i32::from_le_bytes)),
        Datatype::Int64 => Data::Int64(numbers(bytes, i64::from_le_bytes)),
        Datatype::Fp16 => Data::Fp16(numbers(bytes, f16::from_le_bytes)),
        Datatype::Fp32 => Data::Fp32(numbers(bytes, f32::from_le_bytes)),
        Datatype::Fp64 => Data::Fp64(numbers(bytes, f64::from_le_bytes)),
    })
}

/// Whole elements of `N` bytes.
fn numbers<T, const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
}

fn booleans(bytes: &[u8]) -> Result<Vec<bool>, String> {
    match bytes.iter().position(|byte| *byte > 1) {
        None => Ok(bytes.iter().map(|byte| *byte == 1).collect()),
        Some(at) => Err(format!("element {at} is {}; a BOOL is a byte of 0 or 1", bytes[at])),
    }
}

/// Bytes of a string's length.
const PREFIX: usize = size_of::<u32>();

fn strings(mut bytes: &[u8], count: usize) -> Result<Vec<Vec<u8>>, String> {
    // Each takes its length at least, so a false count cannot make us reserve
    // more than a multiple of what was sent.
    if count > bytes.len() / PREFIX {
        return Err(format!("{count} BYTES elements do not fit in {} bytes", bytes.len()));
    }
    let mut strings = Vec::with_capacity(count);
    for i in 0..count {
        let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else {
            return Err(format!("element {i} of {count} is missing: the bytes end before it"));
        };
        let length = usize::try_from(u32::from_le_bytes(*prefix)).unwrap_or(usize::MAX);
        let Some((string, rest)) = rest.split_at_checked(length) else {
            return Err(format!(
                "element {i} says that it has {length} bytes, only {} are left",
                rest.len()
            ));
        };
        strings.push(string.to_vec());
        bytes = rest;
    }
    if bytes.is_empty() {
        return Ok(strings);
    }
    Err(format!("{} bytes are left behind the last of {count} elements", bytes.len()))
}

/// Bytes that the elements take.
pub(in crate::protocol) fn encoded_len(data: &Data) -> usize {
    match data {
        Data::Bytes(v) => v.iter().map(|string| PREFIX + string.len()).sum(),
        other => other.byte_len(),
    }
}

/// Appends the elements; returns how many bytes they took.
pub(in crate::protocol) fn encode(data: &Data, out: &mut Vec<u8>) -> usize {
    let before = out.len();
    match data {
        Data::Bool(v) => out.extend(v.iter().map(|x| u8::from(*x))),
        Data::Uint8(v) => out.extend_from_slice(v),
        Data::Uint16(v) => append(out, v, |x| x.to_le_bytes()),
        Data::Uint32(v) => append(out, v, |x| x.to_le_bytes()),
        Data::Uint64(v) => append(out, v, |x| x.to_le_bytes()),
        Data::Int8(v) => append(out, v, |x| x.to_le_bytes()),
        Data::Int16(v) => append(out, v, |x| x.to_le_bytes()),
        Data::Int32(v) => append(out, v, |x| x.to_le_bytes()),
        Data::Int64(v) => append(out, v, |x| x.to_le_bytes()),
        Data::Fp16(v) => append(out, v, |x| x.to_le_bytes()),
        Data::Fp32(v) => append(out, v, |x| x.to_le_bytes()),
        Data::Fp64(v) => append(out, v, |x| x.to_le_bytes()),
        Data::Bytes(v) => {
            for string in v {
                // A string beyond 4 GiB has no form in this protocol; it is cut.
                let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&length.to_le_bytes());
                out.extend(string.iter().take(usize::try_from(length).unwrap_or(usize::MAX)));
            }
        }
    }
    out.len() - before
}

fn append<T: Copy, const N: usize>(out: &mut Vec<u8>, values: &[T], write: impl Fn(T) -> [u8; N]) {
    out.reserve(values.len() * N);
    for value in values {
        out.extend_from_slice(&write(*value));
    }
}

/// A whole body as the only input. One dimension may be open, and follows
/// from the length; a string is the body as it is.
pub(super) fn whole_body(spec: &TensorSpec, body: &[u8]) -> Result<Tensor> {
    let wrong = |why: String| {
        let shape = spec.wire_shape();
        Error::invalid(format!("input {:?} of shape {shape:?} as a raw body: {why}", spec.name))
    };
    let open = spec.shape.iter().filter(|dim| !matches!(dim, Dim::Fixed(_))).count();
    let fixed = spec.shape.iter().try_fold(1_usize, |product, dim| match dim {
        Dim::Fixed(size) => product.checked_mul(*size),
        Dim::Symbol(_) | Dim::Any => Some(product),
    });
    let fixed = fixed.ok_or_else(|| wrong("the shape is too large".to_owned()))?;
    let Some(size) = spec.datatype.size() else {
        if fixed != 1 {
            return Err(wrong(format!("a raw body is one string, expected {fixed}")));
        }
        let data = Data::Bytes(vec![body.to_vec()]);
        return Tensor::new(&spec.name, vec![1; spec.shape.len()], data);
    };
    if open > 1 {
        return Err(wrong(format!("{open} dimensions are open; name the shape in a JSON header")));
    }
    let row = fixed.saturating_mul(size).max(1);
    if body.is_empty() || !body.len().is_multiple_of(row) {
        return Err(wrong(format!("expected a multiple of {row} bytes, got {}", body.len())));
    }
    let shape: Vec<usize> = spec
        .shape
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(size) => *size,
            Dim::Symbol(_) | Dim::Any => body.len() / row,
        })
        .collect();
    let data = decode(&spec.name, spec.datatype, &shape, body)?;
    Tensor::new(&spec.name, shape, data)
}

/// Element `n` as a routing key: the text of the number, or the string.
pub(super) fn nth_key(datatype: Datatype, bytes: &[u8], n: usize) -> Option<Vec<u8>> {
    if datatype == Datatype::Bytes {
        let mut rest = bytes;
        for _ in 0..n {
            let (prefix, tail) = rest.split_first_chunk::<PREFIX>()?;
            rest = tail.get(usize::try_from(u32::from_le_bytes(*prefix)).ok()?..)?;
        }
        let (prefix, tail) = rest.split_first_chunk::<PREFIX>()?;
        let string = tail.get(..usize::try_from(u32::from_le_bytes(*prefix)).ok()?)?;
        return Some(string.to_vec()).filter(|key| !key.is_empty());
    }
    let size = datatype.size()?;
    let start = n.checked_mul(size)?;
    let element = bytes.get(start..start.checked_add(size)?)?;
    let text = match decode("", datatype, &[1], element).ok()? {
        Data::Bool(v) => v[0].to_string(),
        Data::Uint64(v) => v[0].to_string(),
        Data::Int64(v) => v[0].to_string(),
        Data::Fp32(v) => v[0].to_string(),
        other => other.as_f64(0)?.to_string(),
    };
    Some(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_fit_is_said() {
        let string = |length: u32| [&length.to_le_bytes()[..], b"ab"].concat();
        let cases: [(Datatype, &[usize], Vec<u8>, &str); 10] = [
            (
                Datatype::Fp32,
                &[2, 2],
                vec![0; 15],
                "input \"x\": shape [2, 2] of FP32 means 4 elements of 4 bytes, got 15 bytes",
            ),
            (Datatype::Uint8, &[3], vec![0; 4], "shape [3] of UINT8 means 3 elements"),
            (Datatype::Fp64, &[usize::MAX, 2], vec![], "is too large"),
            (Datatype::Fp64, &[usize::MAX], vec![0; 8], "got 8 bytes"),
            (
                Datatype::Bool,
                &[3],
                vec![0, 1, 7],
                "input \"x\": element 2 is 7; a BOOL is a byte of 0 or 1",
            ),
            (
                Datatype::Bytes,
                &[1],
                string(3),
                "input \"x\": element 0 says that it has 3 bytes, only 2 are left",
            ),
            (Datatype::Bytes, &[1], string(u32::MAX), "has 4294967295 bytes, only 2 are left"),
            (
                Datatype::Bytes,
                &[1],
                string(1),
                "input \"x\": 1 bytes are left behind the last of 1 elements",
            ),
            (
                Datatype::Bytes,
                &[1_000_000_000],
                string(2),
                "1000000000 BYTES elements do not fit in 6 bytes",
            ),
            (
                Datatype::Bytes,
                &[2],
                [string(2), vec![0; 3]].concat(),
                "element 1 of 2 is missing: the bytes end before it",
            ),
        ];
        for (datatype, shape, bytes, expected) in cases {
            let error = decode("x", datatype, shape, &bytes).unwrap_err();
            assert!(error.message().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_raw_body_fills_the_open_dimension() {
        let spec = |shape| TensorSpec::new("x", Datatype::Fp32, shape);
        let open = spec(vec![Dim::Any, Dim::Fixed(2)]);
        assert_eq!(whole_body(&open, &[0; 24]).unwrap().shape(), [3, 2]);
        let error = whole_body(&open, &[0; 9]).unwrap_err();
        assert_eq!(
            error.message(),
            "input \"x\" of shape [-1, 2] as a raw body: expected a multiple of 8 bytes, got 9"
        );
        let two = spec(vec![Dim::Any, Dim::Any]);
        assert!(whole_body(&two, &[0; 8]).unwrap_err().message().contains("2 dimensions are open"));
        assert!(whole_body(&spec(vec![Dim::Fixed(3)]), &[0; 8]).is_err());
        assert!(whole_body(&spec(vec![Dim::Fixed(0)]), &[0; 8]).is_err());
        let huge = spec(vec![Dim::Fixed(usize::MAX), Dim::Fixed(2)]);
        assert!(whole_body(&huge, &[0; 8]).unwrap_err().message().contains("too large"));
        let text = TensorSpec { datatype: Datatype::Bytes, ..spec(vec![Dim::Any, Dim::Fixed(1)]) };
        let tensor = whole_body(&text, b"abc").unwrap();
        assert_eq!(
            (tensor.shape(), tensor.data()),
            (&[1, 1][..], &Data::Bytes(vec![b"abc".to_vec()]))
        );
    }

    #[test]
    fn keys_are_read_from_raw_elements() {
        let numbers: Vec<u8> = [1.0_f32, 42.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(nth_key(Datatype::Fp32, &numbers, 1).unwrap(), b"42");
        assert_eq!(nth_key(Datatype::Fp32, &numbers, 2), None);
        let strings = [&1_u32.to_le_bytes()[..], b"a", &2_u32.to_le_bytes(), b"bc"].concat();
        assert_eq!(nth_key(Datatype::Bytes, &strings, 1).unwrap(), b"bc");
        assert_eq!(nth_key(Datatype::Bytes, &strings, 2), None);
    }

    fn any_data() -> impl Strategy<Value = Data> {
        use proptest::collection::vec;
        prop_oneof![
            vec(any::<bool>(), 0..9).prop_map(Data::Bool),
            vec(any::<u8>(), 0..9).prop_map(Data::Uint8),
            vec(any::<u16>(), 0..9).prop_map(Data::Uint16),
            vec(any::<u32>(), 0..9).prop_map(Data::Uint32),
            vec(any::<u64>(), 0..9).prop_map(Data::Uint64),
            vec(any::<i8>(), 0..9).prop_map(Data::Int8),
            vec(any::<i16>(), 0..9).prop_map(Data::Int16),
            vec(any::<i32>(), 0..9).prop_map(Data::Int32),
            vec(any::<i64>(), 0..9).prop_map(Data::Int64),
            vec(any::<f32>().prop_map(f16::from_f32), 0..9).prop_map(Data::Fp16),
            vec(any::<f32>(), 0..9).prop_map(Data::Fp32),
            vec(any::<f64>(), 0..9).prop_map(Data::Fp64),
            vec(vec(any::<u8>(), 0..9), 0..9).prop_map(Data::Bytes),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(data in any_data()) {
            let mut bytes = Vec::new();
            prop_assert_eq!(encode(&data, &mut bytes), bytes.len());
            prop_assert_eq!(encoded_len(&data), bytes.len());
            let got = decode("x", data.datatype(), &[data.len()], &bytes).unwrap();
            let mut again = Vec::new();
            encode(&got, &mut again);
            prop_assert_eq!(got.datatype(), data.datatype());
            prop_assert_eq!(again, bytes);
        }

        #[test]
        fn random_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            shape in proptest::collection::vec(0_usize..5, 0..3),
            at in 0..Datatype::ALL.len(),
            n in any::<usize>(),
        ) {
            let datatype = Datatype::ALL[at];
            if let Ok(data) = decode("x", datatype, &shape, &bytes) {
                prop_assert_eq!(Some(data.len()), element_count(&shape));
            }
            let _ = nth_key(datatype, &bytes, n % 32);
        }
    }
}
