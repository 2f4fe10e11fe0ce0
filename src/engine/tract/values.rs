//! Every value has one producer, and every used one has a producer before it;
//! graphs within graphs see what comes before the node that they belong to.

use std::collections::HashSet;

use tract_onnx::pb::GraphProto;

use super::check::{each_subgraph_checked, name_of};
use super::load::unsupported;
use crate::engine::EngineError;

/// Checks a graph and those within.
pub(super) fn check(graph: &GraphProto) -> Result<(), EngineError> {
    check_within(graph, &HashSet::new())
}

fn check_within(graph: &GraphProto, outer: &HashSet<&str>) -> Result<(), EngineError> {
    let mut known = HashSet::new();
    for tensor in &graph.initializer {
        if tensor.name.is_empty() || !known.insert(&*tensor.name) {
            return Err(unsupported(format!("two initialisers are called {:?}", tensor.name)));
        }
    }
    let mut inputs = HashSet::new();
    for value in &graph.input {
        if value.name.is_empty() || !inputs.insert(&*value.name) {
            return Err(unsupported(format!("two inputs are called {:?}", value.name)));
        }
        known.insert(&value.name);
    }
    // What is outside may be used, and its names may be taken again.
    let mut visible: HashSet<&str> = outer.union(&known).copied().collect();
    for node in &graph.node {
        let place = || format!("{} (node {:?})", node.op_type, name_of(node));
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            if !visible.contains(&**name) {
                return Err(unsupported(format!(
                    "{}: nothing before it produces its input {name:?}",
                    place()
                )));
            }
        }
        each_subgraph_checked(node, |inner| check_within(inner, &visible))?;
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if !known.insert(name) {
                return Err(unsupported(format!("{}: {name:?} is produced twice", place())));
            }
            visible.insert(name);
        }
    }
    check_names(graph)?;
    let mut outputs = HashSet::new();
    for value in &graph.output {
        if !visible.contains(&*value.name) {
            return Err(unsupported(format!("nothing produces the output {:?}", value.name)));
        }
        if !outputs.insert(&*value.name) {
            return Err(unsupported(format!("two outputs are called {:?}", value.name)));
        }
    }
    Ok(())
}

fn check_names(graph: &GraphProto) -> Result<(), EngineError> {
    let mut names = HashSet::new();
    for node in graph.node.iter().filter(|node| !node.name.is_empty()) {
        if !names.insert(&*node.name) {
            return Err(unsupported(format!("two nodes are called {:?}", node.name)));
        }
    }
    Ok(())
}
