//! Which sizes the inputs leave open, and which of them are one and the same.

use std::collections::HashMap;

use crate::engine::{EngineError, EngineErrorKind};
use crate::types::{Dim, Signature, Tensor, TensorSpec};

/// The shapes of all inputs.
pub(in crate::engine::tract) type Shapes = Vec<Vec<usize>>;

/// One dimension of a shape that a plan is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Size {
    /// Of this size.
    Is(usize),
    /// Open: the dimension of this number.
    Open(usize),
}

/// Which open dimensions are taken for one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Equal {
    /// Those with equal names, and the unnamed first ones: the batch.
    Names,
    /// Those on one axis of different inputs: some exporters give each a name
    /// of its own.
    Axes,
}

/// The open dimensions of a signature, numbered as they come.
#[derive(Debug)]
pub(super) struct Dims {
    /// For each input and axis: which open dimension it is.
    inputs: Vec<Vec<Option<usize>>>,
    count: usize,
    repeats: bool,
}

impl Dims {
    pub(super) fn of(signature: &Signature, equal: Equal) -> Self {
        let mut known: HashMap<(Option<&str>, usize, usize), usize> = HashMap::new();
        let mut inputs = Vec::new();
        for (i, spec) in signature.inputs.iter().enumerate() {
            let mut axes = Vec::new();
            for (axis, dim) in spec.shape.iter().enumerate() {
                let key = match dim {
                    Dim::Fixed(_) => None,
                    _ if equal == Equal::Axes => Some((None, 0, axis)),
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
    pub(super) fn names(&self, signature: &Signature) -> Vec<Dim> {
        let mut names = vec![Dim::Any; self.count];
        for (spec, axes) in signature.inputs.iter().zip(&self.inputs) {
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

    /// The inputs' shapes, with these for the open dimensions.
    pub(super) fn shapes(
        &self,
        signature: &Signature,
        size: impl Fn(usize) -> Size,
    ) -> Vec<Vec<Size>> {
        let one = |(dim, open): (&Dim, &Option<usize>)| match (dim, open) {
            (Dim::Fixed(n), _) => Size::Is(*n),
            (_, Some(open)) => size(*open),
            (_, None) => Size::Is(1),
        };
        let shape = |(spec, axes): (&TensorSpec, &Vec<Option<usize>>)| {
            spec.shape.iter().zip(axes).map(one).collect()
        };
        signature.inputs.iter().zip(&self.inputs).map(shape).collect()
    }

    /// The inputs' shapes, with these sizes for the open dimensions.
    pub(super) fn sizes(&self, signature: &Signature, size: impl Fn(usize) -> usize) -> Shapes {
        let whole = |size: Size| match size {
            Size::Is(n) | Size::Open(n) => n,
        };
        let shapes = self.shapes(signature, |open| Size::Is(size(open)));
        shapes.into_iter().map(|shape| shape.into_iter().map(whole).collect()).collect()
    }
}

/// Shapes that leave nothing open.
pub(super) fn concrete(shapes: &Shapes) -> Vec<Vec<Size>> {
    shapes.iter().map(|shape| shape.iter().copied().map(Size::Is).collect()).collect()
}

/// The shapes of these.
pub(super) fn shapes_of(inputs: &[Tensor]) -> Shapes {
    inputs.iter().map(|input| input.shape().to_vec()).collect()
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
    use crate::types::{Data, Datatype};

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
        type Case<'a> = (&'a [&'a [Dim]], usize, Option<usize>);
        let cases: [Case; 7] = [
            (&[&[Dim::Fixed(2)]], 0, None),
            (&[&[n.clone(), s.clone()], &[n.clone(), s.clone()]], 2, Some(0)),
            (&[&[Dim::Any, Dim::Any], &[Dim::Any, Dim::Any]], 3, Some(0)),
            (&[&[n.clone(), n.clone()]], 1, None),
            (&[std::slice::from_ref(&n), std::slice::from_ref(&s)], 2, None),
            (&[std::slice::from_ref(&n), &[Dim::Fixed(1), n.clone()]], 1, None),
            (&[&[Dim::Fixed(1), s.clone()]], 1, None),
        ];
        for (inputs, count, batch) in cases {
            let dims = Dims::of(&signature(inputs), Equal::Names);
            assert_eq!((dims.count(), dims.batch()), (count, batch), "{inputs:?}");
        }
    }

    #[test]
    fn dimensions_on_one_axis_may_be_taken_for_one() {
        let own = |names: [&str; 2]| names.map(named);
        let signature = signature(&[&own(["a", "b"]), &own(["c", "d"]), &[named("e")]]);
        assert_eq!(Dims::of(&signature, Equal::Names).count(), 5);
        let dims = Dims::of(&signature, Equal::Axes);
        assert_eq!((dims.count(), dims.batch()), (2, Some(0)));
    }

    #[test]
    fn sizes_are_read_and_put_back() {
        let signature = signature(&[&[named("N"), named("S")], &[named("N"), Dim::Fixed(3)]]);
        let dims = Dims::of(&signature, Equal::Names);
        let inputs = [zeros("0", &[4, 7]), zeros("1", &[4, 3])];
        let values = dims.values(&signature, &inputs).unwrap();
        assert_eq!(values, [4, 7]);
        let size = |open| if open == 0 { Size::Open(0) } else { Size::Is(values[open]) };
        let expected = [[Size::Open(0), Size::Is(7)], [Size::Open(0), Size::Is(3)]];
        assert_eq!(dims.shapes(&signature, size), expected);
        let wrong = [zeros("0", &[4, 7]), zeros("1", &[5, 3])];
        let error = dims.values(&signature, &wrong).unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::BadInput);
        assert!(
            error.message.contains("\"0\" has the size 4, and axis 0 of input \"1\" has 5"),
            "{error}"
        );
    }
}
