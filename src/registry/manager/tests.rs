//! The whole registry over real files, with an engine and a preflight that
//! only pretend.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use crate::engine::EngineSet;
use crate::error::{Error, ErrorCode};
use crate::registry::testing::{FakeEngine, FakePreflight};
use crate::registry::{Change, Control, ModelView, Provenance, Registry, RegistrySettings, State};
use crate::routing::{Catalog, Plan};
use crate::store::{AuditEntry, Memory, NewEntry, Pending, Store, Wanted};
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
        let settings = RegistrySettings {
            models_dir: root.path().join("models"),
            state_dir: root.path().join("state"),
            rescan: Duration::from_millis(50),
            settle: Duration::from_millis(100),
            ..RegistrySettings::default()
        };
        let catalog = Arc::new(Catalog::default());
        let metrics = Arc::new(Metrics::new());
        let readiness = Readiness::default();
        let (control, registry) = Registry::spawn(
            settings,
            EngineSet::default().with(Arc::new(FakeEngine)),
            Arc::new(FakePreflight),
            Arc::clone(&store),
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

#[tokio::test]
async fn a_new_model_starts_as_its_file_says() {
    let gateway = Gateway::open(repository(Some(THREE_ROLES), &[(1, "a"), (2, "b"), (3, "c")]));
    gateway.until_ready().await;
    let view = gateway.until_roles("1/2@10%/3@100%").await;
    assert!(view.versions.iter().all(|v| v.state == State::Ready), "{view:#?}");
    assert!(view.problems.is_empty(), "{:?}", view.problems);
    assert_eq!(gateway.plan().ready.len(), 3);
    let text = gateway.metrics.render();
    assert!(text.contains(r#"foreshadow_weight{model="churn",role="champion",version="1"} 0.9"#));
    assert!(
        text.contains(r#"foreshadow_version_state{model="churn",state="ready",version="3"} 1"#)
    );
    gateway.registry.stop().await;
}

#[tokio::test]
async fn without_a_word_the_highest_that_loads_is_champion() {
    let gateway = Gateway::open(repository(None, &[(1, "a"), (2, "b"), (3, "broken c")]));
    gateway.until_ready().await;
    let view = gateway.until_roles("2/-/-").await;
    assert_eq!(state(&view, 3), Some(State::Failed));
    assert_eq!(reason(&view, 3), "broken c");
}

#[tokio::test]
async fn no_version_becomes_champion_by_appearing() {
    let gateway = Gateway::open(repository(None, &[(1, "a")]));
    gateway.until_roles("1/-/-").await;
    add(&gateway.root, 2, &[("model.onnx", "b")]);
    let view = gateway.until_state(2, State::Ready).await;
    assert_eq!(roles(&view), "1/-/-");
    assert!(gateway.plan().ready.contains_key(&id(2)), "it can be pinned");
}

#[tokio::test]
async fn a_policy_may_give_a_new_version_a_role() {
    for (policy, expected) in [("shadow", "1/-/2@100%"), ("promote", "2/-/-")] {
        let toml = format!("on_new_version = \"{policy}\"");
        let gateway = Gateway::open(repository(Some(&toml), &[(1, "a")]));
        gateway.until_roles("1/-/-").await;
        add(&gateway.root, 2, &[("model.onnx", "b")]);
        gateway.until_roles(expected).await;
    }
}

#[tokio::test]
async fn operators_change_who_answers() {
    let gateway = Gateway::open(repository(Some(THREE_ROLES), &[(1, "a"), (2, "b"), (3, "c")]));
    gateway.until_roles("1/2@10%/3@100%").await;
    let before = gateway.plan();
    let set = Change::SetCanary { version: id(2), weight: share(25.0) };
    assert_eq!(roles(&*gateway.change(set).await.unwrap()), "1/2@25%/3@100%");
    assert_eq!(gateway.plan().salt, before.salt, "nobody changes sides with the weight");
    let promoted = gateway.change(Change::Promote { version: id(2) }).await.unwrap();
    assert_eq!(roles(&promoted), "2/-/3@100%");
    assert_eq!(promoted.plan.previous_champion, Some(id(1)));
    assert_eq!(gateway.plan().champion.as_ref().unwrap().version.id(), id(2));
    let back = gateway.change(Change::Rollback).await.unwrap();
    assert_eq!(roles(&back), "1/-/3@100%");
    let error = gateway.change(Change::Rollback).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    let error = gateway.change(Change::Promote { version: id(9) }).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound);
    assert!(error.message().contains("versions: 1, 2, 3"), "{error}");
    let newest = &gateway.store.history(Some(&churn()), 1).await.unwrap()[0];
    assert_eq!((newest.actor.as_str(), newest.action.as_str()), ("ann", "rollback"));
    assert_eq!(newest.from, "champion 2, shadow 3 at 100%");
    assert_eq!(newest.to, "champion 1, shadow 3 at 100%");
}

#[tokio::test]
async fn what_fails_changes_nothing_and_says_why() {
    let gateway = Gateway::open(repository(None, &[(1, "a")]));
    gateway.until_roles("1/-/-").await;
    let generation = gateway.plan().generation;
    let cases: [(u64, &[(&str, &str)], &str); 4] = [
        (2, &[("model.onnx", "broken here")], "broken here"),
        (3, &[("model.onnx", "hostile")], "preflight: hostile"),
        (
            4,
            &[("model.onnx", "b"), ("version.toml", "autor = 1")],
            "version.toml, line 1, column 1",
        ),
        (
            5,
            &[("model.onnx", "b"), ("version.toml", "artifact_digest = \"12\"")],
            "artifact_digest",
        ),
    ];
    for (number, files, expected) in cases {
        add(&gateway.root, number, files);
        let view = gateway.until_state(number, State::Failed).await;
        assert!(reason(&view, number).contains(expected), "{}", reason(&view, number));
    }
    assert_eq!(gateway.plan().generation, generation);
    let error = gateway.change(Change::Promote { version: id(2) }).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
}

#[tokio::test]
async fn a_stated_digest_is_waited_for() {
    /// SHA-256 of "abc", from FIPS 180-2.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let gateway = Gateway::open(repository(None, &[]));
    let stated = format!("author = \"ann\"\nartifact_digest = \"{ABC}\"");
    add(&gateway.root, 1, &[("model.onnx", "a"), ("version.toml", &stated)]);
    let view = gateway.until(|view| reason(view, 1).contains(ABC)).await;
    assert_eq!(state(&view, 1), Some(State::Discovered));
    // It holds readiness back no longer than it takes to see that.
    gateway.until_ready().await;
    fs::write(gateway.root.path().join("models/churn/1/model.onnx"), "abc").unwrap();
    let view = gateway.until_roles("1/-/-").await;
    assert_eq!(view.versions[0].digest, Some(format!("sha256:{ABC}")));
    assert_eq!(view.versions[0].lineage.author.as_deref(), Some("ann"));
}

#[tokio::test]
async fn files_that_arrive_slowly_are_waited_for() {
    let gateway = Gateway::open(repository(None, &[]));
    let folder = gateway.root.path().join("models/churn/1");
    fs::create_dir(&folder).unwrap();
    let view = gateway.until_state(1, State::Discovered).await;
    assert!(reason(&view, 1).contains("model.onnx"), "{view:?}");
    fs::write(folder.join("model.onnx"), "a").unwrap();
    gateway.until_roles("1/-/-").await;
}

#[tokio::test]
async fn a_changed_file_is_reported_and_not_loaded() {
    let gateway = Gateway::open(repository(None, &[(1, "a")]));
    let view = gateway.until_roles("1/-/-").await;
    let artifact = gateway.root.path().join("models/churn/1/model.onnx");
    fs::write(&artifact, "changed").unwrap();
    let changed = gateway.until(|view| !view.problems.is_empty()).await;
    assert!(changed.problems[0].contains("push it under a new number"), "{changed:?}");
    assert_eq!(changed.versions[0].digest, view.versions[0].digest);
    assert_eq!(state(&changed, 1), Some(State::Ready));
    // Put back, it is as if nothing had been.
    fs::write(&artifact, "a").unwrap();
    gateway.until(|view| view.problems.is_empty()).await;
}

#[tokio::test]
async fn a_removed_folder_retires_its_version_unless_it_serves() {
    let gateway = Gateway::open(repository(None, &[(1, "a"), (2, "b"), (3, "c")]));
    gateway.until_roles("3/-/-").await;
    gateway.until_state(1, State::Ready).await;
    let request = gateway.plan();
    let folder = |n: u64| gateway.root.path().join("models/churn").join(n.to_string());
    fs::remove_dir_all(folder(1)).unwrap();
    fs::remove_dir_all(folder(3)).unwrap();
    let view = gateway.until(|view| reason(view, 3).contains("leaves the plan")).await;
    assert_eq!(roles(&view), "3/-/-");
    gateway.until_state(1, State::Retiring).await;
    assert!(!gateway.plan().ready.contains_key(&id(1)));
    assert!(request.ready.contains_key(&id(1)), "a request goes on on its plan");
    drop(request);
    gateway.until_state(1, State::Retired).await;
    assert!(!gateway.metrics.render().contains("version=\"1\""));
    // The champion leaves the plan, and with it the process.
    gateway.change(Change::Promote { version: id(2) }).await.unwrap();
    gateway.until_state(3, State::Retired).await;
    let error = gateway.change(Change::Rollback).await.unwrap_err();
    assert!(error.message().contains("no previous champion"), "{error}");
    // Its number is free again.
    add(&gateway.root, 3, &[("model.onnx", "d")]);
    gateway
        .until(|view| view.versions.iter().any(|v| v.version == id(3) && v.state == State::Ready))
        .await;
}

#[tokio::test]
async fn a_model_whose_folder_is_gone_keeps_serving() {
    let gateway = Gateway::open(repository(None, &[(1, "a"), (2, "b")]));
    gateway.until_roles("2/-/-").await;
    gateway.until_state(1, State::Ready).await;
    fs::remove_dir_all(gateway.root.path().join("models/churn")).unwrap();
    let view = gateway.until_state(1, State::Retired).await;
    assert_eq!(roles(&view), "2/-/-");
    assert!(view.problems[0].contains("its folder is gone"), "{view:?}");
}

#[tokio::test]
async fn a_bad_model_file_stops_a_new_model_and_leaves_an_old_one_alone() {
    let gateway = Gateway::open(repository(Some("ownr = 1"), &[(1, "a")]));
    gateway.until_ready().await;
    let view = gateway.until(|view| !view.problems.is_empty()).await;
    assert!(view.problems[0].contains("line 1, column 1") && view.problems[0].contains("ownr"));
    assert_eq!(state(&view, 1), Some(State::Discovered));
    let file = gateway.root.path().join("models/churn/model.toml");
    fs::write(&file, "allow_forced_role = true").unwrap();
    gateway.until_roles("1/-/-").await;
    assert!(gateway.plan().settings.allow_forced_role);
    fs::write(&file, "allow_forced_role = 7").unwrap();
    gateway.until(|view| !view.problems.is_empty()).await;
    assert!(gateway.plan().settings.allow_forced_role, "the last good settings stay");
    fs::write(&file, "").unwrap();
    gateway.until(|view| view.problems.is_empty()).await;
    assert!(!gateway.plan().settings.allow_forced_role);
    assert_eq!(gateway.actions().await.last().unwrap(), "settings changed");
}

#[tokio::test]
async fn what_is_wanted_outlives_the_process() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let wanted = Wanted {
        champion: Some(id(1)),
        previous: vec![id(3)],
        canary: Some((id(2), share(5.0))),
        shadows: vec![],
        salt: [9; 16],
    };
    let entry = NewEntry {
        actor: "before".into(),
        action: "promote 1".into(),
        reason: None,
        from: String::new(),
        to: String::new(),
    };
    store.record(&churn(), entry, &wanted).await.unwrap();
    // Nobody asks [start] any more.
    let root = repository(Some(THREE_ROLES), &[(1, "a"), (2, "b"), (3, "c")]);
    let gateway = Gateway::open_with(root, Arc::clone(&store));
    gateway.until_ready().await;
    let view = gateway.until_roles("1/2@5%/-").await;
    assert_eq!(view.plan.previous_champion, Some(id(3)));
    assert_eq!(gateway.plan().salt, crate::routing::Salt::new([9; 16]));
    gateway.registry.stop().await;

    let root = repository(None, &[(1, "broken"), (2, "b"), (3, "c")]);
    let gateway = Gateway::open_with(root, store);
    gateway.until_ready().await;
    let view = gateway.until_roles("3/2@5%/-").await;
    assert!(view.problems[0].contains("version 3 serves in its place"), "{view:?}");
}

/// Fails to record while it is told to.
#[derive(Default)]
struct Moody {
    memory: Memory,
    fails: AtomicBool,
}

impl Store for Moody {
    fn wanted<'a>(&'a self, model: &'a ModelName) -> Pending<'a, Option<Wanted>> {
        self.memory.wanted(model)
    }

    fn record<'a>(
        &'a self,
        model: &'a ModelName,
        entry: NewEntry,
        wanted: &'a Wanted,
    ) -> Pending<'a, AuditEntry> {
        if self.fails.load(SeqCst) {
            return Box::pin(async { Err(Error::new(ErrorCode::Unavailable, "disk full")) });
        }
        self.memory.record(model, entry, wanted)
    }

    fn history<'a>(
        &'a self,
        model: Option<&'a ModelName>,
        limit: usize,
    ) -> Pending<'a, Vec<AuditEntry>> {
        self.memory.history(model, limit)
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_is_refused_unless_it_reduces_risk() {
    let store = Arc::new(Moody::default());
    let root = repository(Some(THREE_ROLES), &[(1, "a"), (2, "b"), (3, "c")]);
    let gateway = Gateway::open_with(root, Arc::clone(&store) as Arc<dyn Store>);
    gateway.until_roles("1/2@10%/3@100%").await;
    store.fails.store(true, SeqCst);
    let error = gateway.change(Change::Promote { version: id(2) }).await.unwrap_err();
    assert!(error.message().contains("nothing was changed: disk full"), "{error}");
    let lower = Change::SetCanary { version: id(2), weight: share(1.0) };
    let view = gateway.change(lower).await.unwrap();
    assert_eq!(roles(&view), "1/2@1%/3@100%");
    assert!(view.problems[0].contains("could not be recorded"), "{view:?}");
    store.fails.store(false, SeqCst);
    let view = gateway.change(Change::RemoveCanary).await.unwrap();
    assert!(view.problems.is_empty(), "{view:?}");
    let actions = gateway.actions().await;
    assert_eq!(actions[actions.len() - 2..], ["canary 2 at 1%", "remove canary"]);
}

