//! Going back to former states, by their audit entries.

use super::*;

impl Gateway {
    /// The number of the newest entry.
    async fn entry(&self) -> u64 {
        self.store.history(Some(&churn()), 1).await.unwrap()[0].number
    }

    fn remove(&self, version: u64) {
        fs::remove_dir_all(self.root.path().join(format!("models/churn/{version}"))).unwrap();
    }

    /// Ends it, and starts another one over the same folders and store.
    async fn again(self) -> Self {
        let Self { root, registry, control, store, .. } = self;
        registry.stop().await;
        drop(control);
        Self::open_with(root, store)
    }
}

/// Version 2 is champion, 1 was before it, and its folder is gone. The entry when it
/// was.
async fn past_its_folder() -> (Gateway, u64) {
    let gateway = Gateway::open(repository(Some("[start]\nchampion = 1"), &[(1, "a"), (2, "b")]));
    gateway.until_roles("1/-/-").await;
    gateway.until_state(2, State::Ready).await;
    let entry = gateway.entry().await;
    gateway.change(Change::Promote { version: id(2) }).await.unwrap();
    gateway.remove(1);
    gateway.until_state(1, State::Retired).await;
    (gateway, entry)
}

#[tokio::test]
async fn a_former_state_comes_back_whole() {
    let root = repository(Some(THREE_ROLES), &[(1, "a"), (2, "b"), (3, "c")]);
    let gateway = Gateway::open(root);
    gateway.until_roles("1/2@10%/3@100%").await;
    let (entry, salt) = (gateway.entry().await, gateway.plan().salt);
    gateway.change(Change::Promote { version: id(2) }).await.unwrap();
    gateway.change(Change::RemoveShadow { version: id(3) }).await.unwrap();
    let later = gateway.entry().await;
    let view = gateway.change(Change::Restore { entry }).await.unwrap();
    assert_eq!(roles(&view), "1/2@10%/3@100%");
    assert_ne!(gateway.plan().salt, salt, "others than then are the canary's");
    let newest = gateway.store.history(Some(&churn()), 1).await.unwrap().remove(0);
    assert_eq!(newest.action, format!("rollback to entry {entry}"));
    assert_eq!((newest.actor.as_str(), newest.reason.as_deref()), ("ann", Some("a test")));
    assert_eq!(newest.from, "champion 2");
    // And forth.
    let view = gateway.change(Change::Restore { entry: later }).await.unwrap();
    assert_eq!(roles(&view), "2/-/-");
    assert_eq!(view.plan.previous_champion, Some(id(1)));
    let refused = async |entry| gateway.change(Change::Restore { entry }).await.unwrap_err();
    let error = refused(later).await;
    assert!(error.message().contains("that is how it is now"), "{error}");
    let error = refused(1000).await;
    assert_eq!(error.code(), ErrorCode::NotFound);
    assert!(error.message().starts_with("there is no audit entry 1000;"), "{error}");
}

#[tokio::test]
async fn an_entry_of_another_model_is_none() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let entry = NewEntry {
        actor: String::new(),
        action: String::new(),
        reason: None,
        from: String::new(),
        to: String::new(),
        rollout: None,
    };
    let fraud = ModelName::new("fraud").unwrap();
    let nobody = crate::registry::wanted::nobody([0; 16]);
    store.record(&fraud, entry, &nobody).await.unwrap();
    let gateway = Gateway::open_with(repository(None, &[(1, "a")]), store);
    gateway.until_roles("1/-/-").await;
    let error = gateway.change(Change::Restore { entry: 1 }).await.unwrap_err();
    assert!(error.message().contains("entry 1 is of model fraud, not of churn"), "{error}");
}

#[tokio::test]
async fn a_former_champion_stays_loaded_for_a_while() {
    let root = repository(Some("[start]\nchampion = 1"), &[(1, "a"), (2, "b"), (3, "c")]);
    let hour = Duration::from_secs(3600);
    let gateway = Gateway::open_keeping(root, Arc::new(Memory::default()), 10, hour);
    gateway.until_roles("1/-/-").await;
    gateway.until_state(3, State::Ready).await;
    gateway.until_state(2, State::Ready).await;
    gateway.change(Change::Promote { version: id(2) }).await.unwrap();
    let loaded = Arc::clone(&gateway.plan().ready[&id(1)].version);
    gateway.remove(1);
    gateway.remove(3);
    // Who never answered is not missed.
    gateway.until_state(3, State::Retired).await;
    let view = gateway.until(|view| reason(view, 1).contains("1h from when")).await;
    assert_eq!(state(&view, 1), Some(State::Ready));
    let view = gateway.change(Change::Rollback).await.unwrap();
    assert_eq!(roles(&view), "1/-/-");
    let champion = gateway.plan().champion.as_ref().map(|arm| Arc::clone(&arm.version));
    assert!(Arc::ptr_eq(&champion.unwrap(), &loaded), "it was never let go");
}

