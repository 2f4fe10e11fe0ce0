//! `TreeEnsembleClassifier` and `TreeEnsembleRegressor`.
//!
//! [`forest`] holds the trees, checked and laid out flat when the model is
//! loaded, and walks them; [`classifier`] and [`regressor`] make answers of
//! the leaves' weights.

mod classifier;
mod forest;
mod regressor;

pub(super) use classifier::build as build_classifier;
pub(super) use regressor::build as build_regressor;

use tract_onnx::model::ParsingContext;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::kernel::Fact;
use super::rows;
use forest::Forest;

/// Operator set 5 has another operator in their place.
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

/// Checks the input's fact against the forest and gives its rows.
fn check_rows(forest: &Forest, input: &Fact) -> TractResult<TDim> {
    ensure!(input.shape.len() == 2, "expected a shape of [rows, features], got {:?}", input.shape);
    let (rows, features) = rows::check(input)?;
    if let Ok(features) = features.to_usize() {
        enough(forest, features)?;
    }
    Ok(rows)
}

/// Checks a tensor against the forest and gives its features.
fn check_features(forest: &Forest, input: &Tensor) -> TractResult<usize> {
    let (_, features) = rows::dims(input)?;
    enough(forest, features)?;
    Ok(features)
}

fn enough(forest: &Forest, features: usize) -> TractResult<()> {
    let least = forest.features().max(1);
    ensure!(features >= least, "the trees ask for {least} features, the rows have {features}");
    Ok(())
}
