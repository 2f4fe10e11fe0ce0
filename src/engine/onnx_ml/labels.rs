//! Class labels: whole numbers or strings.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::attributes::Attributes;

/// The labels of a classifier, by class.
#[derive(Clone, Debug)]
pub(super) enum Labels {
    /// INT64.
    Ints(Vec<i64>),
    /// BYTES.
    Strings(Vec<String>),
}

impl Labels {
    /// Reads them; exactly one of the two attributes must be given.
    pub(super) fn read(attributes: &Attributes, ints: &str, strings: &str) -> TractResult<Self> {
        let numbers = attributes.ints(ints)?;
        let texts = attributes.strings(strings)?;
        match (numbers.is_empty(), texts.is_empty()) {
            (false, true) => Ok(Self::Ints(numbers.to_vec())),
            (true, false) => Ok(Self::Strings(texts.into_iter().map(str::to_owned).collect())),
            _ => bail!("expected exactly one of {ints:?} and {strings:?}"),
        }
    }

    /// How many classes.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Ints(labels) => labels.len(),
            Self::Strings(labels) => labels.len(),
        }
    }

    /// The datatype of the label output.
    pub(super) fn datatype(&self) -> DatumType {
        match self {
            Self::Ints(_) => DatumType::I64,
            Self::Strings(_) => DatumType::String,
        }
    }

    /// One label per class index.
    pub(super) fn pick(&self, classes: &[usize]) -> TractResult<Tensor> {
        let known = classes.iter().all(|&class| class < self.len());
        ensure!(known, "a class without a label");
        Ok(match self {
            Self::Ints(labels) => tensor1(&classes.iter().map(|&c| labels[c]).collect::<Vec<_>>()),
            Self::Strings(labels) => {
                tensor1(&classes.iter().map(|&c| labels[c].clone()).collect::<Vec<_>>())
            }
        })
    }
}
