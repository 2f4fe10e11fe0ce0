//! What the targets share: loading bytes, inputs out of bytes, and a service
//! without an engine.

pub mod service;

use std::io::Write as _;
use std::sync::Arc;

use foreshadow::engine::{Engine as _, EngineError, Model, Tract};
use foreshadow::types::{Data, Datatype, Dim, Signature, Tensor};
use libfuzzer_sys::arbitrary::{Result, Unstructured};

/// Largest size of an open dimension.
const SIZE_MAX: usize = 40;
/// Largest input, in elements.
const ELEMENTS_MAX: usize = 4096;

/// A panic that the engine catches is none: the fuzzer's own hook would end
/// the process before it is caught.
pub fn forget_caught_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

/// Loads a file of these bytes.
pub fn load(bytes: &[u8]) -> std::result::Result<Arc<dyn Model>, EngineError> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("a temporary file can be written");
    Tract::new().load(file.path())
}

/// Inputs that fit a signature, as far as their shapes are fixed.
pub fn inputs(signature: &Signature, bytes: &mut Unstructured) -> Result<Vec<Tensor>> {
    let sizes = [bytes.int_in_range(0..=SIZE_MAX)?, bytes.int_in_range(0..=SIZE_MAX)?];
    let odd: bool = bytes.ratio(1, 8)?;
    let mut tensors = Vec::new();
    for spec in &signature.inputs {
        let mut shape = Vec::new();
        for (axis, dim) in spec.shape.iter().enumerate() {
            shape.push(match dim {
                Dim::Fixed(n) => *n,
                _ if odd => bytes.int_in_range(0..=SIZE_MAX)?,
                _ => sizes[axis.min(1)],
            });
        }
        let len: usize = shape.iter().product();
        if len > ELEMENTS_MAX {
            return Err(libfuzzer_sys::arbitrary::Error::IncorrectFormat);
        }
        let data = data(spec.datatype, len, bytes)?;
        tensors.push(Tensor::new(spec.name.clone(), shape, data).expect("as many as its shape says"));
    }
    Ok(tensors)
}

fn data(datatype: Datatype, len: usize, bytes: &mut Unstructured) -> Result<Data> {
    // Past the end of the bytes, numbers are zeros.
    let mut data = Data::zeros(datatype, len);
    let each = |i: usize, data: &mut Data, bytes: &mut Unstructured| -> Result<()> {
        match data {
            Data::Fp32(v) => v[i] = bytes.arbitrary()?,
            Data::Fp64(v) => v[i] = bytes.arbitrary()?,
            Data::Int64(v) => v[i] = bytes.arbitrary()?,
            Data::Int32(v) => v[i] = bytes.arbitrary()?,
            Data::Uint8(v) => v[i] = bytes.arbitrary()?,
            Data::Bool(v) => v[i] = bytes.arbitrary()?,
            Data::Bytes(v) => v[i] = bytes.arbitrary()?,
            _ => {}
        }
        Ok(())
    };
    for i in 0..len {
        if bytes.is_empty() {
            break;
        }
        each(i, &mut data, bytes)?;
    }
    Ok(data)
}

/// Runs a model twice on one session, on inputs out of these bytes. Errors are
/// answers; what comes out must be what the signature says.
pub fn run(model: &dyn Model, bytes: &mut Unstructured) -> Result<()> {
    let Ok(mut session) = model.session() else { return Ok(()) };
    for _ in 0..2 {
        let tensors = inputs(model.signature(), bytes)?;
        if model.signature().check(&tensors).is_err() {
            return Ok(());
        }
        match session.run(&tensors) {
            Ok(outputs) => {
                assert_eq!(outputs.len(), model.signature().outputs.len());
                for (spec, output) in model.signature().outputs.iter().zip(&outputs) {
                    assert_eq!(spec.datatype, output.datatype());
                }
            }
            Err(_) => session = model.session().map_err(|_| libfuzzer_sys::arbitrary::Error::IncorrectFormat)?,
        }
    }
    Ok(())
}
