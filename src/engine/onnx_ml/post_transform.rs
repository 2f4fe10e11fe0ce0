//! What is done to scores at the end (`post_transform`), as onnxruntime does
//! it.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::attributes::Attributes;
use super::dense;

/// The five transforms of the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PostTransform {
    None,
    Logistic,
    Softmax,
    SoftmaxZero,
    Probit,
}

impl PostTransform {
    /// Reads the attribute.
    pub(super) fn read(attributes: &Attributes) -> TractResult<Self> {
        Ok(match attributes.string("post_transform", "NONE")? {
            "NONE" => Self::None,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX" => Self::Softmax,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            other => bail!("attribute \"post_transform\": {other:?} is none of the five"),
        })
    }

    /// Transforms one row of scores in place.
    pub(super) fn apply(self, scores: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Self::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
            Self::Softmax => softmax(scores),
            Self::SoftmaxZero => softmax_zero(scores),
        }
    }

    /// Transforms rows of `width` scores each in place. A lone score is
    /// transformed by PROBIT only, as onnxruntime does it.
    pub(super) fn apply_rows(self, scores: &mut [f32], width: usize) {
        match self {
            Self::Probit => self.apply(scores),
            _ if width == 1 => {}
            Self::Logistic => dense::logistic(scores),
            Self::Softmax => softmax_rows(scores, width),
            Self::None | Self::SoftmaxZero => {
                scores.chunks_exact_mut(width).for_each(|row| self.apply(row));
            }
        }
    }
}

/// 1 / (1 + e^−x), without overflow.
pub(super) fn logistic(x: f32) -> f32 {
    let positive = 1.0 / (1.0 + (-x.abs()).exp());
    if x < 0.0 { 1.0 - positive } else { positive }
}

/// √2 · erf⁻¹(2x − 1), with Winitzki's approximation of the inverse error
/// function (a = 0.147), which is the one onnxruntime takes.
pub(super) fn probit(x: f32) -> f32 {
    std::f32::consts::SQRT_2 * erf_inverse(2.0 * x - 1.0)
}

fn erf_inverse(x: f32) -> f32 {
    const A: f32 = 0.147;
    #[expect(clippy::approx_constant, reason = "the constant that onnxruntime takes")]
    const PI: f32 = 3.14159;
    let sign = if x < 0.0 { -1.0 } else { 1.0 };
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let half = 2.0 / (PI * A) + 0.5 * log;
    let root = (half * half - log / A).sqrt();
    sign * (root - half).sqrt()
}

fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::MIN, f32::max);
    let mut sum = 0.0;
    for score in &mut *scores {
        *score = (*score - max).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// A softmax of each row: the powers of all rows at once.
fn softmax_rows(scores: &mut [f32], width: usize) {
    for row in scores.chunks_exact_mut(width) {
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        row.iter_mut().for_each(|score| *score -= max);
    }
    dense::exp(scores, 1.0);
    for row in scores.chunks_exact_mut(width) {
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|score| *score /= sum);
    }
}

/// A softmax that leaves scores of (nearly) zero out.
fn softmax_zero(scores: &mut [f32]) {
    const ZERO: f32 = 1e-7;
    let max = scores.iter().copied().fold(f32::MIN, f32::max);
    let scale = (-max).exp();
    let mut sum = 0.0;
    for score in &mut *scores {
        if score.abs() > ZERO {
            *score = (*score - max).exp();
            sum += *score;
        } else {
            *score *= scale;
        }
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// The index of the largest score, the first one among equals. Without
/// branches: which class wins is what no processor can guess.
pub(super) fn argmax(scores: &[f32]) -> usize {
    let Some(&first) = scores.first() else { return 0 };
    let (mut best, mut most) = (0, first);
    for (i, &score) in scores.iter().enumerate().skip(1) {
        let better = score > most;
        best = if better { i } else { best };
        most = if better { score } else { most };
    }
    best
}
