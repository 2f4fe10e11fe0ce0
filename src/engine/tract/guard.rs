//! Turns tract's errors and panics into ours.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tract_onnx::prelude::TractResult;

use crate::engine::onnx_ml::{BadShape, BadValue};
use crate::engine::{EngineError, EngineErrorKind};

/// Runs `work`; an error becomes one of `kind` (or of a bad value or shape, where an
/// operator says so), a panic one of its own kind, all after the
/// words of `doing`.
///
/// What `work` touched is to be dropped when this fails: it may be half done.
pub(super) fn guarded<T>(
    kind: EngineErrorKind,
    doing: &str,
    work: impl FnOnce() -> TractResult<T>,
) -> Result<T, EngineError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let kind = if error.chain().any(|cause| cause.is::<BadValue>()) {
                EngineErrorKind::BadValue
            } else if error.chain().any(|cause| cause.is::<BadShape>()) {
                EngineErrorKind::BadInput
            } else {
                kind
            };
            Err(EngineError::new(kind, format!("{doing}: {error:#}")))
        }
        Err(payload) => Err(EngineError::new(
            EngineErrorKind::Panic,
            format!("{doing}: tract panicked: {}", panic_message(&*payload)),
        )),
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_its_own_kind_with_its_message() {
        let error = guarded::<()>(EngineErrorKind::Unsupported, "parsing", || {
            panic!("node {} has no op", 3)
        });
        let error = error.unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::Panic);
        assert_eq!(error.message, "parsing: tract panicked: node 3 has no op");
    }
}
