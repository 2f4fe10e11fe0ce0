//! A rollout that has not ended, with what its counts are taken from.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::analysis::Exposure;
use crate::error::Result;
use crate::registry::{Change, RolesSeen, State, VersionView, Watched};
use crate::rollout::jury::{Drawn, Evidence, Jury, NoiseCounts, ShadowCounts};
use crate::rollout::record::Lines;
use crate::rollout::replay::Decided;
use crate::rollout::{Phase, Rollout, Stage, record};
use crate::store::RolloutRow;
use crate::telemetry::recorder::{Event, Recorded, Recorder, Yardstick};
use crate::telemetry::{ArmStats, ShadowStats, Trial, Trials};
use crate::types::Share;

/// Answers that the champion must have given before it says what is slow.
const LINES_FROM: u64 = 1_000;

/// A rollout under way.
pub(super) struct Active {
    pub(super) rollout: Rollout,
    pub(super) jury: Jury,
    /// What was read of the present recorder so far.
    recorder: Option<(Arc<Recorder>, Recorded)>,
    /// Of its scores, too.
    scores: [Vec<u64>; 2],
    shadow: Option<(Arc<ShadowStats>, ShadowCounts)>,
    /// Which keys had been counted before the start; `None` once that is known again.
    counted: Option<Vec<u8>>,
    /// When it was looked at last.
    looked: Instant,
    pub(super) saved: Instant,
    /// What hinders it.
    pub(super) problem: Option<String>,
    /// The roles at the last look; `None` while a person decides, who sees for
    /// themselves.
    pub(super) seen: Option<RolesSeen>,
    /// What is being done by itself now, and why.
    pub(super) decided: Option<Decided>,
}

/// How the roles are, against how the rollout wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// As it wants them.
    AsWanted,
    /// The version is still being loaded.
    Coming,
    /// Somebody else changed them.
    Changed,
    /// The version is gone, or cannot be loaded.
    Lost,
}

impl Active {
    pub(super) fn new(mut rollout: Rollout) -> Result<Self> {
        Ok(Self {
            jury: Jury::resume(&rollout.policy, &rollout.evidence)?,
            counted: rollout.keys.take(),
            rollout,
            recorder: None,
            scores: Default::default(),
            shadow: None,
            looked: Instant::now(),
            saved: Instant::now(),
            problem: None,
            seen: None,
            decided: None,
        })
    }

    /// As it is stored, with what its guards know now.
    pub(super) fn row(&mut self) -> RolloutRow {
        self.rollout.evidence = self.jury.evidence();
        RolloutRow { keys: self.keys(), ..self.rollout.row() }
    }

    /// Which keys were counted, if any.
    pub(super) fn keys(&self) -> Option<Vec<u8>> {
        self.recorder.as_ref().and_then(|(recorder, _)| recorder.keys())
    }

    /// Lets the time pass that has passed.
    pub(super) fn pass_time(&mut self) {
        let now = Instant::now();
        let passed = now.duration_since(self.looked);
        self.looked = now;
        if self.rollout.phase == Phase::Running {
            let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
            self.rollout.ran_ms = self.rollout.ran_ms.saturating_add(passed);
        }
    }

    /// Whether the roles are those of the stage.
    pub(super) fn standing(&self, watched: &Watched, version: Option<&VersionView>) -> Standing {
        let (own, base) = (self.rollout.version, self.rollout.base);
        let champion = watched.champion.as_ref().map(|(version, _)| *version);
        let canary = watched.canary.map(|(version, _, _)| version);
        let fits = match self.rollout.present() {
            Stage::Shadow(_) => {
                champion == Some(base) && watched.shadows.iter().any(|(v, _, _)| *v == own)
            }
            Stage::Canary(_) => champion == Some(base) && canary == Some(own),
            Stage::Watch(_) => champion == Some(own),
        };
        match version.map(|version| version.state) {
            _ if fits => Standing::AsWanted,
            None | Some(State::Failed | State::Retiring | State::Retired | State::Unloaded) => {
                Standing::Lost
            }
            // After a start the champion may be late as well.
            Some(State::Ready) if champion.is_some() => Standing::Changed,
            Some(_) => Standing::Coming,
        }
    }

