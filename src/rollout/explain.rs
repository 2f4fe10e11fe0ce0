//! What a guard says, in a line for people. Pure.

use crate::analysis::{
    Judgement, LimitJudgement, Outcome, ParityJudgement, ShiftJudgement, Verdict,
};
use crate::rollout::Stage;
use crate::rollout::jury::{Evidence, GroupsJudgement, GuardName, Judged, Said};

/// `worse`, `not worse`, `not enough evidence`.
pub(super) const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Worse => "worse",
        Verdict::NotWorse => "not worse",
        Verdict::NotEnough => "not enough evidence",
    }
}

/// A guard's line.
pub(super) fn line(said: &Said) -> String {
    match &said.judged {
        Judged::Ratio(judgement) if said.guard == GuardName::Noise => format!(
            "{}{}; the champion's are those in which it differs from itself",
            ratio(judgement),
            missing(judgement)
        ),
        Judged::Ratio(judgement) if said.guard == GuardName::Wrong => {
            ratio(judgement) + &not_counted(judgement)
        }
        Judged::Ratio(judgement) => {
            ratio(judgement) + &taken_for_others(judgement) + &missing(judgement)
        }
        Judged::Groups(judgement) => groups(judgement),
        Judged::Parity(judgement) => parity(judgement),
        Judged::Limit(judgement) => limit(judgement, said.guard),
        Judged::Shift(judgement) => shift(judgement),
    }
}

fn ratio(said: &Judgement) -> String {
    let total = |pick: fn(&crate::analysis::StageCounts) -> u64| {
        said.facts.stages.iter().map(pick).fold(0, u64::saturating_add)
    };
    let (champion, canary) = (total(|stage| stage.champion), total(|stage| stage.canary));
    let upper = said.effect.upper.map_or("∞".to_owned(), number);
    let ratio = said.effect.ratio.map_or("unknown".to_owned(), number);
    format!(
        "{canary} against the champion's {champion}; ratio {ratio} ({} to {upper}), worse above {}, \
         not worse below {}",
        number(said.effect.lower),
        number(said.worse.margin.get()),
        number(said.not_worse.margin.get())
    )
}

/// What it would take to be shown not worse; of guards that are waited for.
fn missing(said: &Judgement) -> String {
    if said.verdict != Verdict::NotEnough {
        return String::new();
    }
    match said.not_worse.events_more {
        Some(more) => format!("; {more} more events would show it"),
        None => "; no number of events would show it at this ratio".to_owned(),
    }
}

/// The group that stands worst; of the others only how many there are.
fn groups(said: &GroupsJudgement) -> String {
    let Some(leading) = said.leading() else { return String::new() };
    format!(
        "{}={}: {}{}; the one with the most evidence of {} groups",
        leading.grouping,
        leading.group,
        ratio(&leading.judgement),
        not_counted(&leading.judgement),
        said.groups.len()
    )
}

/// The two groups between which there is the most to be said.
fn parity(said: &ParityJudgement) -> String {
    let Some(pair) = &said.leading else {
        return "the canary has answered rows of no two groups of [groups] yet".to_owned();
    };
    let known = |share: Option<f64>| share.map_or("unknown".to_owned(), number);
    let change = &pair.change;
    let dropped = match said.facts.dropped {
        0 => String::new(),
        answers => format!("; {answers} answers were not counted: too many routing keys"),
    };
    format!(
        "{}: {} is selected {} times as often as {} (at most {}, limit {}), by the champion {} \
         (at least {}); {} times as unequal ({} to {}), worse above {}{dropped}",
        pair.grouping,
        pair.less,
        known(pair.canary),
        pair.more,
        known(pair.canary_max),
        number(said.rule.ratio.get()),
        known(pair.champion),
        number(pair.champion_min),
        known(change.ratio),
        number(change.lower),
        change.upper.map_or("∞".to_owned(), number),
        number(said.rule.worse_than.get())
    )
}

fn taken_for_others(said: &Judgement) -> String {
    match said.facts.dropped {
        0 => String::new(),
        keys => format!("; some {keys} keys' events were taken for others'"),
    }
}

fn not_counted(said: &Judgement) -> String {
    match said.facts.dropped {
        0 => String::new(),
        events => format!("; {events} more were not counted: too many routing keys"),
    }
}

fn limit(said: &LimitJudgement, guard: GuardName) -> String {
    let counts = said.facts.present;
    let of = if guard == GuardName::Latency { "requests" } else { "copies" };
    let mut text = format!(
        "{} of {} {of} ({} to {}), limit {}",
        counts.events,
        counts.requests,
        percent(said.lower),
        percent(said.upper),
        percent(said.rule.limit.get())
    );
    if said.facts.dropped > 0 {
        text.push_str(&format!("; {} were dropped", said.facts.dropped));
    }
    if said.verdict == Verdict::NotEnough {
        match said.requests_more {
            Some(more) => text.push_str(&format!("; {more} more {of} would show it")),
            None => text.push_str(&format!("; no number of {of} would show it at this rate")),
        }
    }
    text
}

