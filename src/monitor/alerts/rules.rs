//! From facts to findings. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::levels::{ModelLevels, ScoreLevels};
use super::state::Reading;
use super::traffic::Tally;
use super::{AlertKey, AlertSettings, ModelStanding, Rule};
use crate::analysis::{Changed, Direction, LevelState};
use crate::telemetry::{QualityStanding, WrongRate};
use crate::types::{ModelName, Share, VersionId};

/// The longest text, in characters.
const SAYS_MAX: usize = 500;
/// Columns that are named; of more, their number.
const NAMED_MAX: usize = 5;
/// What is over the limit of a 99th percentile.
const P99_SHARE: f64 = 0.01;

/// What a rule says of a thing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) key: AlertKey,
    pub(super) reading: Reading,
    /// In words.
    pub(super) says: String,
    /// The figure that is judged, where there is one.
    pub(super) value: Option<f64>,
    /// What it must exceed.
    pub(super) limit: Option<f64>,
}

/// What is known at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// All models.
    pub(super) models: Vec<ModelStanding>,
    /// What became of their requests in the last window.
    pub(super) traffic: BTreeMap<ModelName, Tally>,
    /// How their levels stand, as far as they are watched.
    pub(super) levels: BTreeMap<ModelName, ModelLevels>,
    /// Columns that have drifted, of each version that is compared.
    pub(super) drifted: BTreeMap<(ModelName, VersionId), Vec<String>>,
    /// What labels say of the versions that are loaded.
    pub(super) quality: Arc<Vec<QualityStanding>>,
    /// Why changes cannot be recorded.
    pub(super) store_problem: Option<String>,
}

/// Everything that the rules say.
pub(super) fn findings(settings: &AlertSettings, facts: &Facts) -> Vec<Finding> {
    if !settings.enabled {
        return Vec::new();
    }
    let mut found = Vec::new();
    if settings.store {
        found.push(store(facts.store_problem.as_deref()));
    }
    for model in &facts.models {
        let traffic = facts.traffic.get(&model.model).copied().unwrap_or_default();
        found.extend(settings.errors_above.map(|above| errors(settings, model, traffic, above)));
        found.extend(settings.p99_above.map(|above| latency(settings, model, traffic, above)));
        found.extend(facts.levels.get(&model.model).into_iter().flat_map(|own| levels(model, own)));
        if settings.models {
            found.push(champion(model));
            found.extend(model.failed.iter().map(|(version, why)| failed(model, *version, why)));
        }
        if settings.drift {
            found.extend(drift(model, &facts.drifted));
        }
        if settings.quality {
            found.extend(by_labels(model, &facts.quality));
        }
    }
    found
}

/// What latencies must fall below before their alert is over.
pub(super) fn p99_clear(above: Duration) -> Duration {
    above * 4 / 5
}

/// A finding; an alert says no more than so much, whatever others have written.
fn finding(key: AlertKey, reading: Reading, says: &str) -> Finding {
    let says = match says.char_indices().nth(SAYS_MAX) {
        Some((end, _)) => format!("{}…", &says[..end]),
        None => says.to_owned(),
    };
    Finding { key, reading, says, value: None, limit: None }
}

fn key(rule: Rule, model: &ModelStanding, version: Option<VersionId>) -> AlertKey {
    AlertKey { rule, model: Some(model.model.clone()), version }
}

fn store(problem: Option<&str>) -> Finding {
    let key = AlertKey { rule: Rule::Store, model: None, version: None };
    match problem {
        Some(problem) => {
            finding(key, Reading::Bad, &format!("changes cannot be recorded: {problem}"))
        }
        None => finding(key, Reading::Good, "changes can be recorded"),
    }
}

