//! Who may become ready or get a role beside the present champion.

use super::*;

const REFUSED: &str =
    "signature: input \"x\": champion 1 takes FP32 [-1, 1], this takes FP32 [-1, 2]";

/// Changes `model.toml` by one rename.
fn settings(gateway: &Gateway, text: &str) {
    let folder = gateway.root.path().join("models/churn");
    fs::write(folder.join(".model.toml"), text).unwrap();
    fs::rename(folder.join(".model.toml"), folder.join("model.toml")).unwrap();
}

#[tokio::test]
async fn another_signature_than_the_champions_is_refused_until_it_is_allowed() {
    let gateway = Gateway::open(repository(Some("on_new_version = \"shadow\""), &[(1, "a")]));
    gateway.until_roles("1/-/-").await;
    add(&gateway.root, 2, &[("model.onnx", "columns 2")]);
    let view = gateway.until_state(2, State::Failed).await;
    assert!(reason(&view, 2).starts_with(REFUSED), "{}", reason(&view, 2));
    assert!(reason(&view, 2).ends_with("allow_signature_change = true in model.toml"));
    assert!(!gateway.plan().ready.contains_key(&id(2)));
    let error = gateway.change(Change::Promote { version: id(2) }).await.unwrap_err();
    assert!(error.message().contains("version 2 is not ready"), "{error}");
    // It begins anew, and gets what its arrival would have got it.
    settings(&gateway, "allow_signature_change = true\non_new_version = \"shadow\"");
    gateway.until_roles("1/-/2@100%").await;
    assert!(gateway.metrics.render().contains(r#"state="ready",version="2"} 1"#));
    assert!(!gateway.metrics.render().contains(r#"state="failed",version="2"} 1"#));
}

#[tokio::test]
async fn a_champion_of_another_signature_is_promoted_by_permission_and_rolled_back_without() {
    let allow = "allow_signature_change = true\n[start]\nchampion = 1";
    let gateway = Gateway::open(repository(Some(allow), &[(1, "a"), (2, "columns 2"), (3, "c")]));
    gateway.until_roles("1/-/-").await;
    gateway.until_state(2, State::Ready).await;
    gateway.until_state(3, State::Ready).await;
    settings(&gateway, "[start]\nchampion = 1");
    gateway.until(|_| gateway.plan().generation > 0).await;
    // The settings have arrived when the gate refuses.
    let refused = || gateway.change(Change::Promote { version: id(2) });
    let mut steps = gateway.control.changed();
    let error = loop {
        match refused().await {
            Err(error) => break error,
            // Not yet: taken back.
            Ok(_) => gateway.change(Change::Rollback).await.unwrap(),
        };
        steps.changed().await.unwrap();
    };
    assert_eq!(error.code(), ErrorCode::Conflict);
    let expected = format!("model churn: version 2: {REFUSED}");
    assert!(error.message().starts_with(&expected), "{error}");
    for change in [
        Change::SetCanary { version: id(2), weight: share(1.0) },
        Change::SetShadow { version: id(2), sample: share(1.0) },
    ] {
        let error = gateway.change(change).await.unwrap_err();
        assert!(error.message().contains(REFUSED), "{error}");
    }
    assert_eq!(roles(&gateway.change(Change::Promote { version: id(3) }).await.unwrap()), "3/-/-");
    assert_eq!(roles(&gateway.change(Change::Rollback).await.unwrap()), "1/-/-");
}

/// As after a restart: 2 serves, and took over from 1, which has another signature.
async fn after_a_promotion() -> Arc<dyn Store> {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let wanted = Wanted {
        champion: Some(id(2)),
        previous: vec![id(1)],
        canary: None,
        holdback: false,
        shadows: vec![],
        salt: [9; 16],
        unloaded: Unloaded::default(),
        pinned: [].into(),
        newest: None,
    };
    let entry = NewEntry {
        actor: "before".into(),
        action: "promote 2".into(),
        reason: None,
        from: String::new(),
        to: String::new(),
        rollout: None,
    };
    store.record(&churn(), entry, &wanted).await.unwrap();
    store
}

#[tokio::test]
async fn former_champions_come_back_for_a_rollback_and_others_do_not() {
    let versions = [(1, "a"), (2, "columns 2"), (3, "c"), (4, "columns 2")];
    let gateway = Gateway::open_with(repository(None, &versions), after_a_promotion().await);
    gateway.until_ready().await;
    let view = gateway.until_roles("2/-/-").await;
    assert_eq!(state(&view, 1), Some(State::Ready));
    assert_eq!(state(&view, 3), Some(State::Failed));
    assert!(reason(&view, 3).contains("champion 2 takes FP32 [-1, 2]"), "{view:?}");
    assert_eq!(state(&view, 4), Some(State::Ready));
    let view = gateway.change(Change::Rollback).await.unwrap();
    assert_eq!(roles(&view), "1/-/-");
    // Beside the champion of now the one that was refused fits.
    gateway.until_state(3, State::Ready).await;
}

#[tokio::test]
async fn a_start_role_that_does_not_fit_is_left_out_and_told() {
    let gateway =
        Gateway::open(repository(Some(THREE_ROLES), &[(1, "a"), (2, "columns 2"), (3, "c")]));
    gateway.until_ready().await;
    let view = gateway.until_roles("1/-/3@100%").await;
    assert!(reason(&view, 2).contains(REFUSED), "{}", reason(&view, 2));
}

#[tokio::test]
async fn a_slow_version_is_refused_until_the_limit_is_raised() {
    let gateway = Gateway::open(repository(Some("cost_max = \"100us\""), &[(1, "cost 100")]));
    gateway.until_roles("1/-/-").await;
    add(&gateway.root, 2, &[("model.onnx", "cost 250")]);
    let view = gateway.until_state(2, State::Failed).await;
    let expected =
        "cost: a row takes 250us, more than the 100us that cost_max in model.toml allows";
    assert_eq!(reason(&view, 2), expected);
    let second = view.versions.iter().find(|v| v.version == id(2)).unwrap();
    assert!(second.report.is_some(), "what was measured is shown");
    settings(&gateway, "cost_max = \"1ms\"");
    gateway.until_state(2, State::Ready).await;
}

#[tokio::test]
async fn the_first_champion_has_nobody_to_be_compared_with() {
    let gateway = Gateway::open(repository(None, &[(1, "columns 3")]));
    gateway.until_roles("1/-/-").await;
}

#[tokio::test]
async fn where_two_persons_are_asked_for_nobody_promotes_alone() {
    let text = "[start]\nchampion = 1\n[rollout]\napproval = true";
    let gateway = Gateway::open(repository(Some(text), &[(1, "a"), (2, "b")]));
    gateway.until_roles("1/-/-").await;
    gateway.until_state(2, State::Ready).await;
    let error = gateway.change(Change::Promote { version: id(2) }).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    assert!(error.message().contains("asks for a second person's approval"), "{error}");
    // What takes risk away needs nobody.
    gateway.change(Change::SetCanary { version: id(2), weight: share(1.0) }).await.unwrap();
    gateway.change(Change::RemoveCanary).await.unwrap();
}

#[tokio::test]
async fn a_rollouts_step_is_refused_where_somebody_was_faster() {
    let gateway = Gateway::open(repository(Some("[start]\nchampion = 1"), &[(1, "a"), (2, "b")]));
    gateway.until_roles("1/-/-").await;
    gateway.until_state(2, State::Ready).await;
    let step = |basis| {
        let row = crate::store::RolloutRow {
            id: 1,
            model: "churn".parse().unwrap(),
            version: id(2),
            open: true,
            state: String::new(),
            keys: None,
        };
        let step = crate::store::RolloutStep { row, evidence: None };
        crate::registry::OfRollout { action: "a step".into(), step, basis }
    };
    let by = Provenance { actor: "rollout 1".into(), reason: None };
    let change = Change::SetCanary { version: id(2), weight: share(25.0) };
    let churn: ModelName = "churn".parse().unwrap();
    let taken = |basis| gateway.control.step(&churn, change.clone(), by.clone(), step(basis));
    // It was decided while the version was canary, which somebody has ended.
    let error = taken(Some((Some(id(1)), Some((id(2), share(5.0)))))).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    assert!(error.message().contains("changed meanwhile: now champion 1"), "{error}");
    taken(Some((Some(id(1)), None))).await.unwrap();
}
