//! Models that take as inputs what tract wants to know when it optimises:
//! axes, shapes, scales, the k of the k largest.
//!
//! Such a model has plans for the values that come, few at a time: with the
//! values in place of the inputs, the graph is like any other.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tract_onnx::Onnx;
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

use super::load::{parse, unsupported};
use super::plans::Plans;
use super::{check, signature};
use crate::engine::{EngineError, EngineErrorKind, Model, Operator, Session};
use crate::types::{Data, PlanFigures, Signature, Tensor, TensorSpec};

/// Different values that have plans at a time.
const VALUES_MAX: usize = 8;

/// The longest input that may be a parameter, in elements.
const ELEMENTS_MAX: usize = 4096;

/// Where operators take parameters: the positions of those inputs.
const POSITIONS: [(&str, &[usize]); 35] = [
    ("BatchNormalization", &[1, 2, 3, 4]),
    ("BlackmanWindow", &[0]),
    ("Clip", &[1, 2]),
    ("ConstantOfShape", &[0]),
    ("CumSum", &[1]),
    ("DFT", &[1, 2]),
    ("DequantizeLinear", &[1, 2]),
    ("Dropout", &[1, 2]),
    ("Expand", &[1]),
    ("HammingWindow", &[0]),
    ("HannWindow", &[0]),
    ("LSTM", &[4]),
    ("MelWeightMatrix", &[0, 1, 2, 3, 4]),
    ("OneHot", &[1, 2]),
    ("Pad", &[1, 2, 3]),
    ("QuantizeLinear", &[1, 2]),
    ("Range", &[0, 1, 2]),
    ("ReduceL1", &[1]),
    ("ReduceL2", &[1]),
    ("ReduceLogSum", &[1]),
    ("ReduceLogSumExp", &[1]),
    ("ReduceMax", &[1]),
    ("ReduceMean", &[1]),
    ("ReduceMin", &[1]),
    ("ReduceProd", &[1]),
    ("ReduceSum", &[1]),
    ("ReduceSumSquare", &[1]),
    ("Reshape", &[1]),
    ("Resize", &[1, 2, 3]),
    ("Slice", &[1, 2, 3, 4]),
    ("Split", &[1]),
    ("Squeeze", &[1]),
    ("Tile", &[1]),
    ("TopK", &[1]),
    ("Unsqueeze", &[1]),
];

/// The inputs that are parameters, by their positions among the signature's.
pub(super) fn find(proto: &ModelProto, signature: &Signature) -> Vec<usize> {
    let Some(graph) = &proto.graph else { return vec![] };
    let external = Some(DataLocation::External as i32);
    if graph.initializer.iter().any(|tensor| tensor.data_location == external) {
        // A request must not read files.
        return vec![];
    }
    let is_parameter = |spec: &TensorSpec| {
        spec.datatype.size().is_some() && graph.node.iter().any(|node| takes(node, &spec.name))
    };
    let inputs = signature.inputs.iter().enumerate();
    inputs.filter(|(_, spec)| is_parameter(spec)).map(|(i, _)| i).collect()
}

fn takes(node: &NodeProto, name: &str) -> bool {
    let known = POSITIONS.iter().find(|(op_type, _)| *op_type == node.op_type);
    known.is_some_and(|(_, at)| at.iter().any(|&i| node.input.get(i).is_some_and(|n| n == name)))
}

/// A model with parameters.
pub(super) struct Parametric {
    onnx: Arc<Onnx>,
    /// The rewritten file.
    proto: ModelProto,
    signature: Arc<Signature>,
    operators: Vec<Operator>,
    parameters: Vec<usize>,
    /// Read by every run, and by shadows' threads of the lowest class: so nobody takes a
    /// lock to look.
    made: ArcSwap<Vec<Arc<Made>>>,
    /// Held by who changes the list.
    changing: Mutex<()>,
    started: Instant,
}

struct Made {
    values: Vec<Tensor>,
    plans: Arc<Plans>,
    /// Milliseconds since the model was made.
    used: AtomicU64,
}