    /// Takes what labels and kept answers say by now.
    fn count_trial(&mut self, trials: &Trials) {
        let Rollout { id, ref model, base, version, labels_since, .. } = self.rollout;
        let Some(since) = labels_since.filter(|_| self.jury.wants_trial()) else { return };
        let guards = &self.rollout.policy.guards;
        let (by_group, by_selection) = (guards.fairness.enabled, guards.parity.enabled);
        let trial = Trial { rollout: id, since, base, version, by_group, by_selection };
        trials.follow(model, trial);
        if let Some(counts) = trials.counts(model, trial) {
            self.jury.count_trial(&counts);
        }
    }

    /// Takes what was counted since the last time.
    pub(super) fn count(&mut self, watched: &Watched, trials: &Trials) {
        match self.rollout.present() {
            Stage::Shadow(_) => self.count_shadow(watched),
            Stage::Canary(_) | Stage::Watch(_) => self.count_arms(watched),
        }
        self.count_trial(trials);
        self.rollout.evidence = self.jury.evidence();
    }

    fn count_shadow(&mut self, watched: &Watched) {
        let own = self.rollout.version;
        let Some((_, _, stats)) = watched.shadows.iter().find(|(v, _, _)| *v == own) else {
            return;
        };
        let now = shadow_counts(stats);
        let before = match &self.shadow {
            Some((known, before)) if Arc::ptr_eq(known, stats) => *before,
            // What it did as a shadow before is not this rollout's.
            _ => now,
        };
        self.jury.count_shadow(&now.since(&before));
        self.shadow = Some((Arc::clone(stats), now));
    }

    fn count_arms(&mut self, watched: &Watched) {
        let Some(recorder) = &watched.recorder else { return };
        let watching = matches!(self.rollout.present(), Stage::Watch(_));
        let turn = |recorded: Recorded| if watching { recorded.exchanged() } else { recorded };
        let known = self.recorder.as_ref().is_some_and(|(own, _)| Arc::ptr_eq(own, recorder));
        if !known {
            // What ended meanwhile still counts where it was assigned.
            if let Some((former, before)) = self.recorder.take() {
                let since = former.read().since(&before);
                self.jury.count(&turn(since), Drawn::on(former.yardstick()));
            }
            self.adopt(Arc::clone(recorder), Recorded::default());
            if self.recorder.is_none() {
                return;
            }
        }
        // Read before the lines are drawn: it was counted without them.
        let drawn = Drawn::on(recorder.yardstick());
        let now = recorder.read();
        let before = self.recorder.as_ref().map(|(_, before)| *before).unwrap_or_default();
        self.jury.count(&turn(now.since(&before)), drawn);
        self.jury.note_lost(|event| recorder.yardstick().lost(event));
        self.recorder = Some((Arc::clone(recorder), now));
        self.count_scores(watching);
        if !drawn.relative {
            self.draw_lines(recorder.yardstick(), watched);
        }
    }

    /// Forgets the evidence, and counts from now on.
    pub(super) fn judge_anew(&mut self) -> Result<()> {
        self.jury = Jury::resume(&self.rollout.policy, &Evidence::default())?;
        self.rollout.labels_since = None;
        // Whoever was counted before counts again.
        self.counted = None;
        if let Some((recorder, _)) = &self.recorder {
            recorder.forget_keys();
        }
        if let Some((recorder, before)) = self.recorder.take() {
            self.adopt(recorder, before);
        }
        self.rollout.evidence = self.jury.evidence();
        Ok(())
    }

