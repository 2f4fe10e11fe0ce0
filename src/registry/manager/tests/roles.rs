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
async fn what_came_while_the_process_was_not_there_has_arrived() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let toml = Some("on_new_version = \"shadow\"");
    let gateway = Gateway::open_with(repository(toml, &[(1, "a"), (2, "b")]), Arc::clone(&store));
    gateway.until_roles("2/-/-").await;
    gateway.until_state(1, State::Ready).await;
    gateway.registry.stop().await;
    // One that was there, and went and came: it is no news.
    let (old, new) = ([(1, "a"), (2, "b")], [(1, "a"), (2, "b"), (3, "c")]);
    let gateway = Gateway::open_with(repository(toml, &old), Arc::clone(&store));
    gateway.until_roles("2/-/-").await;
    gateway.until_state(1, State::Ready).await;
    assert_eq!(roles(&gateway.control.model(&churn()).unwrap()), "2/-/-");
    gateway.registry.stop().await;
    let gateway = Gateway::open_with(repository(toml, &new), Arc::clone(&store));
    gateway.until_roles("2/-/3@100%").await;
    // An operator's word about it outlives the next restart.
    gateway.change(Change::RemoveShadow { version: id(3) }).await.unwrap();
    gateway.registry.stop().await;
    let gateway = Gateway::open_with(repository(toml, &new), store);
    gateway.until_roles("2/-/-").await;
    gateway.until_state(3, State::Ready).await;
    assert_eq!(roles(&gateway.control.model(&churn()).unwrap()), "2/-/-");
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
        holdback: false,
        shadows: vec![],
        salt: [9; 16],
        unloaded: Unloaded::default(),
        pinned: [].into(),
        newest: None,
    };
    let entry = NewEntry {
        actor: "before".into(),
        action: "promote 1".into(),
        reason: None,
        from: String::new(),
        to: String::new(),
        rollout: None,
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
    let replaced = |why: &String| why.contains("version 3 serves in its place");
    assert!(view.problems.iter().any(replaced), "{view:?}");
}

/// Fails to record while it is told to.
#[derive(Default)]
pub(super) struct Moody {
    memory: Memory,
    pub(super) fails: AtomicBool,
    /// Records once, and does not answer in time.
    hangs: AtomicBool,
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
        let recorded = self.memory.record(model, entry, wanted);
        if self.hangs.swap(false, SeqCst) {
            return Box::pin(async { Err(Error::new(ErrorCode::DeadlineExceeded, "no answer")) });
        }
        recorded
    }

    fn note<'a>(
        &'a self,
        model: Option<&'a ModelName>,
        entry: NewEntry,
    ) -> Pending<'a, AuditEntry> {
        self.memory.note(model, entry)
    }

    fn history<'a>(
        &'a self,
        model: Option<&'a ModelName>,
        limit: usize,
    ) -> Pending<'a, Vec<AuditEntry>> {
        self.memory.history(model, limit)
    }

    fn save_rollout<'a>(&'a self, row: &'a crate::store::RolloutRow) -> Pending<'a, ()> {
        self.memory.save_rollout(row)
    }

    fn rollouts<'a>(
        &'a self,
        query: &'a crate::store::RolloutQuery,
    ) -> Pending<'a, Vec<crate::store::RolloutRow>> {
        self.memory.rollouts(query)
    }

    fn last_rollout(&self) -> Pending<'_, u64> {
        self.memory.last_rollout()
    }

    fn tokens(&self) -> Pending<'_, Vec<crate::store::TokenRow>> {
        self.memory.tokens()
    }

    fn add_token<'a>(
        &'a self,
        row: &'a crate::store::TokenRow,
        entry: NewEntry,
    ) -> Pending<'a, AuditEntry> {
        self.memory.add_token(row, entry)
    }

    fn remove_token<'a>(
        &'a self,
        name: &'a str,
        entry: NewEntry,
    ) -> Pending<'a, Option<AuditEntry>> {
        self.memory.remove_token(name, entry)
    }

    fn rollout_steps<'a>(&'a self, id: u64) -> Pending<'a, Vec<AuditEntry>> {
        self.memory.rollout_steps(id)
    }

    fn state_at(&self, number: u64) -> Pending<'_, Option<(String, Wanted)>> {
        self.memory.state_at(number)
    }

    fn keep<'a>(&'a self, kept: &'a Kept) -> Pending<'a, ()> {
        self.memory.keep(kept)
    }

    fn discard<'a>(&'a self, kept: &'a Kept) -> Pending<'a, ()> {
        self.memory.discard(kept)
    }

    fn kept(&self) -> Pending<'_, Vec<Kept>> {
        self.memory.kept()
    }

    fn probe(&self) -> Pending<'_, ()> {
        match self.fails.load(SeqCst) {
            true => Box::pin(async { Err(Error::new(ErrorCode::Unavailable, "disk full")) }),
            false => self.memory.probe(),
        }
    }

    fn recorded(&self) -> tokio::sync::watch::Receiver<u64> {
        self.memory.recorded()
    }

    fn after(&self, number: u64, limit: usize) -> Pending<'_, Vec<AuditEntry>> {
        self.memory.after(number, limit)
    }

    fn told<'a>(&'a self, webhook: &'a str) -> Pending<'a, Option<u64>> {
        self.memory.told(webhook)
    }

    fn tell<'a>(&'a self, webhook: &'a str, number: u64) -> Pending<'a, ()> {
        self.memory.tell(webhook, number)
    }
}

