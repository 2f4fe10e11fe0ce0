//! `SVMClassifier` and `SVMRegressor`.
//!
//! [`Support`] holds the support vectors and computes the kernel function of a
//! row with each of them; [`classifier`] and [`regressor`] make answers of
//! these similarities.

mod classifier;
mod coupling;
mod regressor;

pub(super) use classifier::build as build_classifier;
pub(super) use regressor::build as build_regressor;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::attributes::Attributes;
use super::dense::{self, Matrix, Measure};
use super::kernel::{BadShape, Fact};
use super::rows;

/// Numbers of one block of similarities: rows are taken together until they
/// fill the nearest cache.
const BLOCK_NUMBERS: usize = 4096;

/// The kernel function k(x, s) of a row and a support vector.
#[derive(Clone, Copy, Debug)]
enum Function {
    /// x · s.
    Linear,
    /// (γ x · s + c)^degree.
    Polynomial { gamma: f32, offset: f32, degree: f32 },
    /// exp(−γ ‖x − s‖²).
    Radial { gamma: f32 },
    /// tanh(γ x · s + c).
    Sigmoid { gamma: f32, offset: f32 },
}

impl Function {
    fn read(attributes: &Attributes) -> TractResult<Self> {
        let parameters = attributes.floats("kernel_params")?;
        let kind = attributes.string("kernel_type", "LINEAR")?;
        let [gamma, offset, degree] = match *parameters {
            [gamma, offset, degree] => [gamma, offset, degree],
            [] if kind == "LINEAR" => [0.0; 3],
            _ => bail!(
                "\"kernel_params\" of a {kind} kernel: expected gamma, coef0 and degree, got {} \
                 numbers",
                parameters.len()
            ),
        };
        Ok(match kind {
            "LINEAR" => Self::Linear,
            "POLY" => Self::Polynomial { gamma, offset, degree },
            "RBF" => Self::Radial { gamma },
            "SIGMOID" => Self::Sigmoid { gamma, offset },
            other => bail!("attribute \"kernel_type\": {other:?} is none of the four"),
        })
    }

    fn measure(self) -> Measure {
        match self {
            Self::Radial { .. } => Measure::SquaredDistance,
            _ => Measure::Product,
        }
    }

    /// Makes similarities of what was measured, in place.
    fn apply(self, numbers: &mut [f32]) {
        match self {
            Self::Linear => {}
            Self::Radial { gamma } => dense::exp(numbers, -gamma),
            Self::Sigmoid { gamma, offset } => {
                numbers.iter_mut().for_each(|x| *x = gamma * *x + offset);
                dense::tanh(numbers);
            }
            Self::Polynomial { gamma, offset, degree } => {
                let inner = |x: f32| gamma * x + offset;
                if degree == 2.0 {
                    numbers.iter_mut().for_each(|x| *x = inner(*x) * inner(*x));
                } else if degree == 3.0 {
                    numbers.iter_mut().for_each(|x| *x = inner(*x) * inner(*x) * inner(*x));
                } else {
                    numbers.iter_mut().for_each(|x| *x = inner(*x).powf(degree));
                }
            }
        }
    }
}

/// Support vectors, or the coefficients of a linear machine in their place.
#[derive(Debug)]
struct Support {
    vectors: Matrix,
    function: Function,
}

impl Support {
    /// `count` vectors from the attribute.
    fn read(attributes: &Attributes, count: usize) -> TractResult<Self> {
        let function = Function::read(attributes)?;
        Self::new(attributes.floats("support_vectors")?, count, function, "support_vectors")
    }

    /// A machine that was reduced to one vector per score, whatever its kernel
    /// is called.
    fn linear(attributes: &Attributes, count: usize) -> TractResult<Self> {
        Function::read(attributes)?;
        let coefficients = attributes.floats("coefficients")?;
        Self::new(coefficients, count, Function::Linear, "coefficients")
    }

    fn new(numbers: &[f32], count: usize, function: Function, name: &str) -> TractResult<Self> {
        ensure!(
            count > 0 && !numbers.is_empty() && numbers.len().is_multiple_of(count),
            "{} numbers in {name:?} do not divide among {count} vectors",
            numbers.len()
        );
        Ok(Self { vectors: Matrix::new(numbers, numbers.len() / count), function })
    }

    fn check_features(&self, features: usize) -> TractResult<()> {
        let expected = self.vectors.features();
        ensure!(features == expected, "expected {expected} features, got {features}");
        Ok(())
    }

    /// Checks the input's fact and gives its rows.
    fn rows(&self, input: &Fact) -> TractResult<TDim> {
        let (rows, features) = rows::check(input)?;
        if let Ok(features) = features.to_usize() {
            self.check_features(features)?;
        }
        Ok(rows)
    }

    /// Calls `each` with every row's similarities, by support vector.
    fn for_each_row(&self, input: &Tensor, mut each: impl FnMut(&[f32])) -> TractResult<()> {
        let (_, features) = rows::dims(input)?;
        self.check_features(features).map_err(BadShape::of)?;
        let data = rows::floats(input)?;
        let count = self.vectors.targets();
        let block = (BLOCK_NUMBERS / count).max(1);
        let mut similarities = vec![0.0; count * block.min(data.len() / features)];
        for rows in data.chunks(block * features) {
            let similarities = &mut similarities[..rows.len() / features * count];
            self.vectors.sums(self.function.measure(), rows, similarities);
            self.function.apply(similarities);
            similarities.chunks_exact(count).for_each(&mut each);
        }
        Ok(())
    }
}
