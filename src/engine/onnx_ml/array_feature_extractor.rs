//! `ArrayFeatureExtractor`: picks columns of the last axis by index.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::attributes::Attributes;
use super::kernel::{Built, Fact, Kernel, built};

#[derive(Debug)]
struct ArrayFeatureExtractor;

pub(super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    Attributes::new(node, &[])?;
    built(ArrayFeatureExtractor)
}

impl Kernel for ArrayFeatureExtractor {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.ArrayFeatureExtractor"
    }

    fn input_count(&self) -> usize {
        2
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let (data, indices) = (&inputs[0], &inputs[1]);
        ensure!(!data.shape.is_empty(), "expected data with at least one axis, got a scalar");
        ensure!(
            matches!(
                data.datatype,
                DatumType::F32
                    | DatumType::F64
                    | DatumType::I32
                    | DatumType::I64
                    | DatumType::String
            ),
            "data of {:?} are not supported",
            data.datatype
        );
        ensure!(
            matches!(indices.datatype, DatumType::I64 | DatumType::TDim),
            "expected indices of INT64, got {:?}",
            indices.datatype
        );
        let mut shape: TVec<TDim> = data.shape.clone();
        // One axis comes out as one row, as onnxruntime does it.
        if shape.len() == 1 {
            shape.insert(0, 1.to_dim());
        }
        let last = shape.len() - 1;
        shape[last] = indices.shape.iter().product();
        Ok(tvec![Fact::new(data.datatype, shape)])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let indices = inputs[1].cast_to::<i64>()?;
        let indices = indices.try_as_plain_ram()?.as_slice::<i64>()?;
        let picked = match inputs[0].datum_type() {
            DatumType::F32 => pick::<f32>(inputs[0], indices)?,
            DatumType::F64 => pick::<f64>(inputs[0], indices)?,
            DatumType::I32 => pick::<i32>(inputs[0], indices)?,
            DatumType::I64 => pick::<i64>(inputs[0], indices)?,
            DatumType::String => pick::<String>(inputs[0], indices)?,
            other => bail!("data of {other:?} are not supported"),
        };
        Ok(tvec![picked])
    }
}

fn pick<T: Datum>(data: &Tensor, indices: &[i64]) -> TractResult<Tensor> {
    let (&width, outer) = data.shape().split_last().context("data without an axis")?;
    let column = |&index: &i64| {
        usize::try_from(index)
            .ok()
            .filter(|&i| i < width)
            .with_context(|| format!("index {index} is out of range: there are {width} columns"))
    };
    let columns = indices.iter().map(column).collect::<TractResult<Vec<usize>>>()?;
    let data = data.try_as_plain_ram()?;
    let rows = data.as_slice::<T>()?.chunks_exact(width.max(1));
    let picked = rows.flat_map(|row| columns.iter().map(|&c| row[c].clone())).collect::<Vec<T>>();
    let mut shape = if outer.is_empty() { vec![1] } else { outer.to_vec() };
    shape.push(columns.len());
    tensor1(&picked).into_shape(&shape)
}
