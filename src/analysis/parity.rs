//! Does a canary select groups more unequally than its champion does?
//!
//! A row is *selected* where the positive class is answered to it; that takes no label. Of
//! two groups, an arm's disparity is how often the one is selected as a share of how often
//! the other is. The canary's is held against three things at once, and worse is what fails
//! all of them:
//!
//! - the rule of four fifths ([`ParityRule::ratio`]): it is shown to be below that, by the
//!   intervals of both rates ([`Proportion`]);
//! - the champion's disparity: it is shown to be below that, by the same of the champion,
//!   [`ParityRule::worse_than`] times at least. Rows that got no answer are in neither;
//! - what chance has divided: the canary is shown to change the one group's rate by a smaller
//!   factor than the other's, so many times at least. Each group's factor is a ratio of two
//!   arms between which rows went by lot ([`Effect`]), so that it is none of time's: the
//!   canary has other hours than the champion where its share grows.
//!
//! So a canary that is as unequal as its champion is not stopped for it, nor one that favours
//! somebody else within four fifths, nor one that treats groups more alike.
//!
//! All intervals of each kind hold together at a third of the level: a false "worse" has, over
//! all looks, a probability of at most the level, as far as rates and factors stay what they
//! are. Where a group asks at other hours than another, and rates change with the hour, the
//! disparity of all hours together is not that of any one: four fifths may be broken in all,
//! and in none.

use serde::{Deserialize, Serialize};

use super::counts::StageCounts;
use super::effect::Effect;
use super::quality::Proportion;
use super::terms::{Exposure, Level, Margin, Rate};
use super::verdict::Verdict;

/// What is too unequal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParityRule {
    /// A group that is selected at least so often as any other, as a share of that, is
    /// treated well enough.
    pub ratio: Rate,
    /// And what is at most so many times as unequal as the champion.
    pub worse_than: Margin,
    /// The probability of a false "worse".
    pub alpha: Level,
}

/// Rows of one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selected {
    /// All of them.
    pub rows: u64,
    /// Those that were selected.
    pub selected: u64,
}

/// Rows of a group while the canary had one share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectedCounts {
    /// The canary's share.
    pub share: Exposure,
    /// The champion's.
    pub champion: Selected,
    /// The canary's.
    pub canary: Selected,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectedGroup {
    /// By what rows are divided.
    pub grouping: String,
    /// Its name.
    pub group: String,
    /// Its rows, by share.
    pub stages: Vec<SelectedCounts>,
}

/// Everything that is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParityFacts {
    /// All groups, of every grouping: the level is split over them.
    pub groups: Vec<SelectedGroup>,
    /// Rows that could not be counted.
    pub dropped: u64,
}

/// Two groups of one grouping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParityPair {
    /// By what rows are divided.
    pub grouping: String,
    /// The group that is selected less often.
    pub less: String,
    /// The one that is selected more often.
    pub more: String,
    /// How often the canary selects the one as a share of how often the other; `None` where it
    /// selects neither.
    pub canary: Option<f64>,
    /// The most that this may be, given the intervals; `None` for no bound.
    pub canary_max: Option<f64>,
    /// The champion's share; `None` where it never selects the other.
    pub champion: Option<f64>,
    /// The least that this may be.
    pub champion_min: f64,
    /// How many times as unequal as the champion the canary is.
    pub change: Effect,
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParityJudgement {
    /// By what it was judged.
    pub rule: ParityRule,
    /// From what.
    pub facts: ParityFacts,
    /// The two groups between which there is the most to be said, once there are rows of two.
    pub leading: Option<ParityPair>,
    /// [`Verdict::Worse`] or [`Verdict::NotEnough`].
    pub verdict: Verdict,
}

/// Judges. Pure: of the same facts the same comes, bit for bit.
#[must_use]
pub fn judge_parity(rule: ParityRule, facts: ParityFacts) -> ParityJudgement {
    let each = rule.alpha.split(3 * facts.groups.len().max(1));
    let groups: Vec<_> =
        facts.groups.iter().filter_map(|group| Measured::new(group, each)).collect();
    let pairs = groups.iter().flat_map(|less| groups.iter().map(move |more| (less, more)));
    let pairs =
        pairs.filter(|(less, more)| less.is_beside(more)).map(|(less, more)| less.pair(more));
    let leading = pairs.max_by(|a, b| {
        let is_worse = |pair: &ParityPair| rule.is_worse(pair);
        let order = is_worse(a).cmp(&is_worse(b));
        order.then_with(|| evidence(a).total_cmp(&evidence(b)))
    });
    let worse = leading.as_ref().is_some_and(|pair| rule.is_worse(pair));
    let verdict = if worse { Verdict::Worse } else { Verdict::NotEnough };
    ParityJudgement { rule, facts, leading, verdict }
}

