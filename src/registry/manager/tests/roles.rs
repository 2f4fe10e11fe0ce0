//! Who gets which role, by files, policies and operators.

use super::*;

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
    assert_eq!(roles(&gateway.change(set).await.unwrap()), "1/2@25%/3@100%");
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
async fn what_is_wanted_outlives_the_process() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let wanted = Wanted {
        champion: Some(id(1)),
        previous: vec![id(3)],
        canary: Some((id(2), share(5.0))),
        shadows: vec![],
        salt: [9; 16],
        unloaded: Unloaded::default(),
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
    // It is recorded without anybody's help once it can be.
    store.fails.store(false, SeqCst);
    gateway.until(|view| view.problems.is_empty()).await;
    gateway.change(Change::RemoveCanary).await.unwrap();
    let actions = gateway.actions().await;
    assert_eq!(actions[actions.len() - 2..], ["canary 2 at 1%", "remove canary"]);
}

#[tokio::test]
async fn a_start_that_names_what_is_not_there_is_a_problem() {
    let gateway = Gateway::open(repository(Some(THREE_ROLES), &[(1, "broken"), (2, "b")]));
    gateway.until_tried().await;
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