fn shift(said: &ShiftJudgement) -> String {
    format!(
        "distance {} ({} to {}), limit {}; {} answers against the champion's {}",
        number(said.gap),
        number(said.lower),
        number(said.upper),
        number(said.rule.limit),
        said.canary,
        said.champion
    )
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 0.1 => format!("{v:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        v => format!("{v:.2e}"),
    }
}

fn percent(rate: f64) -> String {
    let digits = if rate < 0.01 { 3 } else { 1 };
    format!("{:.digits$}%", rate * 100.0)
}

/// Why a decision was taken: the guards that speak for it.
pub(super) fn why(evidence: &Evidence, stage: Stage) -> String {
    let outcome = evidence.outcome(stage);
    if outcome == Outcome::Misrouted {
        return match &evidence.traffic {
            Some(found) => format!(
                "traffic does not arrive as it was routed (ln E {:.1}, p {:.1e}); no other figure \
                 counts",
                found.best_ln_e, found.p_value
            ),
            None => String::new(),
        };
    }
    let wanted = match outcome {
        Outcome::Worse => Verdict::Worse,
        Outcome::NotWorse => Verdict::NotWorse,
        Outcome::NotEnough | Outcome::Misrouted => Verdict::NotEnough,
    };
    let named: Vec<_> =
        evidence.judging(stage).filter(|said| said.judged.verdict() == wanted).collect();
    match outcome {
        // What passes, passes: names suffice.
        Outcome::NotWorse => {
            let names: Vec<_> = named.iter().map(|said| said.guard.as_str()).collect();
            format!("not worse: {}", names.join(", "))
        }
        _ => {
            let each = |said: &&Said| format!("{}: {}", said.guard.as_str(), line(said));
            let lines: Vec<_> = named.iter().map(each).collect();
            format!("{}: {}", verdict(wanted), lines.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Exposure, Guard, Level, LimitGuard, LimitRule, Margin, Rate, Rule};
    use crate::types::Share;

    fn ratio_of(champion: u64, canary: u64) -> Said {
        let rule = Rule {
            worse_than: Margin::ONE,
            not_worse_than: None,
            objective: None,
            alpha: Level::WORSE,
            beta: Level::NOT_WORSE,
        };
        let share = Exposure::new(Share::from_percent(5.0).unwrap()).unwrap();
        let mut guard = Guard::new(rule, share);
        guard.add(champion, canary);
        Said { guard: GuardName::Errors, judged: Judged::Ratio(guard.judgement()) }
    }

    #[test]
    fn a_ratio_is_told_with_its_interval_and_what_is_missing() {
        let worse = line(&ratio_of(95, 40));
        assert!(worse.starts_with("40 against the champion's 95; ratio 8 ("), "{worse}");
        assert!(worse.ends_with("worse above 1, not worse below 5"), "{worse}");
        let little = line(&ratio_of(5, 0));
        assert!(little.contains("ratio 0 (0 to "), "{little}");
        assert!(little.ends_with("more events would show it"), "{little}");
    }

    #[test]
    fn a_limit_is_told_in_percent_with_what_was_dropped() {
        let rule = LimitRule {
            limit: Rate::new(0.2).unwrap(),
            alpha: Level::WORSE,
            beta: Level::NOT_WORSE,
        };
        let mut guard = LimitGuard::new(rule);
        guard.add(100, 1);
        guard.add_dropped(7);
        let said =
            Said { guard: GuardName::Disagreement, judged: Judged::Limit(guard.judgement()) };
        let text = line(&said);
        assert!(text.starts_with("1 of 100 copies ("), "{text}");
        assert!(text.ends_with("limit 20.0%; 7 were dropped"), "{text}");
    }

    #[test]
    fn a_decision_names_the_guards_that_it_was_taken_on() {
        let stage = Stage::Canary(Share::ALL);
        let evidence = |said| Evidence { guards: vec![said], traffic: None };
        let worse = why(&evidence(ratio_of(95, 40)), stage);
        assert!(worse.starts_with("worse: errors: 40 against"), "{worse}");
        assert_eq!(why(&evidence(ratio_of(500, 1)), stage), "not worse: errors");
        let little = why(&evidence(ratio_of(1, 0)), stage);
        assert!(little.starts_with("not enough evidence: errors: "), "{little}");
    }
}
