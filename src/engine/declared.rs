//! A graph as its owner declares it: narrower dimensions, other shapes of the
//! same elements, fewer outputs, names of classes.
//!
//! What the declarations do not change costs nothing: where no shape differs
//! and no output is left out, the graph's own sessions run.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{EngineError, EngineErrorKind, Model, Operator, Session};
use crate::types::{Declared, DeclaredTensor, Dim, PlanFigures, Signature, Tensor, TensorSpec};

/// The graph as it is declared; as it is, where nothing is.
///
/// # Errors
/// The declarations contradict the graph; the message says where.
pub fn declare(
    graph: Arc<dyn Model>,
    declared: Option<&Declared>,
) -> Result<Arc<dyn Model>, EngineError> {
    let Some(declared) = declared else { return Ok(graph) };
    let contradiction = |why: String| {
        EngineError::new(EngineErrorKind::Unsupported, format!("config.pbtxt: {why}"))
    };
    let own = graph.signature();
    let batched = declared.batched.unwrap_or_else(|| has_rows(own));
    let inputs = inputs(&own.inputs, &declared.inputs, batched).map_err(contradiction)?;
    let outputs = outputs(&own.outputs, &declared.outputs, batched).map_err(contradiction)?;
    let specs = |sides: &[Side]| -> Vec<_> { sides.iter().map(|side| side.spec.clone()).collect() };
    let signature =
        Signature { inputs: specs(&inputs), outputs: specs(&outputs), docs: own.docs.clone() };
    let unchanged = |sides: &[Side], len: usize| {
        sides.len() == len && sides.iter().all(|side| side.reshape.is_none())
    };
    let plain = Plain {
        inputs: unchanged(&inputs, own.inputs.len()),
        outputs: unchanged(&outputs, own.outputs.len()),
    };
    let forms = Arc::new(Forms { batched, inputs, outputs, plain });
    Ok(Arc::new(DeclaredModel { graph, signature, forms }))
}

/// Whether the first dimension of every tensor may vary: then it is the row.
fn has_rows(signature: &Signature) -> bool {
    signature.inputs.iter().chain(&signature.outputs).all(TensorSpec::is_batched)
}

/// One input or output.
struct Side {
    /// As clients see it.
    spec: TensorSpec,
    /// Its place among the graph's own.
    place: usize,
    reshape: Option<Reshape>,
}

/// Two shapes of the same elements, the rows apart.
struct Reshape {
    outer: Vec<usize>,
    inner: Vec<usize>,
}

/// Which side needs no work.
#[derive(Clone, Copy)]
struct Plain {
    inputs: bool,
    outputs: bool,
}

struct Forms {
    batched: bool,
    inputs: Vec<Side>,
    outputs: Vec<Side>,
    plain: Plain,
}

/// What is declared, by name; the error names what the graph does not have.
fn by_name<'a>(
    kind: &str,
    own: &[TensorSpec],
    declared: &'a [DeclaredTensor],
) -> Result<HashMap<&'a str, &'a DeclaredTensor>, String> {
    let known: HashSet<_> = own.iter().map(|spec| spec.name.as_str()).collect();
    if let Some(extra) = declared.iter().find(|tensor| !known.contains(&*tensor.name)) {
        let verb = if kind == "input" { "takes" } else { "gives" };
        let (name, names) = (&extra.name, names(own));
        return Err(format!("{kind} {name:?} is declared, the model {verb} {names}"));
    }
    Ok(declared.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect())
}

fn inputs(
    own: &[TensorSpec],
    declared: &[DeclaredTensor],
    batched: bool,
) -> Result<Vec<Side>, String> {
    let declared = by_name("input", own, declared)?;
    let side = |(place, spec): (usize, &TensorSpec)| match declared.get(&*spec.name) {
        Some(tensor) => side("input", place, spec, tensor, batched),
        None if declared.is_empty() => Ok(complete(place, spec, batched)),
        None => Err(format!("input {:?} of the model is not declared", spec.name)),
    };
    own.iter().enumerate().map(side).collect()
}

