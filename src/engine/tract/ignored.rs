//! Attributes that tract does not look at, although they change the answers:
//! a file that sets one to another value than its default is refused. A wrong
//! number is worse than none.

use tract_onnx::pb::{AttributeProto, NodeProto};

use super::load::unsupported;
use crate::engine::EngineError;

/// Whether an attribute asks for nothing beyond what tract does.
type Harmless = fn(&AttributeProto) -> bool;

/// By operator and attribute.
const IGNORED: [(&[&str], &str, Harmless); 9] = [
    (&["Attention"], "left_window_size", |a| a.i == -1),
    (&["Attention"], "right_window_size", |a| a.i == -1),
    // tract tells one direction from two by the weights.
    (&["GRU", "LSTM", "RNN"], "direction", |a| matches!(&*a.s, b"forward" | b"bidirectional")),
    (&["GRU", "LSTM", "RNN"], "activations", default_activations),
    (&["GRU", "LSTM", "RNN"], "clip", |_| false),
    (&["LSTM"], "input_forget", |a| a.i == 0),
    (&["SpaceToDepth"], "mode", |a| &*a.s == b"DCR"),
    (&["Swish"], "alpha", |a| a.f == 1.0),
    (&["BatchNormalization"], "training_mode", |a| a.i == 0),
];

/// Refuses what tract would not see.
pub(super) fn check(node: &NodeProto) -> Result<(), EngineError> {
    if !(node.domain.is_empty() || node.domain == "ai.onnx") {
        return Ok(());
    }
    let op_type = &*node.op_type;
    for attribute in &node.attribute {
        let ignored = |(ops, name, harmless): &&(&[&str], &str, Harmless)| {
            ops.contains(&op_type) && attribute.name == *name && !harmless(attribute)
        };
        if let Some((_, name, _)) = IGNORED.iter().find(ignored) {
            return Err(unsupported(format!("this value of {name:?} is not supported")));
        }
    }
    // With a past, its causal mask begins at the wrong place.
    let causal = node.attribute.iter().any(|a| a.name == "is_causal" && a.i != 0);
    let past = node.input.get(4).is_some_and(|name| !name.is_empty());
    if op_type == "Attention" && causal && past {
        return Err(unsupported("\"is_causal\" together with \"past_key\" is not supported"));
    }
    Ok(())
}

/// The standard's own, once for each direction: Sigmoid and Tanh for gates and
/// cells (and the cell's output in an LSTM), or Tanh alone.
fn default_activations(attribute: &AttributeProto) -> bool {
    let names: Vec<_> = attribute.strings.iter().map(|name| name.to_ascii_lowercase()).collect();
    let repeats = |pattern: &[&[u8]]| {
        names.len().is_multiple_of(pattern.len())
            && names.iter().zip(pattern.iter().cycle()).all(|(name, wanted)| name == wanted)
    };
    repeats(&[b"sigmoid", b"tanh"])
        || repeats(&[b"sigmoid", b"tanh", b"tanh"])
        || repeats(&[b"tanh"])
}

#[cfg(test)]
mod tests {
    use super::super::tests::graphs::*;
    use super::*;

    fn text(name: &str, value: &str) -> AttributeProto {
        AttributeProto { name: name.into(), s: value.into(), ..AttributeProto::default() }
    }

    #[test]
    fn what_tract_would_not_see_is_refused() {
        let with = |op: &str, attribute: AttributeProto| {
            check(&NodeProto { attribute: vec![attribute], ..node("", op, &["X"], &["Y"]) })
        };
        let reverse = with("LSTM", text("direction", "reverse")).unwrap_err();
        assert_eq!(reverse.message, "this value of \"direction\" is not supported");
        assert!(with("LSTM", text("direction", "bidirectional")).is_ok());
        assert!(with("LSTM", strings("activations", &["Sigmoid", "Tanh", "Tanh"])).is_ok());
        assert!(with("RNN", strings("activations", &["Relu"])).is_err());
        assert!(with("GRU", floats("clip", &[])).is_err());
        assert!(with("SpaceToDepth", text("mode", "CRD")).is_err());
        assert!(with("SpaceToDepth", text("mode", "DCR")).is_ok());
        assert!(with("Attention", int("left_window_size", -1)).is_ok());
        assert!(with("Attention", int("left_window_size", 2)).is_err());
        let mut causal = node("", "Attention", &["Q", "K", "V", "", "past"], &["Y"]);
        causal.attribute = vec![int("is_causal", 1)];
        assert!(check(&causal).is_err());
        causal.input.truncate(3);
        assert!(check(&causal).is_ok());
    }
}
