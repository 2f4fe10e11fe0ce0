//! Replaces calls of the file's own functions by their bodies: tract knows no
//! functions.
//!
//! Runs before anything else is checked, so it takes nothing for granted:
//! recursion is refused, and what the bodies may grow to has bounds.

use std::collections::HashMap;

use prost::Message;
use tract_onnx::pb::{AttributeProto, FunctionProto, ModelProto, NodeProto, OperatorSetIdProto};

use super::check::{DECLARED_BYTES_MAX, each_subgraph, each_subgraph_mut};
use super::load::unsupported;
use crate::engine::EngineError;

/// How deep functions may call functions.
const CALL_DEPTH_MAX: usize = 32;

/// Nodes, and calls, that come of calls.
const NODES_MAX: usize = 100_000;

/// From here on, the operators of the standard mean the same in every version,
/// but for [`CHANGED_LATER`].
const STABLE_SINCE: i64 = 18;

const CHANGED_LATER: [&str; 2] = ["DFT", "GroupNormalization"];

/// What tract's messages lack of a function, read from the same bytes.
#[derive(Clone, PartialEq, Message)]
struct FunctionExtras {
    /// Attributes with their defaults.
    #[prost(message, repeated, tag = "11")]
    attribute_proto: Vec<AttributeProto>,
    #[prost(string, tag = "13")]
    overload: String,
}

#[derive(Clone, PartialEq, Message)]
struct ModelExtras {
    #[prost(message, repeated, tag = "25")]
    functions: Vec<FunctionExtras>,
}

struct Function {
    body: FunctionProto,
    defaults: Vec<AttributeProto>,
}

/// Replaces the calls in `proto`, which was read from `bytes`.
pub(super) fn inline(proto: &mut ModelProto, bytes: &[u8]) -> Result<(), EngineError> {
    if proto.functions.is_empty() {
        return Ok(());
    }
    let extras = ModelExtras::decode(bytes).map_err(|error| unsupported(error.to_string()))?;
    let functions = index(std::mem::take(&mut proto.functions), extras.functions)?;
    import(proto, &functions)?;
    if let Some(graph) = &mut proto.graph {
        let mut calls = Calls { functions: &functions, stack: vec![], count: 0, bytes: 0 };
        graph.node = calls.expand_all(std::mem::take(&mut graph.node))?;
    }
    Ok(())
}

/// A function's full name: domain and name.
type Key = (String, String);

fn index(
    functions: Vec<FunctionProto>,
    extras: Vec<FunctionExtras>,
) -> Result<HashMap<Key, Function>, EngineError> {
    let mut found = HashMap::new();
    for (body, extras) in functions.into_iter().zip(extras) {
        let key = (plain(body.domain.as_deref()).to_owned(), body.name.clone().unwrap_or_default());
        if !extras.overload.is_empty() {
            return Err(unsupported(format!("the function {:?} is overloaded", key.1)));
        }
        let function = Function { body, defaults: extras.attribute_proto };
        if found.insert(key.clone(), function).is_some() {
            return Err(unsupported(format!("two functions are called {:?}", key.1)));
        }
    }
    Ok(found)
}

/// The default domain has two names.
fn plain(domain: Option<&str>) -> &str {
    domain.filter(|domain| *domain != "ai.onnx").unwrap_or_default()
}

/// Makes the operator sets of the functions the file's own. Both must mean
/// the same by the same operators.
fn import(proto: &mut ModelProto, functions: &HashMap<Key, Function>) -> Result<(), EngineError> {
    for ((_, name), function) in functions {
        for wanted in &function.body.opset_import {
            let domain = plain(Some(&wanted.domain));
            let found = proto.opset_import.iter().find(|i| plain(Some(&i.domain)) == domain);
            match found.map(|import| import.version) {
                None => proto.opset_import.push(OperatorSetIdProto {
                    domain: domain.to_owned(),
                    version: wanted.version,
                }),
                Some(version) if version == wanted.version => {}
                Some(version)
                    if domain.is_empty() && same_meaning(version, wanted.version, function) => {}
                Some(version) => {
                    return Err(unsupported(format!(
                        "the function {name:?} is written for version {} of the operator set \
                         {domain:?}, the file for version {version}",
                        wanted.version
                    )));
                }
            }
        }
    }
    Ok(())
}

fn same_meaning(a: i64, b: i64, function: &Function) -> bool {
    let changed = |node: &NodeProto| CHANGED_LATER.contains(&&*node.op_type);
    a.min(b) >= STABLE_SINCE && !function.body.node.iter().any(changed)
}

/// The calls that are being replaced.
struct Calls<'a> {
    functions: &'a HashMap<Key, Function>,
    stack: Vec<&'a Key>,
    /// Calls and nodes so far.
    count: usize,
    bytes: usize,
}

