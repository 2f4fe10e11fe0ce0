//! What a version takes and gives.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::types::{Datatype, Tensor};

/// One dimension of a declared shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Always this size.
    Fixed(usize),
    /// Any size; equal names mean equal sizes within one request.
    Symbol(String),
    /// Any size, unrelated to the others.
    Any,
}

impl Dim {
    /// The protocol's number: the size, or −1 when it may vary.
    #[must_use]
    pub fn wire(&self) -> i64 {
        match self {
            Self::Fixed(n) => i64::try_from(*n).unwrap_or(i64::MAX),
            Self::Symbol(_) | Self::Any => -1,
        }
    }
}

/// One input or output: name, datatype and shape, and what the artifact says
/// of its meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name in the graph.
    pub name: String,
    /// The element type.
    pub datatype: Datatype,
    /// The dimensions.
    pub shape: Vec<Dim>,
    /// What the author wrote about it; often empty.
    pub doc: String,
    /// The names of the last dimension's entries, in order, where the artifact
    /// declares them: the classes of a classifier's probabilities (ZipMap's
    /// keys). Empty elsewhere.
    pub classes: Arc<[String]>,
}

impl TensorSpec {
    /// A tensor without documentation.
    #[must_use]
    pub fn new(name: impl Into<String>, datatype: Datatype, shape: Vec<Dim>) -> Self {
        Self { name: name.into(), datatype, shape, doc: String::new(), classes: Arc::default() }
    }

    /// The shape as the protocols write it: −1 for a dimension that may vary.
    #[must_use]
    pub fn wire_shape(&self) -> Vec<i64> {
        self.shape.iter().map(Dim::wire).collect()
    }

    /// Whether the first dimension may vary.
    #[must_use]
    pub fn is_batched(&self) -> bool {
        matches!(self.shape.first(), Some(Dim::Symbol(_) | Dim::Any))
    }

    /// How many columns its rows have: 1 of a value per row. `None` where rows are no rows
    /// of columns, or nobody knows of how many.
    #[must_use]
    pub fn columns(&self) -> Option<usize> {
        match self.shape[..] {
            [_] => Some(1),
            [_, Dim::Fixed(width)] => Some(width),
            _ => None,
        }
    }

    /// Checks a tensor's datatype and shape.
    pub fn check(&self, tensor: &Tensor) -> Result<()> {
        if tensor.datatype() != self.datatype {
            return Err(Error::invalid(format!(
                "input {:?}: expected datatype {}, got {}",
                self.name,
                self.datatype,
                tensor.datatype()
            )));
        }
        let fits = |(dim, &size): (&Dim, &usize)| !matches!(dim, Dim::Fixed(n) if *n != size);
        let rank = tensor.shape().len() == self.shape.len();
        if rank && self.shape.iter().zip(tensor.shape()).all(fits) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "input {:?}: expected shape {:?}, got {:?}",
            self.name,
            self.wire_shape(),
            tensor.shape()
        )))
    }
}

/// What an artifact says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Docs {
    /// The author's description of the model, or of its graph.
    pub description: String,
    /// The program that wrote the artifact, with its version.
    pub producer: String,
    /// Free properties (`metadata_props`), in the artifact's order.
    pub properties: Vec<(String, String)>,
}

/// All inputs and outputs of a version, in the graph's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// What must be sent.
    pub inputs: Vec<TensorSpec>,
    /// What comes back.
    pub outputs: Vec<TensorSpec>,
    /// What the artifact says of itself.
    pub docs: Docs,
}

impl Signature {
    /// A signature without documentation.
    #[must_use]
    pub fn new(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Self {
        Self { inputs, outputs, docs: Docs::default() }
    }

    /// The input with this name.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<&TensorSpec> {
        self.inputs.iter().find(|spec| spec.name == name)
    }

    /// Checks tensors that are in the graph's order already.
    pub fn check(&self, tensors: &[Tensor]) -> Result<()> {
        if !self.is_in_order(tensors) {
            let got: Vec<_> = tensors.iter().map(Tensor::name).collect();
            return Err(Error::invalid(format!(
                "expected the inputs {}, got {got:?}",
                Names(&self.inputs)
            )));
        }
        self.check_all(tensors)
    }

    fn is_in_order(&self, tensors: &[Tensor]) -> bool {
        self.inputs.len() == tensors.len()
            && self.inputs.iter().zip(tensors).all(|(spec, tensor)| spec.name == tensor.name())
    }

    /// Checks tensors that are in the graph's order.
    fn check_all(&self, tensors: &[Tensor]) -> Result<()> {
        self.inputs.iter().zip(tensors).try_for_each(|(spec, tensor)| spec.check(tensor))?;
        self.check_symbols(tensors)
    }