fn errors(
    settings: &AlertSettings,
    model: &ModelStanding,
    traffic: Tally,
    above: Share,
) -> Finding {
    let key = key(Rule::Errors, model, None);
    let Tally { requests, faults, .. } = traffic;
    if requests < settings.requests_min {
        return finding(key, Reading::Good, &too_few(settings, requests));
    }
    let (rate, limit) = (share(faults, requests), above.fraction());
    let reading = level(rate > limit, rate > limit / 2.0);
    let window = humantime::format_duration(settings.window);
    let says = format!(
        "{} of {requests} requests of the last {window} failed; it is too many above {above}",
        percent(rate)
    );
    Finding { value: Some(rate), limit: Some(limit), ..finding(key, reading, &says) }
}

fn latency(
    settings: &AlertSettings,
    model: &ModelStanding,
    traffic: Tally,
    above: Duration,
) -> Finding {
    let key = key(Rule::Latency, model, None);
    let Tally { timed, slow, slowish, .. } = traffic;
    if timed < settings.requests_min {
        return finding(key, Reading::Good, &too_few(settings, timed));
    }
    let rate = share(slow, timed);
    let reading = level(rate > P99_SHARE, share(slowish, timed) > P99_SHARE);
    let window = humantime::format_duration(settings.window);
    let says = format!(
        "{} of {timed} requests of the last {window} were in queue and engine for longer than \
         {}; it is too many above {}",
        percent(rate),
        humantime::format_duration(above),
        percent(P99_SHARE)
    );
    Finding { value: Some(rate), limit: Some(P99_SHARE), ..finding(key, reading, &says) }
}

fn too_few(settings: &AlertSettings, requests: u64) -> String {
    let window = humantime::format_duration(settings.window);
    let min = settings.requests_min;
    format!("{requests} requests in the last {window}; fewer than {min} tell nothing")
}

/// Of those that are watched.
fn levels(model: &ModelStanding, own: &ModelLevels) -> Vec<Finding> {
    let ModelLevels { traffic, errors, scores } = own;
    // Who has no champion has no traffic, which is another alert.
    if model.champion.is_none() {
        return Vec::new();
    }
    let traffic = traffic.as_ref().map(|state| {
        level_of(key(Rule::TrafficLevel, model, None), state, &per_second, traffic_in_words)
    });
    let errors = errors.as_ref().map(|state| {
        level_of(key(Rule::ErrorLevel, model, None), state, &percent, errors_in_words)
    });
    // Of a champion that is not any more, nothing is said.
    let scores = scores.as_ref().filter(|own| model.champion == Some(own.version));
    let scores = scores.map(|own| score_level(model, own));
    [traffic, errors, scores].into_iter().flatten().collect()
}

fn level_of(
    key: AlertKey,
    state: &LevelState,
    rate: &dyn Fn(f64) -> String,
    in_words: fn(&Changed) -> String,
) -> Finding {
    match state {
        LevelState::Unknown => {
            let says = "too little has come lately to know what is usual";
            finding(key, Reading::Good, says)
        }
        LevelState::Steady(usual) => {
            finding(key, Reading::Good, &format!("as usual: {}", rate(usual.rate)))
        }
        LevelState::Changed(changed) => changed_finding(key, changed, &in_words(changed)),
    }
}

fn score_level(model: &ModelStanding, own: &ScoreLevels) -> Finding {
    let key = key(Rule::ScoreLevel, model, Some(own.version));
    let Some((_, first)) = own.changed.first() else {
        return finding(key, Reading::Good, "no answers are shown to be other than usually");
    };
    let told = own.changed.iter().take(NAMED_MAX).map(|(name, changed)| {
        let (now, usual) = (percent(changed.since.rate()), percent(changed.usual.rate));
        let way = way(changed);
        format!("{name}: {way} to {now} of {} rows, {usual} usually", changed.since.of)
    });
    let mut says = told.collect::<Vec<_>>().join("; ");
    if own.changed.len() > NAMED_MAX {
        // Writing to a String cannot fail.
        let _ = write!(says, "; and {} more", own.changed.len() - NAMED_MAX);
    }
    changed_finding(key, first, &says)
}

