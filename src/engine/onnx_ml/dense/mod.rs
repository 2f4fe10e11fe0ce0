//! Arithmetic on rows of single-precision numbers, written so that the
//! compiler makes vector instructions of it.
//!
//! Rust keeps the order of additions, so a sum becomes vectors only where it
//! is written as several sums side by side. And a binary for every processor
//! may not assume AVX2: [`vectorised`] looks when it runs, and takes a second
//! copy of the same code that may.

mod functions;
mod matrix;

pub(super) use functions::{dot, exp, logistic, tanh};
pub(super) use matrix::{Matrix, Measure};

/// A piece of work that gains from wide vectors. `FUSED` tells whether the
/// processor multiplies and adds in one instruction; elsewhere that would be
/// a slow call.
pub(super) trait Work {
    /// What comes of it.
    type Output;

    /// Does it. Must be `#[inline(always)]`, and so must be what it calls.
    fn run<const FUSED: bool>(self) -> Self::Output;
}

/// Does the work with the widest vectors that are worth it here.
pub(super) fn vectorised<W: Work>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: `fused` asks for nothing but these two features, which the
        // processor was just found to have.
        return unsafe { fused(work) };
    }
    work.run::<false>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn fused<W: Work>(work: W) -> W::Output {
    work.run::<true>()
}

/// a · b + c.
#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}