impl<'a> Calls<'a> {
    /// `nodes`, without calls.
    fn expand_all(&mut self, nodes: Vec<NodeProto>) -> Result<Vec<NodeProto>, EngineError> {
        let mut expanded = Vec::with_capacity(nodes.len());
        for mut node in nodes {
            let key = (plain(Some(&node.domain)).to_owned(), node.op_type.clone());
            if let Some((key, function)) = self.functions.get_key_value(&key) {
                expanded.extend(self.expand(key, function, &node)?);
                continue;
            }
            let mut inner = Ok(());
            each_subgraph_mut(&mut node, &mut |graph| {
                let nodes = std::mem::take(&mut graph.node);
                match self.expand_all(nodes) {
                    Ok(nodes) => graph.node = nodes,
                    Err(error) => inner = Err(error),
                }
            });
            inner?;
            expanded.push(node);
        }
        Ok(expanded)
    }

    /// The body of one call, without calls.
    fn expand(
        &mut self,
        key: &'a Key,
        function: &Function,
        call: &NodeProto,
    ) -> Result<Vec<NodeProto>, EngineError> {
        let place = || format!("the call of {:?} (node {:?})", key.1, call.name);
        if self.stack.contains(&key) {
            return Err(unsupported(format!("{}: it calls itself", place())));
        }
        if self.stack.len() >= CALL_DEPTH_MAX {
            return Err(unsupported(format!("{}: beyond {CALL_DEPTH_MAX} calls", place())));
        }
        self.spend(1, 0).map_err(|error| unsupported(format!("{}: {error}", place())))?;
        let binding = Binding::new(function, call, self.count)
            .map_err(|what| unsupported(format!("{}: {what}", place())))?;
        let mut nodes = Vec::with_capacity(function.body.node.len());
        for node in &function.body.node {
            self.spend(1, binding.bound_len(node))
                .map_err(|error| unsupported(format!("{}: {error}", place())))?;
            nodes.push(binding.bind(node.clone()));
        }
        nodes.extend(binding.passed_through);
        self.stack.push(key);
        let nodes = self.expand_all(nodes);
        self.stack.pop();
        nodes
    }

    fn spend(&mut self, count: usize, bytes: usize) -> Result<(), String> {
        self.count += count;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.count > NODES_MAX || self.bytes > DECLARED_BYTES_MAX {
            return Err(format!(
                "the functions grow beyond {NODES_MAX} nodes or {DECLARED_BYTES_MAX} bytes"
            ));
        }
        Ok(())
    }
}

/// What names and attributes of a body mean in one call.
struct Binding<'a> {
    /// Comes before every name of the body's own.
    prefix: String,
    /// The function's inputs and outputs, and what the caller calls them.
    values: HashMap<&'a str, String>,
    attributes: HashMap<&'a str, &'a AttributeProto>,
    /// By how much a name may grow.
    longest_name: usize,
    /// Nodes for the outputs that are inputs, or other outputs, of the function.
    passed_through: Vec<NodeProto>,
}

impl<'a> Binding<'a> {
    fn new(function: &'a Function, call: &'a NodeProto, number: usize) -> Result<Self, String> {
        let body = &function.body;
        if call.input.len() > body.input.len() || call.output.len() > body.output.len() {
            return Err(format!(
                "expected at most {} inputs and {} outputs, got {} and {}",
                body.input.len(),
                body.output.len(),
                call.input.len(),
                call.output.len()
            ));
        }
        let prefix = format!("{}#{number}/", call.op_type);
        let mut values = HashMap::new();
        for (i, name) in body.input.iter().enumerate() {
            values.insert(&**name, call.input.get(i).cloned().unwrap_or_default());
        }
        let mut passed_through = Vec::new();
        for (i, name) in body.output.iter().enumerate() {
            let given = call.output.get(i).filter(|name| !name.is_empty());
            let given = given.cloned().unwrap_or_else(|| format!("{prefix}output{i}"));
            match values.get(&**name) {
                Some(known) => passed_through.push(identity(known, &given)),
                None => drop(values.insert(name, given)),
            }
        }
        let given = function.defaults.iter().chain(&call.attribute);
        let attributes = given.map(|attribute| (&*attribute.name, attribute)).collect();
        let longest_name = values.values().map(String::len).fold(prefix.len(), usize::max);
        Ok(Self { prefix, values, attributes, longest_name, passed_through })
    }