/// Those that are declared, in the graph's order.
fn outputs(
    own: &[TensorSpec],
    declared: &[DeclaredTensor],
    batched: bool,
) -> Result<Vec<Side>, String> {
    let declared = by_name("output", own, declared)?;
    let side = |(place, spec): (usize, &TensorSpec)| match declared.get(&*spec.name) {
        Some(tensor) => Some(side("output", place, spec, tensor, batched)),
        None => declared.is_empty().then(|| Ok(complete(place, spec, batched))),
    };
    own.iter().enumerate().filter_map(side).collect()
}

/// What is not declared and has rows only gets a dimension of one, as Triton
/// completes it.
fn complete(place: usize, spec: &TensorSpec, batched: bool) -> Side {
    let mut spec = spec.clone();
    let alone = batched && spec.shape.len() == 1 && spec.is_batched();
    if alone {
        spec.shape.push(Dim::Fixed(1));
    }
    let reshape = alone.then(|| Reshape { outer: vec![1], inner: vec![] });
    Side { spec, place, reshape }
}

fn side(
    kind: &str,
    place: usize,
    spec: &TensorSpec,
    tensor: &DeclaredTensor,
    batched: bool,
) -> Result<Side, String> {
    let name = &spec.name;
    if tensor.datatype != spec.datatype {
        let (declared, own) = (tensor.datatype, spec.datatype);
        return Err(format!("{kind} {name:?} is declared as {declared}, the model has {own}"));
    }
    let fixed: Option<Vec<_>> =
        tensor.reshape.as_ref().map(|inner| inner.iter().map(|n| Some(*n)).collect());
    if !batched && spec.shape.is_empty() && !tensor.dims.is_empty() && fixed.is_none() {
        // A scalar: a shape of ones stands for it, as there is no empty one.
        if tensor.dims.iter().all(|dim| *dim == Some(1)) {
            let ones = DeclaredTensor { reshape: Some(vec![]), ..tensor.clone() };
            return side(kind, place, spec, &ones, batched);
        }
    }
    // An engine that cannot tell an output's shape leaves it out.
    let inner_len = fixed.as_ref().map_or(tensor.dims.len(), Vec::len);
    let unknown = kind == "output" && spec.shape.is_empty() && (batched || inner_len > 0);
    let row = if unknown { Dim::Any } else { row(kind, spec, batched)? };
    let rows = usize::from(batched);
    let inner = fixed.as_ref().unwrap_or(&tensor.dims);
    if !unknown {
        let own = &spec.shape[rows.min(spec.shape.len())..];
        let fits = own.len() == inner.len() && own.iter().zip(inner).all(|(own, n)| fits(own, *n));
        if !fits {
            return Err(contradicts(kind, spec, inner, batched));
        }
    }
    let dim = |(i, declared): (usize, &Option<usize>)| match declared {
        Some(size) => Dim::Fixed(*size),
        None => spec.shape.get(rows + i).cloned().unwrap_or(Dim::Any),
    };
    let shape = batched.then_some(row).into_iter().chain(tensor.dims.iter().enumerate().map(dim));
    let mut spec = TensorSpec { shape: shape.collect(), ..spec.clone() };
    if let Some(classes) = tensor.classes_of(&spec) {
        spec.classes = classes.into();
    }
    let outer = tensor.dims.iter().map(|dim| dim.unwrap_or(1)).collect();
    let reshape = tensor.reshape.clone().map(|inner| Reshape { outer, inner });
    Ok(Side { spec, place, reshape })
}

/// The first dimension, where it is the row.
fn row(kind: &str, spec: &TensorSpec, batched: bool) -> Result<Dim, String> {
    match spec.shape.first() {
        Some(dim @ (Dim::Symbol(_) | Dim::Any)) => Ok(dim.clone()),
        _ if !batched => Ok(Dim::Any),
        _ => Err(format!(
            "max_batch_size says that the first dimension is the row, {kind} {:?} of the model \
             has the shape {:?}; expected a first dimension that may vary, or max_batch_size: 0",
            spec.name,
            spec.wire_shape()
        )),
    }
}

