//! Post-transforms of sums that may be doubles.

use super::super::post_transform::PostTransform;
use super::real::{Real, to_f32};

/// Appends one row of scores, transformed. The transforms themselves are
/// single-precision; a softmax depends on differences only, which are taken
/// before anything is rounded.
pub(super) fn transform<X: Real>(transform: PostTransform, row: &[X], to: &mut Vec<f32>) {
    let start = to.len();
    if transform == PostTransform::Softmax {
        let largest = row.iter().copied().fold(X::of(f64::MIN), |a, b| if b > a { b } else { a });
        to.extend(row.iter().map(|&score| to_f32(score - largest)));
    } else {
        to.extend(row.iter().map(|&score| to_f32(score)));
    }
    transform.apply(&mut to[start..]);
}