    /// How long [`Self::bind`] may make a node of the body: each attribute that
    /// it refers to is copied, and each name may become another.
    fn bound_len(&self, node: &NodeProto) -> usize {
        let given = |attribute: &AttributeProto| {
            let value = self.attributes.get(&*attribute.ref_attr_name);
            value.map_or(0, |value| value.encoded_len())
        };
        let attributes = node.attribute.iter().map(given);
        let names = node.input.len() + node.output.len() + 1;
        let mut len = attributes.fold(node.encoded_len(), usize::saturating_add);
        len = len.saturating_add(names.saturating_mul(self.longest_name));
        each_subgraph(node, &mut |graph| {
            let names = graph.input.len() + graph.output.len() + graph.initializer.len();
            len = len.saturating_add(names.saturating_mul(self.longest_name));
            for node in &graph.node {
                len = len.saturating_add(self.bound_len(node));
            }
        });
        len
    }

    /// A node of the body as a node of the caller.
    fn bind(&self, mut node: NodeProto) -> NodeProto {
        if !node.name.is_empty() {
            node.name = format!("{}{}", self.prefix, node.name);
        }
        node.input.iter_mut().chain(&mut node.output).for_each(|name| self.rename(name));
        node.attribute.retain_mut(|attribute| {
            if attribute.ref_attr_name.is_empty() {
                return true;
            }
            // Neither given nor with a default: the operator has its own.
            let Some(&value) = self.attributes.get(&*attribute.ref_attr_name) else { return false };
            *attribute = AttributeProto { name: attribute.name.clone(), ..value.clone() };
            true
        });
        each_subgraph_mut(&mut node, &mut |graph| {
            let nodes = std::mem::take(&mut graph.node);
            graph.node = nodes.into_iter().map(|node| self.bind(node)).collect();
            let values = graph.input.iter_mut().chain(&mut graph.output);
            values.for_each(|value| self.rename(&mut value.name));
            graph.initializer.iter_mut().for_each(|tensor| self.rename(&mut tensor.name));
        });
        node
    }

    fn rename(&self, name: &mut String) {
        if name.is_empty() {
            return;
        }
        *name = match self.values.get(&**name) {
            Some(value) => value.clone(),
            None => format!("{}{name}", self.prefix),
        };
    }
}

