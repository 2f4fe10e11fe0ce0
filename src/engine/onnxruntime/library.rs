//! The shared library: found, loaded once, and never let go.
//!
//! The process can have one. A failed attempt leaves nothing behind, so the
//! next version that wants it tries again; a library that is loaded stays, and
//! is not exchanged for what lies under its path later.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use super::NAME;
use crate::engine::{EngineError, EngineErrorKind};

/// Where the system's own would be, with `{arch}` for the machine's name.
const SYSTEM: [&str; 4] = [
    "/usr/local/lib/libonnxruntime.so",
    "/usr/lib/{arch}-linux-gnu/libonnxruntime.so",
    "/usr/lib64/libonnxruntime.so",
    "/usr/lib/libonnxruntime.so",
];

/// What to do about a library that cannot be used.
const ADVICE: &str = "set engine.onnxruntime_library (FORESHADOW_ENGINE_ONNXRUNTIME_LIBRARY, or \
                      ORT_DYLIB_PATH) to the path of libonnxruntime.so, version 1.17 or later";

/// The loaded library.
struct Loaded {
    identity: String,
    release: String,
    environment: Environment,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// The file behind the setting, or an error that says what to set.
fn find(setting: Option<&Path>) -> Result<PathBuf, EngineError> {
    let found = match setting {
        Some(path) => std::fs::canonicalize(path)
            .map_err(|error| format!("the library {} cannot be read: {error}", path.display())),
        None => SYSTEM
            .map(|path| path.replace("{arch}", std::env::consts::ARCH))
            .iter()
            .find_map(|path| std::fs::canonicalize(path).ok())
            .ok_or_else(|| "no library is set, and the system has none".to_owned()),
    };
    found.map_err(|why| unusable(&why))
}

/// Which file it is, from outside: another one has another text.
pub(super) fn identity(setting: Option<&Path>) -> String {
    find(setting).map_or_else(|error| error.message, |path| identity_of(&path))
}

fn identity_of(path: &Path) -> String {
    let stamp = |m: &Metadata| format!("{} {} {}.{}", m.len(), m.ino(), m.mtime(), m.mtime_nsec());
    let stamp = path.metadata().as_ref().map_or_else(ToString::to_string, stamp);
    format!("{} {stamp}", path.display())
}

/// The release of the loaded library; empty before one is loaded.
pub(super) fn version() -> String {
    let loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    loaded.as_ref().map(|loaded| loaded.release.clone()).unwrap_or_default()
}

/// The release, which the library does not tell: the end of its file's name
/// (`libonnxruntime.so.1.20.0`), or else what it says of its build.
fn release(path: &Path, info: &str) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let end = name.split_once(".so.").map(|(_, end)| end.to_owned());
    end.unwrap_or_else(|| info.to_owned())
}

/// The environment of the process's library, which is loaded now if it is not
/// yet.
pub(super) fn environment(setting: Option<&Path>) -> Result<Environment, EngineError> {
    let path = find(setting)?;
    let identity = identity_of(&path);
    // Whole after a panic: it is filled by one assignment.
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    match &*loaded {
        Some(known) if known.identity == identity => return Ok(known.environment.clone()),
        Some(known) => {
            return Err(EngineError::new(
                EngineErrorKind::Unsupported,
                format!(
                    "onnxruntime: the library changed: this process has loaded {:?} and cannot \
                     exchange it for {identity:?}; restart the gateway",
                    known.identity
                ),
            ));
        }
        None => {}
    }
    // The crate panics where a library is not what it says.
    let environment = catch_unwind(AssertUnwindSafe(|| initialise(&path)))
        .unwrap_or_else(|_| Err(unusable(&format!("{} is no ONNX Runtime", path.display()))))?;
    let release = release(&path, ort::info());
    *loaded = Some(Loaded { identity, release, environment: environment.clone() });
    Ok(environment)
}

fn initialise(path: &Path) -> Result<Environment, EngineError> {
    let builder = ort::init_from(path).map_err(|error| unusable(&error.to_string()))?;
    let environment = builder
        .with_name(NAME)
        .with_telemetry(false)
        .with_logger(Arc::new(|level, category, _id, _place, message| {
            // A panic must not cross into the library.
            let _ = catch_unwind(AssertUnwindSafe(|| log(level, category, message)));
        }))
        .build()
        .map_err(|error| unusable(&error.to_string()))?;
    environment.set_log_level(LogLevel::Warning);
    tracing::info!(library = %path.display(), build = ort::info(), "onnxruntime loaded");
    Ok(environment)
}

fn log(level: LogLevel, category: &str, message: &str) {
    match level {
        LogLevel::Fatal | LogLevel::Error => tracing::error!(category, "onnxruntime: {message}"),
        LogLevel::Warning => tracing::warn!(category, "onnxruntime: {message}"),
        LogLevel::Info | LogLevel::Verbose => tracing::trace!(category, "onnxruntime: {message}"),
    }
}

fn unusable(why: &str) -> EngineError {
    EngineError::new(EngineErrorKind::Unsupported, format!("onnxruntime: {why}; {ADVICE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_comes_from_the_files_name_or_the_build() {
        let named = Path::new("/usr/lib/libonnxruntime.so.1.20.0");
        assert_eq!(release(named, "ORT Build Info: x"), "1.20.0");
        let plain = Path::new("/usr/lib/libonnxruntime.so");
        assert_eq!(release(plain, "ORT Build Info: x"), "ORT Build Info: x");
    }
}