impl Parametric {
    /// A model whose `parameters` are inputs of `signature`.
    pub(super) fn new(
        onnx: Arc<Onnx>,
        proto: ModelProto,
        signature: Signature,
        operators: Vec<Operator>,
        parameters: Vec<usize>,
    ) -> Self {
        let signature = Arc::new(signature);
        Self {
            onnx,
            proto,
            signature,
            operators,
            parameters,
            made: ArcSwap::default(),
            changing: Mutex::default(),
            started: Instant::now(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Puts another list in the place of this one. What leaves it is freed by the last
    /// who uses it.
    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Made>>)) {
        // The list is whole even after a panic: it is replaced at once.
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Vec::clone(&self.made.load());
        change(&mut next);
        let former = self.made.swap(Arc::new(next));
        drop(changing);
        // Weights and all: not under the lock.
        drop(former);
    }

    /// The values of the parameters, and the other inputs.
    fn split(&self, inputs: &[Tensor]) -> (Vec<Tensor>, Vec<Tensor>) {
        let (mut values, mut rest) = (vec![], vec![]);
        for (i, input) in inputs.iter().enumerate() {
            let to = if self.parameters.contains(&i) { &mut values } else { &mut rest };
            to.push(input.clone());
        }
        (values, rest)
    }

    fn known(&self, values: &[Tensor]) -> Option<Arc<Plans>> {
        let made = self.made.load();
        let found = made.iter().find(|known| known.values == values)?;
        found.used.store(self.now(), Relaxed);
        Some(found.plans.clone())
    }

    /// The plans for these values. May optimise, and take long.
    fn plans_for(&self, values: Vec<Tensor>) -> Result<Arc<Plans>, EngineError> {
        if let Some(plans) = self.known(&values) {
            return Ok(plans);
        }
        // Not under the lock: optimising is slow, and doing it twice is harmless.
        let plans = self.build(&values).map_err(|error| match error.kind {
            // The file is sound as far as it can be told; the values do not fit.
            EngineErrorKind::Unsupported => {
                EngineError::new(EngineErrorKind::BadInput, error.message)
            }
            _ => error,
        })?;
        let plans = Arc::new(plans);
        let new = Made { values, plans: plans.clone(), used: AtomicU64::new(self.now()) };
        self.change(|made| {
            // Who came at the same time may have been faster.
            let same = made.iter().position(|known| known.values == new.values);
            let oldest = || {
                let used = made.iter().enumerate().map(|(at, made)| (made.used.load(Relaxed), at));
                used.min().map(|(_, at)| at)
            };
            let full = made.len() >= VALUES_MAX;
            if let Some(at) = same.or_else(|| if full { oldest() } else { None }) {
                made.remove(at);
            }
            made.push(Arc::new(new));
        });
        Ok(plans)
    }

    fn build(&self, values: &[Tensor]) -> Result<Plans, EngineError> {
        if let Some(long) = values.iter().find(|value| value.data().len() > ELEMENTS_MAX) {
            return Err(unsupported(format!(
                "input {:?} has {} elements, a parameter may have {ELEMENTS_MAX}",
                long.name(),
                long.data().len()
            )));
        }
        let mut proto = self.proto.clone();
        if let Some(graph) = &mut proto.graph {
            values.iter().for_each(|value| fix(graph, value));
            // tract computes what follows from constants at once, at any size.
            check::check_constant_sizes(graph)?;
        }
        let mut signature = (*self.signature).clone();
        let is_given = |spec: &TensorSpec| values.iter().any(|value| value.name() == spec.name);
        signature.inputs.retain(|spec| !is_given(spec));
        Plans::build(parse(&self.onnx, &proto, None)?, signature)
    }
}

/// Makes a constant of an input.
fn fix(graph: &mut GraphProto, value: &Tensor) {
    graph.input.retain(|input| input.name != value.name());
    graph.initializer.push(TensorProto {
        name: value.name().into(),
        data_type: signature::to_onnx(value.datatype()) as i32,
        dims: value.shape().iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect(),
        raw_data: bytes(value.data()),
        ..TensorProto::default()
    });
}

fn bytes(data: &Data) -> Vec<u8> {
    macro_rules! bytes {
        ($($variant:ident),*) => {
            match data {
                $(Data::$variant(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),)*
                Data::Bool(v) => v.iter().map(|&x| u8::from(x)).collect(),
                // Never a parameter.
                Data::Bytes(_) => vec![],
            }
        };
    }
    bytes!(Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Fp32, Fp64)
}

/// A model with parameters, as the engine hands it out.
pub(super) struct ParametricModel(pub(super) Arc<Parametric>);

impl Model for ParametricModel {
    fn signature(&self) -> &Signature {
        &self.0.signature
    }