    /// Checks a request's tensors and puts them into the graph's order.
    pub fn arrange(&self, mut tensors: Vec<Tensor>) -> Result<Vec<Tensor>> {
        if self.is_in_order(&tensors) {
            self.check_all(&tensors)?;
            return Ok(tensors);
        }
        let mut arranged = Vec::with_capacity(self.inputs.len());
        for spec in &self.inputs {
            let Some(at) = tensors.iter().position(|t| t.name() == spec.name) else {
                return Err(Error::invalid(format!(
                    "input {:?} is missing; this model takes {}",
                    spec.name,
                    Names(&self.inputs)
                )));
            };
            spec.check(&tensors[at])?;
            arranged.push(tensors.swap_remove(at));
        }
        if let Some(extra) = tensors.first() {
            let twice = self.input(extra.name()).is_some();
            let what = if twice { "is given twice" } else { "is unknown" };
            return Err(Error::invalid(format!(
                "input {:?} {what}; this model takes {}",
                extra.name(),
                Names(&self.inputs)
            )));
        }
        self.check_symbols(&arranged)?;
        Ok(arranged)
    }

    /// Equal symbols must have equal sizes within one request.
    fn check_symbols(&self, arranged: &[Tensor]) -> Result<()> {
        let symbols = self.inputs.iter().flat_map(|spec| &spec.shape);
        if symbols.filter(|dim| matches!(dim, Dim::Symbol(_))).nth(1).is_none() {
            return Ok(());
        }
        let mut seen: Vec<(&str, usize, &str)> = Vec::new();
        for (spec, tensor) in self.inputs.iter().zip(arranged) {
            for (dim, &size) in spec.shape.iter().zip(tensor.shape()) {
                let Dim::Symbol(symbol) = dim else { continue };
                match seen.iter().find(|(s, ..)| s == symbol) {
                    None => seen.push((symbol, size, &spec.name)),
                    Some(&(_, first, _)) if first == size => {}
                    Some(&(_, first, name)) => {
                        return Err(Error::invalid(format!(
                            "dimension {symbol:?} is {first} in input {name:?} and {size} in input {:?}",
                            spec.name
                        )));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Lists names for an error message.
struct Names<'a>(&'a [TensorSpec]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, spec) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{:?} {} {:?}", spec.name, spec.datatype, spec.wire_shape())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Data;

    fn tensor(name: &str, shape: &[usize]) -> Tensor {
        let len = shape.iter().product();
        Tensor::new(name, shape.to_vec(), Data::zeros(Datatype::Fp32, len)).unwrap()
    }

    fn two_inputs() -> Signature {
        let spec = |name: &str, width| {
            TensorSpec::new(name, Datatype::Fp32, vec![Dim::Symbol("N".into()), Dim::Fixed(width)])
        };
        Signature::new(vec![spec("a", 2), spec("b", 3)], vec![])
    }

    #[test]
    fn tensors_come_out_in_the_graphs_order() {
        let got = two_inputs().arrange(vec![tensor("b", &[4, 3]), tensor("a", &[4, 2])]).unwrap();
        assert_eq!(got.iter().map(Tensor::name).collect::<Vec<_>>(), ["a", "b"]);
        assert!(two_inputs().check(&got).is_ok());
    }

    #[test]
    fn what_is_in_order_must_fit_all_the_same() {
        for tensors in [
            vec![tensor("a", &[1, 2])],
            vec![tensor("b", &[1, 3]), tensor("a", &[1, 2])],
            vec![tensor("a", &[1, 2]), tensor("b", &[1, 2])],
            vec![tensor("a", &[1, 2]), tensor("b", &[2, 3])],
        ] {
            assert!(two_inputs().check(&tensors).is_err(), "{tensors:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let cases: [(Vec<Tensor>, &str); 5] = [
            (vec![tensor("a", &[1, 2])], "input \"b\" is missing"),
            (
                vec![tensor("a", &[1, 5]), tensor("b", &[1, 3])],
                "expected shape [-1, 2], got [1, 5]",
            ),
            (
                vec![tensor("a", &[1, 2]), tensor("b", &[1, 3]), tensor("c", &[1])],
                "input \"c\" is unknown",
            ),
            (
                vec![tensor("a", &[1, 2]), tensor("b", &[1, 3]), tensor("a", &[1, 2])],
                "input \"a\" is given twice",
            ),
            (vec![tensor("a", &[1, 2]), tensor("b", &[2, 3])], "dimension \"N\" is 1"),
        ];
        for (tensors, expected) in cases {
            let error = two_inputs().arrange(tensors).unwrap_err();
            assert!(error.message().contains(expected), "{error}");
        }
    }
}
