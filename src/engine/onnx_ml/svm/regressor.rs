//! `SVMRegressor`, which also tells outliers (`one_class`).

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::attributes::Attributes;
use super::super::dense::dot;
use super::super::kernel::{Built, Fact, Kernel, built};
use super::super::post_transform::PostTransform;
use super::super::rows;
use super::Support;

#[derive(Debug)]
struct SvmRegressor {
    support: Support,
    /// One per support vector; none where the vector itself is the answer.
    coefficients: Option<Vec<f32>>,
    rho: f32,
    /// Whether the answer is 1 (inside) or −1.
    one_class: bool,
}

pub(in super::super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes::new(
        node,
        &[
            "coefficients",
            "kernel_params",
            "kernel_type",
            "n_supports",
            "one_class",
            "post_transform",
            "rho",
            "support_vectors",
        ],
    )?;
    // onnxruntime reads the transform and never applies it.
    PostTransform::read(&attributes)?;
    let count = usize::try_from(attributes.int("n_supports", 0)?)
        .context("attribute \"n_supports\" is negative")?;
    let (support, coefficients) = if count > 0 {
        let coefficients = attributes.floats("coefficients")?.to_vec();
        ensure!(
            coefficients.len() == count,
            "{} coefficients for {count} support vectors",
            coefficients.len()
        );
        (Support::read(&attributes, count)?, Some(coefficients))
    } else {
        (Support::linear(&attributes, 1)?, None)
    };
    let rho = *attributes.floats("rho")?.first().context("\"rho\" is missing")?;
    let one_class = attributes.int("one_class", 0)? != 0;
    built(SvmRegressor { support, coefficients, rho, one_class })
}

impl SvmRegressor {
    #[expect(clippy::cast_possible_truncation, reason = "the output is FP32")]
    fn answer(&self, similarities: &[f32]) -> f32 {
        let sum = match &self.coefficients {
            Some(coefficients) => dot(similarities, coefficients),
            None => similarities[0].into(),
        };
        let answer = (sum + f64::from(self.rho)) as f32;
        match self.one_class {
            true if answer > 0.0 => 1.0,
            true => -1.0,
            false => answer,
        }
    }
}

impl Kernel for SvmRegressor {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.SVMRegressor"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let rows = self.support.rows(&inputs[0])?;
        Ok(tvec![Fact::new(DatumType::F32, [rows, 1.to_dim()])])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let (rows, _) = rows::dims(inputs[0])?;
        let mut answers = Vec::with_capacity(rows);
        self.support.for_each_row(inputs[0], |row| answers.push(self.answer(row)))?;
        Ok(tvec![rows::matrix(rows, 1, &answers)?])
    }
}
