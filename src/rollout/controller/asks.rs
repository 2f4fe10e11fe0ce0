//! What people ask of rollouts.

use crate::error::{Error, ErrorCode, Result};
use crate::registry::{Change, Provenance};
use crate::rollout::controller::Controller;
use crate::rollout::controller::steps::none;
use crate::rollout::handle::{Ask, Wish};
use crate::rollout::{Phase, RolloutView, Stage};
use crate::types::{ModelName, RolloutOverrides, VersionId};

impl Controller {
    pub(super) async fn ask(&mut self, ask: Ask) {
        let Ask { model, wish, by, reply } = ask;
        if let Some(active) = self.active.get_mut(&model) {
            active.seen = None;
        }
        let outcome = self.grant(&model, wish, by).await;
        // They may have left meanwhile.
        let _ = reply.send(outcome);
    }

    async fn grant(&mut self, name: &ModelName, wish: Wish, by: Provenance) -> Result<RolloutView> {
        match wish {
            Wish::Start { version, overrides } => self.start(name, version, &overrides, by).await,
            Wish::Pause => self.pause(name, by).await,
            Wish::Resume => self.resume(name, by).await,
            Wish::Abort => {
                let version = self.open(name)?.version;
                self.end_by(name, Phase::Aborted, Change::Retreat { version }, by).await
            }
            Wish::Skip if matches!(self.open(name)?.present(), Stage::Watch(_)) => {
                with_a_reason(&by)?;
                let change = self.end_of_watch(name);
                self.end_by(name, Phase::Promoted, change, by).await
            }
            Wish::Skip => {
                let stage = self.open(name)?.stage + 1;
                self.skip_to(name, stage, by).await
            }
            Wish::Promote => {
                let stage = self.open(name)?.stages.len().saturating_sub(1);
                self.skip_to(name, stage, by).await
            }
            Wish::Approve => self.approve(name, by).await,
            Wish::Comment { text } => {
                let mut next = self.open(name)?.clone();
                next.note(&by.actor, text.clone());
                let by = Provenance { reason: Some(text), ..by };
                self.take(name, next, Change::Note, "comment", by).await
            }
        }
    }

    fn open(&self, name: &ModelName) -> Result<&crate::rollout::Rollout> {
        self.active.get(name).map(|active| &active.rollout).ok_or_else(|| none(name))
    }

    async fn start(
        &mut self,
        name: &ModelName,
        version: VersionId,
        overrides: &RolloutOverrides,
        by: Provenance,
    ) -> Result<RolloutView> {
        let usual = &self.control.model(name)?.rollout;
        let policy = usual.with(overrides).map_err(Error::invalid)?;
        self.begin(name, version, policy, by).await
    }

    async fn pause(&mut self, name: &ModelName, by: Provenance) -> Result<RolloutView> {
        let mut next = self.open(name)?.clone();
        if next.phase == Phase::Paused {
            return Err(conflict("it is paused already"));
        }
        (next.phase, next.why) = (Phase::Paused, by.reason.clone().unwrap_or_default());
        next.note(&by.actor, "paused");
        self.take(name, next, Change::Note, "paused", by).await
    }

    /// Goes on in the same stage, with the time of it before it: whoever resumes
    /// what stopped gives it that much again. Where traffic did not arrive as it was
    /// routed, nothing that was counted says anything: whoever resumes that says why it
    /// will now, and the evidence begins anew.
    async fn resume(&mut self, name: &ModelName, by: Provenance) -> Result<RolloutView> {
        let rollout = self.open(name)?;
        let (stage, ran) = (rollout.stage, rollout.ran_ms);
        match rollout.phase {
            Phase::Running => return Err(conflict("it runs already")),
            Phase::AwaitingApproval => {
                return Err(conflict("it waits for a second person: approve the promotion"));
            }
            _ => {}
        }
        let paused = rollout.phase == Phase::Paused;
        if is_misrouted(rollout) {
            with_a_reason(&by)?;
        }
        self.forget_if_misrouted(name)?;
        let view = self.enter(name, stage, by).await?;
        if let Some(active) = self.active.get_mut(name).filter(|_| paused) {
            active.rollout.ran_ms = ran;
        }
        Ok(view)
    }

    /// Nothing that was counted of misrouted traffic says anything: it would stop the
    /// rollout again at once. The entry that stopped it has it.
    fn forget_if_misrouted(&mut self, name: &ModelName) -> Result<()> {
        match self.active.get_mut(name).filter(|active| is_misrouted(&active.rollout)) {
            Some(active) => active.judge_anew(),
            None => Ok(()),
        }
    }

    async fn skip_to(
        &mut self,
        name: &ModelName,
        stage: usize,
        by: Provenance,
    ) -> Result<RolloutView> {
        let rollout = self.open(name)?;
        with_a_reason(&by)?;
        if stage >= rollout.stages.len() || stage <= rollout.stage {
            return Err(conflict("it is in its last stage"));
        }
        let promotes = stage + 1 == rollout.stages.len();
        if promotes && rollout.policy.approval && rollout.approved.is_none() {
            return Err(conflict("a second person has to approve of the promotion first"));
        }
        self.forget_if_misrouted(name)?;
        self.enter(name, stage, by).await
    }

    async fn approve(&mut self, name: &ModelName, by: Provenance) -> Result<RolloutView> {
        let mut next = self.open(name)?.clone();
        if !next.policy.approval {
            return Err(conflict("it asks for nobody's approval"));
        }
        if let Some(approved) = &next.approved {
            return Err(conflict(format!("{approved} has approved already")));
        }
        if !matches!(next.next(), Some(Stage::Watch(_))) {
            let message = "it is asked for in the last stage before the promotion, with the \
                           evidence that there is then";
            return Err(conflict(message));
        }
        if next.actor == by.actor {
            let message = format!(
                "{} began it: expected another person's approval; name yourself as the actor",
                by.actor
            );
            return Err(Error::new(ErrorCode::PermissionDenied, message));
        }
        next.approved = Some(by.actor.clone());
        if next.phase == Phase::AwaitingApproval {
            (next.phase, next.why) = (Phase::Running, String::new());
        }
        next.note(&by.actor, "approved");
        self.take(name, next, Change::Note, "approved", by).await
    }
}

fn is_misrouted(rollout: &crate::rollout::Rollout) -> bool {
    rollout.evidence.traffic.as_ref().is_some_and(|found| found.misrouted)
}

fn with_a_reason(by: &Provenance) -> Result<()> {
    if by.reason.is_some() {
        return Ok(());
    }
    Err(Error::invalid("reason: expected why the evidence is not waited for"))
}

fn conflict(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Conflict, message)
}