/// Whether a dimension of the graph may have this size.
fn fits(own: &Dim, declared: Option<usize>) -> bool {
    match (own, declared) {
        (Dim::Fixed(own), Some(declared)) => *own == declared,
        _ => true,
    }
}

fn contradicts(kind: &str, spec: &TensorSpec, declared: &[Option<usize>], batched: bool) -> String {
    let number = |dim: &Option<usize>| dim.map_or("-1".to_owned(), |n| n.to_string());
    let rows = batched.then(|| "-1".to_owned());
    let shape: Vec<_> = rows.into_iter().chain(declared.iter().map(number)).collect();
    let note = if batched { " (with the rows that max_batch_size stands for)" } else { "" };
    format!(
        "{kind} {:?} is declared as [{}]{note}, the model has {:?}",
        spec.name,
        shape.join(", "),
        spec.wire_shape()
    )
}

fn names(specs: &[TensorSpec]) -> String {
    const SHOWN: usize = 20;
    let names: Vec<_> = specs.iter().take(SHOWN).map(|spec| format!("{:?}", spec.name)).collect();
    let more = if specs.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names.join(", "))
}

struct DeclaredModel {
    graph: Arc<dyn Model>,
    signature: Signature,
    forms: Arc<Forms>,
}

impl Model for DeclaredModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn operators(&self) -> &[Operator] {
        self.graph.operators()
    }

    fn takes_new_shapes(&self) -> bool {
        self.graph.takes_new_shapes()
    }

    fn run_time(&self, inputs: &[Tensor]) -> Option<Duration> {
        if self.forms.plain.inputs {
            return self.graph.run_time(inputs);
        }
        self.graph.run_time(&self.forms.inner(inputs).ok()?)
    }

    fn computed_rows(&self, inputs: &[Tensor], rows: usize) -> Option<usize> {
        if self.forms.plain.inputs {
            return self.graph.computed_rows(inputs, rows);
        }
        self.graph.computed_rows(&self.forms.inner(inputs).ok()?, rows)
    }

    fn trim(&self, idle: Duration) {
        self.graph.trim(idle);
    }

    fn plans(&self) -> PlanFigures {
        self.graph.plans()
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        let session = self.graph.session()?;
        let Plain { inputs, outputs } = self.forms.plain;
        if inputs && outputs {
            return Ok(session);
        }
        Ok(Box::new(DeclaredSession { session, forms: Arc::clone(&self.forms) }))
    }
}

/// Gives the graph its own shapes, and clients theirs.
struct DeclaredSession {
    session: Box<dyn Session>,
    forms: Arc<Forms>,
}

impl Session for DeclaredSession {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let outputs = if self.forms.plain.inputs {
            self.session.run(inputs)?
        } else {
            self.session.run(&self.forms.inner(inputs)?)?
        };
        self.forms.outer(outputs)
    }

    fn run_known(&mut self, inputs: &[Tensor]) -> Result<Option<Vec<Tensor>>, EngineError> {
        let outputs = if self.forms.plain.inputs {
            self.session.run_known(inputs)?
        } else {
            self.session.run_known(&self.forms.inner(inputs)?)?
        };
        outputs.map(|outputs| self.forms.outer(outputs)).transpose()
    }
}

impl Forms {
    /// Copies of the inputs, in the graph's shapes.
    fn inner(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let one = |(side, tensor): (&Side, &Tensor)| match &side.reshape {
            Some(reshape) => self.reshaped(tensor.clone(), &reshape.inner),
            None => Ok(tensor.clone()),
        };
        self.inputs.iter().zip(inputs).map(one).collect()
    }