/// How unequal the canary is shown to treat the two, at least.
fn evidence(pair: &ParityPair) -> f64 {
    pair.canary_max.map_or(0.0, |ratio| 1.0 / ratio.max(f64::MIN_POSITIVE))
}

impl ParityRule {
    fn is_worse(&self, pair: &ParityPair) -> bool {
        let times = self.worse_than.get();
        let below = |least: f64| pair.canary_max.is_some_and(|most| most < least);
        below(self.ratio.get()) && below(pair.champion_min / times) && pair.change.lower > times
    }
}

/// A group's rates with their intervals.
struct Measured<'a> {
    group: &'a SelectedGroup,
    /// `None` without a row.
    champion: Option<Proportion>,
    canary: Proportion,
    /// The canary's rate as a multiple of the champion's.
    effect: Effect,
}

impl<'a> Measured<'a> {
    /// `None` without a row of the canary's.
    fn new(group: &'a SelectedGroup, each: Level) -> Option<Self> {
        let total = |arm: fn(&SelectedCounts) -> Selected| {
            group.stages.iter().map(arm).fold(Selected::default(), Selected::plus)
        };
        let (champion, canary) = (total(|stage| stage.champion), total(|stage| stage.canary));
        let selected = |stage: &SelectedCounts| StageCounts {
            share: stage.share,
            champion: stage.champion.selected,
            canary: stage.canary.selected,
        };
        let stages: Vec<_> = group.stages.iter().map(selected).collect();
        // It has two ends, each of which may miss.
        let end = each.split(2);
        Some(Self {
            group,
            champion: Proportion::new(champion.selected, champion.rows, each),
            canary: Proportion::new(canary.selected, canary.rows, each)?,
            effect: Effect::new(&stages, &stages, end, &stages, end),
        })
    }

    fn is_beside(&self, other: &Self) -> bool {
        self.group.grouping == other.group.grouping && self.group.group != other.group.group
    }

    /// With one that is selected more often.
    fn pair(&self, more: &Self) -> ParityPair {
        let (mine, others) = (&self.effect, &more.effect);
        let champions = self.champion.zip(more.champion);
        ParityPair {
            grouping: self.group.grouping.clone(),
            less: self.group.group.clone(),
            more: more.group.group.clone(),
            canary: over(self.canary.value, more.canary.value),
            canary_max: over(self.canary.upper, more.canary.lower),
            champion: champions.and_then(|(less, more)| over(less.value, more.value)),
            champion_min: champions
                .and_then(|(less, more)| over(less.lower, more.upper))
                .unwrap_or(0.0),
            change: Effect {
                ratio: others.ratio.zip(mine.ratio).and_then(|(more, less)| over(more, less)),
                lower: mine.upper.and_then(|less| over(others.lower, less)).unwrap_or(0.0),
                upper: others.upper.and_then(|more| over(more, mine.lower)),
            },
        }
    }
}

impl Selected {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            rows: self.rows.saturating_add(other.rows),
            selected: self.selected.saturating_add(other.selected),
        }
    }
}

