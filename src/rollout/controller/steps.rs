//! The steps that a rollout takes, each with its entry.

use std::sync::Arc;

use tokio::time::Instant;

use crate::error::{Error, ErrorCode, Result};
use crate::registry::{Change, OfRollout, Provenance, RolesSeen, State, Watched};
use crate::rollout::controller::Controller;
use crate::rollout::controller::active::{Active, Standing};
use crate::rollout::jury::Evidence;
use crate::rollout::policy::{Decision, Situation, decide};
use crate::rollout::record::now;
use crate::rollout::replay::{Decided, StepRecord};
use crate::rollout::{Phase, Rollout, RolloutView, Stage, explain};
use crate::store::{RolloutRow, RolloutStep};
use crate::types::{ModelName, RolloutPolicy, VersionId};

impl Controller {
    /// Looks at what was counted, and moves a rollout if it is time.
    pub(super) async fn judge(&mut self, name: &ModelName) {
        let Some(active) = self.active.get_mut(name) else { return };
        active.pass_time();
        // Without its role there is nothing to count and nobody to move.
        let paused = active.rollout.phase == Phase::Paused;
        // The plan after the board: what is ready there has its role in this plan
        // already, while the other way round it might not have it yet.
        let view = self.control.model(name).ok();
        let Some(watched) = self.control.watched(name) else { return };
        let version = view.as_ref().and_then(|view| {
            view.versions.iter().find(|version| version.version == active.rollout.version)
        });
        active.seen = Some(roles(&watched));
        match active.standing(&watched, version) {
            Standing::AsWanted => {}
            Standing::Coming => return,
            _ if paused => return,
            Standing::Changed => {
                let own = active.rollout.version;
                let left = watched.canary.filter(|(version, _, _)| *version == own);
                let left = left.map_or_else(String::new, |(_, weight, _)| {
                    format!("; version {own} still answers {weight}, and nobody judges it")
                });
                let why = format!("somebody changed the roles by hand{left}");
                return self.end(name, Phase::Overtaken, &why, Change::Note).await;
            }
            Standing::Lost => {
                let why = version.map_or("its folder is gone".to_owned(), |version| {
                    let reason = version.reason.clone().unwrap_or_default();
                    format!("the version is {}: {reason}", version.state.as_str())
                });
                let change = Change::Retreat { version: active.rollout.version };
                return self.end(name, Phase::Lost, &why, change).await;
            }
        }
        active.count(&watched, self.metrics.trials());
        let situation = situation(&active.rollout);
        let decision = decide(&situation, active.rollout.evidence.outcome(situation.stage));
        active.decided = Some(Decided { situation, decision });
        self.act(name, decision).await;
        if let Some(active) = self.active.get_mut(name) {
            active.decided = None;
        }
    }

    async fn act(&mut self, name: &ModelName, decision: Decision) {
        let Some(active) = self.active.get(name) else { return };
        let rollout = &active.rollout;
        let why = explain::why(&rollout.evidence, rollout.present());
        let version = rollout.version;
        match decision {
            Decision::Hold => {}
            Decision::Advance => {
                let next = rollout.stage + 1;
                let by = Provenance { actor: rollout.hand(), reason: Some(why) };
                if let Err(error) = self.enter(name, next, by).await {
                    self.hindered(name, &error);
                }
            }
            Decision::Finish => {
                let change = self.end_of_watch(name);
                let why = format!("nothing worse was seen in its watch ({why})");
                self.end(name, Phase::Promoted, &why, change).await;
            }
            Decision::RollBack => {
                self.end(name, Phase::RolledBack, &why, Change::Retreat { version }).await;
            }
            Decision::Freeze => self.wait(name, Phase::Stopped, &why).await,
            Decision::Misrouted => self.wait(name, Phase::Stopped, &why).await,
            Decision::Stop => {
                let why = format!("the stage's longest time is over; {why}");
                self.wait(name, Phase::Stopped, &why).await;
            }
            Decision::AwaitApproval => self.wait(name, Phase::AwaitingApproval, &why).await,
        }
    }

