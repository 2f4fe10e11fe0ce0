//! Loading and unloading at a client's word.

use super::*;
use crate::types::{IndexEntry, ModelState, Wish};

impl Gateway {
    async fn grant(&self, wish: Wish, version: Option<u64>) -> crate::error::Result<()> {
        let by = Provenance { actor: "bob".into(), reason: None };
        let churn = churn();
        let granted = self.control.grant(wish, &churn, version.map(id), by);
        tokio::time::timeout(Duration::from_secs(20), granted).await.expect("it ends")
    }

    async fn until_all(&self, state: State) -> Arc<ModelView> {
        let there = |v: &&crate::registry::VersionView| v.state != State::Retired;
        self.until(|view| view.versions.iter().filter(there).all(|v| v.state == state)).await
    }
}

#[tokio::test]
async fn an_unloaded_model_is_not_there_and_comes_back_as_it_was() {
    let gateway = Gateway::open(repository(Some(THREE_ROLES), &[(1, "a"), (2, "b"), (3, "c")]));
    gateway.until_roles("1/2@10%/3@100%").await;
    gateway.grant(Wish::Unload, None).await.unwrap();
    assert!(gateway.catalog.slot("churn").is_none());
    // Nor does it come back by itself, or with a new version.
    add(&gateway.root, 4, &[("model.onnx", "d")]);
    gateway.until_state(4, State::Unloaded).await;
    let view = gateway.until_all(State::Unloaded).await;
    assert_eq!((roles(&view).as_str(), &view.problems[..]), ("-/-/-", &[][..]));
    assert!(!gateway.metrics.render().contains("foreshadow_weight{"));
    let refused = gateway.change(Change::Promote { version: id(2) }).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict);
    // Twice is as good as once.
    gateway.grant(Wish::Unload, None).await.unwrap();
    gateway.grant(Wish::Load, None).await.unwrap();
    let view = gateway.until_roles("1/2@10%/3@100%").await;
    assert_eq!(state(&view, 4), Some(State::Ready));
    assert!(gateway.plan().champion.is_some());
    let history = gateway.store.history(Some(&churn()), 100).await.unwrap();
    let mine: Vec<_> = history.iter().rev().filter(|entry| entry.actor == "bob").collect();
    let actions: Vec<_> = mine.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["unload", "unload", "load"]);
    assert_eq!(mine[0].from, "champion 1, canary 2 at 10%, shadow 3 at 100%");
    assert_eq!(mine[0].to, "nobody");
}

#[tokio::test]
async fn what_runs_is_finished_before_the_memory_is_free() {
    let gateway = Gateway::open(repository(None, &[(1, "a")]));
    gateway.until_ready().await;
    let held = gateway.plan();
    gateway.grant(Wish::Unload, None).await.unwrap();
    gateway.until_state(1, State::Retiring).await;
    let index = gateway.control.index();
    let entry = IndexEntry {
        model: churn(),
        version: Some(id(1)),
        state: ModelState::Unloading,
        reason: "unloaded".into(),
    };
    assert_eq!(index, [entry]);
    // Who loads it meanwhile waits for that, too.
    let mut load = Box::pin(gateway.grant(Wish::Load, None));
    tokio::select! {
        biased;
        _ = &mut load => panic!("its former life is not over"),
        _ = gateway.until(|view| view.versions[0].state == State::Retiring) => {}
    }
    drop(held);
    load.await.unwrap();
    gateway.until_roles("1/-/-").await;
}

