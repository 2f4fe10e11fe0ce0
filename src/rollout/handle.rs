//! The handle by which people reach rollouts.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::error::{Error, ErrorCode, Result};
use crate::registry::{Control, Provenance};
use crate::rollout::forecast::{Done, Forecast, forecast};
use crate::rollout::replay::{Replayed, replay};
use crate::rollout::traffic::Traffic;
use crate::rollout::{Rollout, RolloutView};
use crate::store::{RolloutQuery, Store};
use crate::types::{ModelName, RolloutOverrides, VersionId};

/// What the controller shows: each model's newest rollout since the start.
pub(super) type Board = Arc<ArcSwap<BTreeMap<ModelName, Arc<RolloutView>>>>;

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wish {
    Start { version: VersionId, overrides: Box<RolloutOverrides> },
    Pause,
    Resume,
    Abort,
    Skip,
    Promote,
    Approve,
    Comment { text: String },
}

/// A wish on its way to the controller.
pub(super) struct Ask {
    pub(super) model: ModelName,
    pub(super) wish: Wish,
    pub(super) by: Provenance,
    pub(super) reply: oneshot::Sender<Result<RolloutView>>,
}

/// Reads rollouts and steers them. Cheap to clone.
#[derive(Clone)]
pub struct Rollouts {
    pub(super) control: Control,
    pub(super) store: Arc<dyn Store>,
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) board: Board,
    pub(super) steps: Arc<watch::Sender<u64>>,
    pub(super) traffic: Arc<Traffic>,
}

impl Rollouts {
    /// Begins to bring in a version.
    pub async fn start(
        &self,
        model: &ModelName,
        version: VersionId,
        overrides: RolloutOverrides,
        by: Provenance,
    ) -> Result<RolloutView> {
        self.ask(model, Wish::Start { version, overrides: Box::new(overrides) }, by).await
    }

    /// Lets it wait where it is; harm that is shown still takes the version out.
    pub async fn pause(&self, model: &ModelName, by: Provenance) -> Result<RolloutView> {
        self.ask(model, Wish::Pause, by).await
    }

    /// Lets it go on; one that had stopped gets its stage's time again.
    pub async fn resume(&self, model: &ModelName, by: Provenance) -> Result<RolloutView> {
        self.ask(model, Wish::Resume, by).await
    }

    /// Ends it, and takes the version out of its role.
    pub async fn abort(&self, model: &ModelName, by: Provenance) -> Result<RolloutView> {
        self.ask(model, Wish::Abort, by).await
    }

    /// Goes to the next stage without waiting for evidence; needs a reason.
    pub async fn skip(&self, model: &ModelName, by: Provenance) -> Result<RolloutView> {
        self.ask(model, Wish::Skip, by).await
    }

    /// Promotes without waiting for evidence, and watches; needs a reason.
    pub async fn promote(&self, model: &ModelName, by: Provenance) -> Result<RolloutView> {
        self.ask(model, Wish::Promote, by).await
    }

    /// Approves of the promotion, as somebody else than who began it.
    pub async fn approve(&self, model: &ModelName, by: Provenance) -> Result<RolloutView> {
        self.ask(model, Wish::Approve, by).await
    }

    /// Adds a remark to its log.
    pub async fn comment(
        &self,
        model: &ModelName,
        text: String,
        by: Provenance,
    ) -> Result<RolloutView> {
        self.ask(model, Wish::Comment { text }, by).await
    }

    async fn ask(&self, model: &ModelName, wish: Wish, by: Provenance) -> Result<RolloutView> {
        let (reply, outcome) = oneshot::channel();
        let ask = Ask { model: model.clone(), wish, by, reply };
        self.asks.try_send(ask).map_err(|_| {
            Error::new(
                ErrorCode::Unavailable,
                "too many requests for rollouts wait already, or the gateway is stopping; try again",
            )
        })?;
        outcome.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorCode::Unavailable, "the gateway is stopping; nothing was changed"))
        })
    }

    /// The newest rollout of a model.
    pub async fn status(&self, model: &ModelName) -> Result<RolloutView> {
        if let Some(view) = self.board.load().get(model) {
            return Ok(RolloutView::clone(view));
        }
        self.control.model(model)?;
        let query = RolloutQuery::Newest(model.clone(), 1);
        let rows = self.store.rollouts(&query).await?;
        let row = rows.first().ok_or_else(|| {
            let message = format!("model {model} has had no rollout yet; start one");
            Error::new(ErrorCode::NotFound, message)
        })?;
        Ok(RolloutView::of(&Rollout::read(row)?, None))
    }

    /// The newest rollouts of a model, newest first.
    pub async fn list(&self, model: &ModelName, limit: usize) -> Result<Vec<RolloutView>> {
        self.control.model(model)?;
        let rows = self.store.rollouts(&RolloutQuery::Newest(model.clone(), limit)).await?;
        rows.iter().map(|row| Ok(RolloutView::of(&Rollout::read(row)?, None))).collect()
    }

    /// Makes a rollout's recorded verdicts again.
    pub async fn replay(&self, id: u64) -> Result<Replayed> {
        if self.store.rollouts(&RolloutQuery::Id(id)).await?.is_empty() {
            let message = format!("there is no rollout {id}; `rollout list` names them");
            return Err(Error::new(ErrorCode::NotFound, message));
        }
        replay(id, &self.store.rollout_steps(id).await?)
    }

    /// How long each stage would take at the present traffic.
    pub fn forecast(
        &self,
        model: &ModelName,
        version: VersionId,
        overrides: &RolloutOverrides,
    ) -> Result<Forecast> {
        let view = self.control.model(model)?;
        if !view.versions.iter().any(|known| known.version == version) {
            let message = format!("model {model} has no version {version}");
            return Err(Error::new(ErrorCode::NotFound, message));
        }
        let policy = view.rollout.with(overrides).map_err(Error::invalid)?;
        let watched = self.control.watched(model);
        let champion = watched.and_then(|watched| watched.champion).ok_or_else(|| {
            Error::new(ErrorCode::Conflict, format!("model {model} has no champion yet"))
        })?;
        let (version, stats) = champion;
        let (now, requests) = (Instant::now(), stats.requests());
        let per_second = self.traffic.per_second((model, version), now, requests, stats.age());
        forecast(model, &policy, &Done { stats: &stats, per_second })
    }

    /// Tells of each step of the controller, after the board shows what it did.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.steps.subscribe()
    }
}
