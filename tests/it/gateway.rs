//! A gateway in this process, over a repository of scripted versions.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foreshadow::app::{App, Parts};
use foreshadow::config::{Config, FlagValue, Sources};
use foreshadow::engine::EngineSet;
use foreshadow::registry::preflight::{
    Candidate, Failure, Preflight, Report, RowsReport, RowsVerdict,
};
use foreshadow::registry::{Change, Provenance};
use foreshadow::types::{ModelName, VersionId};
use tempfile::TempDir;

use crate::engine::Scripted;
use crate::http::Client;

/// Nothing here should take this long: it only ends a test that hangs.
pub(crate) const HANG: Duration = Duration::from_secs(300);

/// Finds nothing wrong: a scripted engine lives in this process only.
struct Trusting;

impl Preflight for Trusting {
    /// The rows of what doubles are independent.
    fn try_candidate(&self, candidate: &Candidate) -> Result<Report, Failure> {
        let script = std::fs::read_to_string(&candidate.artifact).unwrap();
        let verdict = match script.starts_with("doubles") {
            true => RowsVerdict::Independent,
            false => RowsVerdict::Unknown,
        };
        let rows = RowsReport { verdict, ..RowsReport::default() };
        Ok(Report { rows, ..Report::default() })
    }
}

/// A running app, its folders, and the engine behind it.
pub(crate) struct Gateway {
    pub(crate) app: App,
    pub(crate) engine: Arc<Scripted>,
    folder: TempDir,
}

/// Model `m`: `model.toml` and one script per version, from version 1.
pub(crate) fn start(model_toml: &str, scripts: &[&str]) -> Gateway {
    start_with(model_toml, scripts, &[])
}

/// The same with settings (`section.key`, value) of one's own.
pub(crate) fn start_with(
    model_toml: &str,
    scripts: &[&str],
    settings: &[(&'static str, &str)],
) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("models/m");
    for (i, script) in scripts.iter().enumerate() {
        write_version(&model, i + 1, script);
    }
    let text = format!("engine = \"scripted\"\n{model_toml}");
    std::fs::write(model.join("model.toml"), text).unwrap();
    let engine = Arc::new(Scripted::default());
    let config = config(folder.path(), settings);
    let parts = Parts {
        engines: EngineSet::default().with(engine.clone()),
        preflight: Arc::new(Trusting),
        // The real one, in the state folder: its answers take a while, as they do for users.
        store: None,
    };
    let app = App::start(&config, parts).unwrap();
    let gateway = Gateway { app, engine, folder };
    gateway.wait(|_| gateway.app.readiness().is_ready());
    gateway.engine.arm();
    gateway
}

/// A version folder that appears by rename, whole.
pub(crate) fn write_version(model: &Path, number: usize, script: &str) -> PathBuf {
    std::fs::create_dir_all(model).unwrap();
    let hidden = model.join(format!(".new-{number}"));
    std::fs::create_dir(&hidden).unwrap();
    std::fs::write(hidden.join("model.onnx"), script).unwrap();
    let whole = model.join(number.to_string());
    std::fs::rename(hidden, &whole).unwrap();
    whole
}

fn config(folder: &Path, settings: &[(&'static str, &str)]) -> Config {
    let flag = |key, value: &str| FlagValue { key, flag: "--test", value: value.to_owned() };
    let own = settings.iter().map(|(key, value)| flag(key, value));
    Config::load(&Sources {
        flags: vec![
            flag("server.listen", "127.0.0.1:0"),
            flag("grpc.listen", "127.0.0.1:0"),
            flag("admin.listen", "127.0.0.1:0"),
            flag("repository.models", folder.join("models").to_str().unwrap()),
            flag("repository.state", folder.join("state").to_str().unwrap()),
            flag("repository.settle", "10ms"),
        ]
        .into_iter()
        .chain(own)
        .collect(),
        ..Sources::default()
    })
    .unwrap()
}

impl Gateway {
    pub(crate) fn model_folder(&self) -> PathBuf {
        self.folder.path().join("models/m")
    }

    /// Waits until the board shows what is asked for.
    pub(crate) fn wait(&self, mut until: impl FnMut(&Self) -> bool) {
        let waiting = self.app.control().wait_for(|_| until(self).then_some(()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let waited = runtime.block_on(async { tokio::time::timeout(HANG, waiting).await });
        assert!(waited.is_ok(), "{:?}", self.app.control().models());
    }

    /// Waits until `/metrics` has this line.
    pub(crate) async fn wait_for_metric(&self, line: &str) {
        let mut client = Client::connect(self.app.admin_address()).await;
        let deadline = Instant::now() + HANG;
        loop {
            let text = client.get("/metrics").await.text();
            if text.lines().any(|l| l == line) {
                return;
            }
            let family = line.split(['{', ' ']).next().unwrap_or_default();
            let family: Vec<_> = text.lines().filter(|l| l.starts_with(family)).collect();
            assert!(Instant::now() < deadline, "no line {line:?} in {family:#?}");
        }
    }

    pub(crate) async fn change(&self, change: Change) {
        let by = Provenance { actor: "test".into(), reason: None };
        let model = ModelName::new("m").unwrap();
        self.app.control().change(&model, change, by).await.unwrap();
    }
}

pub(crate) fn version(number: u64) -> VersionId {
    VersionId::new(number).unwrap()
}
