//! The whole registry over real files, with an engine and a preflight that
//! only pretend.

mod files;
mod gate;
mod loading;
mod restore;
mod roles;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use crate::engine::EngineSet;
use crate::error::{Error, ErrorCode};
use crate::registry::testing::{FakeEngine, FakePreflight};
use crate::registry::{
    Change, Control, ModelView, Past, Prepared, Provenance, Registry, RegistrySettings, State,
    Unrecorded,
};
use crate::routing::{Catalog, Plan};
use crate::store::{AuditEntry, Kept, Memory, NewEntry, Pending, Store, Unloaded, Wanted};
use crate::telemetry::Metrics;
use crate::types::{ModelName, Readiness, Share, VersionId};

const THREE_ROLES: &str = r#"
[start]
champion = 1
canary = { version = 2, weight = "10%" }
shadows = [{ version = 3, sample = "100%" }]
"#;

struct Gateway {
    root: tempfile::TempDir,
    control: Control,
    registry: Registry,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    store: Arc<dyn Store>,
}

fn id(n: u64) -> VersionId {
    VersionId::new(n).unwrap()
}

fn churn() -> ModelName {
    ModelName::new("churn").unwrap()
}

fn share(percent: f64) -> Share {
    Share::from_percent(percent).unwrap()
}

/// A repository with these versions of one model.
fn repository(model_toml: Option<&str>, versions: &[(u64, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("models/churn")).unwrap();
    if let Some(text) = model_toml {
        fs::write(root.path().join("models/churn/model.toml"), text).unwrap();
    }
    for (number, artifact) in versions {
        add(&root, *number, &[("model.onnx", artifact)]);
    }
    root
}

/// Adds a version as an upload should: by one rename.
fn add(root: &tempfile::TempDir, number: u64, files: &[(&str, &str)]) {
    let model = root.path().join("models/churn");
    let hidden = model.join(format!(".upload-{number}"));
    fs::create_dir_all(&hidden).unwrap();
    for (name, text) in files {
        fs::write(hidden.join(name), text).unwrap();
    }
    fs::rename(hidden, model.join(number.to_string())).unwrap();
}

impl Gateway {
    fn open(root: tempfile::TempDir) -> Self {
        Self::open_with(root, Arc::new(Memory::default()))
    }

    fn open_with(root: tempfile::TempDir, store: Arc<dyn Store>) -> Self {
        Self::open_keeping(root, store, RegistrySettings::default().keep_versions, Duration::ZERO)
    }

    fn open_keeping(
        root: tempfile::TempDir,
        store: Arc<dyn Store>,
        keep_versions: usize,
        retire_after: Duration,
    ) -> Self {
        Self::open_after(root, store, keep_versions, retire_after, Vec::new())
    }

    fn open_after(
        root: tempfile::TempDir,
        store: Arc<dyn Store>,
        keep_versions: usize,
        retire_after: Duration,
        unrecorded: Vec<Unrecorded>,
    ) -> Self {
        let settings = RegistrySettings {
            keep_versions,
            retire_after,
            models_dir: root.path().join("models"),
            state_dir: root.path().join("state"),
            rescan: Duration::from_millis(50),
            settle: Duration::from_millis(100),
            ..RegistrySettings::default()
        };
        let catalog = Arc::new(Catalog::default());
        let metrics = Arc::new(Metrics::new());
        let readiness = Readiness::default();
        let past = Past { store: Arc::clone(&store), unrecorded };
        let (control, registry) = Registry::spawn(
            Prepared::new(settings).unwrap(),
            EngineSet::default().with(Arc::new(FakeEngine)),
            Arc::new(FakePreflight),
            past,
            Arc::clone(&catalog),
            Arc::clone(&metrics),
            readiness.clone(),
        )
        .unwrap();
        Self { root, control, registry, catalog, metrics, readiness, store }
    }

    /// Waits until the model looks like this.
    async fn until(&self, test: impl Fn(&ModelView) -> bool) -> Arc<ModelView> {
        let look = |control: &Control| control.model(&churn()).ok().filter(|view| test(view));
        let waited = tokio::time::timeout(Duration::from_secs(20), self.control.wait_for(look));
        waited.await.unwrap_or_else(|_| panic!("{:#?}", self.control.model(&churn())))
    }

    async fn until_roles(&self, roles: &str) -> Arc<ModelView> {
        self.until(|view| self::roles(view) == roles).await
    }

    async fn until_state(&self, version: u64, state: State) -> Arc<ModelView> {
        self.until(|view| self::state(view, version) == Some(state)).await
    }

    /// Tried, whether or not something serves.
    async fn until_tried(&self) {
        let look = |_: &Control| self.readiness.is_tried().then_some(());
        tokio::time::timeout(Duration::from_secs(20), self.control.wait_for(look)).await.unwrap();
    }

    async fn until_ready(&self) {
        let look = |_: &Control| self.readiness.is_ready().then_some(());
        tokio::time::timeout(Duration::from_secs(20), self.control.wait_for(look)).await.unwrap();
    }

    async fn change(&self, change: Change) -> crate::error::Result<Arc<ModelView>> {
        let by = Provenance { actor: "ann".into(), reason: Some("a test".into()) };
        self.control.change(&churn(), change, by).await
    }

    fn plan(&self) -> Arc<Plan> {
        self.catalog.slot("churn").unwrap().load()
    }

    async fn actions(&self) -> Vec<String> {
        let history = self.store.history(Some(&churn()), 100).await.unwrap();
        history.into_iter().rev().map(|entry| entry.action).collect()
    }
}

/// `1/2@10%/3@100%`: champion, canary, shadows; `-` for none.
fn roles(view: &ModelView) -> String {
    let plan = &view.plan;
    let champion = plan.champion.as_ref().map_or("-".into(), |arm| arm.version.to_string());
    let canary = plan.canary.as_ref();
    let canary = canary.map_or("-".into(), |c| format!("{}@{}", c.version, c.weight));
    let shadows: Vec<_> =
        plan.shadows.iter().map(|s| format!("{}@{}", s.version, s.sample)).collect();
    let shadows = if shadows.is_empty() { "-".to_owned() } else { shadows.join(",") };
    format!("{champion}/{canary}/{shadows}")
}

fn state(view: &ModelView, version: u64) -> Option<State> {
    view.versions.iter().find(|v| v.version == id(version)).map(|v| v.state)
}

fn reason(view: &ModelView, version: u64) -> String {
    let version = view.versions.iter().find(|v| v.version == id(version));
    version.and_then(|v| v.reason.clone()).unwrap_or_default()
}
