//! A rollout as it is kept: where it stands, by whose hand, and what it knows.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode, Result};
use crate::rollout::Stage;
use crate::rollout::jury::Evidence;
use crate::store::RolloutRow;
use crate::types::{ModelName, RolloutPolicy, VersionId};

/// Lines of a rollout's own log; the oldest are dropped first.
const LOG_MAX: usize = 200;

/// How a rollout stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It is judged, and moves by itself.
    Running,
    /// Somebody, or several unclean exits, had it paused.
    Paused,
    /// It waits for a person: the evidence does not suffice, or says that
    /// something is wrong.
    Stopped,
    /// It has passed, and waits for a second person's approval.
    AwaitingApproval,
    /// The version is champion.
    Promoted,
    /// The version was worse.
    RolledBack,
    /// Somebody ended it.
    Aborted,
    /// A newer version's rollout took its place.
    Superseded,
    /// Somebody changed the roles by hand.
    Overtaken,
    /// The version is gone, or could not be loaded again.
    Lost,
}

impl Phase {
    /// Its name in replies and metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
            Self::Superseded => "superseded",
            Self::Overtaken => "overtaken",
            Self::Lost => "lost",
        }
    }

    /// Whether it has not come to its end.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Stopped | Self::AwaitingApproval)
    }
}

/// One line of a rollout's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When, RFC 3339, UTC.
    pub time: String,
    /// By whose hand.
    pub actor: String,
    /// What.
    pub text: String,
}

/// The lines that slow requests are told by, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    /// At the champion's median.
    pub p50: u64,
    /// At its 99th percentile.
    pub p99: u64,
}

/// A rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its number, from 1, over all models.
    pub id: u64,
    /// The model.
    pub model: ModelName,
    /// The version that it brings in.
    pub version: VersionId,
    /// The champion when it began.
    pub base: VersionId,
    /// By whose hand it was begun.
    pub actor: String,
    /// When it was begun, RFC 3339, UTC.
    pub started: String,
    /// How it is brought in.
    pub policy: RolloutPolicy,
    /// The stages.
    pub stages: Vec<Stage>,
    /// The present one.
    pub stage: usize,
    /// How long the present one has run, in milliseconds: pauses and the time
    /// between two processes do not count.
    pub ran_ms: u64,
    /// How it stands.
    pub phase: Phase,
    /// Why it stands so.
    pub why: String,
    /// What its guards know.
    pub evidence: Evidence,
    /// What is slow, once the champion has shown it.
    pub lines: Option<Lines>,
    /// Answers from this time on count by their labels, in milliseconds since 1970; `None`
    /// before the first canary.
    #[serde(default)]
    pub labels_since: Option<i64>,
    /// Who approved of the promotion.
    pub approved: Option<String>,
    /// A newer version that waits for its end.
    pub queued: Option<VersionId>,
    /// Unclean ends of the process within the present stage.
    pub unclean: u32,
    /// Restarts at which counts since the last checkpoint were lost.
    pub gaps: u32,
    /// The process that wrote this has ended as it should.
    pub clean: bool,
    /// When this was written, RFC 3339, UTC.
    pub saved: String,
    /// What happened.
    pub log: Vec<LogLine>,
    /// Which keys had been counted when the process before ended.
    #[serde(skip)]
    pub keys: Option<Vec<u8>>,
}

impl Rollout {
    /// The present stage.
    #[must_use]
    pub fn present(&self) -> Stage {
        let last = self.stages.last().copied().unwrap_or(Stage::Watch(self.policy.holdback));
        self.stages.get(self.stage).copied().unwrap_or(last)
    }

    /// The one after it.
    #[must_use]
    pub fn next(&self) -> Option<Stage> {
        self.stages.get(self.stage + 1).copied()
    }

    /// How long the present stage has run.
    #[must_use]
    pub const fn ran(&self) -> Duration {
        Duration::from_millis(self.ran_ms)
    }

    /// Adds a line to its log.
    pub fn note(&mut self, actor: &str, text: impl Into<String>) {
        let (actor, text) = (actor.to_owned(), text.into());
        self.log.push(LogLine { time: now(), actor, text });
        let excess = self.log.len().saturating_sub(LOG_MAX);
        self.log.drain(..excess);
    }

    /// The next stage begins.
    pub fn enter(&mut self, stage: usize) {
        self.stage = stage;
        if !matches!(self.present(), Stage::Watch(_)) {
            // It was for the evidence that there was.
            self.approved = None;
        }
        self.ran_ms = 0;
        self.unclean = 0;
        self.phase = Phase::Running;
        self.why = String::new();
    }

    /// As it is stored.
    pub fn row(&mut self) -> RolloutRow {
        self.saved = now();
        RolloutRow {
            id: self.id,
            model: self.model.clone(),
            version: self.version,
            open: self.phase.is_open(),
            state: serde_json::to_string(self).expect("it has no key that is no string"),
            keys: None,
        }
    }

    /// From what was stored.
    pub fn read(row: &RolloutRow) -> Result<Self> {
        let read = serde_json::from_str(&row.state).map_err(|error| {
            let message = format!("rollout {} cannot be read: {error}", row.id);
            Error::new(ErrorCode::Internal, message)
        });
        Ok(Self { keys: row.keys.clone(), ..read? })
    }

    /// Who it is in the audit log.
    #[must_use]
    pub fn hand(&self) -> String {
        format!("rollout {}", self.id)
    }
}

/// RFC 3339, UTC.
pub(super) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::types::Share;

    /// Rollout 7 of version 3 of model `m`, in its first stage.
    pub(in crate::rollout) fn rollout() -> Rollout {
        let policy = RolloutPolicy::default();
        Rollout {
            id: 7,
            model: ModelName::new("m").unwrap(),
            version: VersionId::new(3).unwrap(),
            base: VersionId::new(1).unwrap(),
            actor: "eve".into(),
            started: now(),
            stages: Stage::all(&RolloutPolicy { shadow: Share::ALL, ..policy.clone() }),
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::rollout;
    use super::*;

    #[test]
    fn it_is_read_back_as_it_was_kept() {
        let mut rollout = rollout();
        rollout.note("eve", "begun");
        let row = rollout.row();
        assert!(row.open);
        assert_eq!(Rollout::read(&row).unwrap(), rollout);
        rollout.phase = Phase::Aborted;
        assert!(!rollout.row().open);
        let broken = RolloutRow { state: "{}".into(), ..row };
        assert!(
            Rollout::read(&broken).unwrap_err().message().starts_with("rollout 7 cannot be read")
        );
    }

    #[test]
    fn its_log_is_bounded_and_a_stage_begins_from_nothing() {
        let mut rollout = rollout();
        (0..300).for_each(|i| rollout.note("eve", i.to_string()));
        assert_eq!((rollout.log.len(), &*rollout.log[0].text), (LOG_MAX, "100"));
        (rollout.ran_ms, rollout.unclean) = (5, 2);
        rollout.enter(1);
        assert_eq!((rollout.ran_ms, rollout.unclean, rollout.stage), (0, 0, 1));
        assert_eq!(rollout.present().to_string(), "canary 1%");
    }
}
