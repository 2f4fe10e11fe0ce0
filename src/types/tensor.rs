//! Tensors: a shape and a flat, row-major buffer of one datatype.

use std::fmt;
use std::str::FromStr;

use half::f16;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The element types of the Open Inference Protocol, under its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Datatype {
    /// True or false; one byte each on the wire.
    Bool,
    /// Unsigned, 8 bits.
    Uint8,
    /// Unsigned, 16 bits.
    Uint16,
    /// Unsigned, 32 bits.
    Uint32,
    /// Unsigned, 64 bits.
    Uint64,
    /// Signed, 8 bits.
    Int8,
    /// Signed, 16 bits.
    Int16,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// IEEE half precision.
    Fp16,
    /// IEEE single precision.
    Fp32,
    /// IEEE double precision.
    Fp64,
    /// Byte strings; ONNX's strings.
    Bytes,
}

impl Datatype {
    /// Every datatype.
    pub const ALL: [Self; 13] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// The protocol's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// The name in model configurations.
    #[must_use]
    pub const fn config_name(self) -> &'static str {
        match self {
            Self::Bool => "TYPE_BOOL",
            Self::Uint8 => "TYPE_UINT8",
            Self::Uint16 => "TYPE_UINT16",
            Self::Uint32 => "TYPE_UINT32",
            Self::Uint64 => "TYPE_UINT64",
            Self::Int8 => "TYPE_INT8",
            Self::Int16 => "TYPE_INT16",
            Self::Int32 => "TYPE_INT32",
            Self::Int64 => "TYPE_INT64",
            Self::Fp16 => "TYPE_FP16",
            Self::Fp32 => "TYPE_FP32",
            Self::Fp64 => "TYPE_FP64",
            Self::Bytes => "TYPE_STRING",
        }
    }

    /// Bytes per element on the wire; `None` for [`Datatype::Bytes`], whose
    /// elements differ.
    #[must_use]
    pub const fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    /// Whether it is a floating-point type.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, Self::Fp16 | Self::Fp32 | Self::Fp64)
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Datatype {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|d| d.as_str() == s).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            Error::invalid(format!("datatype {s:?}: expected one of {known}"))
        })
    }
}

impl Serialize for Datatype {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Datatype {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The elements of a tensor, flat and row-major.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are those of `Datatype`")]
pub enum Data {
    Bool(Vec<bool>),
    Uint8(Vec<u8>),
    Uint16(Vec<u16>),
    Uint32(Vec<u32>),
    Uint64(Vec<u64>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fp16(Vec<f16>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    Bytes(Vec<Vec<u8>>),
}

/// Runs `$body` with `$v` bound to the vector inside a [`Data`], whatever its
/// element type.
#[macro_export]
macro_rules! for_each_datatype {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            $crate::types::Data::Bool($v) => $body,
            $crate::types::Data::Uint8($v) => $body,
            $crate::types::Data::Uint16($v) => $body,
            $crate::types::Data::Uint32($v) => $body,
            $crate::types::Data::Uint64($v) => $body,
            $crate::types::Data::Int8($v) => $body,
            $crate::types::Data::Int16($v) => $body,
            $crate::types::Data::Int32($v) => $body,
            $crate::types::Data::Int64($v) => $body,
            $crate::types::Data::Fp16($v) => $body,
            $crate::types::Data::Fp32($v) => $body,
            $crate::types::Data::Fp64($v) => $body,
            $crate::types::Data::Bytes($v) => $body,
        }
    };
}

impl Data {
    /// An empty buffer of `datatype` with room for `capacity` elements.
    #[must_use]
    pub fn with_capacity(datatype: Datatype, capacity: usize) -> Self {
        match datatype {
            Datatype::Bool => Self::Bool(Vec::with_capacity(capacity)),
            Datatype::Uint8 => Self::Uint8(Vec::with_capacity(capacity)),
            Datatype::Uint16 => Self::Uint16(Vec::with_capacity(capacity)),
            Datatype::Uint32 => Self::Uint32(Vec::with_capacity(capacity)),
            Datatype::Uint64 => Self::Uint64(Vec::with_capacity(capacity)),
            Datatype::Int8 => Self::Int8(Vec::with_capacity(capacity)),
            Datatype::Int16 => Self::Int16(Vec::with_capacity(capacity)),
            Datatype::Int32 => Self::Int32(Vec::with_capacity(capacity)),
            Datatype::Int64 => Self::Int64(Vec::with_capacity(capacity)),
            Datatype::Fp16 => Self::Fp16(Vec::with_capacity(capacity)),
            Datatype::Fp32 => Self::Fp32(Vec::with_capacity(capacity)),
            Datatype::Fp64 => Self::Fp64(Vec::with_capacity(capacity)),
            Datatype::Bytes => Self::Bytes(Vec::with_capacity(capacity)),
        }
    }

