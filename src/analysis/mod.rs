//! The judge: is the canary worse, is it not, or is it too early to say.
//!
//! Pure: no clock, no I/O, no randomness, no runtime. Counts go in, and a
//! verdict comes out with everything it was made from, so that it can be made
//! again from its record.
//!
//! ```text
//! events by stage and arm → Guard ─→ Judgement ┐
//! (one guard for each kind of event)           ├→ outcome
//! traffic by stage and arm → TrafficCheck ─────┘
//! ```
//!
//! After a promotion the same guards go on with the arms exchanged: where the
//! former champion holds back 5 % of the traffic as a control, the new one is a
//! canary with a share of 95 %.
//!
//! Everything that decides a rollout is *anytime-valid*: it may be looked at
//! after every request, for as long as one likes, and keeps its error
//! probability (Ville's inequality). Tests for a fixed sample do not, and are
//! here for drift alone, whose windows are judged once, when they are whole.
//! Logarithms are natural, rates are events per request, ratios are canary over
//! champion, durations are nanoseconds.
//!
//! Numbers that a formula cannot take are refused by type ([`Level`],
//! [`Margin`], [`Rate`], [`Exposure`]); counts stop at `u64::MAX`; NaN is no
//! observation. Nothing here panics, whatever comes in.
//!
//! `README.md` beside this file shows what simulated rollouts make of it.

mod counts;
mod detector;
mod distribution;
mod drift;
mod effect;
mod evidence;
mod fairness;
mod forecast;
mod gamma;
mod guard;
mod level;
mod likelihood;
mod limit;
mod mean;
mod objective;
mod outlook;
mod parity;
mod passage;
mod quality;
mod share;
mod terms;
mod usual;
mod verdict;

pub use counts::{StageCounts, Tally};
pub use detector::Direction;
pub use distribution::{
    Bin, Distance, ShiftFacts, ShiftJudgement, ShiftRule, distance, judge_shift, radius,
};
pub use drift::{
    ColumnCounts, ColumnDrift, Difference, Drift, MOVED_WINDOWS, PSI_MIN, RATE_CHANGE_MIN,
    ROWS_MIN, Rates, STEADY_WINDOWS, Unjudged, benjamini_hochberg, chi_squared_quantile,
    chi_squared_survival, jensen_shannon, judge_window, psi, psi_bound,
};
pub use effect::Effect;
pub use evidence::{Evidence, Hypothesis, p_value};
pub use fairness::{
    Disparity, FairnessAlert, FairnessMargins, FairnessMeasure, GroupRates, RateRange, RateRatio,
    SmallGroup, disparity, disparity_beyond,
};
pub use guard::{Facts, Finding, Guard, Judgement, Rule, judge};
pub use level::{Changed, LevelRule, LevelState, LevelWatch};
pub use limit::{LimitFacts, LimitGuard, LimitJudgement, LimitRule, judge_limit, limit_outlook};
pub use mean::{Interval, Mean};
pub use objective::RequestCounts;
pub use outlook::{FAULTS, FaultOutlook, Reach, StageBudget, StageOutlook, outlook};
pub use parity::{
    ParityFacts, ParityJudgement, ParityPair, ParityRule, Selected, SelectedCounts, SelectedGroup,
    judge_parity,
};
pub use quality::{
    Auc, CLASSES_MAX, ClassFigures, ErrorFigures, ErrorMean, Estimate, Figures, Proportion, Quality,
};
pub use share::{CONCENTRATION, TrafficCheck, TrafficFinding, check_traffic, split_ln_e};
pub use terms::{Exposure, Level, Margin, Rate};
pub use usual::{BASELINE_BLOCKS, Counted, Usual, UsualRule};
pub use verdict::{Outcome, Verdict, outcome};