#[tokio::test]
async fn a_change_that_the_store_does_not_answer_for_is_in_force_nowhere() {
    let store = Arc::new(Moody::default());
    let root = repository(None, &[(1, "a"), (2, "b")]);
    let gateway = Gateway::open_with(root, Arc::clone(&store) as Arc<dyn Store>);
    gateway.until_roles("2/-/-").await;
    gateway.until_state(1, State::Ready).await;
    store.hangs.store(true, SeqCst);
    let error = gateway.change(Change::Promote { version: id(1) }).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.message().contains("nothing was changed: no answer"), "{error}");
    // It was written after all, and is taken back.
    gateway.until(|view| view.problems.is_empty()).await;
    let actions = gateway.actions().await;
    assert_eq!(actions[actions.len() - 2..], ["promote 1", "not carried out: promote 1"]);
    let wanted = gateway.store.wanted(&churn()).await.unwrap().unwrap();
    assert_eq!(wanted.champion, Some(id(2)));
    let newest = &gateway.store.history(Some(&churn()), 1).await.unwrap()[0];
    assert_eq!((newest.from.as_str(), newest.to.as_str()), ("champion 2", "champion 2"));
    assert_eq!(roles(&gateway.control.model(&churn()).unwrap()), "2/-/-");
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

/// What was acknowledged comes into force on a full disk, too.
#[tokio::test]
async fn a_restart_with_a_store_that_takes_nothing_answers_as_before() {
    let store = Arc::new(Moody::default());
    let root = repository(Some(THREE_ROLES), &[(1, "a"), (2, "b"), (3, "c")]);
    let gateway = Gateway::open_with(root, Arc::clone(&store) as Arc<dyn Store>);
    gateway.until_roles("1/2@10%/3@100%").await;
    let Gateway { root, registry, .. } = gateway;
    registry.stop().await;
    store.fails.store(true, SeqCst);
    let gateway = Gateway::open_with(root, Arc::clone(&store) as Arc<dyn Store>);
    let view = gateway.until_roles("1/2@10%/3@100%").await;
    assert!(view.problems.iter().any(|p| p.contains("could not be recorded")), "{view:?}");
    assert!(gateway.metrics.render().contains("foreshadow_store_up 0"));
    let error = gateway.change(Change::Promote { version: id(2) }).await.unwrap_err();
    assert!(error.message().contains("disk full"), "{error}");
    store.fails.store(false, SeqCst);
    gateway.until(|view| view.problems.is_empty()).await;
    assert!(gateway.metrics.render().contains("foreshadow_store_up 1"));
}

/// The first champion takes nothing from anybody; the roles beside him wait.
#[tokio::test]
async fn what_was_taken_out_before_the_start_is_in_force_and_owed() {
    let store = Arc::new(Moody::default());
    let versions = [(1, "a"), (2, "b"), (3, "c")];
    let of = |store: &Arc<Moody>| Arc::clone(store) as Arc<dyn Store>;
    let gateway = Gateway::open_with(repository(Some(THREE_ROLES), &versions), of(&store));
    gateway.until_roles("1/2@10%/3@100%").await;
    gateway.registry.stop().await;
    let before = store.wanted(&churn()).await.unwrap().unwrap();
    store.fails.store(true, SeqCst);
    let entry = NewEntry {
        actor: "foreshadow".into(),
        action: "version 2 taken out".into(),
        reason: None,
        from: before.to_string(),
        to: "champion 1".into(),
        rollout: None,
    };
    let wanted = before.without(id(2), id(1));
    let unrecorded = vec![Unrecorded { model: churn(), entry, wanted }];
    let root = repository(Some(THREE_ROLES), &versions);
    let none = Duration::ZERO;
    let gateway = Gateway::open_after(root, of(&store), 9, none, unrecorded);
    let view = gateway.until_roles("1/-/3@100%").await;
    assert!(view.problems.iter().any(|why| why.contains("could not be recorded")), "{view:?}");
    store.fails.store(false, SeqCst);
    gateway.until(|view| view.problems.is_empty()).await;
    assert!(gateway.actions().await.contains(&"version 2 taken out".to_owned()));
    assert_eq!(gateway.store.wanted(&churn()).await.unwrap().unwrap().canary, None);
}

#[tokio::test]
async fn a_new_model_answers_unrecorded_and_its_other_roles_are_not_lost() {
    let store = Arc::new(Moody::default());
    store.fails.store(true, SeqCst);
    let root = repository(Some(THREE_ROLES), &[(1, "a"), (2, "b"), (3, "c")]);
    let gateway = Gateway::open_with(root, Arc::clone(&store) as Arc<dyn Store>);
    gateway.until_ready().await;
    gateway.until_state(3, State::Ready).await;
    gateway.until_roles("1/-/-").await;
    store.fails.store(false, SeqCst);
    gateway.until_roles("1/2@10%/3@100%").await;
}

#[tokio::test]
async fn what_arrives_gets_its_role_once_it_can_be_recorded() {
    let store = Arc::new(Moody::default());
    let root = repository(Some("on_new_version = \"shadow\""), &[(1, "a")]);
    let gateway = Gateway::open_with(root, Arc::clone(&store) as Arc<dyn Store>);
    gateway.until_roles("1/-/-").await;
    store.fails.store(true, SeqCst);
    add(&gateway.root, 2, &[("model.onnx", "b")]);
    gateway.until_state(2, State::Ready).await;
    assert_eq!(roles(&gateway.control.model(&churn()).unwrap()), "1/-/-");
    store.fails.store(false, SeqCst);
    gateway.until_roles("1/-/2@100%").await;
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
