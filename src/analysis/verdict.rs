//! What a guard says, and what a rollout makes of all of them.

use serde::{Deserialize, Serialize};

/// A guard's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Shown to be worse than the margin.
    Worse,
    /// Shown to be better than the stage's bound.
    NotWorse,
    /// Neither is shown. Never to be read as good.
    NotEnough,
}

impl Verdict {
    /// Worse wins: a ratio between the margins is shown to be both.
    #[must_use]
    pub(super) const fn of(worse: bool, not_worse: bool) -> Self {
        match (worse, not_worse) {
            (true, _) => Self::Worse,
            (false, true) => Self::NotWorse,
            (false, false) => Self::NotEnough,
        }
    }
}

/// What all guards of a rollout say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Traffic does not arrive as it was routed: no verdict counts.
    Misrouted,
    /// At least one guard has shown the canary to be worse.
    Worse,
    /// Every guard has shown it not to be.
    NotWorse,
    /// Some guard still waits for evidence, or there is no guard.
    NotEnough,
}

/// Puts verdicts together.
///
/// One that is worse is enough to go down, and all must pass to go up. For the
/// probability of a false "worse" over the whole rollout, each guard's level is
/// the rollout's [split](super::Level::split) over them. Should the traffic
/// check have tripped, arms are not comparable, and neither direction is shown.
#[must_use]
pub fn outcome(misrouted: bool, verdicts: impl IntoIterator<Item = Verdict>) -> Outcome {
    if misrouted {
        return Outcome::Misrouted;
    }
    let mut all = None;
    for verdict in verdicts {
        match verdict {
            Verdict::Worse => return Outcome::Worse,
            Verdict::NotEnough => all = Some(Outcome::NotEnough),
            Verdict::NotWorse => all = all.or(Some(Outcome::NotWorse)),
        }
    }
    all.unwrap_or(Outcome::NotEnough)
}

#[cfg(test)]
mod tests {
    use super::Verdict::{NotEnough, NotWorse, Worse};
    use super::*;

    #[test]
    fn worse_wins_and_all_must_pass() {
        let cases: [(&[Verdict], Outcome); 6] = [
            (&[], Outcome::NotEnough),
            (&[NotWorse, NotWorse], Outcome::NotWorse),
            (&[NotWorse, NotEnough], Outcome::NotEnough),
            (&[NotEnough, NotWorse], Outcome::NotEnough),
            (&[NotWorse, NotEnough, Worse], Outcome::Worse),
            (&[Worse, NotWorse], Outcome::Worse),
        ];
        for (verdicts, expected) in cases {
            assert_eq!(outcome(false, verdicts.iter().copied()), expected, "{verdicts:?}");
            assert_eq!(outcome(true, verdicts.iter().copied()), Outcome::Misrouted);
        }
    }
}
