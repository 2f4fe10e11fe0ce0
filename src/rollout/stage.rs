//! The stages of a rollout, in their order. Pure.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::types::{RolloutPolicy, Share};

/// One stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The version runs on copies of this share of the champion's requests.
    Shadow(Share),
    /// The version answers this share.
    Canary(Share),
    /// The version is champion, and the former one answers this share.
    Watch(Share),
}

impl Stage {
    /// All stages that a policy asks for; the last one is the watch.
    #[must_use]
    pub fn all(policy: &RolloutPolicy) -> Vec<Self> {
        let shadow = (policy.shadow != Share::ZERO).then_some(Self::Shadow(policy.shadow));
        let canaries = policy.weights.iter().map(|weight| Self::Canary(*weight));
        shadow.into_iter().chain(canaries).chain([Self::Watch(policy.holdback)]).collect()
    }

    /// The shortest and the longest that it takes.
    #[must_use]
    pub const fn times(self, policy: &RolloutPolicy) -> (Duration, Duration) {
        match self {
            Self::Shadow(_) | Self::Canary(_) => (policy.min, policy.max),
            Self::Watch(_) => (policy.watch, policy.watch),
        }
    }
}

impl fmt::Display for Stage {
    /// `shadow 100%`, `canary 5%`, `watch, control 5%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shadow(sample) => write!(f, "shadow {sample}"),
            Self::Canary(weight) => write!(f, "canary {weight}"),
            Self::Watch(Share::ZERO) => f.write_str("watch"),
            Self::Watch(holdback) => write!(f, "watch, control {holdback}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_of_the_defaults() {
        let names: Vec<_> =
            Stage::all(&RolloutPolicy::default()).iter().map(|s| s.to_string()).collect();
        let expected = [
            "shadow 100%",
            "canary 1%",
            "canary 5%",
            "canary 25%",
            "canary 50%",
            "watch, control 5%",
        ];
        assert_eq!(names, expected);
        let direct = RolloutPolicy {
            shadow: Share::ZERO,
            holdback: Share::ZERO,
            ..RolloutPolicy::default()
        };
        let stages = Stage::all(&direct);
        assert_eq!((stages.len(), stages[4].to_string()), (5, "watch".to_owned()));
    }
}