/// `None` of nothing, and where it would be no number.
fn over(part: f64, whole: f64) -> Option<f64> {
    Some(part / whole).filter(|ratio| whole > 0.0 && ratio.is_finite())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::terms::tests::percent;
    use super::*;

    fn rule() -> ParityRule {
        ParityRule {
            ratio: Rate::new(0.8).unwrap(),
            worse_than: Margin::ONE,
            alpha: Level::new(0.01).unwrap(),
        }
    }

    /// A group at half of the traffic: rows of each arm, and those selected.
    fn group(name: &str, rows: u64, champion: u64, canary: u64) -> SelectedGroup {
        let arm = |selected| Selected { rows, selected };
        let stage =
            SelectedCounts { share: percent(50.0), champion: arm(champion), canary: arm(canary) };
        SelectedGroup { grouping: "plan".into(), group: name.into(), stages: vec![stage] }
    }

    fn judged(groups: Vec<SelectedGroup>) -> ParityJudgement {
        judge_parity(rule(), ParityFacts { groups, dropped: 0 })
    }

    #[test]
    fn a_canary_that_selects_a_group_less_than_the_champion_does_is_worse() {
        let found =
            judged(vec![group("basic", 4_000, 2_000, 1_000), group("pro", 4_000, 2_000, 2_000)]);
        assert_eq!(found.verdict, Verdict::Worse);
        let pair = found.leading.unwrap();
        assert_eq!((&*pair.less, &*pair.more), ("basic", "pro"));
        assert_eq!((pair.canary, pair.champion), (Some(0.5), Some(1.0)));
        assert!((pair.change.ratio.unwrap() - 2.0).abs() < 1e-9, "{pair:?}");
        assert!(pair.change.lower > 1.4 && pair.change.upper.unwrap() < 2.8, "{pair:?}");
        assert!(pair.canary_max.unwrap() < 0.62, "{pair:?}");
    }

    #[test]
    fn who_is_as_unequal_as_the_champion_or_less_or_within_four_fifths_is_not() {
        for (basic, pro) in [
            // As unequal as the champion, at twice the rates.
            ((500, 1_000), (1_000, 2_000)),
            // More alike, and still not alike.
            ((500, 1_500), (2_000, 2_500)),
            // More unequal than the champion, within four fifths.
            ((2_000, 1_800), (2_000, 2_000)),
        ] {
            let found = judged(vec![
                group("basic", 4_000, basic.0, basic.1),
                group("pro", 4_000, pro.0, pro.1),
            ]);
            assert_eq!(found.verdict, Verdict::NotEnough, "{found:?}");
        }
    }

    #[test]
    fn answers_that_are_lost_are_no_disparity() {
        // Of the canary's rows of one group a third got no answer, the rest as the champion's.
        let mut basic = group("basic", 4_000, 1_600, 1_070);
        basic.stages[0].canary.rows = 2_675;
        let found = judged(vec![basic, group("pro", 4_000, 2_800, 2_800)]);
        assert_eq!(found.verdict, Verdict::NotEnough);
        let pair = found.leading.unwrap();
        assert!(pair.canary_max.unwrap() < 0.8 && pair.change.lower > 1.0, "{pair:?}");
    }

    #[test]
    fn the_pair_with_the_most_evidence_is_told() {
        let one = SelectedGroup { group: "(other)".into(), ..group("", 1, 0, 0) };
        let found = judged(vec![one, group("basic", 400, 200, 120), group("pro", 400, 200, 200)]);
        assert_eq!(found.leading.unwrap().less, "basic");
    }

    #[test]
    fn few_rows_say_nothing_and_groupings_are_apart() {
        let few = judged(vec![group("basic", 20, 10, 5), group("pro", 20, 10, 10)]);
        assert_eq!(few.verdict, Verdict::NotEnough);
        assert_eq!(few.leading.unwrap().canary, Some(0.5));
        let mut land = group("pro", 4_000, 2_000, 2_000);
        land.grouping = "land".into();
        let apart = judged(vec![group("basic", 4_000, 2_000, 100), land]);
        assert_eq!((apart.verdict, apart.leading), (Verdict::NotEnough, None));
        let none = judged(vec![group("basic", 0, 0, 0), group("pro", 0, 0, 0)]);
        assert_eq!((none.verdict, none.leading), (Verdict::NotEnough, None));
    }

    #[test]
    fn one_that_is_never_selected_is_found_and_one_that_never_was_is_not_new() {
        let gone = judged(vec![group("basic", 4_000, 2_000, 0), group("pro", 4_000, 2_000, 2_000)]);
        assert_eq!(gone.verdict, Verdict::Worse);
        assert_eq!(gone.leading.unwrap().change.ratio, None, "infinitely");
        let never = judged(vec![group("basic", 4_000, 0, 0), group("pro", 4_000, 2_000, 2_000)]);
        assert_eq!(never.verdict, Verdict::NotEnough);
    }

    #[test]
    fn the_level_is_split_over_the_groups() {
        let pair = |more: usize| {
            let rest = (0..more).map(|i| group(&i.to_string(), 0, 0, 0));
            let own = vec![group("basic", 400, 200, 120), group("pro", 400, 200, 200)];
            judged(own.into_iter().chain(rest).collect()).leading.unwrap()
        };
        assert!(pair(0).change.lower > pair(30).change.lower);
        assert!(pair(0).canary_max < pair(30).canary_max);
    }

    fn any_arm() -> impl Strategy<Value = Selected> {
        (any::<u64>(), any::<u64>()).prop_map(|(rows, selected)| Selected { rows, selected })
    }

    proptest! {
        #[test]
        fn any_counts_have_figures(arms in proptest::collection::vec((any_arm(), any_arm()), 0..6)) {
            let groups = arms.iter().enumerate().map(|(i, (champion, canary))| SelectedGroup {
                stages: vec![SelectedCounts {
                    share: percent(5.0),
                    champion: *champion,
                    canary: *canary,
                }],
                ..group(&i.to_string(), 0, 0, 0)
            });
            let found = judged(groups.collect());
            if let Some(pair) = found.leading {
                prop_assert!(pair.change.lower.is_finite() && pair.change.lower >= 0.0);
                prop_assert!(pair.canary.is_none_or(f64::is_finite));
            }
        }
    }
}