#[tokio::test]
async fn what_nobody_needs_is_removed_from_the_state_folder() {
    let root = repository(None, &[(1, "a"), (2, "b")]);
    let blobs = root.path().join("state/blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join("0".repeat(64)), "of a version that is gone").unwrap();
    let gateway = Gateway::open(root);
    gateway.until_ready().await;
    let stored = |count| {
        let blobs = blobs.clone();
        move |_: &Control| (fs::read_dir(&blobs).unwrap().count() == count).then_some(())
    };
    gateway.control.wait_for(stored(2)).await;
    fs::remove_dir_all(gateway.root.path().join("models/churn/1")).unwrap();
    gateway.until_state(1, State::Retired).await;
    gateway.control.wait_for(stored(1)).await;
}

#[tokio::test]
async fn a_start_that_names_what_is_not_there_is_a_problem() {
    let gateway = Gateway::open(repository(Some(THREE_ROLES), &[(1, "broken"), (2, "b")]));
    gateway.until_ready().await;
    let view = gateway.until_state(2, State::Ready).await;
    assert_eq!(roles(&view), "-/-/-");
    let problems = view.problems.join("\n");
    assert!(problems.contains("version 1, which is not ready"), "{problems}");
    assert!(problems.contains("version 3, which has no folder"), "{problems}");
    assert!(gateway.catalog.slot("churn").is_none());
    let view = gateway.change(Change::Promote { version: id(2) }).await.unwrap();
    assert_eq!(roles(&view), "2/-/-");
}

#[tokio::test]
async fn many_promotions_are_quick_and_each_is_recorded() {
    let gateway = Gateway::open(repository(None, &[(1, "a"), (2, "b")]));
    gateway.until_roles("2/-/-").await;
    gateway.until_state(1, State::Ready).await;
    let generation = gateway.plan().generation;
    let started = std::time::Instant::now();
    for i in 0..500 {
        gateway.change(Change::Promote { version: id(1 + i % 2) }).await.unwrap();
    }
    // Unoptimised, and on a busy machine.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(gateway.plan().generation, generation + 500);
    let history = gateway.store.history(Some(&churn()), 1000).await.unwrap();
    assert_eq!(history.iter().filter(|e| e.action.starts_with("promote")).count(), 500);
}

#[tokio::test]
async fn a_missing_models_folder_is_named() {
    let root = tempfile::tempdir().unwrap();
    let settings =
        RegistrySettings { models_dir: root.path().join("nope"), ..RegistrySettings::default() };
    let result = Registry::spawn(
        settings,
        EngineSet::default(),
        Arc::new(FakePreflight),
        Arc::new(Memory::default()),
        Arc::default(),
        Arc::default(),
        Readiness::default(),
    );
    let error = result.err().unwrap();
    assert!(error.message().contains("nope"), "{error}");
}

#[tokio::test]
async fn stopping_refuses_changes_and_leaves_the_plan() {
    let gateway = Gateway::open(repository(None, &[(1, "a")]));
    gateway.until_roles("1/-/-").await;
    let control = gateway.control.clone();
    let started = std::time::Instant::now();
    gateway.registry.stop().await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let by = Provenance { actor: "ann".into(), reason: None };
    let error = control.change(&churn(), Change::RemoveCanary, by).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(gateway.catalog.slot("churn").unwrap().load().champion.is_some());
}