    fn operators(&self) -> &[Operator] {
        &self.0.operators
    }

    fn takes_new_shapes(&self) -> bool {
        false
    }

    fn trim(&self, idle: Duration) {
        let idle_millis = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        let now = self.0.now();
        let fresh = |made: &Made| now.saturating_sub(made.used.load(Relaxed)) < idle_millis;
        if !self.0.made.load().iter().all(|made| fresh(made)) {
            self.0.change(|made| made.retain(|made| fresh(made)));
        }
        self.0.made.load_full().iter().for_each(|made| made.plans.trim(idle));
    }

    fn plans(&self) -> PlanFigures {
        let mut sum = PlanFigures::default();
        for made in self.0.made.load().iter() {
            let figures = made.plans.figures();
            sum.held += figures.held;
            sum.made += figures.made;
            sum.bytes += figures.bytes;
        }
        sum
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(ParametricSession(self.0.clone())))
    }
}

/// States go with the plans of their values.
struct ParametricSession(Arc<Parametric>);

impl Session for ParametricSession {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let (values, rest) = self.0.split(inputs);
        self.0.plans_for(values)?.run(&mut None, &rest)
    }

    fn run_known(&mut self, inputs: &[Tensor]) -> Result<Option<Vec<Tensor>>, EngineError> {
        let (values, rest) = self.0.split(inputs);
        match self.0.known(&values) {
            Some(plans) => plans.run_known(&mut None, &rest),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tract_onnx::pb::tensor_proto::DataType;
    use tract_onnx::pb::{ModelProto, NodeProto};

    use super::super::tests::graphs::*;
    use crate::engine::{Engine, EngineErrorKind, Model};
    use crate::types::{Data, Tensor};

    /// Sums over an axis that is an input.
    fn sum() -> Arc<dyn Model> {
        let float = |name, shape: &[D]| value(name, DataType::Float, shape);
        let inputs =
            vec![float("X", &[D::S("N"), D::N(2)]), value("A", DataType::Int64, &[D::N(1)])];
        let outputs = vec![float("Y", &[D::S(""), D::S("")])];
        let reduce = node("", "ReduceSum", &["X", "A"], &["Y"]);
        load(&model(vec![reduce], inputs, outputs, vec![]))
    }

    fn load(proto: &ModelProto) -> Arc<dyn Model> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, prost::Message::encode_to_vec(proto)).unwrap();
        super::super::Tract::new().load(&path).unwrap()
    }

    fn axis(axis: i64) -> Tensor {
        Tensor::new("A", vec![1], Data::Int64(vec![axis])).unwrap()
    }

    #[test]
    fn each_value_has_a_plan_and_few_are_kept() {
        let model = sum();
        let mut session = model.session().unwrap();
        let rows = fp32("X", &[2, 2], &[1.0, 4.0, 2.0, 3.0]);
        assert!(session.run_known(&[rows.clone(), axis(0)]).unwrap().is_none());
        for (wanted, shape, expected) in [(0, [1, 2], [3.0, 7.0]), (1, [2, 1], [5.0, 5.0])] {
            let outputs = session.run(&[rows.clone(), axis(wanted)]).unwrap();
            assert_eq!(outputs[0], fp32("Y", &shape, &expected));
            assert!(session.run_known(&[rows.clone(), axis(wanted)]).unwrap().is_some());
        }
        assert_eq!(model.plans().held, 2);
        model.trim(std::time::Duration::ZERO);
        assert_eq!(model.plans().held, 0);
    }

    #[test]
    fn few_values_are_kept() {
        let reshape = node("", "Reshape", &["X", "A"], &["Y"]);
        let inputs =
            vec![value("X", DataType::Float, &[D::N(24)]), value("A", DataType::Int64, &[D::N(2)])];
        let outputs = vec![value("Y", DataType::Float, &[D::S(""), D::S("")])];
        let model = load(&model(vec![reshape], inputs, outputs, vec![]));
        let rows = fp32("X", &[24], &[1.0; 24]);
        let shapes = (1..=24).filter(|n| 24 % n == 0).chain([-1]);
        let shapes = shapes.flat_map(|n| [[n, -1], [-1, n]]).filter(|shape| *shape != [-1, -1]);
        let mut tried = 0;
        for shape in shapes {
            let shape = Tensor::new("A", vec![2], Data::Int64(shape.to_vec())).unwrap();
            model.session().unwrap().run(&[rows.clone(), shape]).unwrap();
            tried += 1;
        }
        assert!(tried > super::VALUES_MAX);
        assert_eq!(model.plans().held, super::VALUES_MAX);
    }

    #[test]
    fn the_same_value_at_the_same_time_is_kept_once() {
        let model = sum();
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut session = model.session().unwrap();
                    start.wait();
                    session.run(&[fp32("X", &[1, 2], &[1.0, 4.0]), axis(0)]).unwrap();
                });
            }
        });
        assert_eq!(model.plans().held, 1);
    }

    #[test]
    fn a_value_that_does_not_fit_is_bad_input() {
        let model = sum();
        let rows = fp32("X", &[1, 2], &[1.0, 4.0]);
        for wanted in [2, -3, i64::MAX] {
            let error = model.session().unwrap().run(&[rows.clone(), axis(wanted)]).unwrap_err();
            assert!(
                matches!(error.kind, EngineErrorKind::BadInput | EngineErrorKind::Panic),
                "{wanted}: {error}"
            );
        }
    }

    /// What follows from the values of a request is bounded like what follows
    /// from the file's.
    #[test]
    fn a_value_cannot_ask_for_any_amount_of_memory() {
        let int = |name, datatype, shape: &[D]| value(name, datatype, shape);
        let float = |name, rank: usize| {
            value(name, DataType::Float, &(0..rank).map(|_| D::S("")).collect::<Vec<_>>())
        };
        let one = || Tensor::new("A", vec![], Data::Int32(vec![1 << 30])).unwrap();
        let list = |sizes: &[i64]| {
            Tensor::new("A", vec![sizes.len()], Data::Int64(sizes.to_vec())).unwrap()
        };
        let scalar = |name, number| Tensor::new(name, vec![], Data::Int64(vec![number])).unwrap();
        let length = || value("L", DataType::Int64, &[]);
        let mel = node("", "MelWeightMatrix", &["A", "L", "R", "E", "F"], &["Y"]);
        let mel_inputs = ["A", "L", "R"].map(|name| value(name, DataType::Int64, &[]));
        let edges = ["E", "F"].map(|name| value(name, DataType::Float, &[]));
        let mel_values =
            vec![scalar("A", 1 << 30), scalar("L", 16), scalar("R", 8000), fp32("E", &[], &[0.0])];
        let mel_values = [mel_values, vec![fp32("F", &[], &[4000.0])]].concat();
        let cases = [
            (
                vec![node("", "BlackmanWindow", &["A"], &["Y"])],
                vec![int("A", DataType::Int32, &[])],
                vec![one()],
                1,
            ),
            (
                vec![node("", "Expand", &["X", "A"], &["Y"])],
                vec![
                    value("X", DataType::Float, &[D::N(1)]),
                    int("A", DataType::Int64, &[D::N(1)]),
                ],
                vec![fp32("X", &[1], &[1.0]), list(&[1 << 36])],
                1,
            ),
            (
                // The range alone has a plan for all ends; the window has not.
                vec![
                    node("", "Range", &["L", "A", "L"], &["r"]),
                    NodeProto {
                        attribute: vec![super::super::tests::graphs::int("to", 1)],
                        ..node("", "Cast", &["r"], &["f"])
                    },
                    node("", "BlackmanWindow", &["L"], &["w"]),
                    node("", "Add", &["w", "f"], &["Y"]),
                ],
                vec![int("A", DataType::Int64, &[]), length()],
                vec![scalar("A", 1 << 33), scalar("L", 1)],
                1,
            ),
            (vec![mel], [mel_inputs.to_vec(), edges.to_vec()].concat(), mel_values, 2),
        ];
        for (nodes, inputs, values, rank) in cases {
            let op_type = nodes[0].op_type.clone();
            let model = load(&model(nodes, inputs, vec![float("Y", rank)], vec![]));
            let error = model.session().unwrap().run(&values).unwrap_err();
            assert_eq!(error.kind, EngineErrorKind::BadInput, "{op_type}: {error}");
            let expected = format!("{op_type} (node \"{op_type}0\") asks for ");
            assert!(error.message.contains(&expected), "{error}");
        }
    }
}
