//! The one task that moves rollouts: it reads the counters, judges, and asks the
//! manager for changes, one after the other.

mod active;
mod asks;
mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::registry::{Arrival, Change, Control, ModelView, Provenance};
use crate::rollout::controller::active::Active;
use crate::rollout::handle::{Ask, Board};
use crate::rollout::traffic::Traffic;
use crate::rollout::{Rollout, RolloutView, Settings};
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::types::{ModelName, OnNewer, VersionId};

/// What the controller works with.
pub(super) struct Parts {
    pub(super) control: Control,
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) board: Board,
    pub(super) steps: Arc<watch::Sender<u64>>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) settings: Settings,
    /// Those that had not ended when the process did.
    pub(super) open: Vec<Rollout>,
    pub(super) last_id: u64,
}

/// What reaches it.
pub(super) struct Inbox {
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) arrivals: mpsc::Receiver<Arrival>,
    pub(super) stop: watch::Receiver<bool>,
}

/// Moves rollouts.
pub(super) struct Controller {
    control: Control,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    board: Board,
    steps: Arc<watch::Sender<u64>>,
    traffic: Arc<Traffic>,
    settings: Settings,
    /// Those that have not ended.
    active: BTreeMap<ModelName, Active>,
    last_id: u64,
}

impl Controller {
    pub(super) fn new(parts: Parts) -> Self {
        let mut active = BTreeMap::new();
        for rollout in parts.open {
            let (model, id) = (rollout.model.clone(), rollout.id);
            match Active::new(rollout) {
                Ok(own) => drop(active.insert(model, own)),
                Err(error) => tracing::error!(%model, rollout = id, %error, "it cannot go on"),
            }
        }
        Self {
            control: parts.control,
            store: parts.store,
            metrics: parts.metrics,
            board: parts.board,
            steps: parts.steps,
            traffic: parts.traffic,
            settings: parts.settings,
            active,
            last_id: parts.last_id,
        }
    }

    /// Works until it is told to stop; then it keeps what it knows.
    pub(super) async fn run(mut self, mut inbox: Inbox) {
        let mut ticks = tokio::time::interval(self.settings.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let names: Vec<_> = self.active.keys().cloned().collect();
        names.iter().for_each(|name| self.show(name));
        loop {
            tokio::select! {
                biased;
                // An error means that the owner is gone: the same.
                _ = inbox.stop.changed() => break,
                Some(ask) = inbox.asks.recv() => self.ask(ask).await,
                Some(arrival) = inbox.arrivals.recv() => self.arrive(arrival).await,
                _ = ticks.tick() => self.tick().await,
            }
            self.steps.send_modify(|step| *step += 1);
        }
        for (name, active) in &mut self.active {
            // What came since the last look counts as well.
            if let Some(watched) = self.control.watched(name) {
                active.count(&watched, self.metrics.trials());
            }
            active.rollout.clean = true;
            let row = active.row();
            if let Err(error) = self.store.save_rollout(&row).await {
                tracing::error!(rollout = row.id, %error, "its newest counts are not kept");
            }
        }
    }

    async fn tick(&mut self) {
        self.traffic.note(Instant::now(), &self.champions());
        let names: Vec<_> = self.active.keys().cloned().collect();
        for name in names {
            self.judge(&name).await;
            self.checkpoint(&name).await;
            self.show(&name);
        }
    }

    /// Each champion, and how many requests it has had.
    fn champions(&self) -> Vec<(ModelName, VersionId, u64)> {
        let champion = |view: &Arc<ModelView>| {
            let name = ModelName::new(&view.name).ok()?;
            let (version, stats) = self.control.watched(&name)?.champion?;
            Some((name, version, stats.requests()))
        };
        self.control.models().iter().filter_map(champion).collect()
    }

    /// Keeps what it knows, now and then.
    async fn checkpoint(&mut self, name: &ModelName) {
        let Some(active) = self.active.get_mut(name) else { return };
        if active.saved.elapsed() < self.settings.checkpoint {
            return;
        }
        active.saved = Instant::now();
        let row = active.row();
        match self.store.save_rollout(&row).await {
            Ok(()) => active.problem = None,
            Err(error) => {
                tracing::warn!(model = %name, rollout = row.id, %error, "no checkpoint");
                active.problem = Some(error.to_string());
            }
        }
    }

    /// A version has come that is to be brought in.
    async fn arrive(&mut self, arrival: Arrival) {
        let Arrival { model, version, policy } = arrival;
        let by = Provenance {
            actor: "foreshadow".to_owned(),
            reason: Some("on_new_version in model.toml".to_owned()),
        };
        if let Some(active) = self.active.get_mut(&model) {
            if version <= active.rollout.version {
                return;
            }
            if active.rollout.policy.on_newer == OnNewer::Queue {
                let mut next = active.rollout.clone();
                next.queued = next.queued.max(Some(version));
                let text = format!("version {version} waits for its end");
                next.note("foreshadow", text.clone());
                // On the disk at once: after a restart it is no arrival any more.
                if let Err(error) = self.take(&model, next, Change::Note, &text, by).await {
                    tracing::error!(%model, %version, %error, "it does not wait for a rollout");
                }
                return self.show(&model);
            }
        }
        let begun = match self.supersede(&model, version, &by).await {
            Ok(()) => self.begin(&model, version, (*policy).clone(), by).await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = begun {
            tracing::error!(%model, %version, %error, "no rollout is begun");
        }
    }

    /// Puts a rollout onto the board, and its figures into the metrics.
    fn show(&mut self, name: &ModelName) {
        let Some(active) = self.active.get(name) else { return };
        let view = RolloutView::of(&active.rollout, active.problem.as_deref());
        self.show_view(name, view);
    }

    fn show_view(&self, name: &ModelName, view: RolloutView) {
        self.metrics.set_rollout(name, &figures(&view));
        let mut board = BTreeMap::clone(&self.board.load());
        board.insert(name.clone(), Arc::new(view));
        self.board.store(Arc::new(board));
    }
}

/// What the metrics show.
fn figures(view: &RolloutView) -> crate::telemetry::RolloutFigures {
    crate::telemetry::RolloutFigures {
        version: view.version,
        phase: view.phase,
        stage: view.stage,
        guards: view
            .guards
            .iter()
            .map(|guard| crate::telemetry::GuardFigures {
                guard: guard.guard,
                worse_ln_e: guard.worse_ln_e,
                not_worse_ln_e: guard.not_worse_ln_e,
                effect: guard.effect,
            })
            .collect(),
    }
}
