//! The library's errors, in our kinds.

use ort::ErrorCode;

use crate::engine::{EngineError, EngineErrorKind};

/// What the library was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// Making a session of a file: what fails is the file's fault.
    Loading,
    /// Running it: what does not fit is the input's fault.
    Running,
}

/// What the library says where memory runs out; it has no code for it.
const OUT_OF_MEMORY: [&str; 3] = ["bad_alloc", "Failed to allocate memory", "out of memory"];

/// Classifies an error of the library.
pub(super) fn classify(doing: Doing, error: &ort::Error) -> EngineError {
    let kind = kind(doing, error.code(), error.message());
    let what = if kind == EngineErrorKind::OutOfMemory { "out of memory: " } else { "" };
    EngineError::new(kind, format!("onnxruntime: {what}{error}"))
}

fn kind(doing: Doing, code: ErrorCode, message: &str) -> EngineErrorKind {
    if OUT_OF_MEMORY.iter().any(|words| message.contains(words)) {
        return EngineErrorKind::OutOfMemory;
    }
    match (doing, code) {
        (Doing::Running, ErrorCode::InvalidArgument) => EngineErrorKind::BadInput,
        (Doing::Loading, _) | (Doing::Running, ErrorCode::NotImplemented) => {
            EngineErrorKind::Unsupported
        }
        (Doing::Running, _) => EngineErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_kind_of_what_caused_them() {
        let load = |code, message| kind(Doing::Loading, code, message);
        let run = |code, message| kind(Doing::Running, code, message);
        assert_eq!(load(ErrorCode::InvalidProtobuf, ""), EngineErrorKind::Unsupported);
        assert_eq!(
            load(ErrorCode::RuntimeException, "std::bad_alloc"),
            EngineErrorKind::OutOfMemory
        );
        assert_eq!(run(ErrorCode::InvalidArgument, "dims"), EngineErrorKind::BadInput);
        assert_eq!(run(ErrorCode::GenericFailure, "a node"), EngineErrorKind::Internal);
        let message = "Failed to allocate memory for requested buffer of size 9";
        assert_eq!(run(ErrorCode::GenericFailure, message), EngineErrorKind::OutOfMemory);
    }
}
