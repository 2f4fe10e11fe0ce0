//! A canary against its champion: both answer a share of the same traffic by lot, so their
//! inputs should look alike; how their outputs differ tells what would change, before any
//! label comes.
//!
//! Both are counted in the bins of the champion's profile since the same moment. Their
//! windows close together, when both have rows and time enough, and are compared as two
//! samples are. It changes nothing and alerts nobody: a canary is there to answer
//! otherwise, and what decides is its rollout.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::analysis::{Drift, Level};
use crate::error::{Error, Result};
use crate::monitor::common::Common;
use crate::monitor::rounds::{named, period};
use crate::monitor::view::{AgainstView, BothWindowView};
use crate::monitor::windows::{Closed, Column, Whole, Windows, counted};
use crate::telemetry::{ColumnFigures, FeatureSnapshot, Metrics, Watch};
use crate::types::{Profile, Share, VersionId};

/// A canary with its champion, as control sees them now.
pub(super) struct Pair<'a> {
    pub(super) canary: &'a Watch,
    pub(super) champion: &'a Arc<Watch>,
    /// The canary's share of the traffic.
    pub(super) weight: Option<Share>,
}

/// What is known of a canary against its champion.
pub(super) enum Against {
    /// They cannot be compared, and why.
    Cannot(VersionId, String),
    /// They are.
    Compared(Box<Compared>),
}

/// A canary that is counted beside its champion, which it does not keep.
pub(super) struct Compared {
    champion: Weak<Watch>,
    version: VersionId,
    /// The champion's, which has the bins.
    profile: Arc<Profile>,
    both: Both,
    last: Option<BothWindowView>,
}

impl Against {
    /// One look, at `now` on a clock that only goes forward.
    pub(super) fn round(
        former: Option<Self>,
        pair: &Pair<'_>,
        whole: Whole,
        now: Duration,
        metrics: &Metrics,
    ) -> Self {
        let version = pair.champion.version();
        let profile = pair.champion.profile();
        let compared = match (former, profile) {
            (Some(Self::Compared(own)), Some(profile)) if own.is_of(pair, &profile) => Ok(own),
            (_, Some(profile)) => {
                end(pair.canary, metrics);
                Compared::begin(pair, profile, whole, now).map(Box::new)
            }
            (_, None) => {
                end(pair.canary, metrics);
                Err(Error::invalid(without_profile(pair.champion)))
            }
        };
        match compared {
            Ok(mut compared) => {
                compared.step(pair, now, metrics);
                Self::Compared(compared)
            }
            Err(why) => Self::Cannot(version, why.message().to_owned()),
        }
    }

    pub(super) fn view(&self) -> AgainstView {
        match self {
            Self::Cannot(version, why) => AgainstView {
                version: *version,
                problem: Some(why.clone()),
                window_rows: 0,
                champion_window_rows: 0,
                last: None,
                columns: Vec::new(),
                not_comparable: Vec::new(),
            },
            Self::Compared(compared) => compared.view(),
        }
    }
}

/// Counts beside nobody any more, and shows nothing of what was.
pub(super) fn end(canary: &Watch, metrics: &Metrics) {
    canary.rest_beside();
    metrics.remove_against(canary.model(), canary.version());
}

fn without_profile(champion: &Watch) -> String {
    match champion.learnt() {
        Some(_) => "the champion is still learning its profile, which has the bins".to_owned(),
        None => "the champion has no profile, which would have the bins".to_owned(),
    }
}

impl Compared {
    /// Counts the canary beside the champion from now on.
    fn begin(pair: &Pair<'_>, profile: Arc<Profile>, whole: Whole, now: Duration) -> Result<Self> {
        let (champion, canary) = (pair.champion, pair.canary);
        let common = Common::new(&profile, champion.signature(), canary.signature());
        if common.is_empty() {
            return Err(Error::invalid(
                "no column of the champion's profile is one of the canary's",
            ));
        }
        canary.count_beside(&common.profile, champion)?;
        let base = common.of(&champion.counts().unwrap_or_default());
        Ok(Self {
            champion: Arc::downgrade(champion),
            version: champion.version(),
            both: Both::new(common, whole, pair.weight, now, base),
            profile,
            last: None,
        })
    }

    /// Whether it is of these two, and in these bins.
    fn is_of(&self, pair: &Pair<'_>, profile: &Arc<Profile>) -> bool {
        std::ptr::eq(self.champion.as_ptr(), Arc::as_ptr(pair.champion))
            && Arc::ptr_eq(&self.profile, profile)
    }

