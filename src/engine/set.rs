//! The engines that a process has, by name.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::engine::onnxruntime::OnnxRuntime;
use crate::engine::tract::Tract;
use crate::error::{Error, ErrorCode, Result};

/// What engines need to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineSettings {
    /// The shared library of ONNX Runtime; the system's, for `None`.
    pub onnxruntime_library: Option<PathBuf>,
}

/// Engines by name. Few, so a list is enough.
#[derive(Clone, Default)]
pub struct EngineSet {
    engines: Vec<Arc<dyn Engine>>,
}

impl EngineSet {
    /// What the binary is built with.
    #[must_use]
    pub fn standard(settings: &EngineSettings) -> Self {
        let onnxruntime = OnnxRuntime::new(settings.onnxruntime_library.clone());
        Self::default().with(Arc::new(Tract::new())).with(Arc::new(onnxruntime))
    }

    /// Adds `engine`; it replaces one of the same name.
    #[must_use]
    pub fn with(mut self, engine: Arc<dyn Engine>) -> Self {
        self.engines.retain(|known| known.name() != engine.name());
        self.engines.push(engine);
        self
    }

    /// The engine called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Engine>> {
        self.engines.iter().find(|engine| engine.name() == name)
    }

    /// Like [`EngineSet::get`], with an error that lists the known names.
    pub fn require(&self, name: &str) -> Result<&Arc<dyn Engine>> {
        self.get(name).ok_or_else(|| {
            let known = self.names().map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", ");
            Error::new(
                ErrorCode::InvalidArgument,
                format!("engine {name:?} is unknown; this server has {known}"),
            )
        })
    }

    /// The names, in the order of adding.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.engines.iter().map(|engine| engine.name())
    }
}

impl std::fmt::Debug for EngineSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::{EngineError, EngineErrorKind, Model};

    struct Named(&'static str);

    impl Engine for Named {
        fn name(&self) -> &'static str {
            self.0
        }

        fn load(&self, _: &Path) -> Result<Arc<dyn Model>, EngineError> {
            Err(EngineError::new(EngineErrorKind::Unsupported, "a name only"))
        }
    }

    #[test]
    fn engines_are_found_by_name() {
        let set = EngineSet::standard(&EngineSettings::default())
            .with(Arc::new(Named("fake")))
            .with(Arc::new(Named("fake")));
        assert_eq!(set.names().collect::<Vec<_>>(), ["tract", "onnxruntime", "fake"]);
        assert_eq!(set.get("fake").unwrap().name(), "fake");
        let error = set.require("onnx").err().unwrap();
        assert_eq!(
            error.message(),
            "engine \"onnx\" is unknown; this server has \"tract\", \"onnxruntime\", \"fake\""
        );
    }
}
