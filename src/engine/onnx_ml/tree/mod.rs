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

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::kernel::Fact;
use super::rows;
use forest::Forest;

/// Checks the input's fact against the forest and gives its rows.
fn check_rows(forest: &Forest, input: &Fact) -> TractResult<TDim> {
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
