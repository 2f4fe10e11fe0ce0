//! Which sizes the inputs leave open, and which of them are one and the same.

use std::collections::HashMap;

use crate::engine::{EngineError, EngineErrorKind};
use crate::types::{Dim, Signature, Tensor};

/// The shapes of all inputs.
pub(in crate::engine::tract) type Shapes = Vec<Vec<usize>>;

/// The open dimensions of a signature. Equal names are one; unnamed first
/// dimensions are one, the batch; each other unnamed one is its own. They are
/// numbered as they come, as the rewritten file names them.
#[derive(Debug)]
pub(super) struct Dims {
    /// For each input and axis: which open dimension it is.
    inputs: Vec<Vec<Option<usize>>>,
    count: usize,
    repeats: bool,
}

impl Dims {
    pub(super) fn of(signature: &Signature) -> Self {
        let mut known: HashMap<(Option<&str>, usize, usize), usize> = HashMap::new();
        let mut inputs = Vec::new();
        for (i, spec) in signature.inputs.iter().enumerate() {
            let mut axes = Vec::new();
            for (axis, dim) in spec.shape.iter().enumerate() {
                let key = match dim {
                    Dim::Fixed(_) => None,
                    Dim::Symbol(name) => Some((Some(name.as_str()), 0, 0)),
                    Dim::Any if axis == 0 => Some((None, 0, 0)),
                    Dim::Any => Some((None, i, axis)),
                };
                let next = known.len();
                axes.push(key.map(|key| *known.entry(key).or_insert(next)));
            }
            inputs.push(axes);
        }
        let occurrences = inputs.iter().flatten().filter(|d: &&Option<usize>| d.is_some()).count();
        Self { inputs, count: known.len(), repeats: occurrences > known.len() }
    }

    /// Each one's name, in their order.
    pub(super) fn names(signature: &Signature) -> Vec<Dim> {
        let dims = Self::of(signature);
        let mut names = vec![Dim::Any; dims.count];
        for (spec, axes) in signature.inputs.iter().zip(&dims.inputs) {
            for (dim, open) in spec.shape.iter().zip(axes) {
                if let Some(open) = *open {
                    names[open] = dim.clone();
                }
            }
        }
        names
    }

    /// Whether one of them occurs more than once, so that inputs may disagree.
    pub(super) const fn repeats(&self) -> bool {
        self.repeats
    }

    /// How many different ones there are.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// The one that is every input's first, and nothing else.
    pub(super) fn batch(&self) -> Option<usize> {
        let first = (*self.inputs.first()?.first()?)?;
        let batched = |axes: &Vec<Option<usize>>| axes.first() == Some(&Some(first));
        let elsewhere =
            self.inputs.iter().any(|axes| axes.iter().skip(1).any(|d| *d == Some(first)));
        (self.inputs.iter().all(batched) && !elsewhere).then_some(first)
    }

    /// The sizes that these inputs give the open dimensions.
    ///
    /// # Errors
    /// Two inputs give one dimension different sizes.
    pub(super) fn values(
        &self,
        signature: &Signature,
        inputs: &[Tensor],
    ) -> Result<Vec<usize>, EngineError> {
        let mut values: Vec<Option<(usize, usize, usize)>> = vec![None; self.count];
        for (i, (axes, input)) in self.inputs.iter().zip(inputs).enumerate() {
            for (axis, (open, &size)) in axes.iter().zip(input.shape()).enumerate() {
                let Some(open) = *open else { continue };
                match values[open] {
                    None => values[open] = Some((size, i, axis)),
                    Some((known, ..)) if known == size => {}
                    Some((known, j, other)) => {
                        let name = |i: usize| &signature.inputs[i].name;
                        let message = format!(
                            "axis {other} of input {:?} has the size {known}, and axis {axis} of \
                             input {:?} has {size}: expected the same",
                            name(j),
                            name(i),
                        );
                        return Err(EngineError::new(EngineErrorKind::BadInput, message));
                    }
                }
            }
        }
        Ok(values.into_iter().map(|value| value.map_or(0, |(size, ..)| size)).collect())
    }

