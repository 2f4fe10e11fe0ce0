//! `Normalizer`: each row divided by its norm.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::attributes::Attributes;
use super::dense::{Work, vectorised};
use super::kernel::{Built, Fact, Kernel, built};
use super::rows;

#[derive(Clone, Copy, Debug)]
enum Normalizer {
    /// By the largest element (not the largest magnitude: as onnxruntime).
    Max,
    L1,
    L2,
}

pub(super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    built(match Attributes::new(node, &["norm"])?.string("norm", "MAX")? {
        "MAX" => Normalizer::Max,
        "L1" => Normalizer::L1,
        "L2" => Normalizer::L2,
        other => bail!("attribute \"norm\": expected MAX, L1 or L2, got {other:?}"),
    })
}

struct Normalize<'a> {
    norm: Normalizer,
    data: &'a mut [f32],
    features: usize,
}

impl Work for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for row in self.data.chunks_exact_mut(self.features) {
            match self.norm {
                Normalizer::Max => divide(row, fold(row, f32::MIN, |x| x, f32::max)),
                Normalizer::L1 => divide(row, fold(row, 0.0, f32::abs, |sum, x| sum + x)),
                Normalizer::L2 => by_squares(row),
            }
        }
    }
}

/// Joins what is made `of` each element, side by side at first; `join` must
/// not mind the order.
#[inline(always)]
fn fold(row: &[f32], start: f32, of: impl Fn(f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    const LANES: usize = 8;
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [start; LANES];
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = join(*lane, of(x));
        }
    }
    let rest = rest.iter().map(|&x| of(x));
    lanes.into_iter().chain(rest).fold(start, join)
}

/// A row of zeros stays as it is.
#[inline(always)]
fn divide(row: &mut [f32], norm: f32) {
    if norm != 0.0 {
        row.iter_mut().for_each(|x| *x /= norm);
    }
}

#[inline(always)]
fn by_squares(row: &mut [f32]) {
    /// Squares of smaller norms have few digits left.
    const LEAST: f32 = 1e-30;
    let sum = fold(row, 0.0, |x| x * x, |sum, x| sum + x);
    if sum > LEAST && sum < f32::INFINITY {
        return divide(row, sum.sqrt());
    }
    // onnxruntime divides the squares: what overflows and what vanishes does
    // so in its way.
    if sum != 0.0 {
        row.iter_mut().for_each(|x| *x = (*x * *x / sum).sqrt().copysign(*x));
    }
}

impl Kernel for Normalizer {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.Normalizer"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        rows::check(&inputs[0])?;
        Ok(tvec![Fact::new(DatumType::F32, inputs[0].shape.iter().cloned())])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let (_, features) = rows::dims(inputs[0])?;
        let normal = rows::filled(inputs[0].shape(), |data| {
            data.copy_from_slice(&rows::floats(inputs[0])?);
            if features > 0 {
                vectorised(Normalize { norm: *self, data, features });
            }
            Ok(())
        })?;
        Ok(tvec![normal])
    }
}