#[tokio::test]
async fn what_has_no_folder_is_loaded_from_its_copy() {
    let (gateway, entry) = past_its_folder().await;
    let error = gateway.change(Change::Rollback).await.unwrap_err();
    assert!(error.message().contains("no previous champion"), "{error}");
    let view = gateway.change(Change::Restore { entry }).await.unwrap();
    assert_eq!(roles(&view), "1/-/-");
    assert!(reason(&view, 1).starts_with("restored, its folder is gone"), "{view:?}");
    // It is what was acknowledged: a restart changes nothing.
    let gateway = gateway.again().await;
    gateway.until_ready().await;
    let view = gateway.until_roles("1/-/-").await;
    assert!(reason(&view, 1).starts_with("restored, its folder is gone"), "{view:?}");
    // Its folder comes back, and another content is not taken for it.
    add(&gateway.root, 1, &[("model.onnx", "other")]);
    let view = gateway.until(|view| !view.problems.is_empty()).await;
    assert!(view.problems[0].contains("push it under a new number"), "{view:?}");
    assert_eq!(roles(&view), "1/-/-");
    gateway.change(Change::Promote { version: id(2) }).await.unwrap();
    gateway.until_state(1, State::Ready).await;
}

#[tokio::test]
async fn it_comes_back_after_a_restart_as_well() {
    let (gateway, entry) = past_its_folder().await;
    let gateway = gateway.again().await;
    gateway.until_ready().await;
    gateway.until_roles("2/-/-").await;
    let view = gateway.change(Change::Restore { entry }).await.unwrap();
    assert_eq!(roles(&view), "1/-/-");
    // Unloaded and loaded, it is what it was.
    gateway.change(Change::Unload { version: None }).await.unwrap();
    gateway.until_state(1, State::Unloaded).await;
    gateway.change(Change::Load { version: None }).await.unwrap();
    gateway.until_roles("1/-/-").await;
}

#[tokio::test]
async fn a_copy_that_is_damaged_or_kept_no_more_is_no_way_back() {
    let (gateway, entry) = past_its_folder().await;
    let blobs = gateway.root.path().join("state/blobs/sha256");
    for blob in fs::read_dir(&blobs).unwrap() {
        let path = blob.unwrap().path();
        if fs::read(&path).unwrap() == b"a" {
            fs::remove_file(&path).unwrap();
            fs::write(&path, "x").unwrap();
        }
    }
    let error = gateway.change(Change::Restore { entry }).await.unwrap_err();
    assert!(error.message().contains("champion then, cannot be had: its copy"), "{error}");
    assert!(error.message().contains("is damaged"), "{error}");
    let view = gateway.until(|view| state(view, 1).is_none()).await;
    assert_eq!(roles(&view), "2/-/-");
    let Gateway { root, registry, store, .. } = gateway;
    registry.stop().await;

    let gateway = Gateway::open_keeping(root, store, 0, Duration::ZERO);
    gateway.until_ready().await;
    let one = |_: &Control| (fs::read_dir(&blobs).unwrap().count() == 1).then_some(());
    gateway.control.wait_for(one).await;
    let error = gateway.change(Change::Restore { entry }).await.unwrap_err();
    assert!(error.message().contains("it is kept no more"), "{error}");
    assert_eq!(gateway.store.kept().await.unwrap().len(), 1, "the champion's");
}

#[tokio::test]
async fn a_champion_whose_copy_is_lost_leaves_the_former_one_in_its_place() {
    let gateway = Gateway::open(repository(Some("[start]\nchampion = 1"), &[(1, "a"), (2, "b")]));
    gateway.until_roles("1/-/-").await;
    gateway.until_state(2, State::Ready).await;
    gateway.change(Change::Promote { version: id(2) }).await.unwrap();
    let Gateway { root, registry, store, .. } = gateway;
    registry.stop().await;
    fs::remove_dir_all(root.path().join("models/churn/2")).unwrap();
    let blobs = root.path().join("state/blobs/sha256");
    for blob in fs::read_dir(&blobs).unwrap() {
        let path = blob.unwrap().path();
        if fs::read(&path).unwrap() == b"b" {
            fs::remove_file(&path).unwrap();
            fs::write(&path, "x").unwrap();
        }
    }
    let gateway = Gateway::open_with(root, store);
    let view = gateway.until_roles("1/-/-").await;
    let second = view.versions.iter().find(|version| version.version == id(2)).unwrap();
    assert_eq!(second.state, State::Failed);
    assert!(second.reason.as_ref().is_some_and(|why| why.contains("is damaged")), "{view:?}");
    let wanted = gateway.store.wanted(&churn()).await.unwrap().unwrap();
    assert_eq!(wanted.champion, Some(id(2)), "what was acknowledged is not undone by us");
    // Its folder comes back, and it with it.
    add(&gateway.root, 2, &[("model.onnx", "b")]);
    gateway.until_roles("2/-/-").await;
}

