//! Runs batches.
//!
//! All sessions of a model share one session of the library, and so one copy
//! of the weights. The `ort` crate asks for `&mut` to run, as some execution
//! providers (CUDA, for one) cannot run twice at once; the library itself
//! documents `Run` as safe from several threads, and guards it with a lock
//! where a provider is not. We register no provider but the CPU's, whose
//! kernels keep nothing between runs, so the library's function is called
//! directly.

use std::ffi::CString;
use std::ptr;
use std::sync::Arc;

use ort::AsPointer as _;

use super::error::{Doing, classify};
use super::value::{Api, CpuMemory, Value, check};
use crate::engine::{EngineError, EngineErrorKind, Session};
use crate::types::{Data, Signature, Tensor};

/// A graph that the library has optimised.
pub(super) struct Graph {
    api: Api,
    session: ort::session::Session,
    memory: CpuMemory,
    inputs: Vec<CString>,
    outputs: Vec<CString>,
}

impl Graph {
    /// `session` runs on the CPU's execution provider only.
    pub(super) fn new(
        session: ort::session::Session,
        signature: &Signature,
    ) -> Result<Self, EngineError> {
        let api = ort::api();
        let memory = CpuMemory::new(api).map_err(|error| classify(Doing::Loading, &error))?;
        let name = |name: &String| {
            CString::new(name.as_str()).map_err(|error| {
                let message = format!("the name {name:?}: {error}");
                EngineError::new(EngineErrorKind::Unsupported, message)
            })
        };
        let inputs =
            signature.inputs.iter().map(|spec| name(&spec.name)).collect::<Result<_, _>>()?;
        let outputs =
            signature.outputs.iter().map(|spec| name(&spec.name)).collect::<Result<_, _>>()?;
        Ok(Self { api, session, memory, inputs, outputs })
    }

    pub(super) fn run(&self, signature: &Signature, inputs: &[Tensor]) -> ort::Result<Vec<Tensor>> {
        if inputs.len() != self.inputs.len() {
            return Err(ort::Error::new("the inputs are not the signature's"));
        }
        let borrow = |tensor| Value::borrow(self.api, &self.memory, tensor);
        let values = inputs.iter().map(borrow).collect::<ort::Result<Vec<_>>>()?;
        let given: Vec<_> = values.iter().map(Value::as_ptr).collect();
        let names: Vec<_> = self.inputs.iter().map(|name| name.as_ptr()).collect();
        let wanted: Vec<_> = self.outputs.iter().map(|name| name.as_ptr()).collect();
        let mut got = vec![ptr::null_mut(); wanted.len()];
        // SAFETY: the session lives as long as `self`, the values until the
        // end of this function. `names` and `given`,
        // `wanted` and `got` have the lengths that are told; names end with a
        // zero, and all of it lives for the length of the call. It may run on
        // several threads at once: see the module's description.
        let ran = unsafe {
            check((self.api.Run)(
                self.session.ptr().cast_mut(),
                ptr::null(),
                names.as_ptr(),
                given.as_ptr(),
                given.len(),
                wanted.as_ptr(),
                wanted.len(),
                got.as_mut_ptr(),
            ))
        };
        // Taken over before anything can fail, so that each is freed.
        // SAFETY: what the library returned is ours; null is refused.
        let got: Vec<_> =
            got.into_iter().map(|value| unsafe { Value::from_raw(self.api, value) }).collect();
        ran?;
        let specs = signature.outputs.iter();
        got.into_iter()
            .zip(specs)
            .map(|(v, spec)| v?.to_tensor(&spec.name, spec.datatype))
            .collect()
    }
}

/// A model's session: a handle, as the library keeps nothing between runs.
pub(super) struct OrtSession {
    signature: Arc<Signature>,
    graph: Arc<Graph>,
}

impl OrtSession {
    pub(super) fn new(signature: Arc<Signature>, graph: Arc<Graph>) -> Self {
        Self { signature, graph }
    }
}

impl Session for OrtSession {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        inputs.iter().try_for_each(check_text)?;
        self.graph.run(&self.signature, inputs).map_err(|error| classify(Doing::Running, &error))
    }
}

/// ONNX's strings are UTF-8; the library would not look.
fn check_text(tensor: &Tensor) -> Result<(), EngineError> {
    let Data::Bytes(texts) = tensor.data() else { return Ok(()) };
    let bad = texts.iter().enumerate().find_map(|(i, t)| Some((i, std::str::from_utf8(t).err()?)));
    bad.map_or(Ok(()), |(i, error)| {
        let message = format!("input {:?}: element {i}: {error}", tensor.name());
        Err(EngineError::new(EngineErrorKind::BadInput, message))
    })
}
