//! What becomes of a rollout, from what its guards say and how long it took. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::analysis::Outcome;
use crate::rollout::Stage;
use crate::types::OnWorse;

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Situation {
    /// Whether it moves by itself; if not, it waits for a person.
    pub(super) running: bool,
    /// The present stage, and the one after it.
    pub(super) stage: Stage,
    pub(super) next: Option<Stage>,
    /// How long the stage has run, and how long it shall and may.
    pub(super) ran: Duration,
    pub(super) min: Duration,
    pub(super) max: Duration,
    pub(super) on_worse: OnWorse,
    /// Whether a promotion may happen.
    pub(super) approved: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Decision {
    /// Nothing yet.
    Hold,
    /// On to the next stage.
    Advance,
    /// The version is champion for good.
    Finish,
    /// The version is taken out.
    RollBack,
    /// It is worse, and stays where it is.
    Freeze,
    /// Nothing can be said for want of evidence: a person has to.
    Stop,
    /// Traffic does not arrive as it was routed: nothing that was counted says
    /// anything.
    Misrouted,
    /// It has passed, and a second person has to approve.
    AwaitApproval,
}

impl Decision {
    /// Its name in replies.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Advance => "advance",
            Self::Finish => "finish",
            Self::RollBack => "roll_back",
            Self::Freeze => "freeze",
            Self::Stop => "stop",
            Self::Misrouted => "misrouted",
            Self::AwaitApproval => "await_approval",
        }
    }
}

/// Decides, by what the stage's guards say together.
pub(super) fn decide(now: &Situation, outcome: Outcome) -> Decision {
    match of_running(now, outcome) {
        // Harm does not wait for anybody.
        Decision::RollBack => Decision::RollBack,
        decision if now.running => decision,
        _ => Decision::Hold,
    }
}

fn of_running(now: &Situation, outcome: Outcome) -> Decision {
    match outcome {
        Outcome::Misrouted => return Decision::Misrouted,
        Outcome::Worse if now.on_worse == OnWorse::Freeze => return Decision::Freeze,
        Outcome::Worse => return Decision::RollBack,
        Outcome::NotWorse | Outcome::NotEnough => {}
    }
    if now.ran < now.min {
        return Decision::Hold;
    }
    match (now.stage, now.next) {
        // It was judged before; now it is only watched.
        (Stage::Watch(_), _) | (_, None) => Decision::Finish,
        (_, Some(next)) if outcome == Outcome::NotWorse => match next {
            Stage::Watch(_) if !now.approved => Decision::AwaitApproval,
            _ => Decision::Advance,
        },
        _ if now.ran >= now.max => Decision::Stop,
        _ => Decision::Hold,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Share;

    const CANARY: Stage = Stage::Canary(Share::ALL);
    const WATCH: Stage = Stage::Watch(Share::ZERO);

    fn situation(stage: Stage, seconds: u64) -> Situation {
        Situation {
            running: true,
            stage,
            next: (stage == CANARY).then_some(WATCH),
            ran: Duration::from_secs(seconds),
            min: Duration::from_secs(10),
            max: Duration::from_secs(100),
            on_worse: OnWorse::Rollback,
            approved: true,
        }
    }

    #[test]
    fn each_outcome_at_each_time() {
        use Decision::{Advance, Finish, Hold, Misrouted, RollBack, Stop};
        for (stage, seconds, outcome, expected) in [
            (CANARY, 5, Outcome::NotWorse, Hold),
            (CANARY, 10, Outcome::NotWorse, Advance),
            (CANARY, 99, Outcome::NotEnough, Hold),
            (CANARY, 100, Outcome::NotEnough, Stop),
            // What is good is not stopped by the clock.
            (CANARY, 500, Outcome::NotWorse, Advance),
            // Harm does not wait for the shortest time.
            (CANARY, 0, Outcome::Worse, RollBack),
            (CANARY, 0, Outcome::Misrouted, Misrouted),
            (WATCH, 5, Outcome::NotWorse, Hold),
            (WATCH, 10, Outcome::NotEnough, Finish),
            (WATCH, 5, Outcome::Worse, RollBack),
        ] {
            let mut now = situation(stage, seconds);
            assert_eq!(decide(&now, outcome), expected, "{stage:?} {seconds} {outcome:?}");
            // Whoever waits for a person waits for nothing but harm.
            now.running = false;
            let waiting = if expected == RollBack { RollBack } else { Hold };
            assert_eq!(decide(&now, outcome), waiting, "{stage:?} {seconds} {outcome:?}");
        }
    }

    #[test]
    fn a_promotion_waits_for_approval_and_a_frozen_one_for_somebody() {
        let mut now = situation(CANARY, 50);
        now.approved = false;
        assert_eq!(decide(&now, Outcome::NotWorse), Decision::AwaitApproval);
        // Between two weights nobody is asked.
        now.next = Some(CANARY);
        assert_eq!(decide(&now, Outcome::NotWorse), Decision::Advance);
        now.on_worse = OnWorse::Freeze;
        assert_eq!(decide(&now, Outcome::Worse), Decision::Freeze);
        now.running = false;
        assert_eq!(decide(&now, Outcome::Worse), Decision::Hold);
    }
}
