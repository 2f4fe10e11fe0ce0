//! `FeatureVectorizer`: several inputs side by side in one row.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::attributes::Attributes;
use super::kernel::{Built, Fact, Kernel, built};
use super::rows;

/// Columns of all inputs together; far beyond any table.
const COLUMNS_MAX: usize = 1 << 24;

/// How many columns each input gets: what it has more is left out, what it
/// has less is zero.
#[derive(Debug)]
struct FeatureVectorizer {
    widths: Vec<usize>,
    total: usize,
}

pub(super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes::new(node, &["inputdimensions"])?;
    let widths = attributes.ints("inputdimensions")?;
    ensure!(
        widths.len() == node.input.len() && !widths.is_empty(),
        "\"inputdimensions\" has {}, but there are {} inputs",
        widths.len(),
        node.input.len()
    );
    let width = |&width: &i64| usize::try_from(width).context("\"inputdimensions\" is negative");
    let widths = widths.iter().map(width).collect::<TractResult<Vec<usize>>>()?;
    let total = widths.iter().try_fold(0_usize, |sum, &width| sum.checked_add(width));
    let total = total.filter(|&total| total <= COLUMNS_MAX);
    let total = total.with_context(|| format!("more than {COLUMNS_MAX} columns"))?;
    built(FeatureVectorizer { widths, total })
}

impl Kernel for FeatureVectorizer {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.FeatureVectorizer"
    }

    fn input_count(&self) -> usize {
        self.widths.len()
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        for input in inputs {
            rows::number(input.datatype)?;
            ensure!(!input.shape.is_empty(), "expected rows, got a scalar");
        }
        let rows = match &*inputs[0].shape {
            [_] => 1.to_dim(),
            shape => shape[0].clone(),
        };
        Ok(tvec![Fact::new(DatumType::F32, [rows, self.total.to_dim()])])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let count = |tensor: &Tensor| match tensor.shape() {
            [_] => 1,
            shape => shape[0],
        };
        let rows = count(inputs[0]);
        let vectors = rows::filled(&[rows, self.total], |out| {
            let mut first = 0;
            for (i, (input, &width)) in inputs.iter().zip(&self.widths).enumerate() {
                let got = count(input);
                ensure!(got == rows, "input 0 has {rows} rows, input {i} has {got}");
                let own = input.len().checked_div(rows).unwrap_or(0);
                let numbers = rows::floats(input)?;
                let copied = own.min(width);
                if copied > 0 {
                    let rows = numbers.chunks_exact(own).zip(out.chunks_exact_mut(self.total));
                    for (row, out) in rows {
                        out[first..first + copied].copy_from_slice(&row[..copied]);
                    }
                }
                first += width;
            }
            Ok(())
        })?;
        Ok(tvec![vectors])
    }
}
