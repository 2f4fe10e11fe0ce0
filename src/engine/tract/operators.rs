//! The operators that a file uses, for reports.

use std::collections::BTreeMap;

use tract_onnx::pb::{GraphProto, ModelProto};

use super::check::each_subgraph;
use crate::engine::Operator;

/// Counts them, by domain and type. For the file as it came: rewriting
/// changes names.
pub(in crate::engine) fn count(proto: &ModelProto) -> Vec<Operator> {
    let mut counts = BTreeMap::new();
    proto.graph.iter().for_each(|graph| count_graph(graph, &mut counts));
    let operators = counts.into_iter();
    operators.map(|((domain, op_type), count)| Operator { domain, op_type, count }).collect()
}

fn count_graph(graph: &GraphProto, counts: &mut BTreeMap<(String, String), usize>) {
    for node in &graph.node {
        let domain = if node.domain == "ai.onnx" { "" } else { &*node.domain };
        *counts.entry((domain.to_owned(), node.op_type.clone())).or_default() += 1;
        each_subgraph(node, &mut |graph| count_graph(graph, counts));
    }
}
