//! A rollout, for people.

use std::time::Duration;

use serde::Deserialize;

/// A rollout, as the API shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Rollout {
    id: u64,
    model: String,
    version: u64,
    base: u64,
    actor: String,
    started: String,
    phase: String,
    why: String,
    stages: Vec<String>,
    stage: usize,
    ran_seconds: f64,
    min_seconds: f64,
    max_seconds: f64,
    guards: Vec<Guard>,
    traffic: Option<Traffic>,
    queued: Option<u64>,
    gaps: u32,
    problem: Option<String>,
    log: Vec<Line>,
}

#[derive(Debug, Deserialize)]
struct Guard {
    guard: String,
    verdict: String,
    judges: bool,
    text: String,
}

#[derive(Debug, Deserialize)]
struct Traffic {
    misrouted: bool,
    p_value: f64,
}

#[derive(Debug, Deserialize)]
struct Line {
    time: String,
    actor: String,
    text: String,
}

/// A model's rollouts, as the API lists them.
#[derive(Debug, Deserialize)]
pub(super) struct RolloutList {
    rollouts: Vec<Rollout>,
}

/// Lines of its log that are shown.
const LOG_SHOWN: usize = 12;

impl Rollout {
    /// Whether it has not ended.
    pub(super) fn is_open(&self) -> bool {
        let open = ["running", "paused", "stopped", "awaiting_approval"];
        open.contains(&self.phase.as_str())
    }

    fn title(&self) -> String {
        let Self { id, model, version, base, actor, started, .. } = self;
        let phase = self.phase.replace('_', " ");
        let since = started.split_once('.').map_or(started.as_str(), |(whole, _)| whole);
        format!(
            "rollout {id}: {model} {version} against {base}, {phase} (begun {since} by {actor})"
        )
    }

    /// All of it.
    pub(super) fn render(&self) -> String {
        let mut text = self.title();
        if !self.why.is_empty() {
            text.push_str(&format!("\n  why      {}", self.why));
        }
        text.push_str(&format!("\n  stages   {}", self.walk()));
        if self.is_open() {
            text.push_str(&format!("\n  time     {}", self.time()));
        }
        if let Some(traffic) = &self.traffic {
            let says = if traffic.misrouted { "does NOT arrive" } else { "arrives" };
            text.push_str(&format!("\n  traffic  {says} as routed (p {:.2})", traffic.p_value));
        }
        let width = self.guards.iter().map(|guard| guard.guard.len()).max().unwrap_or(0);
        // Those that judge the stage come first.
        let judging = self.guards.iter().filter(|guard| guard.judges);
        for guard in judging.chain(self.guards.iter().filter(|guard| !guard.judges)) {
            let mark = if guard.judges { "*" } else { " " };
            let Guard { guard, verdict, text: line, .. } = guard;
            text.push_str(&format!("\n  {mark} {guard:width$}  {verdict:19}  {line}"));
        }
        if self.gaps > 0 {
            text.push_str(&format!(
                "\n  gaps     {} unclean exits; up to 5 s of counts are missing for each",
                self.gaps
            ));
        }
        if let Some(queued) = self.queued {
            text.push_str(&format!("\n  queued   version {queued} waits for its end"));
        }
        if let Some(problem) = &self.problem {
            text.push_str(&format!("\n  problem  {problem}"));
        }
        let skipped = self.log.len().saturating_sub(LOG_SHOWN);
        for Line { time, actor, text: line } in &self.log[skipped..] {
            let time = time.split_once('.').map_or(time.as_str(), |(whole, _)| whole);
            text.push_str(&format!("\n  {time}  {actor}: {line}"));
        }
        text
    }

    /// The stages, with the present one in brackets.
    fn walk(&self) -> String {
        let stage = |(i, name): (usize, &String)| match i.cmp(&self.stage) {
            std::cmp::Ordering::Less => format!("{name} ✓"),
            std::cmp::Ordering::Equal if self.is_open() => format!("[{name}]"),
            _ => name.clone(),
        };
        self.stages.iter().enumerate().map(stage).collect::<Vec<_>>().join(" → ")
    }

    fn time(&self) -> String {
        let (ran, min, max) =
            (short(self.ran_seconds), short(self.min_seconds), short(self.max_seconds));
        if min == max { format!("{ran} of {max}") } else { format!("{ran}, of {min} to {max}") }
    }
}

impl RolloutList {
    pub(super) fn render(&self) -> String {
        if self.rollouts.is_empty() {
            return "no rollout yet".to_owned();
        }
        self.rollouts.iter().map(Rollout::title).collect::<Vec<_>>().join("\n")
    }
}

/// Seconds, in words, without parts of a second.
pub(super) fn short(seconds: f64) -> String {
    let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    if time < Duration::from_secs(1) {
        return format!("{}ms", time.as_millis());
    }
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_is_told_from_its_title_to_its_log() {
        let rollout: Rollout = serde_json::from_value(serde_json::json!({
            "id": 7, "model": "churn", "version": 3, "base": 1, "actor": "eve",
            "started": "2026-01-02T03:04:05.678Z", "phase": "running", "why": "",
            "stages": ["shadow 100%", "canary 1%", "watch"], "stage": 1,
            "ran_seconds": 61.5, "min_seconds": 300.0, "max_seconds": 86400.0,
            "guards": [
                {"guard": "disagreement", "verdict": "not worse", "judges": false, "text": "1 of 900"},
                {"guard": "errors", "verdict": "not enough evidence", "judges": true, "text": "0"},
            ],
            "traffic": {"misrouted": false, "p_value": 0.5},
            "queued": 4, "gaps": 1, "problem": "disk full",
            "log": [{"time": "2026-01-02T03:04:05.678Z", "actor": "eve", "text": "begun"}],
        }))
        .unwrap();
        assert_eq!(
            rollout.render(),
            "rollout 7: churn 3 against 1, running (begun 2026-01-02T03:04:05 by eve)\n  \
             stages   shadow 100% ✓ → [canary 1%] → watch\n  \
             time     1m 1s, of 5m to 1day\n  \
             traffic  arrives as routed (p 0.50)\n  \
             * errors        not enough evidence  0\n    \
             disagreement  not worse            1 of 900\n  \
             gaps     1 unclean exits; up to 5 s of counts are missing for each\n  \
             queued   version 4 waits for its end\n  \
             problem  disk full\n  \
             2026-01-02T03:04:05  eve: begun"
        );
        assert_eq!(RolloutList { rollouts: vec![] }.render(), "no rollout yet");
    }
}