    /// A buffer of `len` zeros (false, empty strings).
    #[must_use]
    pub fn zeros(datatype: Datatype, len: usize) -> Self {
        let mut data = Self::with_capacity(datatype, len);
        for_each_datatype!(&mut data, v => v.resize(len, Default::default()));
        data
    }

    /// Adds the elements of `other` behind its own; `false`, and nothing is
    /// added, if they are of another datatype.
    pub fn append(&mut self, other: &Self) -> bool {
        macro_rules! same {
            ($($Variant:ident),+) => {
                match (self, other) {
                    $( (Self::$Variant(own), Self::$Variant(more)) => own.extend_from_slice(more), )+
                    _ => return false,
                }
            };
        }
        same!(
            Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Fp32, Fp64, Bytes
        );
        true
    }

    /// Removes the elements; their memory stays for the next ones.
    pub fn clear(&mut self) {
        for_each_datatype!(self, v => v.clear());
    }

    /// A copy of the elements in `range`; `None` if there are fewer.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Option<Self> {
        macro_rules! each {
            ($($Variant:ident),+) => {
                match self { $( Self::$Variant(v) => Self::$Variant(v.get(range)?.to_vec()), )+ }
            };
        }
        Some(each!(
            Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Fp32, Fp64, Bytes
        ))
    }

    /// The element type.
    #[must_use]
    pub const fn datatype(&self) -> Datatype {
        match self {
            Self::Bool(_) => Datatype::Bool,
            Self::Uint8(_) => Datatype::Uint8,
            Self::Uint16(_) => Datatype::Uint16,
            Self::Uint32(_) => Datatype::Uint32,
            Self::Uint64(_) => Datatype::Uint64,
            Self::Int8(_) => Datatype::Int8,
            Self::Int16(_) => Datatype::Int16,
            Self::Int32(_) => Datatype::Int32,
            Self::Int64(_) => Datatype::Int64,
            Self::Fp16(_) => Datatype::Fp16,
            Self::Fp32(_) => Datatype::Fp32,
            Self::Fp64(_) => Datatype::Fp64,
            Self::Bytes(_) => Datatype::Bytes,
        }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        for_each_datatype!(self, v => v.len())
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory of the elements, in bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        match self {
            Self::Bytes(v) => v.iter().map(|b| b.len() + size_of::<Vec<u8>>()).sum(),
            other => other.len() * other.datatype().size().unwrap_or(1),
        }
    }

