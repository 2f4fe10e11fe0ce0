//! The handle by which operators reach the manager.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{Error, ErrorCode, Result};
use crate::registry::compare::{compare, disagreements};
use crate::registry::watch::Waker;
use crate::registry::{Comparison, DisagreementView, ModelView};
use crate::routing::{Catalog, Plan, Shadow};
use crate::store::{AuditEntry, RolloutStep, Store};
use crate::telemetry::recorder::Recorder;
use crate::telemetry::{ArmStats, ShadowStats};
use crate::types::{ModelName, RolloutPolicy, Share, VersionId};

/// Commands that may wait for the manager; more are refused.
const COMMANDS_MAX: usize = 64;
/// How long a look at the repository may take: its disk may hang.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// What an operator may ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Make this version the canary at this weight, or change its weight.
    SetCanary {
        /// The version; must be ready and not the champion.
        version: VersionId,
        /// Its share of the requests.
        weight: Share,
    },
    /// Take the canary out; the champion answers everything.
    RemoveCanary,
    /// Copy this share of the champion's requests to a version.
    SetShadow {
        /// The version; must be ready and not the champion.
        version: VersionId,
        /// The share of the champion's requests.
        sample: Share,
    },
    /// Stop copying to a version.
    RemoveShadow {
        /// The version.
        version: VersionId,
    },
    /// Make this version the champion; it leaves the canary or shadow role.
    Promote {
        /// The version; must be ready.
        version: VersionId,
    },
    /// Make this version the champion, and keep the former one as a control with
    /// this share of the requests.
    PromoteKeeping {
        /// The version; must be ready.
        version: VersionId,
        /// The control's share.
        holdback: Share,
    },
    /// Make the previous champion the champion again, and take the canary out.
    Rollback,
    /// Take this version out of whatever role it has; a champion gives way to the
    /// one before it.
    Retreat {
        /// The version.
        version: VersionId,
    },
    /// Nothing: only the entry is written.
    Note,
    /// Nothing, too: this version learns its profile anew.
    Relearn {
        /// The version.
        version: VersionId,
    },
    /// Make it as it was from this audit entry on, as far as its versions can be had:
    /// what is not loaded any more is loaded again, from the copies that are kept.
    Restore {
        /// The entry's number.
        entry: u64,
    },
    /// Load what is not loaded and try again what failed; of one version, or all.
    Load {
        /// The version; all for `None`.
        version: Option<VersionId>,
    },
    /// Free the model, or one version of it that has no role.
    Unload {
        /// The version; all for `None`.
        version: Option<VersionId>,
    },
}

impl Change {
    /// The version that it names.
    #[must_use]
    pub const fn version(&self) -> Option<VersionId> {
        match *self {
            Self::SetCanary { version, .. }
            | Self::SetShadow { version, .. }
            | Self::RemoveShadow { version }
            | Self::Relearn { version }
            | Self::Promote { version }
            | Self::PromoteKeeping { version, .. } => Some(version),
            Self::Load { version } | Self::Unload { version } => version,
            // One that is gone can still be taken out of its role.
            Self::RemoveCanary
            | Self::Rollback
            | Self::Retreat { .. }
            | Self::Note
            | Self::Restore { .. } => None,
        }
    }
}

/// By whose hand and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Who: an operator's name, or `foreshadow` itself.
    pub actor: String,
    /// Why, if they said.
    pub reason: Option<String>,
}

/// A change as a step of a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct OfRollout {
    /// What is done, in words, for the entry.
    pub action: String,
    /// What is kept with the entry.
    pub step: RolloutStep,
    /// What it was decided on: if it is otherwise by now, nothing is done. `None` for
    /// what holds whatever there is.
    pub basis: Option<RolesSeen>,
}

/// Champion, canary and its weight, as somebody saw them.
pub type RolesSeen = (Option<VersionId>, Option<(VersionId, Share)>);

