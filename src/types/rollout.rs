//! How a new version of a model is brought in: `[rollout]` in `model.toml`, what
//! one rollout overrides of it, and the defaults of both.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::types::Share;

/// The most stages with a canary.
const WEIGHTS_MAX: usize = 16;
/// The longest that a stage may be given.
const TIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// What becomes of a version that is shown to be worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnWorse {
    /// It is taken out at once.
    Rollback,
    /// It stays where it is, and the rollout waits for somebody.
    Freeze,
}

/// What becomes of a rollout when a newer version arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnNewer {
    /// It ends, and the newer version's begins.
    Supersede,
    /// The newer version waits until it has ended.
    Queue,
}

/// A guard that compares the rates of both arms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatioPolicy {
    /// Whether it judges.
    pub enabled: bool,
    /// Worse is a rate above this multiple of the champion's.
    pub worse_than: f64,
    /// Not worse is one below this multiple; `None` shrinks as the share grows.
    pub not_worse_than: Option<f64>,
    /// A rate that is good enough, whatever the champion's.
    pub objective: Option<f64>,
}

/// A guard with an absolute limit of a rate, or of a distance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitPolicy {
    /// Whether it judges.
    pub enabled: bool,
    /// The limit, 0 to 1.
    pub limit: f64,
}

/// What a rollout is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardPolicies {
    /// Requests that failed.
    pub errors: RatioPolicy,
    /// Requests that the version refused.
    pub refusals: RatioPolicy,
    /// Answers with a NaN or an infinity in them.
    pub nonfinite: RatioPolicy,
    /// Requests slower than the champion's median.
    pub latency_p50: RatioPolicy,
    /// Requests slower than the champion's 99th percentile.
    pub latency_p99: RatioPolicy,
    /// Requests slower than [`RolloutPolicy::latency_max`]: their share.
    pub latency: LimitPolicy,
    /// As a shadow: requests whose answer is another than the champion's.
    pub disagreement: LimitPolicy,
    /// As a shadow: the same, against how often the champion's answer is another
    /// than its own to the same request.
    #[serde(default = "noise")]
    pub noise: RatioPolicy,
    /// As a shadow: copies that it could not answer.
    pub shadow_failures: LimitPolicy,
    /// The distance of the distributions of the answers.
    pub output_shift: LimitPolicy,
    /// Answers that are wrong by their labels; they only ever stop a rollout.
    #[serde(default = "by_labels")]
    pub wrong: RatioPolicy,
    /// The same within each declared group.
    #[serde(default = "by_labels")]
    pub fairness: RatioPolicy,
    /// How differently declared groups are selected, by answers alone. `objective` is how often
    /// a group may be selected at least, as a share of any other; it only ever stops a rollout.
    #[serde(default = "parity")]
    pub parity: RatioPolicy,
}

/// Off: it takes labels.
const fn by_labels() -> RatioPolicy {
    RatioPolicy { enabled: false, worse_than: 1.0, not_worse_than: None, objective: None }
}

/// Off: it takes groups. The rule of four fifths.
const fn parity() -> RatioPolicy {
    RatioPolicy { enabled: false, worse_than: 1.0, not_worse_than: None, objective: Some(0.8) }
}

/// Off: half of the copies are spent on it, and a retrained model differs from the
/// former one by more than noise.
const fn noise() -> RatioPolicy {
    RatioPolicy { enabled: false, worse_than: 1.0, not_worse_than: None, objective: Some(0.001) }
}

/// How a new version is brought in, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutPolicy {
    /// The share of the champion's requests that are copied in the first stage;
    /// nothing leaves the stage out.
    pub shadow: Share,
    /// The canary's weights, ascending.
    pub weights: Vec<Share>,
    /// The shortest that each stage takes.
    #[serde(with = "text")]
    pub min: Duration,
    /// The longest; then it stops in front of a person.
    #[serde(with = "text")]
    pub max: Duration,
    /// How long the new champion is watched.
    #[serde(with = "text")]
    pub watch: Duration,
    /// What the former champion answers meanwhile, as a control.
    pub holdback: Share,
    /// If it is worse.
    pub on_worse: OnWorse,
    /// If a newer version arrives.
    pub on_newer: OnNewer,
    /// Whether a second person has to approve of the promotion.
    pub approval: bool,
    /// The probability, over the whole rollout, that a version that is not worse
    /// is called worse.
    pub alpha: f64,
    /// The probability, for each guard, that one beyond its margin is called not
    /// worse.
    pub beta: f64,
    /// An absolute time that hardly any request may take.
    #[serde(with = "optional_text")]
    pub latency_max: Option<Duration>,
    /// How much slower a request may be than the champion's quantile before it is
    /// called slow: a canary's caches are colder, and microseconds harm nobody.
    #[serde(with = "text")]
    pub latency_slack: Duration,
    /// What it is judged by.
    pub guards: GuardPolicies,
}