    fn count_scores(&mut self, watching: bool) {
        let Some((recorder, _)) = self.recorder.as_ref().filter(|_| self.jury.wants_scores())
        else {
            return;
        };
        let now = recorder.scores();
        let since = |arm: usize| -> Vec<u64> {
            let before = self.scores[arm].iter().chain(std::iter::repeat(&0));
            now[arm].iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).collect()
        };
        let (champion, canary) = (since(0), since(1));
        if watching {
            self.jury.count_scores(&canary, &champion);
        } else {
            self.jury.count_scores(&champion, &canary);
        }
        self.scores = now;
    }

    /// Begins to read a recorder, from where it stood.
    pub(super) fn adopt(&mut self, recorder: Arc<Recorder>, from: Recorded) {
        let watching = matches!(self.rollout.present(), Stage::Watch(_));
        let Some(share) = exposure(recorder.share(), watching) else { return };
        self.jury.begin(share);
        // Before the first canary nothing is compared.
        self.rollout.labels_since.get_or_insert_with(record::now_ms);
        // It needs no history, unlike the others.
        recorder.yardstick().set_line(Event::TooSlow, self.rollout.policy.latency_max);
        let from = match self.counted.take() {
            None => from,
            Some(keys) => {
                if let Err(error) = recorder.merge_keys(&keys) {
                    tracing::error!(rollout = self.rollout.id, %error,
                        "who was counted before the start may count once more");
                }
                // What came before counted everybody anew.
                recorder.read()
            }
        };
        recorder.yardstick().want_scores(self.jury.wants_scores());
        self.scores = recorder.scores();
        self.recorder = Some((recorder, from));
    }

    /// Says what is slow, as soon as the champion has shown it; once a rollout.
    fn draw_lines(&mut self, yardstick: &Yardstick, watched: &Watched) {
        if self.rollout.lines.is_none() {
            let stats = watched.champion.as_ref().map(|(_, stats)| stats);
            self.rollout.lines =
                stats.and_then(|stats| lines(stats, self.rollout.policy.latency_slack));
        }
        let Some(Lines { p50, p99 }) = self.rollout.lines else { return };
        yardstick.set_line(Event::SlowP50, Some(Duration::from_nanos(p50)));
        yardstick.set_line(Event::SlowP99, Some(Duration::from_nanos(p99)));
    }

    /// The change that gives the version its role in a stage.
    pub(super) fn change_to(&self, stage: Stage, watched: Option<&Watched>) -> Change {
        let version = self.rollout.version;
        match stage {
            Stage::Shadow(sample) => Change::SetShadow { version, sample },
            Stage::Canary(weight) => Change::SetCanary { version, weight },
            Stage::Watch(holdback) => {
                let champion = watched.and_then(|watched| watched.champion.as_ref());
                if champion.is_some_and(|(champion, _)| *champion == version) {
                    Change::Note
                } else if holdback == Share::ZERO {
                    Change::Promote { version }
                } else {
                    Change::PromoteKeeping { version, holdback }
                }
            }
        }
    }
}

/// The share of the version that is judged.
fn exposure(canary: Share, watching: bool) -> Option<Exposure> {
    if !watching {
        return Exposure::new(canary);
    }
    let rest = Share::ALL.basis_points().checked_sub(canary.basis_points())?;
    Exposure::new(Share::from_basis_points(rest)?)
}

fn shadow_counts(stats: &ShadowStats) -> ShadowCounts {
    let snapshot = stats.snapshot();
    let noise = snapshot.noise.unwrap_or_default();
    ShadowCounts {
        compared: snapshot.compared,
        disagreed: snapshot.disagreed,
        failed: snapshot.failures.values().sum(),
        dropped: snapshot.dropped.values().sum(),
        noise: NoiseCounts {
            champion_compared: noise.champion_compared,
            champion_failed: noise.champion_failed,
            champion_disagreed: noise.champion_disagreed,
            shadow_compared: noise.shadow_compared,
            shadow_disagreed: noise.shadow_disagreed,
        },
    }
}

