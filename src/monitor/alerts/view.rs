//! What is shown of alerts.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use utoipa::ToSchema;

use super::book::{Alert, Book};
use super::state::Phase;
use super::{AlertKey, Rule};
use crate::types::{ModelName, VersionId};

/// What somebody should look at.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AlertView {
    /// Its rule: `drift`, `error_level`, `errors`, `fairness`, `latency`, `no_champion`,
    /// `quality`, `score_level`, `store`, `traffic_level` or `version_failed`.
    pub alert: &'static str,
    /// The model; absent for what is about the gateway itself.
    #[schema(value_type = Option<String>)]
    pub model: Option<ModelName>,
    /// The version, where it is about one.
    #[schema(value_type = Option<u64>)]
    pub version: Option<VersionId>,
    /// `pending`, `firing` or `resolved`.
    pub state: &'static str,
    /// How it is, or, once it is resolved, how it ended.
    pub says: String,
    /// The figure that is judged: a share of requests or rows, 0 to 1; of `traffic_level`
    /// requests per second.
    pub value: Option<f64>,
    /// What that must exceed; what fell, be below.
    pub limit: Option<f64>,
    /// When it came into this state, RFC 3339.
    pub since: String,
    /// When it fired last, RFC 3339.
    pub fired: Option<String>,
    /// When it was resolved last, RFC 3339.
    pub resolved: Option<String>,
}

/// All alerts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertBoard {
    /// Those that fire first, then those that are pending, then what was resolved.
    pub alerts: Vec<AlertView>,
    /// Conditions that hold and are not followed, since there are too many alerts.
    pub passed_over: usize,
}

impl AlertBoard {
    /// The book at `now`, which is `wall` on the clock on the wall.
    pub(super) fn of(book: &Book, now: Duration, wall: SystemTime) -> Self {
        let mut alerts: Vec<_> = book.alerts().iter().collect();
        alerts.sort_by_key(|(key, alert)| (order(alert.standing.phase), *key));
        let alerts = alerts.into_iter().map(|(key, alert)| view(key, alert, now, wall));
        Self { alerts: alerts.collect(), passed_over: book.passed_over() }
    }
}

const fn order(phase: Phase) -> u8 {
    match phase {
        Phase::Firing { .. } => 0,
        Phase::Pending => 1,
        Phase::Resolved => 2,
    }
}

fn view(key: &AlertKey, alert: &Alert, now: Duration, wall: SystemTime) -> AlertView {
    let AlertKey { rule, model, version } = key;
    let standing = alert.standing;
    let time = |at: Duration| {
        let time = wall.checked_sub(now.saturating_sub(at)).unwrap_or(SystemTime::UNIX_EPOCH);
        humantime::format_rfc3339_millis(time).to_string()
    };
    AlertView {
        alert: Rule::as_str(*rule),
        model: model.clone(),
        version: *version,
        state: standing.phase.as_str(),
        says: alert.says.clone(),
        value: alert.value,
        limit: alert.limit,
        since: time(standing.since),
        fired: standing.fired.map(time),
        resolved: standing.resolved.map(time),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Timing;
    use super::super::rules::Finding;
    use super::super::state::Reading;
    use super::*;

    #[test]
    fn what_fires_comes_first_each_with_its_times() {
        let timing = Timing {
            pending: Duration::from_secs(10),
            clear_after: Duration::ZERO,
            again_after: Duration::ZERO,
        };
        let finding = |rule, reading| Finding {
            key: AlertKey { rule, model: ModelName::new("m").ok(), version: None },
            reading,
            says: String::new(),
            value: None,
            limit: None,
        };
        let mut book = Book::default();
        let bad = |rule| finding(rule, Reading::Bad);
        let second = Duration::from_secs;
        book.take(vec![bad(Rule::Errors), bad(Rule::Latency)], second(0), &timing);
        book.take(vec![bad(Rule::Errors), bad(Rule::Latency)], second(10), &timing);
        let later =
            vec![finding(Rule::Errors, Reading::Good), bad(Rule::Latency), bad(Rule::NoChampion)];
        book.take(later, second(20), &timing);
        // Where the clock said 0, it was 100 seconds after 1970 began.
        let wall = SystemTime::UNIX_EPOCH + second(125);
        let board = AlertBoard::of(&book, second(25), wall);
        let shown: Vec<_> =
            board.alerts.iter().map(|a| (a.alert, a.state, &a.since[11..19])).collect();
        assert_eq!(
            shown,
            [
                ("latency", "firing", "00:01:50"),
                ("no_champion", "pending", "00:02:00"),
                ("errors", "resolved", "00:02:00"),
            ]
        );
        let errors = &board.alerts[2];
        assert_eq!(errors.fired.as_deref(), Some("1970-01-01T00:01:50.000Z"));
        assert_eq!(errors.resolved.as_deref(), Some("1970-01-01T00:02:00.000Z"));
    }
}