    /// Element `i` as a number; `None` out of range or for strings. 64-bit
    /// integers beyond 2^53 are rounded.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "documented")]
    pub fn as_f64(&self, i: usize) -> Option<f64> {
        match self {
            Self::Bool(v) => v.get(i).map(|&x| f64::from(u8::from(x))),
            Self::Uint8(v) => v.get(i).map(|&x| x.into()),
            Self::Uint16(v) => v.get(i).map(|&x| x.into()),
            Self::Uint32(v) => v.get(i).map(|&x| x.into()),
            Self::Uint64(v) => v.get(i).map(|&x| x as f64),
            Self::Int8(v) => v.get(i).map(|&x| x.into()),
            Self::Int16(v) => v.get(i).map(|&x| x.into()),
            Self::Int32(v) => v.get(i).map(|&x| x.into()),
            Self::Int64(v) => v.get(i).map(|&x| x as f64),
            Self::Fp16(v) => v.get(i).map(|&x| x.into()),
            Self::Fp32(v) => v.get(i).map(|&x| x.into()),
            Self::Fp64(v) => v.get(i).copied(),
            Self::Bytes(_) => None,
        }
    }
}

/// A named tensor. The shape's product always equals the number of elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    name: String,
    shape: Vec<usize>,
    data: Data,
}

impl Tensor {
    /// Joins a shape and its elements; refuses a shape that does not match.
    pub fn new(name: impl Into<String>, shape: Vec<usize>, data: Data) -> Result<Self> {
        let name = name.into();
        let wanted = element_count(&shape);
        if wanted != Some(data.len()) {
            let wanted = wanted.map_or_else(|| "too many".to_owned(), |n| n.to_string());
            return Err(Error::invalid(format!(
                "tensor {name:?}: shape {shape:?} means {wanted} elements, got {}",
                data.len()
            )));
        }
        Ok(Self { name, shape, data })
    }

    /// The input's or output's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The dimensions.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements.
    #[must_use]
    pub const fn data(&self) -> &Data {
        &self.data
    }

    /// Takes it apart: name, shape, elements.
    #[must_use]
    pub fn into_parts(self) -> (String, Vec<usize>, Data) {
        (self.name, self.shape, self.data)
    }

    /// The element type.
    #[must_use]
    pub const fn datatype(&self) -> Datatype {
        self.data.datatype()
    }

    /// The first dimension; 1 for a scalar.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Memory of the elements, in bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.data.byte_len()
    }
}

/// The product of the dimensions; `None` when it overflows.
#[must_use]
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for datatype in Datatype::ALL {
            assert_eq!(datatype.as_str().parse::<Datatype>().unwrap(), datatype);
            assert_eq!(Data::zeros(datatype, 3).datatype(), datatype);
            assert_eq!(Data::zeros(datatype, 3).len(), 3);
        }
        let error = "FP8".parse::<Datatype>().unwrap_err();
        assert!(error.message().contains("\"FP8\"") && error.message().contains("FP32"));
    }

    #[test]
    fn elements_of_one_datatype_are_joined_and_cut() {
        for datatype in Datatype::ALL {
            let mut data = Data::zeros(datatype, 2);
            assert!(data.append(&Data::zeros(datatype, 3)));
            assert_eq!((data.len(), data.slice(1..4).unwrap().len()), (5, 3));
            assert_eq!(data.slice(4..6), None);
            let other = if datatype == Datatype::Fp32 { Datatype::Fp64 } else { Datatype::Fp32 };
            assert!(!data.append(&Data::zeros(other, 1)));
            data.clear();
            assert!(data.is_empty());
        }
        let mut data = Data::Fp32(vec![1.0, 2.0]);
        data.append(&Data::Fp32(vec![3.0]));
        assert_eq!(data.slice(1..3), Some(Data::Fp32(vec![2.0, 3.0])));
    }

    #[test]
    fn a_shape_must_match_its_elements() {
        assert!(Tensor::new("x", vec![2, 2], Data::zeros(Datatype::Fp32, 4)).is_ok());
        let error = Tensor::new("x", vec![2, 3], Data::zeros(Datatype::Fp32, 4)).unwrap_err();
        assert_eq!(error.message(), "tensor \"x\": shape [2, 3] means 6 elements, got 4");
        assert!(Tensor::new("x", vec![usize::MAX, 2], Data::zeros(Datatype::Fp32, 0)).is_err());
    }
}