impl Default for RolloutPolicy {
    /// For a beginner: a shadow of everything, then 1, 5, 25 and 50 %, five
    /// minutes to a day each, and an hour's watch with a control of 5 %.
    fn default() -> Self {
        let ratio = |worse_than, objective| RatioPolicy {
            enabled: true,
            worse_than,
            not_worse_than: None,
            objective,
        };
        let limit = |enabled, limit| LimitPolicy { enabled, limit };
        Self {
            shadow: Share::ALL,
            weights: [100, 500, 2_500, 5_000]
                .into_iter()
                .filter_map(Share::from_basis_points)
                .collect(),
            min: Duration::from_secs(300),
            max: Duration::from_secs(24 * 3600),
            watch: Duration::from_secs(3600),
            holdback: Share::from_basis_points(500).unwrap_or_default(),
            on_worse: OnWorse::Rollback,
            on_newer: OnNewer::Supersede,
            approval: false,
            alpha: 0.01,
            beta: 0.05,
            latency_max: None,
            latency_slack: Duration::from_micros(200),
            guards: GuardPolicies {
                errors: ratio(1.0, Some(0.005)),
                refusals: ratio(1.0, Some(0.005)),
                nonfinite: ratio(1.0, Some(0.005)),
                latency_p50: ratio(1.25, None),
                latency_p99: ratio(1.25, None),
                latency: limit(true, 0.01),
                disagreement: limit(true, 0.2),
                noise: noise(),
                shadow_failures: limit(true, 0.01),
                // A retrained model's answers move, and are the better for it.
                output_shift: limit(false, 0.2),
                wrong: by_labels(),
                fairness: by_labels(),
                parity: parity(),
            },
        }
    }
}

impl RolloutPolicy {
    /// A model's policy with what one rollout overrides of it.
    ///
    /// # Errors
    /// What is wrong, with the key that is.
    pub fn with(&self, overrides: &RolloutOverrides) -> Result<Self, String> {
        let policy = overrides.apply(self)?;
        let (own, usual) = (&policy.guards, &self.guards);
        for (name, what, own, usual) in [
            ("wrong", "labels", own.wrong, usual.wrong),
            ("fairness", "labels", own.fairness, usual.fairness),
            ("parity", "groups", own.parity, usual.parity),
        ] {
            if own.enabled && !usual.enabled {
                return Err(format!(
                    "guards.{name}.enabled: switch it on in model.toml, beside the {what} that it \
                     judges by"
                ));
            }
        }
        if policy.guards.noise.enabled && !self.guards.noise.enabled {
            return Err("guards.noise.enabled: switch it on in model.toml, by which the champion \
                        gets its half of the copies"
                .to_owned());
        }
        Ok(policy)
    }
}

/// What a guard overrides of its policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardOverride {
    /// Whether it judges.
    enabled: Option<bool>,
    /// Worse is a rate above this multiple of the champion's, 0.01 to 100.
    #[schema(minimum = 0.01, maximum = 100.0)]
    worse_than: Option<f64>,
    /// Not worse is one below this multiple, 0.01 to 100.
    #[schema(minimum = 0.01, maximum = 100.0)]
    not_worse_than: Option<f64>,
    /// A rate that is good enough, whatever the champion's, 1e-9 to 0.999; of `parity` how often
    /// a group is selected as a share of any other.
    #[schema(minimum = 0.000000001, maximum = 0.999)]
    objective: Option<f64>,
    /// The limit of a guard without a second arm, 1e-9 to 0.999.
    #[schema(minimum = 0.000000001, maximum = 0.999)]
    limit: Option<f64>,
}