#[tokio::test]
async fn files_that_were_overwritten_do_not_go_live_by_a_restart() {
    let toml = Some("[start]\nchampion = 1");
    let gateway = Gateway::open(repository(toml, &[(1, "a"), (2, "b")]));
    gateway.until_roles("1/-/-").await;
    gateway.until_state(2, State::Ready).await;
    let digest = |view: &ModelView| {
        let first = view.versions.iter().find(|version| version.version == id(1));
        first.and_then(|version| version.digest.clone())
    };
    let before = digest(&gateway.control.model(&churn()).unwrap());
    let Gateway { root, registry, store, .. } = gateway;
    registry.stop().await;
    fs::write(root.path().join("models/churn/1/model.onnx"), "other").unwrap();
    let gateway = Gateway::open_with(root, store);
    let view = gateway.until_roles("1/-/-").await;
    assert!(before.is_some() && digest(&view) == before, "{view:?}");
    let changed = |view: &ModelView| view.problems.iter().any(|why| why.contains("files changed"));
    gateway.until(changed).await;
    // Without its copy there is nothing that anybody gave the role.
    let Gateway { root, registry, store, .. } = gateway;
    registry.stop().await;
    for row in store.kept().await.unwrap() {
        store.discard(&row).await.unwrap();
    }
    let gateway = Gateway::open_with(root, store);
    let view = gateway.until_state(1, State::Failed).await;
    let first = view.versions.iter().find(|version| version.version == id(1)).unwrap();
    assert!(first.reason.as_ref().is_some_and(|why| why.contains("kept no more")), "{view:?}");
}

#[tokio::test]
async fn where_two_have_to_approve_nobody_goes_forth_by_themselves() {
    let toml = "[start]\nchampion = 1\n[rollout]\napproval = true";
    let gateway = Gateway::open(repository(Some("[start]\nchampion = 1"), &[(1, "a"), (2, "b")]));
    gateway.until_roles("1/-/-").await;
    gateway.until_state(2, State::Ready).await;
    let first = gateway.entry().await;
    gateway.change(Change::Promote { version: id(2) }).await.unwrap();
    let second = gateway.entry().await;
    fs::write(gateway.root.path().join("models/churn/model.toml"), toml).unwrap();
    gateway.until(|view| view.rollout.approval).await;
    gateway.change(Change::Restore { entry: first }).await.unwrap();
    let error = gateway.change(Change::Restore { entry: second }).await.unwrap_err();
    assert!(error.message().contains("a second person's approval"), "{error}");
    assert_eq!(roles(&gateway.control.model(&churn()).unwrap()), "1/-/-");
}

#[tokio::test]
async fn a_number_with_another_content_is_another_version() {
    let (gateway, entry) = past_its_folder().await;
    add(&gateway.root, 1, &[("model.onnx", "other")]);
    gateway.until_state(1, State::Ready).await;
    let error = gateway.change(Change::Restore { entry }).await.unwrap_err();
    assert!(error.message().contains("its number has another content now"), "{error}");
}

#[tokio::test]
async fn back_is_carried_out_unrecorded_and_forth_is_not() {
    let store = Arc::new(roles::Moody::default());
    let root = repository(Some("[start]\nchampion = 1"), &[(1, "a"), (2, "b")]);
    let gateway = Gateway::open_with(root, Arc::clone(&store) as Arc<dyn Store>);
    gateway.until_roles("1/-/-").await;
    gateway.until_state(2, State::Ready).await;
    let first = gateway.entry().await;
    gateway.change(Change::Promote { version: id(2) }).await.unwrap();
    let second = gateway.entry().await;
    store.fails.store(true, SeqCst);
    let view = gateway.change(Change::Restore { entry: first }).await.unwrap();
    assert_eq!(roles(&view), "1/-/-");
    assert!(view.problems[0].contains("could not be recorded"), "{view:?}");
    let error = gateway.change(Change::Restore { entry: second }).await.unwrap_err();
    assert!(error.message().contains("nothing was changed: disk full"), "{error}");
    store.fails.store(false, SeqCst);
    gateway.until(|view| view.problems.is_empty()).await;
    let last = gateway.actions().await.pop();
    assert_eq!(last, Some(format!("rollback to entry {first}")));
}
