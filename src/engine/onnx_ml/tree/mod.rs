//! `TreeEnsembleClassifier`, `TreeEnsembleRegressor` and `TreeEnsemble`.
//!
//! ```text
//! lists, ensemble   the file's attributes → trees
//! trees             the trees, checked
//! split, place      every test as ≤; nodes in their places
//! forest            the walk from roots to leaves
//! sums              what the leaves add up to
//! classifier, …     what becomes of the sums
//! ```
//!
//! All of it but the walk and the sums is done when the model is loaded.

mod classifier;
mod columns;
mod ensemble;
mod forest;
mod lists;
mod operator;
mod place;
mod real;
mod regressor;
mod split;
mod sums;
#[cfg(test)]
mod tests;
mod transform;
mod trees;

pub(super) use classifier::build as build_classifier;
pub(super) use ensemble::build as build_ensemble;
pub(super) use regressor::build as build_regressor;

use tract_onnx::model::ParsingContext;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

/// Operator set 5 has another operator in place of the two older ones.
fn check_version(context: &ParsingContext) -> TractResult<()> {
    let mut opsets = context.model.opset_import.iter();
    let version = opsets.find(|opset| opset.domain == super::DOMAIN).map_or(1, |o| o.version);
    ensure!(
        version < 5,
        "the operator left {} with version 5, the file asks for {version}",
        super::DOMAIN
    );
    Ok(())
}