/// What the judge counts by, as a model's plan stands now.
#[derive(Clone)]
pub struct Watched {
    /// The champion, with its counts.
    pub champion: Option<(VersionId, Arc<ArmStats>)>,
    /// The canary, with its weight, and whether it is a control.
    pub canary: Option<(VersionId, Share, bool)>,
    /// The counts of champion and canary.
    pub recorder: Option<Arc<Recorder>>,
    /// The shadows, with their samples and counts.
    pub shadows: Vec<(VersionId, Share, Arc<ShadowStats>)>,
}

/// A change on its way to the manager.
pub struct Command {
    /// The model.
    pub model: ModelName,
    /// What is asked for.
    pub change: Change,
    /// By whom.
    pub by: Provenance,
    /// The rollout whose step it is.
    pub rollout: Option<OfRollout>,
    /// Where the outcome goes: the model as it stands after the publish.
    pub reply: oneshot::Sender<Result<Arc<ModelView>>>,
}

/// A version that became ready while its model served, and whose model asks for
/// a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// The model.
    pub model: ModelName,
    /// The version.
    pub version: VersionId,
    /// How it is to be brought in.
    pub policy: Arc<RolloutPolicy>,
}

/// What the manager shows; replaced whole after each of its steps.
pub type Board = Arc<ArcSwap<BTreeMap<ModelName, Arc<ModelView>>>>;

/// Reads what the manager shows, and sends it changes. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    board: Board,
    commands: mpsc::Sender<Command>,
    catalog: Arc<Catalog>,
    store: Arc<dyn Store>,
    steps: Arc<watch::Sender<u64>>,
    arrivals: Arc<Mutex<Option<mpsc::Receiver<Arrival>>>>,
    waker: Option<Waker>,
    /// The newest look that was asked for and taken.
    looked: Arc<AtomicU64>,
}

impl Control {
    /// A handle, the board that the manager writes, and the commands it takes.
    #[must_use]
    pub fn channel(
        catalog: Arc<Catalog>,
        store: Arc<dyn Store>,
        arrivals: mpsc::Receiver<Arrival>,
    ) -> (Self, Board, mpsc::Receiver<Command>) {
        let board = Board::default();
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let steps = Arc::new(watch::Sender::new(0));
        let looked = Arc::default();
        let control = Self {
            board: Arc::clone(&board),
            commands,
            catalog,
            store,
            steps,
            arrivals: Arc::new(Mutex::new(Some(arrivals))),
            waker: None,
            looked,
        };
        (control, board, receiver)
    }

    /// The same, with what has the repository looked at.
    pub(super) fn with_waker(self, waker: Waker) -> Self {
        Self { waker: Some(waker), ..self }
    }