    fn step(&mut self, pair: &Pair<'_>, now: Duration, metrics: &Metrics) {
        let canary = pair.canary;
        let (Some(read), Some(champion)) = (canary.counts_beside(), pair.champion.counts()) else {
            return;
        };
        let before: Vec<_> = self.both.columns().iter().map(|c| c.drift.is_drifting()).collect();
        match self.both.step(now, read, &champion, pair.weight) {
            Step::Goes => {}
            Step::Forgot => {
                tracing::info!(model = %canary.model(), version = %canary.version(),
                    "no rows have come to it or to its champion for long; whether they differ \
                     is not known any more");
                self.last = None;
                metrics.remove_against(canary.model(), canary.version());
            }
            Step::Closed(Closed { rows, time }, champion_rows) => {
                let (from, to) = period(time);
                self.last = Some(BothWindowView { rows, champion_rows, from, to });
                self.tell(canary, &before);
                let figures: Vec<_> = self.figures().collect();
                metrics.set_against(canary.model(), canary.version(), &figures);
            }
        }
    }

    fn columns(&self) -> impl Iterator<Item = ((&'static str, &str), &Column)> {
        named(&self.both.common.profile).zip(self.both.columns())
    }

    fn figures(&self) -> impl Iterator<Item = ColumnFigures> {
        self.columns().map(|((kind, name), column)| ColumnFigures {
            kind,
            column: name.to_owned(),
            psi: column.psi(),
            drifting: column.drift.is_drifting(),
        })
    }

    /// Says in the log which columns have begun to differ, and which no longer do. Inputs
    /// that differ are a warning: the split is not fair, or not all that is asked is answered.
    fn tell(&self, canary: &Watch, before: &[bool]) {
        let (model, version, champion) = (canary.model(), canary.version(), self.version);
        for (((kind, column), after), before) in self.columns().zip(before) {
            let psi = after.psi();
            match (before, after.drift.is_drifting()) {
                (false, true) if kind == "input" => {
                    tracing::warn!(%model, %version, %champion, kind, column, psi,
                        "differs from the champion's, which should get alike ones");
                }
                (false, true) => {
                    tracing::info!(%model, %version, %champion, kind, column, psi,
                        "differs from the champion's");
                }
                (true, false) => {
                    tracing::info!(%model, %version, %champion, kind, column, psi,
                        "differs from the champion's no more");
                }
                _ => {}
            }
        }
    }

    fn view(&self) -> AgainstView {
        let columns = self.columns();
        AgainstView {
            version: self.version,
            problem: None,
            window_rows: self.both.rows.0,
            champion_window_rows: self.both.rows.1,
            last: self.last.clone(),
            columns: columns
                .map(|((kind, name), column)| column.view(kind, name, word(column.drift)))
                .collect(),
            not_comparable: self.both.common.others.clone(),
        }
    }
}

/// `drifting` is what happens over time; two that differ are no drift.
const fn word(drift: Drift) -> &'static str {
    match drift {
        Drift::Waiting => "waiting",
        Drift::Steady => "alike",
        Drift::Moved(_) => "apart",
        Drift::Drifting { .. } => "different",
    }
}

/// The windows of both: pure, over counts that only grow.
struct Both {
    common: Common,
    whole: Whole,
    weight: Option<Share>,
    /// What the champion had counted of the common columns when the present window began.
    base: FeatureSnapshot,
    windows: Windows,
    /// Rows of the present window: the canary's and the champion's.
    rows: (u64, u64),
}

/// What came of a look.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The window goes on.
    Goes,
    /// What was found is forgotten.
    Forgot,
    /// The canary's window, and how many rows the champion's had.
    Closed(Closed, u64),
}

impl Both {
    /// The canary's counts begin with zero, the champion's with `base`.
    fn new(
        common: Common,
        whole: Whole,
        weight: Option<Share>,
        now: Duration,
        base: FeatureSnapshot,
    ) -> Self {
        let zero = FeatureSnapshot::default();
        let windows = Windows::new(whole, Level::DRIFT, &common.profile, now, zero);
        Self { common, whole, weight, base, windows, rows: (0, 0) }
    }

    fn columns(&self) -> &[Column] {
        self.windows.columns()
    }

    /// Judges the present window if both have rows enough. It begins anew where the canary's
    /// weight has changed: of hours that are not alike the two would have unequal parts.
    fn step(
        &mut self,
        now: Duration,
        canary: FeatureSnapshot,
        champion: &FeatureSnapshot,
        weight: Option<Share>,
    ) -> Step {
        let champion = self.common.of(champion);
        if weight != self.weight {
            self.weight = weight;
            self.windows.restart(now, canary);
            (self.base, self.rows) = (champion, (0, 0));
            return Step::Goes;
        }
        let champion_rows = champion.rows.saturating_sub(self.base.rows);
        self.rows = (self.windows.rows(&canary), champion_rows);
        let fewer = self.rows.0.min(champion_rows);
        if self.windows.forget_if_idle(now, fewer, &canary) {
            (self.base, self.rows) = (champion, (0, 0));
            return Step::Forgot;
        }
        if champion_rows < self.whole.rows.max(1) {
            return Step::Goes;
        }
        let profile = &self.common.profile;
        let reference = || counted(profile, &champion, &self.base);
        let Some(closed) = self.windows.step(profile, reference, now, canary) else {
            return Step::Goes;
        };
        (self.base, self.rows) = (champion, (0, 0));
        Step::Closed(closed, champion_rows)
    }
}

#[cfg(test)]
mod tests;