fn changed_finding(key: AlertKey, changed: &Changed, says: &str) -> Finding {
    let (value, limit) = (Some(changed.since.rate()), Some(changed.bound()));
    Finding { value, limit, ..finding(key, Reading::Bad, says) }
}

fn traffic_in_words(changed: &Changed) -> String {
    let (now, usual) = (per_second(changed.since.rate()), per_second(changed.usual.rate));
    let (way, seconds) = (way(changed), changed.since.of);
    format!("{way} to {now} for {seconds:.1}s; {usual} usually")
}

fn errors_in_words(changed: &Changed) -> String {
    let (now, usual) = (percent(changed.since.rate()), percent(changed.usual.rate));
    let (way, requests) = (way(changed), changed.since.of);
    format!("failures {way} to {now} of {requests} requests; {usual} usually")
}

const fn way(changed: &Changed) -> &'static str {
    match changed.direction {
        Direction::Rose => "rose",
        Direction::Fell => "fell",
    }
}

fn per_second(rate: f64) -> String {
    format!("{rate:.1} requests/s")
}

fn champion(model: &ModelStanding) -> Finding {
    let key = key(Rule::NoChampion, model, None);
    match model.champion {
        None if model.wants_champion => {
            finding(key, Reading::Bad, "it has versions, and no champion that is ready")
        }
        None => finding(key, Reading::Good, "it has nothing that should serve"),
        Some(version) => finding(key, Reading::Good, &format!("version {version} is champion")),
    }
}

fn failed(model: &ModelStanding, version: VersionId, why: &str) -> Finding {
    let key = key(Rule::VersionFailed, model, Some(version));
    finding(key, Reading::Bad, &format!("it cannot serve: {why}"))
}

/// Of those that serve: what a shadow's rows look like hurts nobody.
fn drift(
    model: &ModelStanding,
    drifted: &BTreeMap<(ModelName, VersionId), Vec<String>>,
) -> Vec<Finding> {
    let serving = [model.champion, model.canary].into_iter().flatten();
    let compared = serving
        .filter_map(|version| Some((version, drifted.get(&(model.model.clone(), version))?)));
    compared
        .map(|(version, columns)| {
            let key = key(Rule::Drift, model, Some(version));
            let reading = level(!columns.is_empty(), false);
            finding(key, reading, &drift_in_words(columns))
        })
        .collect()
}

/// Of those that serve, likewise.
fn by_labels(model: &ModelStanding, standing: &[QualityStanding]) -> Vec<Finding> {
    let serves = |own: &&QualityStanding| {
        own.model == model.model && [model.champion, model.canary].contains(&Some(own.version))
    };
    let of_one = |own: &QualityStanding| {
        let quality = own.wrong.map(|wrong| quality(model, own.version, wrong));
        let fairness = own.unequal.as_ref().map(|told| fairness(model, own.version, told));
        quality.into_iter().chain(fairness).collect::<Vec<_>>()
    };
    standing.iter().filter(serves).flat_map(of_one).collect()
}

fn quality(model: &ModelStanding, version: VersionId, wrong: WrongRate) -> Finding {
    let key = key(Rule::Quality, model, Some(version));
    let WrongRate { value, at_least, max, rows } = wrong;
    let reading = level(at_least > max.fraction(), value > max.fraction());
    let says = format!(
        "{} of {rows} labelled rows were answered wrong, at least {} if not by chance; it is too \
         many above {max}",
        percent(value),
        percent(at_least)
    );
    let (value, limit) = (Some(value), Some(max.fraction()));
    Finding { value, limit, ..finding(key, reading, &says) }
}

fn fairness(model: &ModelStanding, version: VersionId, told: &[String]) -> Finding {
    let key = key(Rule::Fairness, model, Some(version));
    match told {
        [] => finding(key, Reading::Good, "no group is shown to be treated differently"),
        told => finding(key, Reading::Bad, &told.join("; ")),
    }
}

