//! Reads a node's attributes strictly: the declared kind must be the expected
//! one, and an attribute that the operator does not have is refused, as
//! onnxruntime does.

use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};
use tract_onnx::prelude::*;
use tract_onnx::tensor::load_tensor;
use tract_onnx::tract_hir::internal::*;

/// A node's attributes, all of whose names are known.
pub(in crate::engine) struct Attributes<'a>(&'a [AttributeProto]);

impl<'a> Attributes<'a> {
    /// Refuses names that are not in `known`, and names given twice.
    pub(in crate::engine) fn new(node: &'a NodeProto, known: &[&str]) -> TractResult<Self> {
        for (i, attribute) in node.attribute.iter().enumerate() {
            let name = &*attribute.name;
            ensure!(known.contains(&name), "attribute {name:?} is not supported");
            let twice = node.attribute[..i].iter().any(|other| other.name == name);
            ensure!(!twice, "attribute {name:?} is given twice");
        }
        Ok(Self(&node.attribute))
    }

    fn find(&self, name: &str, kind: AttributeType) -> TractResult<Option<&'a AttributeProto>> {
        let Some(found) = self.0.iter().find(|attribute| attribute.name == name) else {
            return Ok(None);
        };
        ensure!(
            found.r#type == kind as i32,
            "attribute {name:?}: expected kind {}, got {}",
            kind.as_str_name(),
            found.r#type().as_str_name()
        );
        Ok(Some(found))
    }

    /// Floats; empty when absent.
    pub(in crate::engine) fn floats(&self, name: &str) -> TractResult<&'a [f32]> {
        Ok(self.find(name, AttributeType::Floats)?.map_or(&[], |a| &a.floats))
    }

    /// Integers; empty when absent.
    pub(in crate::engine) fn ints(&self, name: &str) -> TractResult<&'a [i64]> {
        Ok(self.find(name, AttributeType::Ints)?.map_or(&[], |a| &a.ints))
    }

    /// Texts; empty when absent.
    pub(in crate::engine) fn strings(&self, name: &str) -> TractResult<Vec<&'a str>> {
        let found = self.find(name, AttributeType::Strings)?.map_or(&[][..], |a| &a.strings);
        found.iter().map(|bytes| text(name, bytes)).collect()
    }

    /// A text; `default` when absent.
    pub(in crate::engine) fn string(&self, name: &str, default: &'a str) -> TractResult<&'a str> {
        self.find(name, AttributeType::String)?.map_or(Ok(default), |a| text(name, &a.s))
    }

    /// An integer; `default` when absent.
    pub(in crate::engine) fn int(&self, name: &str, default: i64) -> TractResult<i64> {
        Ok(self.find(name, AttributeType::Int)?.map_or(default, |a| a.i))
    }

    /// A tensor, if it is given.
    pub(in crate::engine) fn tensor(&self, name: &str) -> TractResult<Option<Tensor>> {
        let found = self.find(name, AttributeType::Tensor)?;
        let proto = found.and_then(|attribute| attribute.t.as_ref());
        let read = |proto| load_tensor(&MmapDataResolver, proto, None);
        proto.map(read).transpose().with_context(|| format!("attribute {name:?}"))
    }

    /// A float; `default` when absent.
    pub(in crate::engine) fn float(&self, name: &str, default: f32) -> TractResult<f32> {
        Ok(self.find(name, AttributeType::Float)?.map_or(default, |a| a.f))
    }
}

fn text<'a>(name: &str, bytes: &'a [u8]) -> TractResult<&'a str> {
    std::str::from_utf8(bytes).with_context(|| format!("attribute {name:?}"))
}