    /// Begins a rollout in its first stage.
    pub(super) async fn begin(
        &mut self,
        name: &ModelName,
        version: VersionId,
        policy: RolloutPolicy,
        by: Provenance,
    ) -> Result<RolloutView> {
        let base = self.may_begin(name, version, &policy)?;
        let id = self.last_id + 1;
        let mut rollout = Rollout {
            id,
            model: name.clone(),
            version,
            base,
            actor: by.actor.clone(),
            started: now(),
            stages: Stage::all(&policy),
            policy,
            stage: 0,
            ran_ms: 0,
            phase: Phase::Running,
            why: String::new(),
            evidence: Evidence::default(),
            lines: None,
            labels_since: None,
            approved: None,
            queued: None,
            unclean: 0,
            gaps: 0,
            clean: false,
            saved: String::new(),
            log: Vec::new(),
            keys: None,
        };
        rollout.note(&by.actor, format!("begun: version {version} against {base}"));
        // Whatever a new canary's split is, it is not the one of a rollout before.
        let active = Active::new(rollout)?;
        self.last_id = id;
        self.active.insert(name.clone(), active);
        let watched = self.control.watched(name);
        let recorder = watched.and_then(|watched| watched.recorder);
        let counted = recorder.map(|recorder| (recorder.read(), recorder));
        let begun = self.enter(name, 0, by).await;
        let now = self.control.watched(name).and_then(|watched| watched.recorder);
        if let Some(active) = self.active.get_mut(name)
            && let Some((counted, recorder)) = counted
            && now.is_some_and(|now| Arc::ptr_eq(&now, &recorder))
        {
            // It was canary at this weight before: what it did then is not this
            // rollout's.
            active.adopt(recorder, counted);
        }
        if begun.is_err() {
            self.active.remove(name);
        }
        begun
    }

    fn may_begin(
        &self,
        name: &ModelName,
        version: VersionId,
        policy: &RolloutPolicy,
    ) -> Result<VersionId> {
        let conflict = |message: String| Error::new(ErrorCode::Conflict, message);
        if let Some(active) = self.active.get(name) {
            let Rollout { id, version, .. } = &active.rollout;
            return Err(conflict(format!(
                "rollout {id} of version {version} has not ended; abort it first"
            )));
        }
        let view = self.control.model(name)?;
        let known = view.versions.iter().find(|known| known.version == version);
        match known.map(|known| known.state) {
            Some(State::Ready) => {}
            Some(state) => {
                let state = state.as_str();
                return Err(conflict(format!("version {version} is {state}, not ready")));
            }
            None => {
                let message = format!("model {name} has no version {version}");
                return Err(Error::new(ErrorCode::NotFound, message));
            }
        }
        let champion = view.plan.champion.as_ref().map(|arm| arm.version);
        let Some(champion) = champion else {
            return Err(conflict("there is no champion yet; promote a version first".to_owned()));
        };
        if champion == version {
            return Err(conflict(format!("version {version} is the champion already")));
        }
        if let Some(canary) = view.plan.canary.as_ref().filter(|canary| canary.version != version) {
            return Err(conflict(format!(
                "version {} is canary; remove the canary first",
                canary.version
            )));
        }
        if Stage::all(policy).len() < 2 {
            return Err(Error::invalid(
                "weights: a rollout needs a shadow or weights before its promotion",
            ));
        }
        Ok(champion)
    }

    /// Goes to a stage, whichever it is.
    pub(super) async fn enter(
        &mut self,
        name: &ModelName,
        stage: usize,
        by: Provenance,
    ) -> Result<RolloutView> {
        let watched = self.control.watched(name);
        let Some(active) = self.active.get(name) else { return Err(none(name)) };
        let mut next = active.rollout.clone();
        next.enter(stage);
        let change = active.change_to(next.present(), watched.as_ref());
        let text = format!("stage {}", next.present());
        next.note(&by.actor, with_reason(&text, by.reason.as_deref()));
        self.take(name, next, change, &text, by).await
    }

    /// Waits for a person.
    async fn wait(&mut self, name: &ModelName, phase: Phase, why: &str) {
        let Some(active) = self.active.get(name) else { return };
        if active.rollout.phase == phase {
            return;
        }
        let mut next = active.rollout.clone();
        let text = phase.as_str().replace('_', " ");
        (next.phase, next.why) = (phase, why.to_owned());
        let hand = next.hand();
        next.note(&hand, with_reason(&text, Some(why)));
        let by = Provenance { actor: hand, reason: Some(why.to_owned()) };
        if let Err(error) = self.take(name, next, Change::Note, &text, by).await {
            self.hindered(name, &error);
        }
    }

    async fn end(&mut self, name: &ModelName, phase: Phase, why: &str, change: Change) {
        let Some(active) = self.active.get(name) else { return };
        let actor = active.rollout.hand();
        let by = Provenance { actor, reason: Some(why.to_owned()) };
        if let Err(error) = self.end_by(name, phase, change, by).await {
            self.hindered(name, &error);
        }
    }

