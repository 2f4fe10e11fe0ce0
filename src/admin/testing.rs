//! A gateway's admin API over a manager that takes notes, for tests.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use axum::Router;

use crate::admin::{Access, AdminState, Events, Tokens, router};
use crate::error::{Error, ErrorCode};
use crate::monitor::Monitor;
use crate::monitor::quality::Quality;
use crate::registry::{Change, Control, ModelView, PlanView, Provenance};
use crate::rollout::{self, Rollouts};
use crate::routing::{Catalog, Plan, Salt, Slot};
use crate::store::{Memory, NewEntry, Store as _, Unloaded, Wanted};
use crate::telemetry::Metrics;
use crate::types::{ModelName, ModelSettings, Readiness, VersionId};

/// What the manager was asked for, in order.
pub(crate) type Noted = Arc<Mutex<Vec<(Change, Provenance)>>>;

pub(crate) fn version(number: u64) -> VersionId {
    VersionId::new(number).unwrap()
}

pub(super) fn churn() -> ModelName {
    ModelName::new("churn").unwrap()
}

pub(super) fn view() -> ModelView {
    ModelView {
        name: "churn".into(),
        rollout: Arc::default(),
        owner: None,
        description: None,
        features: vec![],
        routing_key: None,
        problems: vec![],
        not_taken: vec![],
        plan: PlanView::default(),
        versions: vec![],
    }
}

/// A catalog whose only model has a plan without versions.
pub(super) fn catalog() -> Arc<Catalog> {
    let catalog = Catalog::default();
    let plan = Plan {
        model: churn(),
        settings: Arc::new(ModelSettings::default()),
        generation: 1,
        salt: Salt::new([0; 16]),
        counter: Arc::new(AtomicU64::new(0)),
        champion: None,
        canary: None,
        shadows: vec![],
        ready: BTreeMap::new(),
    };
    catalog.insert(&churn(), &Arc::new(Slot::new(Arc::new(plan))));
    Arc::new(catalog)
}

pub(super) async fn history() -> Arc<Memory> {
    let store = Memory::default();
    let wanted = Wanted {
        champion: None,
        previous: vec![],
        canary: None,
        holdback: false,
        shadows: vec![],
        salt: [0; 16],
        unloaded: Unloaded::default(),
        pinned: [].into(),
        newest: None,
    };
    for action in ["promote 1", "promote 2"] {
        let entry = NewEntry {
            actor: "eve".into(),
            action: action.into(),
            reason: None,
            from: String::new(),
            to: String::new(),
            rollout: None,
        };
        store.record(&churn(), entry, &wanted).await.unwrap();
    }
    Arc::new(store)
}

/// The handle of a controller that has nothing to do.
pub(super) async fn rollouts(control: &Control) -> Rollouts {
    let (store, metrics) = (history().await, Arc::new(Metrics::new()));
    let spawned =
        rollout::spawn(rollout::Settings::default(), control.clone(), store, metrics, vec![]);
    spawned.await.unwrap().0
}

/// The router, and what its manager was asked for. The manager refuses to
/// promote version 9.
pub(crate) async fn gateway(token: Option<&str>) -> (Router, Noted) {
    let (control, board, mut commands) =
        Control::channel(catalog(), history().await, tokio::sync::mpsc::channel(1).1);
    board.store(Arc::new(BTreeMap::from([(churn(), Arc::new(view()))])));
    let noted = Noted::default();
    let notes = Arc::clone(&noted);
    tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            let refused = command.change == Change::Promote { version: version(9) };
            let error = Error::new(ErrorCode::Conflict, "version 9 is not ready");
            notes.lock().unwrap().push((command.change, command.by));
            let reply = if refused { Err(error) } else { Ok(Arc::new(view())) };
            let _ = command.reply.send(reply);
        }
    });
    let metrics = Arc::new(Metrics::new());
    let state = AdminState {
        rollouts: rollouts(&control).await,
        control,
        monitor: Monitor::default(),
        quality: Quality::idle(),
        capture: crate::capture::Capture::nowhere(Arc::clone(&metrics)),
        metrics,
        readiness: Readiness::default(),
        access: Access::new(token, &[]),
        tokens: Arc::new(Tokens::new(history().await)),
        events: Events::new(history().await, tokio::sync::watch::channel(false).1),
    };
    (router(state), noted)
}