/// What guards override.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardOverrides {
    /// Requests that failed.
    errors: Option<GuardOverride>,
    /// Requests that the version refused.
    refusals: Option<GuardOverride>,
    /// Answers with a NaN or an infinity in them.
    nonfinite: Option<GuardOverride>,
    /// Requests slower than the champion's median.
    latency_p50: Option<GuardOverride>,
    /// Requests slower than the champion's 99th percentile.
    latency_p99: Option<GuardOverride>,
    /// Requests slower than `latency_max`.
    latency: Option<GuardOverride>,
    /// As a shadow: requests whose answer is another than the champion's.
    disagreement: Option<GuardOverride>,
    /// The same, against how often the champion's answer is another than its own.
    /// It is switched on in `model.toml` only: half of the copies are spent on it.
    noise: Option<GuardOverride>,
    /// As a shadow: copies that it could not answer.
    shadow_failures: Option<GuardOverride>,
    /// The distance of the distributions of the answers.
    output_shift: Option<GuardOverride>,
    /// Answers that are wrong by their labels. It is switched on in `model.toml` only.
    wrong: Option<GuardOverride>,
    /// The same within each declared group. It is switched on in `model.toml` only.
    fairness: Option<GuardOverride>,
    /// How differently declared groups are selected. It is switched on in `model.toml` only.
    parity: Option<GuardOverride>,
}

/// What `model.toml` says of rollouts, or one rollout of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutOverrides {
    /// The sample of the shadow stage (`"100%"`); `"0%"` leaves it out.
    #[schema(value_type = Option<String>, pattern = r"^(100(\.00?)?|[0-9]{1,2}(\.[0-9]{1,2})?) ?%?$")]
    shadow: Option<Share>,
    /// The canary's weights, ascending (`["1%", "5%"]`).
    #[schema(value_type = Option<Vec<String>>)]
    weights: Option<Vec<Share>>,
    /// The shortest that each stage takes (`"5m"`).
    #[schema(max_length = 64, pattern = r"^(0|[0-9]{1,3}(us|ms|s|m|h))$")]
    min: Option<String>,
    /// The longest (`"1d"`).
    #[schema(max_length = 64, pattern = r"^(0|[0-9]{1,3}(us|ms|s|m|h))$")]
    max: Option<String>,
    /// How long the new champion is watched (`"1h"`).
    #[schema(max_length = 64, pattern = r"^(0|[0-9]{1,3}(us|ms|s|m|h))$")]
    watch: Option<String>,
    /// What the former champion answers meanwhile (`"5%"`).
    #[schema(value_type = Option<String>, pattern = r"^(100(\.00?)?|[0-9]{1,2}(\.[0-9]{1,2})?) ?%?$")]
    holdback: Option<Share>,
    /// If it is worse.
    on_worse: Option<OnWorse>,
    /// If a newer version arrives.
    on_newer: Option<OnNewer>,
    /// Whether a second person has to approve of the promotion.
    approval: Option<bool>,
    /// The probability that a version that is not worse is called worse.
    #[schema(minimum = 0.000000000001, maximum = 0.5)]
    alpha: Option<f64>,
    /// The probability that a guard passes a version beyond its margin.
    #[schema(minimum = 0.000000000001, maximum = 0.5)]
    beta: Option<f64>,
    /// An absolute time that hardly any request may take (`"50ms"`).
    #[schema(max_length = 64, pattern = r"^(0|[0-9]{1,3}(us|ms|s|m|h))$")]
    latency_max: Option<String>,
    /// How much slower than the champion's quantile is not slow yet (`"200us"`).
    #[schema(max_length = 64, pattern = r"^(0|[0-9]{1,3}(us|ms|s|m|h))$")]
    latency_slack: Option<String>,
    /// What it is judged by.
    #[serde(default)]
    guards: GuardOverrides,
}