    /// Ends a rollout, and begins the one that waited for it.
    pub(super) async fn end_by(
        &mut self,
        name: &ModelName,
        phase: Phase,
        change: Change,
        by: Provenance,
    ) -> Result<RolloutView> {
        let Some(active) = self.active.get(name) else { return Err(none(name)) };
        let mut next = active.rollout.clone();
        let text = phase.as_str().replace('_', " ");
        next.note(&by.actor, with_reason(&text, by.reason.as_deref()));
        (next.phase, next.why) = (phase, by.reason.clone().unwrap_or_default());
        let queued = next.queued;
        let view = self.take(name, next, change, &text, by).await?;
        self.active.remove(name);
        self.metrics.trials().end(name);
        if let Some(version) = queued {
            let reason = Some(format!("waited for the end of rollout {}", view.id));
            let by = Provenance { actor: "foreshadow".to_owned(), reason };
            let policy = self.control.model(name).map(|model| (*model.rollout).clone());
            let policy = policy.unwrap_or_default();
            if let Err(error) = Box::pin(self.begin(name, version, policy, by)).await {
                tracing::error!(model = %name, %version, %error, "no rollout is begun");
            }
        }
        Ok(view)
    }

    /// What ends the watch: the control answers no more.
    pub(super) fn end_of_watch(&self, name: &ModelName) -> Change {
        let control = self.control.watched(name).and_then(|watched| watched.canary);
        if control.is_some_and(|(_, _, holdback)| holdback) {
            Change::RemoveCanary
        } else {
            Change::Note
        }
    }

    /// Makes room for a newer version.
    pub(super) async fn supersede(
        &mut self,
        name: &ModelName,
        newer: VersionId,
        by: &Provenance,
    ) -> Result<()> {
        let Some(active) = self.active.get_mut(name) else { return Ok(()) };
        active.rollout.queued = None;
        // A champion that is being watched stays champion: it was promoted.
        let change = match active.rollout.present() {
            Stage::Watch(_) => self.end_of_watch(name),
            _ => Change::Retreat { version: active.rollout.version },
        };
        let reason = Some(format!("version {newer} has come"));
        let by = Provenance { actor: by.actor.clone(), reason };
        self.end_by(name, Phase::Superseded, change, by).await.map(|_| ())
    }

    /// Takes a step: the entry, the rollout as it stands after it, and the change,
    /// or nothing of it.
    pub(super) async fn take(
        &mut self,
        name: &ModelName,
        mut next: Rollout,
        change: Change,
        text: &str,
        by: Provenance,
    ) -> Result<RolloutView> {
        let decided = self.active.get(name).and_then(|active| active.decided);
        let evidence = StepRecord { evidence: next.evidence.clone(), decided };
        let evidence = serde_json::to_string(&evidence)
            .map_err(|error| Error::internal(format!("evidence cannot be written: {error}")))?;
        let action = format!("rollout {}: version {} {text}", next.id, next.version);
        let keys = self.active.get(name).and_then(Active::keys);
        let step = RolloutStep { row: RolloutRow { keys, ..next.row() }, evidence: Some(evidence) };
        // Harm is taken out whatever there is, and a note changes nothing.
        let holds = matches!(change, Change::Retreat { .. } | Change::Note);
        let basis = self.active.get(name).and_then(|active| active.seen).filter(|_| !holds);
        self.control.step(name, change, by, OfRollout { action, step, basis }).await?;
        let view = RolloutView::of(&next, None);
        if let Some(active) = self.active.get_mut(name) {
            active.rollout = next;
            active.problem = None;
            active.saved = Instant::now();
        }
        tracing::info!(model = %name, rollout = view.id, phase = view.phase, step = text, "rollout");
        self.show_view(name, view.clone());
        Ok(view)
    }

    fn hindered(&mut self, name: &ModelName, error: &Error) {
        let Some(active) = self.active.get_mut(name) else { return };
        let text = error.to_string();
        if active.problem.as_ref() != Some(&text) {
            tracing::warn!(model = %name, rollout = active.rollout.id, %error, "a step waits");
            active.problem = Some(text);
        }
    }
}

/// Champion, canary and its weight.
fn roles(watched: &Watched) -> RolesSeen {
    let champion = watched.champion.as_ref().map(|(version, _)| *version);
    (champion, watched.canary.map(|(version, weight, _)| (version, weight)))
}

/// What a rollout's next decision depends on, besides its evidence.
fn situation(rollout: &Rollout) -> Situation {
    let stage = rollout.present();
    let (min, max) = stage.times(&rollout.policy);
    Situation {
        running: rollout.phase == Phase::Running,
        stage,
        next: rollout.next(),
        ran: rollout.ran(),
        min,
        max,
        on_worse: rollout.policy.on_worse,
        approved: !rollout.policy.approval || rollout.approved.is_some(),
    }
}

fn with_reason(text: &str, reason: Option<&str>) -> String {
    match reason {
        Some(reason) if !reason.is_empty() => format!("{text} ({reason})"),
        _ => text.to_owned(),
    }
}

pub(super) fn none(name: &ModelName) -> Error {
    Error::new(ErrorCode::NotFound, format!("model {name} has no rollout under way"))
}