    /// Where the manager notes which look it has taken.
    pub(super) fn looked(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.looked)
    }

    /// Has the repository looked at, and waits until the manager knows what is
    /// there now.
    pub(super) async fn look(&self) -> Result<()> {
        let Some(waker) = &self.waker else { return Ok(()) };
        let number = waker.ask();
        let taken = self.wait_for(|own| (own.looked.load(SeqCst) >= number).then_some(()));
        tokio::time::timeout(LOOK_MAX, taken).await.map_err(|_| {
            Error::new(ErrorCode::Unavailable, "the models folder cannot be looked at now")
        })
    }

    /// What the manager counts its steps on.
    pub(super) fn steps(&self) -> Arc<watch::Sender<u64>> {
        Arc::clone(&self.steps)
    }

    /// Tells of each step of the manager: its number, after the board shows
    /// what it did. For those who wait for a state.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.steps.subscribe()
    }

    /// Waits until `look` finds what it looks for, asking it now and after
    /// each step of the manager.
    pub async fn wait_for<T>(&self, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let mut steps = self.changed();
        loop {
            steps.mark_unchanged();
            if let Some(found) = look(self) {
                return found;
            }
            if steps.changed().await.is_err() {
                // Cannot be: we hold a sender ourselves.
                std::future::pending::<()>().await;
            }
        }
    }

    /// All models, by name.
    #[must_use]
    pub fn models(&self) -> Vec<Arc<ModelView>> {
        self.board.load().values().cloned().collect()
    }

    /// One model.
    pub fn model(&self, name: &ModelName) -> Result<Arc<ModelView>> {
        let board = self.board.load();
        board.get(name).cloned().ok_or_else(|| {
            let names: Vec<_> = board.keys().map(ToString::to_string).collect();
            let message =
                format!("unknown model {:?}; models: {}", name.as_str(), names.join(", "));
            Error::new(ErrorCode::NotFound, message)
        })
    }

    /// Asks for a change and waits until it is published or refused.
    pub async fn change(
        &self,
        model: &ModelName,
        change: Change,
        by: Provenance,
    ) -> Result<Arc<ModelView>> {
        self.send(model, change, by, None).await
    }

    /// The same, as a step of a rollout.
    pub async fn step(
        &self,
        model: &ModelName,
        change: Change,
        by: Provenance,
        rollout: OfRollout,
    ) -> Result<Arc<ModelView>> {
        self.send(model, change, by, Some(rollout)).await
    }

    async fn send(
        &self,
        model: &ModelName,
        change: Change,
        by: Provenance,
        rollout: Option<OfRollout>,
    ) -> Result<Arc<ModelView>> {
        let (reply, outcome) = oneshot::channel();
        let command = Command { model: model.clone(), change, by, rollout, reply };
        self.commands.try_send(command).map_err(|_| {
            Error::new(
                ErrorCode::Unavailable,
                "too many changes wait already, or the gateway is stopping; try again",
            )
        })?;
        outcome.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorCode::Unavailable, "the gateway is stopping; nothing was changed"))
        })
    }

    /// What the judge counts by; `None` while the model has no plan.
    #[must_use]
    pub fn watched(&self, model: &ModelName) -> Option<Watched> {
        let plan = self.catalog.slot(model.as_str())?.load();
        let champion = plan.champion.as_ref();
        let shadow =
            |shadow: &Shadow| (shadow.version.id(), shadow.sample, Arc::clone(&shadow.stats));
        Some(Watched {
            champion: champion.map(|arm| (arm.version.id(), Arc::clone(&arm.stats))),
            canary: plan.canary.as_ref().map(|c| (c.arm.version.id(), c.weight, c.holdback)),
            recorder: plan.canary.as_ref().map(|canary| Arc::clone(&canary.recorder)),
            shadows: plan.shadows.iter().map(shadow).collect(),
        })
    }

    /// The versions that arrived for a rollout, once; `None` if somebody took
    /// them already.
    #[must_use]
    pub fn arrivals(&self) -> Option<mpsc::Receiver<Arrival>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Champion, canary and shadows side by side.
    pub fn comparison(&self, model: &ModelName) -> Result<Comparison> {
        let view = self.model(model)?;
        Ok(compare(&view, &*self.plan(model)?))
    }

    /// The worst disagreements of a shadow with the champion, worst first.
    pub fn disagreements(
        &self,
        model: &ModelName,
        version: VersionId,
    ) -> Result<Vec<DisagreementView>> {
        disagreements(&*self.plan(model)?, version)
    }

    /// The newest `limit` audit entries of a model (of all, for `None`),
    /// newest first.
    pub async fn history(
        &self,
        model: Option<&ModelName>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>> {
        self.store.history(model, limit).await
    }

    fn plan(&self, model: &ModelName) -> Result<Arc<Plan>> {
        let slot = self.catalog.slot(model.as_str());
        slot.map(|slot| slot.load()).ok_or_else(|| {
            Error::new(ErrorCode::NotFound, format!("model {model} has no plan yet"))
        })
    }
}