    /// The inputs' shapes when the open dimensions have these sizes; `None`
    /// stays open.
    pub(super) fn shapes(
        &self,
        signature: &Signature,
        values: impl Fn(usize) -> Option<usize>,
    ) -> Vec<Vec<Option<usize>>> {
        let size = |(dim, open): (&Dim, &Option<usize>)| match (dim, open) {
            (Dim::Fixed(n), _) => Some(*n),
            (_, Some(open)) => values(*open),
            (_, None) => None,
        };
        let shape = |(spec, axes): (&crate::types::TensorSpec, &Vec<Option<usize>>)| {
            spec.shape.iter().zip(axes).map(size).collect()
        };
        signature.inputs.iter().zip(&self.inputs).map(shape).collect()
    }
}

/// Shapes that leave nothing open.
pub(super) fn concrete(shapes: &Shapes) -> Vec<Vec<Option<usize>>> {
    shapes.iter().map(|shape| shape.iter().copied().map(Some).collect()).collect()
}

/// Shapes with every open dimension set to `size`.
pub(super) fn all_of(signature: &Signature, size: usize) -> Shapes {
    let fill = |dim: &Dim| match dim {
        Dim::Fixed(n) => *n,
        Dim::Symbol(_) | Dim::Any => size,
    };
    signature.inputs.iter().map(|spec| spec.shape.iter().map(fill).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Data, Datatype, TensorSpec};

    fn named(name: &str) -> Dim {
        Dim::Symbol(name.into())
    }

    fn signature(inputs: &[&[Dim]]) -> Signature {
        let spec = |(i, shape): (usize, &&[Dim])| {
            TensorSpec::new(i.to_string(), Datatype::Fp32, shape.to_vec())
        };
        Signature::new(inputs.iter().enumerate().map(spec).collect(), vec![])
    }

    fn zeros(name: &str, shape: &[usize]) -> Tensor {
        let len = shape.iter().product();
        Tensor::new(name, shape.to_vec(), Data::zeros(Datatype::Fp32, len)).unwrap()
    }

    #[test]
    fn equal_names_and_unnamed_batches_are_one() {
        let (n, s) = (named("N"), named("S"));
        let cases: [(&[&[Dim]], usize, Option<usize>); 7] = [
            (&[&[Dim::Fixed(2)]], 0, None),
            (&[&[n.clone(), s.clone()], &[n.clone(), s.clone()]], 2, Some(0)),
            (&[&[Dim::Any, Dim::Any], &[Dim::Any, Dim::Any]], 3, Some(0)),
            (&[&[n.clone(), n.clone()]], 1, None),
            (&[&[n.clone()], &[s.clone()]], 2, None),
            (&[&[n.clone()], &[Dim::Fixed(1), n.clone()]], 1, None),
            (&[&[Dim::Fixed(1), s.clone()]], 1, None),
        ];
        for (inputs, count, batch) in cases {
            let dims = Dims::of(&signature(inputs));
            assert_eq!((dims.count(), dims.batch()), (count, batch), "{inputs:?}");
        }
    }

    #[test]
    fn sizes_are_read_and_put_back() {
        let signature = signature(&[&[named("N"), named("S")], &[named("N"), Dim::Fixed(3)]]);
        let dims = Dims::of(&signature);
        let inputs = [zeros("0", &[4, 7]), zeros("1", &[4, 3])];
        let values = dims.values(&signature, &inputs).unwrap();
        assert_eq!(values, [4, 7]);
        let open_batch = dims.shapes(&signature, |d| (d != 0).then(|| values[d]));
        assert_eq!(open_batch, [[None, Some(7)], [None, Some(3)]]);
        let wrong = [zeros("0", &[4, 7]), zeros("1", &[5, 3])];
        let error = dims.values(&signature, &wrong).unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::BadInput);
        assert!(
            error.message.contains("\"0\" has the size 4, and axis 0 of input \"1\" has 5"),
            "{error}"
        );
    }
}