fn identity(from: &str, to: &str) -> NodeProto {
    NodeProto {
        op_type: "Identity".into(),
        input: vec![from.into()],
        output: vec![to.into()],
        ..NodeProto::default()
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::attribute_proto::AttributeType;
    use tract_onnx::pb::tensor_proto::DataType;

    use super::super::tests::graphs::*;
    use super::*;
    use crate::engine::Model;

    fn function(
        name: &str,
        inputs: &[&str],
        outputs: &[&str],
        body: Vec<NodeProto>,
    ) -> FunctionProto {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        FunctionProto {
            name: Some(name.into()),
            domain: Some("local".into()),
            input: names(inputs),
            output: names(outputs),
            node: body,
            ..FunctionProto::default()
        }
    }

    /// Rows of two through `calls`, from X to Y.
    fn with(functions: Vec<FunctionProto>, calls: Vec<NodeProto>) -> ModelProto {
        let rows = |name| vec![value(name, DataType::Float, &[D::S("N"), D::N(2)])];
        let mut proto = model(calls, rows("X"), rows("Y"), vec![]);
        proto.opset_import.push(OperatorSetIdProto { domain: "local".into(), version: 1 });
        proto.functions = functions;
        proto
    }

    fn answer(proto: &ModelProto) -> Vec<f32> {
        let model = load_proto(proto).unwrap();
        let outputs = model.session().unwrap().run(&[fp32("X", &[1, 2], &[1.0, -2.0])]).unwrap();
        let crate::types::Data::Fp32(numbers) = outputs[0].data() else { panic!("{outputs:?}") };
        numbers.clone()
    }

    fn leaky(attribute: &str) -> FunctionProto {
        let mut relu = node("", "LeakyRelu", &["a"], &["b"]);
        let r#type = AttributeType::Float as i32;
        let ref_attr_name = attribute.to_owned();
        relu.attribute = vec![AttributeProto {
            name: "alpha".into(),
            r#type,
            ref_attr_name,
            ..Default::default()
        }];
        FunctionProto {
            attribute: vec![attribute.into()],
            ..function("leaky", &["a"], &["b"], vec![relu])
        }
    }

    fn float(name: &str, f: f32) -> AttributeProto {
        let r#type = AttributeType::Float as i32;
        AttributeProto { name: name.into(), r#type, f, ..AttributeProto::default() }
    }

    #[test]
    fn calls_bind_values_and_attributes_each_for_itself() {
        let mut first = node("local", "leaky", &["X"], &["h"]);
        first.attribute = vec![float("slope", 0.5)];
        let mut second =
            NodeProto { name: "again".into(), ..node("local", "leaky", &["h"], &["Y"]) };
        second.attribute = vec![float("slope", 0.25)];
        let proto = with(vec![leaky("slope")], vec![first.clone(), second]);
        assert_eq!(answer(&proto), [1.0, -0.25]);
        // Not given: the operator's own default, 0.01.
        first.attribute.clear();
        first.output = vec!["Y".into()];
        assert_eq!(answer(&with(vec![leaky("slope")], vec![first])), [1.0, -0.02]);
    }

    #[test]
    fn a_functions_own_default_is_read_from_the_file() {
        let proto = with(vec![leaky("slope")], vec![node("local", "leaky", &["X"], &["Y"])]);
        let mut bytes = ModelProto { functions: vec![], ..proto.clone() }.encode_to_vec();
        let mut function = proto.functions[0].encode_to_vec();
        let extras =
            FunctionExtras { attribute_proto: vec![float("slope", 0.5)], overload: String::new() };
        function.extend(extras.encode_to_vec());
        prost::encoding::encode_key(25, prost::encoding::WireType::LengthDelimited, &mut bytes);
        prost::encoding::encode_varint(function.len() as u64, &mut bytes);
        bytes.extend(function);
        let mut proto = ModelProto::decode(&*bytes).unwrap();
        inline(&mut proto, &bytes).unwrap();
        let node = &proto.graph.unwrap().node[0];
        assert_eq!((&*node.op_type, node.attribute[0].f), ("LeakyRelu", 0.5));
        assert_eq!(node.attribute[0].name, "alpha");
    }

    #[test]
    fn functions_call_functions_and_pass_values_through() {
        let twice = vec![
            NodeProto {
                attribute: vec![float("slope", 0.5)],
                ..node("local", "leaky", &["v"], &["w"])
            },
            NodeProto { name: "leaky1".into(), ..node("", "Add", &["w", "v"], &["sum"]) },
        ];
        let outer = function("outer", &["v", "unused"], &["sum", "v"], twice);
        let calls =
            vec![node("local", "outer", &["X"], &["s", "x"]), node("", "Sub", &["s", "x"], &["Y"])];
        assert_eq!(answer(&with(vec![outer, leaky("slope")], calls)), [1.0, -1.0]);
    }

    #[test]
    fn recursion_bombs_and_other_versions_are_refused() {
        let call = |to: &str, inputs: &[&str], outputs: &[&str]| node("local", to, inputs, outputs);
        let f = function("f", &["a"], &["b"], vec![call("g", &["a"], &["b"])]);
        let g = function("g", &["a"], &["b"], vec![call("f", &["a"], &["b"])]);
        let main = || vec![call("f", &["X"], &["Y"])];
        assert!(refusal(&with(vec![f, g], main())).contains("it calls itself"));

        let bomb = (0..20).map(|i| {
            let next = format!("f{}", i + 1);
            let twice = vec![call(&next, &["a"], &["c"]), call(&next, &["c"], &["b"])];
            function(&format!("f{i}"), &["a"], &["b"], twice)
        });
        let end = function("f20", &["a"], &["a"], vec![]);
        let bomb = with(bomb.chain([end]).collect(), vec![call("f0", &["X"], &["Y"])]);
        assert!(refusal(&bomb).contains("grow beyond 100000 nodes"));

        // A small body that asks for the same large attribute again and again.
        let mut asks = node("", "Constant", &[], &["c"]);
        asks.attribute = vec![AttributeProto {
            name: "value".into(),
            ref_attr_name: "large".into(),
            ..AttributeProto::default()
        }];
        let body = vec![asks; 10_000];
        let copies = function("f", &["a"], &["a"], body.clone());
        let mut large = call("f", &["X"], &["Y"]);
        large.attribute =
            vec![AttributeProto { name: "large".into(), s: vec![0; 1 << 20], ..float("", 0.0) }];
        let refused = refusal(&with(vec![copies], vec![large]));
        assert!(refused.contains("or 1073741824 bytes"), "{refused}");
        // A name that becomes a part of every other one.
        let long = "f".repeat(1 << 20);
        let renames = function(&long, &["a"], &["a"], body);
        let refused = refusal(&with(vec![renames], vec![call(&long, &["X"], &["Y"])]));
        assert!(refused.contains("or 1073741824 bytes"), "{}", refused.len());

        let mut old = function("f", &["a"], &["b"], vec![node("", "Softmax", &["a"], &["b"])]);
        old.opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 12 }];
        assert!(refusal(&with(vec![old], main())).contains("version 12 of the operator set"));

        let f = || function("f", &["a"], &["b"], vec![node("", "Relu", &["a"], &["b"])]);
        assert!(refusal(&with(vec![f(), f()], main())).contains("two functions"));
        let many = vec![call("f", &["X", "X"], &["Y"])];
        assert!(refusal(&with(vec![f()], many)).contains("at most 1 inputs"));
    }
}
