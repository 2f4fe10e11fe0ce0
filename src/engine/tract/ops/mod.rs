//! Operators of the standard, and of ONNX Runtime's own domain, that tract
//! lacks or computes otherwise: one file per family.
//!
//! To add one: write a [`Kernel`](crate::engine::onnx_ml::Kernel), or an
//! expansion into tract's own operators, a `build` function from the node, and a
//! line in [`register`]. Operators outside the default domain go by their full
//! names.

mod align;
mod cast;
mod cast_text;
mod cdist;
mod compress;
mod gemm;

use tract_onnx::model::OnnxOpRegister;

use super::legacy::ALIGN;

/// Enters them; where tract has one of that name, it is replaced.
pub(super) fn register(register: &mut OnnxOpRegister) {
    register.insert(ALIGN, align::build);
    register.insert("Cast", cast::build);
    register.insert("Compress", compress::build);
    register.insert("Gemm", gemm::build);
    register.insert("com.microsoft.CDist", cdist::build);
}