/// The champion's quantiles, and what is not slow yet on top of them.
fn lines(stats: &ArmStats, slack: Duration) -> Option<Lines> {
    let service = stats.service();
    if service.count() < LINES_FROM {
        return None;
    }
    let at = |q| u64::try_from(service.quantile(q)?.saturating_add(slack).as_nanos()).ok();
    Some(Lines { p50: at(0.5)?, p99: at(0.99)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::record::testing::rollout;
    use crate::telemetry::{ArmRole, Metrics};
    use crate::types::VersionId;

    fn id(n: u64) -> VersionId {
        VersionId::new(n).unwrap()
    }

    fn watched(metrics: &Metrics, champion: u64) -> Watched {
        let stats = metrics.arm(&rollout().model, id(champion), ArmRole::Champion);
        Watched {
            champion: Some((id(champion), stats)),
            canary: None,
            recorder: None,
            shadows: Vec::new(),
        }
    }

    #[test]
    fn roles_are_as_wanted_or_somebody_changed_them() {
        let metrics = Metrics::new();
        let mut active = Active::new(rollout()).unwrap();
        let mut roles = watched(&metrics, 1);
        assert_eq!(active.standing(&roles, None), Standing::Lost);
        let stats = metrics.shadow(&active.rollout.model, id(3));
        roles.shadows.push((id(3), Share::ALL, stats));
        assert_eq!(active.standing(&roles, None), Standing::AsWanted);
        active.rollout.enter(2);
        assert_eq!(active.standing(&roles, None), Standing::Lost);
        roles.canary = Some((id(3), Share::ALL, false));
        assert_eq!(active.standing(&roles, None), Standing::AsWanted);
        // Another champion is another comparison.
        roles.champion = watched(&metrics, 2).champion;
        assert_ne!(active.standing(&roles, None), Standing::AsWanted);
    }

    #[test]
    fn what_a_shadow_did_before_is_not_the_rollouts() {
        let metrics = Metrics::new();
        let mut active = Active::new(rollout()).unwrap();
        let stats = metrics.shadow(&active.rollout.model, id(3));
        let mut roles = watched(&metrics, 1);
        roles.shadows.push((id(3), Share::ALL, Arc::clone(&stats)));
        stats.compared(1, 1, 1.0, 1.0);
        active.count(&roles, metrics.trials());
        stats.compared(1, 0, 0.0, 0.0);
        active.count(&roles, metrics.trials());
        active.count(&roles, metrics.trials());
        let text = crate::rollout::explain::line(&active.rollout.evidence.guards[0]);
        assert!(text.starts_with("0 of 1 copies"), "{text}");
    }

    #[test]
    fn what_was_misrouted_is_forgotten_and_the_share_is_not() {
        let metrics = Metrics::new();
        let mut active = Active::new(rollout()).unwrap();
        active.rollout.enter(1);
        let recorder = Arc::new(Recorder::new(Share::from_percent(1.0).unwrap(), Arc::default()));
        let mut roles = watched(&metrics, 1);
        roles.recorder = Some(Arc::clone(&recorder));
        active.count(&roles, metrics.trials());
        let arm = crate::telemetry::recorder::Arm::Canary;
        (0..100).for_each(|_| recorder.assigned(arm, None));
        active.count(&roles, metrics.trials());
        let misrouted =
            |active: &Active| active.rollout.evidence.traffic.clone().unwrap().misrouted;
        assert!(misrouted(&active));
        active.judge_anew().unwrap();
        assert!(!misrouted(&active));
        recorder.assigned(arm, None);
        active.count(&roles, metrics.trials());
        let traffic = active.rollout.evidence.traffic.clone().unwrap();
        assert_eq!((traffic.stages.len(), traffic.stages[0].canary), (1, 1));
    }

    #[test]
    fn the_line_is_drawn_once_the_champion_has_shown_what_is_usual() {
        let metrics = Metrics::new();
        let mut active = Active::new(rollout()).unwrap();
        active.rollout.enter(1);
        let recorder = Arc::new(Recorder::new(Share::from_percent(1.0).unwrap(), Arc::default()));
        let mut roles = watched(&metrics, 1);
        roles.recorder = Some(Arc::clone(&recorder));
        active.count(&roles, metrics.trials());
        assert_eq!(active.rollout.lines, None);
        let stats = Arc::clone(&roles.champion.as_ref().unwrap().1);
        for _ in 0..LINES_FROM {
            let mut times = crate::telemetry::Answered::within(Duration::from_millis(3));
            times.ran = Duration::from_millis(2);
            stats.answered(times);
        }
        active.count(&roles, metrics.trials());
        let drawn = active.rollout.lines.unwrap();
        assert!((2_200_000..2_300_000).contains(&drawn.p99), "{drawn:?}");
        let line = recorder.yardstick().line(Event::SlowP50).unwrap();
        assert_eq!(u64::try_from(line.as_nanos()).unwrap(), drawn.p50);
        // A recorder of a new process is measured by the same.
        let other = Arc::new(Recorder::new(Share::from_percent(5.0).unwrap(), Arc::default()));
        roles.recorder = Some(Arc::clone(&other));
        active.count(&roles, metrics.trials());
        assert_eq!(other.yardstick().line(Event::SlowP50), Some(line));
    }
}