#[tokio::test]
async fn a_load_looks_now_and_tries_again_what_failed() {
    let gateway = Gateway::open(repository(None, &[(1, "a"), (2, "broken at first")]));
    gateway.until_state(2, State::Failed).await;
    gateway.until_roles("1/-/-").await;
    let error = gateway.grant(Wish::Load, None).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    let message = error.message();
    let expected = "model churn is not loaded: version 2: ";
    assert!(
        message.starts_with(expected) && message.ends_with("(serving: champion 1)"),
        "{message}"
    );
    let file = gateway.root.path().join("models/churn/2/model.onnx");
    fs::write(file, "b, mended").unwrap();
    gateway.grant(Wish::Load, Some(2)).await.unwrap();
    gateway.until_state(2, State::Ready).await;
    // What is loaded already is left as it is.
    gateway.grant(Wish::Load, None).await.unwrap();
    add(&gateway.root, 3, &[("model.onnx", "c")]);
    gateway.grant(Wish::Load, None).await.unwrap();
    gateway.until_state(3, State::Ready).await;
    let error = gateway.grant(Wish::Load, Some(9)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn a_model_that_is_new_is_found_and_one_that_is_not_there_is_none() {
    let gateway = Gateway::open(repository(None, &[(1, "a")]));
    gateway.until_ready().await;
    let load = |name: &str| {
        let by = Provenance { actor: "bob".into(), reason: None };
        let (control, name) = (gateway.control.clone(), ModelName::new(name).unwrap());
        async move { control.grant(Wish::Load, &name, None, by).await }
    };
    let error = load("fresh").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound);
    let models = gateway.root.path().join("models");
    fs::create_dir_all(models.join(".new/1")).unwrap();
    fs::write(models.join(".new/1/model.onnx"), "f").unwrap();
    fs::rename(models.join(".new"), models.join("fresh")).unwrap();
    load("fresh").await.unwrap();
    assert!(gateway.catalog.slot("fresh").unwrap().load().champion.is_some());
    fs::create_dir_all(models.join("hollow/1")).unwrap();
    let error = load("hollow").await.unwrap_err();
    assert!(error.message().contains("version 1: waits for model.onnx"), "{error}");
    let hollow = gateway.control.index().into_iter().find(|e| e.model.as_str() == "hollow");
    assert_eq!(hollow.map(|e| (e.version, e.state)), Some((Some(id(1)), ModelState::Unavailable)));
}

#[tokio::test]
async fn one_version_leaves_and_comes_back_without_a_role() {
    let toml = "on_new_version = \"promote\"";
    let gateway = Gateway::open(repository(Some(toml), &[(1, "a"), (2, "b")]));
    gateway.until_roles("2/-/-").await;
    gateway.until_state(1, State::Ready).await;
    gateway.change(Change::Promote { version: id(1) }).await.unwrap();
    let error = gateway.grant(Wish::Unload, Some(1)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    assert!(error.message().contains("version 1 is champion"), "{error}");
    gateway.grant(Wish::Unload, Some(2)).await.unwrap();
    gateway.until_state(2, State::Unloaded).await;
    assert_eq!(gateway.plan().ready.keys().copied().collect::<Vec<_>>(), [id(1)]);
    gateway.grant(Wish::Load, Some(2)).await.unwrap();
    let view = gateway.until_state(2, State::Ready).await;
    // The policy is for versions that are new.
    assert_eq!(roles(&view), "1/-/-");
}

#[tokio::test]
async fn what_was_unloaded_stays_so_over_a_restart() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let gateway = Gateway::open_with(repository(Some(""), &[(1, "a")]), Arc::clone(&store));
    gateway.until_ready().await;
    gateway.grant(Wish::Unload, None).await.unwrap();
    gateway.registry.stop().await;
    let gateway = Gateway::open_with(repository(Some(""), &[(1, "a")]), store);
    gateway.until_ready().await;
    gateway.until_state(1, State::Unloaded).await;
    assert!(gateway.catalog.slot("churn").is_none());
    // Once its folder is gone for good, so is what was wanted of that version.
    fs::remove_dir_all(gateway.root.path().join("models/churn/1")).unwrap();
    gateway.until(|view| view.versions.is_empty()).await;
    add(&gateway.root, 2, &[("model.onnx", "b")]);
    gateway.until_state(2, State::Unloaded).await;
    gateway.grant(Wish::Load, None).await.unwrap();
    gateway.until_roles("2/-/-").await;
}

#[tokio::test]
async fn what_never_served_cannot_be_unloaded() {
    let gateway = Gateway::open(repository(None, &[(1, "broken")]));
    gateway.until_state(1, State::Failed).await;
    // Tried, but a gateway that answers nothing is not ready.
    gateway.until_tried().await;
    assert_eq!(gateway.readiness.as_str(), "waiting for models that serve");
    let error = gateway.grant(Wish::Unload, None).await.unwrap_err();
    assert!(error.message().contains("has never served"), "{error}");
    // A failed first version is mended and loaded.
    fs::write(gateway.root.path().join("models/churn/1/model.onnx"), "a").unwrap();
    gateway.grant(Wish::Load, None).await.unwrap();
    gateway.until_roles("1/-/-").await;
    gateway.until_ready().await;
}
