//! Our tensors to tract's and back: one copy each way, which for a row is
//! less than what it would cost to share.

use half::f16;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use crate::types::{Data, Datatype};

/// tract's name of a datatype.
pub(super) fn datum_type(datatype: Datatype) -> DatumType {
    match datatype {
        Datatype::Bool => DatumType::Bool,
        Datatype::Uint8 => DatumType::U8,
        Datatype::Uint16 => DatumType::U16,
        Datatype::Uint32 => DatumType::U32,
        Datatype::Uint64 => DatumType::U64,
        Datatype::Int8 => DatumType::I8,
        Datatype::Int16 => DatumType::I16,
        Datatype::Int32 => DatumType::I32,
        Datatype::Int64 => DatumType::I64,
        Datatype::Fp16 => DatumType::F16,
        Datatype::Fp32 => DatumType::F32,
        Datatype::Fp64 => DatumType::F64,
        Datatype::Bytes => DatumType::String,
    }
}

/// Copies elements into a tensor of tract's. Byte strings must be UTF-8, as
/// ONNX's strings are.
pub(super) fn to_tract(shape: &[usize], data: &Data) -> TractResult<Tensor> {
    match data {
        Data::Bool(v) => Tensor::from_shape(shape, v),
        Data::Uint8(v) => Tensor::from_shape(shape, v),
        Data::Uint16(v) => Tensor::from_shape(shape, v),
        Data::Uint32(v) => Tensor::from_shape(shape, v),
        Data::Uint64(v) => Tensor::from_shape(shape, v),
        Data::Int8(v) => Tensor::from_shape(shape, v),
        Data::Int16(v) => Tensor::from_shape(shape, v),
        Data::Int32(v) => Tensor::from_shape(shape, v),
        Data::Int64(v) => Tensor::from_shape(shape, v),
        Data::Fp16(v) => Tensor::from_shape(shape, v),
        Data::Fp32(v) => Tensor::from_shape(shape, v),
        Data::Fp64(v) => Tensor::from_shape(shape, v),
        Data::Bytes(v) => {
            let text = |(i, bytes): (usize, &Vec<u8>)| {
                String::from_utf8(bytes.clone()).with_context(|| format!("element {i}"))
            };
            let texts = v.iter().enumerate().map(text).collect::<TractResult<Vec<String>>>()?;
            tensor1(&texts).into_shape(shape)
        }
    }
}

/// Copies elements out of a tensor of tract's.
pub(super) fn from_tract(tensor: &Tensor) -> TractResult<Data> {
    let view = tensor.try_as_plain_ram()?;
    Ok(match tensor.datum_type() {
        DatumType::Bool => Data::Bool(view.as_slice::<bool>()?.to_vec()),
        DatumType::U8 => Data::Uint8(view.as_slice::<u8>()?.to_vec()),
        DatumType::U16 => Data::Uint16(view.as_slice::<u16>()?.to_vec()),
        DatumType::U32 => Data::Uint32(view.as_slice::<u32>()?.to_vec()),
        DatumType::U64 => Data::Uint64(view.as_slice::<u64>()?.to_vec()),
        DatumType::I8 => Data::Int8(view.as_slice::<i8>()?.to_vec()),
        DatumType::I16 => Data::Int16(view.as_slice::<i16>()?.to_vec()),
        DatumType::I32 => Data::Int32(view.as_slice::<i32>()?.to_vec()),
        DatumType::I64 => Data::Int64(view.as_slice::<i64>()?.to_vec()),
        DatumType::F16 => Data::Fp16(view.as_slice::<f16>()?.to_vec()),
        DatumType::F32 => Data::Fp32(view.as_slice::<f32>()?.to_vec()),
        DatumType::F64 => Data::Fp64(view.as_slice::<f64>()?.to_vec()),
        DatumType::String => {
            let texts = view.as_slice::<String>()?;
            Data::Bytes(texts.iter().map(|text| text.clone().into_bytes()).collect())
        }
        other => bail!("the graph gave {other:?}, which is no datatype of the protocol"),
    })
}