impl RolloutOverrides {
    /// The policy that comes of it.
    ///
    /// # Errors
    /// What is wrong, with the key that is.
    pub fn apply(&self, base: &RolloutPolicy) -> Result<RolloutPolicy, String> {
        let mut policy = base.clone();
        if let Some(shadow) = self.shadow {
            policy.shadow = shadow;
        }
        if let Some(weights) = &self.weights {
            check_weights(weights)?;
            policy.weights.clone_from(weights);
        }
        for (key, text, slot) in [
            ("min", &self.min, &mut policy.min),
            ("max", &self.max, &mut policy.max),
            ("watch", &self.watch, &mut policy.watch),
            ("latency_slack", &self.latency_slack, &mut policy.latency_slack),
        ] {
            if let Some(text) = text {
                *slot = duration(key, text)?;
            }
        }
        if policy.max < policy.min || policy.max.is_zero() {
            return Err("max: expected at least min, and more than nothing".to_owned());
        }
        if let Some(text) = &self.latency_max {
            policy.latency_max = Some(duration("latency_max", text)?);
        }
        if let Some(holdback) = self.holdback {
            if holdback.basis_points() > 5_000 {
                return Err(format!("holdback: expected at most 50%, got {holdback}"));
            }
            policy.holdback = holdback;
        }
        policy.on_worse = self.on_worse.unwrap_or(policy.on_worse);
        policy.on_newer = self.on_newer.unwrap_or(policy.on_newer);
        // Whoever asks for less than the model's owners would decide alone.
        policy.approval |= self.approval.unwrap_or(false);
        for (key, given, slot) in
            [("alpha", self.alpha, &mut policy.alpha), ("beta", self.beta, &mut policy.beta)]
        {
            if let Some(level) = given {
                *slot = within(key, level, 1e-12, 0.5)?;
            }
        }
        self.guards.apply(&mut policy.guards)?;
        Ok(policy)
    }
}

impl GuardOverrides {
    fn apply(&self, guards: &mut GuardPolicies) -> Result<(), String> {
        for (name, own, policy) in [
            ("errors", &self.errors, &mut guards.errors),
            ("refusals", &self.refusals, &mut guards.refusals),
            ("nonfinite", &self.nonfinite, &mut guards.nonfinite),
            ("latency_p50", &self.latency_p50, &mut guards.latency_p50),
            ("latency_p99", &self.latency_p99, &mut guards.latency_p99),
            ("noise", &self.noise, &mut guards.noise),
            ("wrong", &self.wrong, &mut guards.wrong),
            ("fairness", &self.fairness, &mut guards.fairness),
            ("parity", &self.parity, &mut guards.parity),
        ] {
            let Some(own) = own else { continue };
            if own.limit.is_some() {
                return Err(format!("guards.{name}.limit: it compares two arms; expected margins"));
            }
            if own.objective.is_some() && matches!(name, "wrong" | "fairness") {
                return Err(format!(
                    "guards.{name}.objective: labels tell no rate of all requests"
                ));
            }
            if own.not_worse_than.is_some() && name == "parity" {
                return Err("guards.parity.not_worse_than: it only ever stops a rollout".to_owned());
            }
            let key = |key: &str| format!("guards.{name}.{key}");
            policy.enabled = own.enabled.unwrap_or(policy.enabled);
            if let Some(margin) = own.worse_than {
                policy.worse_than = within(&key("worse_than"), margin, 0.01, 100.0)?;
            }
            if let Some(margin) = own.not_worse_than {
                policy.not_worse_than = Some(within(&key("not_worse_than"), margin, 0.01, 100.0)?);
            }
            if let Some(rate) = own.objective {
                policy.objective = Some(within(&key("objective"), rate, 1e-9, 0.999)?);
            }
        }
        // Against a limit, or against what is usual; who wants both says so.
        if self.noise.as_ref().is_some_and(|own| own.enabled == Some(true)) {
            guards.disagreement.enabled = false;
        }
        for (name, own, policy) in [
            ("latency", &self.latency, &mut guards.latency),
            ("disagreement", &self.disagreement, &mut guards.disagreement),
            ("shadow_failures", &self.shadow_failures, &mut guards.shadow_failures),
            ("output_shift", &self.output_shift, &mut guards.output_shift),
        ] {
            let Some(own) = own else { continue };
            if own.worse_than.or(own.not_worse_than).or(own.objective).is_some() {
                return Err(format!("guards.{name}: it has no second arm; expected a limit"));
            }
            policy.enabled = own.enabled.unwrap_or(policy.enabled);
            if let Some(limit) = own.limit {
                policy.limit = within(&format!("guards.{name}.limit"), limit, 1e-9, 0.999)?;
            }
        }
        Ok(())
    }
}

fn check_weights(weights: &[Share]) -> Result<(), String> {
    if weights.len() > WEIGHTS_MAX {
        return Err(format!("weights: expected at most {WEIGHTS_MAX}, got {}", weights.len()));
    }
    let fits = |share: &Share| (1..10_000).contains(&share.basis_points());
    if let Some(wrong) = weights.iter().find(|share| !fits(share)) {
        return Err(format!("weights: expected each above 0% and below 100%, got {wrong}"));
    }
    if !weights.is_sorted_by(|a, b| a < b) {
        return Err("weights: expected them ascending".to_owned());
    }
    Ok(())
}