    /// The outputs that clients may have, in their shapes.
    fn outer(&self, outputs: Vec<Tensor>) -> Result<Vec<Tensor>, EngineError> {
        if self.plain.outputs {
            return Ok(outputs);
        }
        let mut sides = self.outputs.iter().peekable();
        let mut kept = Vec::with_capacity(self.outputs.len());
        for (place, tensor) in outputs.into_iter().enumerate() {
            let Some(side) = sides.next_if(|side| side.place == place) else { continue };
            kept.push(match &side.reshape {
                Some(reshape) => self.reshaped(tensor, &reshape.outer)?,
                None => tensor,
            });
        }
        Ok(kept)
    }

    /// The same elements in another shape, the rows apart.
    fn reshaped(&self, tensor: Tensor, dims: &[usize]) -> Result<Tensor, EngineError> {
        let (name, shape, data) = tensor.into_parts();
        let rows = shape.first().copied().filter(|_| self.batched);
        let shape = rows.into_iter().chain(dims.iter().copied()).collect();
        Tensor::new(name, shape, data).map_err(|error| {
            EngineError::new(EngineErrorKind::Internal, format!("reshape: {}", error.message()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Data, Datatype};

    /// Gives its input `x` back as `label`, a number per row, and as `scores`.
    struct Graph(Signature);
    struct GraphSession;

    impl Model for Graph {
        fn signature(&self) -> &Signature {
            &self.0
        }
        fn session(&self) -> Result<Box<dyn Session>, EngineError> {
            Ok(Box::new(GraphSession))
        }
    }

    impl Session for GraphSession {
        fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
            let [x] = inputs else { panic!("{inputs:?}") };
            let [rows] = x.shape() else { panic!("{inputs:?}") };
            let label = Tensor::new("label", vec![*rows], x.data().clone()).unwrap();
            let mut twice = x.data().clone();
            assert!(twice.append(x.data()));
            Ok(vec![label, Tensor::new("scores", vec![*rows, 2], twice).unwrap()])
        }
    }

    fn n() -> Dim {
        Dim::Symbol("N".into())
    }

    fn graph() -> Arc<dyn Model> {
        let spec = |name: &str, shape| TensorSpec::new(name, Datatype::Fp32, shape);
        let outputs = vec![spec("label", vec![n()]), spec("scores", vec![n(), Dim::Fixed(2)])];
        Arc::new(Graph(Signature::new(vec![spec("x", vec![n()])], outputs)))
    }

    fn tensor(name: &str, dims: &[i64], reshape: Option<&[usize]>) -> DeclaredTensor {
        DeclaredTensor {
            name: name.into(),
            datatype: Datatype::Fp32,
            dims: dims.iter().map(|n| usize::try_from(*n).ok()).collect(),
            reshape: reshape.map(<[usize]>::to_vec),
            label_file: None,
            classes: vec![],
        }
    }

    fn shapes(model: &dyn Model) -> Vec<(String, Vec<i64>)> {
        let signature = model.signature();
        let specs = signature.inputs.iter().chain(&signature.outputs);
        specs.map(|spec| (spec.name.clone(), spec.wire_shape())).collect()
    }

    #[test]
    fn tensors_of_rows_only_get_a_dimension_and_run_in_their_own() {
        let declared = Declared { batched: Some(true), ..Declared::default() };
        let model = declare(graph(), Some(&declared)).unwrap();
        let expected = [("x", vec![-1, 1]), ("label", vec![-1, 1]), ("scores", vec![-1, 2])];
        let expected = expected.map(|(name, shape)| (name.to_owned(), shape));
        assert_eq!(shapes(&*model), expected);
        let x = Tensor::new("x", vec![3, 1], Data::Fp32(vec![1.0, 2.0, 3.0])).unwrap();
        let mut session = model.session().unwrap();
        let outputs = session.run(std::slice::from_ref(&x)).unwrap();
        assert_eq!(outputs[0].shape(), [3, 1]);
        assert_eq!(outputs[0].data(), x.data());
        assert_eq!(outputs[1].shape(), [3, 2]);
        assert_eq!(session.run_known(&[x]).unwrap().unwrap(), outputs);
    }

    #[test]
    fn only_declared_outputs_are_given_away_with_their_classes() {
        let scores = DeclaredTensor {
            classes: ["no", "yes", "more"].map(str::to_owned).to_vec(),
            ..tensor("scores", &[2], None)
        };
        let declared = Declared {
            batched: Some(true),
            inputs: vec![tensor("x", &[1], Some(&[]))],
            outputs: vec![scores],
            ..Declared::default()
        };
        let model = declare(graph(), Some(&declared)).unwrap();
        let [scores] = &model.signature().outputs[..] else { panic!() };
        assert_eq!(scores.classes[..], ["no", "yes"]);
        let x = Tensor::new("x", vec![1, 1], Data::Fp32(vec![1.0])).unwrap();
        let outputs = model.session().unwrap().run(&[x]).unwrap();
        assert_eq!(outputs.len(), 1);
        assert_eq!(outputs[0].name(), "scores");
    }

    #[test]
    fn dimensions_that_may_vary_are_narrowed() {
        let any = TensorSpec::new("x", Datatype::Fp32, vec![n(), Dim::Any, Dim::Any]);
        let graph: Arc<dyn Model> = Arc::new(Graph(Signature::new(vec![any], vec![])));
        let inputs = vec![tensor("x", &[-1, 8], None)];
        let declared = Declared { batched: Some(true), inputs, ..Declared::default() };
        let model = declare(Arc::clone(&graph), Some(&declared)).unwrap();
        assert_eq!(model.signature().inputs[0].shape, [n(), Dim::Any, Dim::Fixed(8)]);
        // Without rows all dimensions are declared.
        let inputs = vec![tensor("x", &[-1, -1, 8], None)];
        let declared = Declared { batched: Some(false), inputs, ..Declared::default() };
        let model = declare(graph, Some(&declared)).unwrap();
        assert_eq!(model.signature().inputs[0].shape, [n(), Dim::Any, Dim::Fixed(8)]);
    }

    #[test]
    fn contradictions_are_told() {
        let with = |batched: bool, inputs: Vec<DeclaredTensor>, outputs: Vec<DeclaredTensor>| {
            let batched = Some(batched);
            let declared = Declared { batched, inputs, outputs, ..Declared::default() };
            declare(graph(), Some(&declared)).err().map(|error| error.message)
        };
        let other = DeclaredTensor { datatype: Datatype::Int64, ..tensor("scores", &[2], None) };
        let cases = [
            (true, vec![tensor("y", &[1], None)], vec![], "input \"y\" is declared, the model"),
            (true, vec![], vec![tensor("y", &[1], None)], "output \"y\" is declared, the model"),
            (true, vec![], vec![other], "declared as INT64, the model has FP32"),
            (
                true,
                vec![],
                vec![tensor("scores", &[3], None)],
                "output \"scores\" is declared as [-1, 3] (with the rows that max_batch_size \
                 stands for), the model has [-1, 2]",
            ),
            (true, vec![tensor("x", &[1], None)], vec![], "declared as [-1, 1]"),
            (false, vec![tensor("x", &[2, 2], None)], vec![], "declared as [2, 2], the model"),
        ];
        for (batched, inputs, outputs, expected) in cases {
            let why = with(batched, inputs, outputs).unwrap();
            assert!(why.contains(expected), "{why}");
        }
        let fixed = TensorSpec::new("x", Datatype::Fp32, vec![Dim::Fixed(1), Dim::Fixed(2)]);
        let graph: Arc<dyn Model> = Arc::new(Graph(Signature::new(vec![fixed], vec![])));
        let inputs = vec![tensor("x", &[2], None)];
        let declared = Declared { batched: Some(true), inputs, ..Declared::default() };
        let why = declare(graph, Some(&declared)).err().unwrap().message;
        assert!(why.contains("input \"x\" of the model has the shape [1, 2]"), "{why}");
        assert!(why.contains("or max_batch_size: 0"), "{why}");
    }
}