fn drift_in_words(columns: &[String]) -> String {
    if columns.is_empty() {
        return "no column drifts".to_owned();
    }
    let named: Vec<_> = columns.iter().take(NAMED_MAX).map(String::as_str).collect();
    let mut says = format!("drifting: {}", named.join(", "));
    if columns.len() > NAMED_MAX {
        // Writing to a String cannot fail.
        let _ = write!(says, " and {} more", columns.len() - NAMED_MAX);
    }
    says
}

const fn level(bad: bool, between: bool) -> Reading {
    match (bad, between) {
        (true, _) => Reading::Bad,
        (false, true) => Reading::Between,
        (false, false) => Reading::Good,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::monitor::alerts::Timing;

    pub(in crate::monitor::alerts) fn settings() -> AlertSettings {
        AlertSettings {
            enabled: true,
            tick: Duration::from_secs(1),
            timing: Timing {
                pending: Duration::ZERO,
                clear_after: Duration::ZERO,
                again_after: Duration::ZERO,
            },
            window: Duration::from_secs(60),
            requests_min: 20,
            errors_above: "5%".parse().ok(),
            p99_above: Some(Duration::from_millis(250)),
            usual: Duration::from_secs(600),
            traffic_level: true,
            error_level: true,
            score_level: true,
            drift: true,
            quality: true,
            store: true,
            models: true,
        }
    }

    fn m() -> ModelName {
        ModelName::new("m").unwrap()
    }

    fn standing(champion: Option<u64>) -> ModelStanding {
        ModelStanding {
            model: m(),
            champion: champion.and_then(VersionId::new),
            canary: None,
            weight: None,
            wants_champion: true,
            failed: vec![],
        }
    }

    /// What one rule says.
    fn of(rule: Rule, facts: &Facts) -> Vec<Finding> {
        let all = findings(&settings(), facts).into_iter();
        all.filter(|finding| finding.key.rule == rule).collect()
    }

    fn with_traffic(traffic: Tally) -> Facts {
        let traffic = [(m(), traffic)].into();
        Facts { models: vec![standing(Some(1))], traffic, ..Facts::default() }
    }

    #[test]
    fn errors_have_two_levels_and_need_enough_requests() {
        let cases = [
            (19, 19, Reading::Good),
            (20, 1, Reading::Between),
            (20, 2, Reading::Bad),
            (1000, 50, Reading::Between),
            (1000, 51, Reading::Bad),
            (1000, 25, Reading::Good),
            (1000, 26, Reading::Between),
        ];
        for (requests, faults, expected) in cases {
            let facts = with_traffic(Tally { requests, faults, ..Tally::default() });
            let found = of(Rule::Errors, &facts).remove(0);
            assert_eq!(found.reading, expected, "{requests} {faults}: {}", found.says);
        }
        let facts = with_traffic(Tally { requests: 1000, faults: 60, ..Tally::default() });
        let found = of(Rule::Errors, &facts).remove(0);
        assert_eq!((found.value, found.limit), (Some(0.06), Some(0.05)));
        let says = "6.0% of 1000 requests of the last 1m failed; it is too many above 5%";
        assert_eq!(found.says, says);
    }

    #[test]
    fn latency_has_two_levels() {
        let cases = [(11, 11, Reading::Bad), (10, 11, Reading::Between), (0, 10, Reading::Good)];
        for (slow, slowish, expected) in cases {
            let facts = with_traffic(Tally { timed: 1000, slow, slowish, ..Tally::default() });
            let found = of(Rule::Latency, &facts).remove(0);
            assert_eq!(found.reading, expected, "{slow} {slowish}: {}", found.says);
        }
        assert_eq!(p99_clear(Duration::from_millis(250)), Duration::from_millis(200));
    }

    #[test]
    fn only_versions_that_serve_drift_and_few_columns_are_named() {
        let two = |n| VersionId::new(n).unwrap();
        let columns: Vec<_> = (0..7).map(|i| format!("input c{i}")).collect();
        let drifted =
            [((m(), two(1)), vec![]), ((m(), two(2)), columns.clone()), ((m(), two(3)), columns)];
        let mut model = standing(Some(1));
        model.canary = VersionId::new(2);
        let facts = Facts { models: vec![model], drifted: drifted.into(), ..Facts::default() };
        let found = of(Rule::Drift, &facts);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!((found[0].reading, found[1].reading), (Reading::Good, Reading::Bad));
        assert_eq!(
            found[1].says,
            "drifting: input c0, input c1, input c2, input c3, input c4 and 2 more"
        );
    }

    #[test]
    fn the_store_and_models_that_cannot_serve_are_told() {
        let mut nobody = standing(None);
        nobody.failed = vec![(VersionId::new(4).unwrap(), "x".repeat(9999))];
        let problem = Some("disk full".to_owned());
        let facts = Facts { models: vec![nobody], store_problem: problem, ..Facts::default() };
        let store = of(Rule::Store, &facts).remove(0);
        let says = "changes cannot be recorded: disk full";
        assert_eq!((store.reading, &*store.says), (Reading::Bad, says));
        assert_eq!(of(Rule::NoChampion, &facts)[0].reading, Reading::Bad);
        let failed = of(Rule::VersionFailed, &facts).remove(0);
        assert_eq!(failed.key.to_string(), "version_failed of version 4");
        assert!(failed.says.chars().count() <= SAYS_MAX + 1);
        // What somebody had unloaded on purpose is missed by nobody.
        let unloaded = ModelStanding { wants_champion: false, ..standing(None) };
        let facts = Facts { models: vec![unloaded], ..Facts::default() };
        assert_eq!(of(Rule::NoChampion, &facts)[0].reading, Reading::Good);
        assert_eq!(of(Rule::Store, &facts)[0].reading, Reading::Good);
    }

    #[test]
    fn labels_tell_what_is_wrong_too_often_or_unequal_of_versions_that_serve() {
        let standing_of = |version, at_least, unequal: &[&str]| QualityStanding {
            model: m(),
            version: VersionId::new(version).unwrap(),
            wrong: Some(WrongRate { value: 0.12, at_least, max: "10%".parse().unwrap(), rows: 50 }),
            unequal: Some(unequal.iter().map(|told| (*told).to_owned()).collect()),
        };
        let told = "plan: equal_opportunity: pro over basic, 0.150 is beyond 0.1";
        let mut model = standing(Some(1));
        model.canary = VersionId::new(2);
        let quality = Arc::new(vec![
            standing_of(1, 0.08, &[]),
            standing_of(2, 0.101, &[told]),
            standing_of(3, 0.11, &[told]),
        ]);
        let facts = Facts { models: vec![model], quality, ..Facts::default() };
        let found = of(Rule::Quality, &facts);
        let readings: Vec<_> = found.iter().map(|found| found.reading).collect();
        assert_eq!(readings, [Reading::Between, Reading::Bad], "{found:?}");
        let says = "12.0% of 50 labelled rows were answered wrong, at least 10.1% if not by \
                    chance; it is too many above 10%";
        assert_eq!(found[1].says, says);
        let found = of(Rule::Fairness, &facts);
        let said: Vec<_> = found.iter().map(|found| (found.reading, &*found.says)).collect();
        let none = "no group is shown to be treated differently";
        assert_eq!(said, [(Reading::Good, none), (Reading::Bad, told)]);
    }

    #[test]
    fn each_rule_can_be_switched_off() {
        let mut model = standing(None);
        model.failed = vec![(VersionId::new(4).unwrap(), "why".into())];
        let facts = Facts { models: vec![model], ..Facts::default() };
        let off = AlertSettings {
            errors_above: None,
            p99_above: None,
            drift: false,
            quality: false,
            store: false,
            models: false,
            ..settings()
        };
        assert_eq!(findings(&off, &facts), []);
        let all_off = AlertSettings { enabled: false, ..settings() };
        assert_eq!(findings(&all_off, &facts), []);
    }
}