fn duration(key: &str, text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text).ok().filter(|time| *time <= TIME_MAX);
    parsed.ok_or_else(|| {
        format!("{key}: expected a duration up to a year, such as \"10m\", got {text:?}")
    })
}

fn within(key: &str, value: f64, least: f64, most: f64) -> Result<f64, String> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(format!("{key}: expected {least} to {most}, got {value}"))
}

/// Durations as people write them.
mod text {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map_err(serde::de::Error::custom)
    }
}

/// The same, if there is one.
mod optional_text {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "as serde calls it")]
    pub(super) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::text::serialize(time, to),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let parse = |text: String| humantime::parse_duration(&text);
        text.map(parse).transpose().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(text: &str) -> Result<RolloutPolicy, String> {
        let overrides: RolloutOverrides = toml::from_str(text).map_err(|e| e.to_string())?;
        overrides.apply(&RolloutPolicy::default())
    }

    #[test]
    fn nothing_said_is_the_default_and_it_is_kept_as_it_is() {
        let policy = apply("").unwrap();
        assert_eq!(policy, RolloutPolicy::default());
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<RolloutPolicy>(&text).unwrap(), policy);
    }

    #[test]
    fn everything_can_be_overridden() {
        let policy = apply(
            r#"
            shadow = "0%"
            weights = ["2%", "50%"]
            min = "1m"
            max = "2h"
            watch = "10m"
            holdback = "10%"
            on_worse = "freeze"
            on_newer = "queue"
            approval = true
            alpha = 0.02
            beta = 0.1
            latency_max = "50ms"
            latency_slack = "1ms"
            [guards]
            errors = { worse_than = 1.5, not_worse_than = 3.0, objective = 0.001 }
            latency_p50 = { enabled = false }
            disagreement = { limit = 0.05 }
            "#,
        )
        .unwrap();
        assert_eq!((policy.shadow, policy.weights.len()), (Share::ZERO, 2));
        assert_eq!((policy.min, policy.max), (Duration::from_secs(60), Duration::from_secs(7200)));
        assert_eq!(policy.latency_max, Some(Duration::from_millis(50)));
        assert_eq!(policy.latency_slack, Duration::from_millis(1));
        assert_eq!((policy.on_worse, policy.on_newer), (OnWorse::Freeze, OnNewer::Queue));
        assert!(policy.approval && !policy.guards.latency_p50.enabled);
        assert_eq!(policy.guards.errors.not_worse_than, Some(3.0));
        assert!((policy.guards.disagreement.limit - 0.05).abs() < 1e-12);
    }

    #[test]
    fn one_rollout_cannot_switch_on_what_the_model_has_to_do() {
        let usual = RolloutPolicy::default();
        let own: RolloutOverrides = toml::from_str("guards.noise.enabled = true").unwrap();
        assert!(usual.with(&own).unwrap_err().starts_with("guards.noise.enabled: switch it on"));
        let noisy = own.apply(&usual).unwrap();
        assert!(!noisy.guards.disagreement.enabled, "one takes the other's place");
        let both = "[guards]\nnoise = { enabled = true }\ndisagreement = { enabled = true }";
        assert!(apply(both).unwrap().guards.disagreement.enabled);
        let other = RolloutOverrides::default().apply(&own.apply(&usual).unwrap()).unwrap();
        assert!(other.with(&own).unwrap().guards.noise.enabled);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        for (text, expected) in [
            ("weights = [\"5%\", \"1%\"]", "weights: expected them ascending"),
            ("weights = [\"0%\"]", "above 0% and below 100%, got 0%"),
            ("weights = [\"100%\"]", "above 0% and below 100%, got 100%"),
            ("min = \"soon\"", "min: expected a duration"),
            ("min = \"2d\"", "max: expected at least min"),
            ("holdback = \"60%\"", "holdback: expected at most 50%"),
            ("alpha = 0.9", "alpha: expected"),
            ("guards.errors.worse_than = 0.0", "guards.errors.worse_than: expected 0.01 to 100"),
            ("guards.errors.limit = 0.1", "guards.errors.limit: it compares two arms"),
            ("guards.disagreement.objective = 0.1", "guards.disagreement: it has no second arm"),
            ("guards.disagreement.limit = 1.0", "guards.disagreement.limit: expected"),
            ("speed = 1", "unknown field `speed`"),
        ] {
            let error = apply(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
