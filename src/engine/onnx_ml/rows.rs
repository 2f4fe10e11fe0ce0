//! Rows of numbers: what most of these operators take.

use std::borrow::Cow;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::kernel::Fact;

/// Refuses what is not a matrix (rows, features) or one row, of one of the
/// four number types that the operators take. Gives rows and features.
pub(super) fn check(fact: &Fact) -> TractResult<(TDim, TDim)> {
    number(fact.datatype)?;
    match &*fact.shape {
        [features] => Ok((1.to_dim(), features.clone())),
        [rows, features] => Ok((rows.clone(), features.clone())),
        other => bail!("expected a shape of [rows, features], got {other:?}"),
    }
}

/// Refuses a datatype that is none of the four.
pub(super) fn number(datatype: DatumType) -> TractResult<()> {
    ensure!(
        matches!(datatype, DatumType::F32 | DatumType::F64 | DatumType::I32 | DatumType::I64),
        "expected FP32, FP64, INT32 or INT64, got {datatype:?}"
    );
    Ok(())
}

/// Rows and features of a tensor that passed [`check`].
pub(super) fn dims(tensor: &Tensor) -> TractResult<(usize, usize)> {
    match *tensor.shape() {
        [features] => Ok((1, features)),
        [rows, features] => Ok((rows, features)),
        ref other => bail!("expected a shape of [rows, features], got {other:?}"),
    }
}

/// The elements as single-precision numbers; borrowed when they are already.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "the standard's")]
pub(super) fn floats(tensor: &Tensor) -> TractResult<Cow<'_, [f32]>> {
    let view = tensor.try_as_plain_ram()?;
    Ok(match tensor.datum_type() {
        DatumType::F32 => Cow::Borrowed(view.as_slice::<f32>()?),
        DatumType::F64 => view.as_slice::<f64>()?.iter().map(|&x| x as f32).collect(),
        DatumType::I32 => view.as_slice::<i32>()?.iter().map(|&x| x as f32).collect(),
        DatumType::I64 => view.as_slice::<i64>()?.iter().map(|&x| x as f32).collect(),
        other => bail!("expected numbers, got {other:?}"),
    })
}

/// A tensor of single-precision numbers: zeros, then what `fill` writes.
pub(super) fn filled(
    shape: &[usize],
    fill: impl FnOnce(&mut [f32]) -> TractResult<()>,
) -> TractResult<Tensor> {
    let mut tensor = Tensor::zero::<f32>(shape)?;
    fill(tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?)?;
    Ok(tensor)
}

/// A matrix of single-precision numbers.
pub(super) fn matrix(rows: usize, columns: usize, data: &[f32]) -> TractResult<Tensor> {
    Tensor::from_shape(&[rows, columns], data)
}
