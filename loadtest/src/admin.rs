//! A small client of Foreshadow's admin API: reads a model's plan, promotes,
//! sets and removes a canary.
//!
//! It blocks, on a runtime of its own, so that the threads that send the load
//! never see it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request};
use serde_json::{Value, json};
use tokio::runtime::{self, Runtime};

use crate::client::Connection;
use crate::error::Error;
use crate::report::Copies;
use crate::target::Server;

/// Time for one call.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest reply that is read, bytes.
const REPLY_BYTES_MAX: usize = 4 << 20;
/// How much of an error's body is shown, characters.
const SHOWN_MAX: usize = 300;

/// A model's plan, as far as scenarios need it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelState {
    /// The version that answers.
    pub champion: u64,
    /// The version that answers a part, if there is one.
    pub canary: Option<Canary>,
    /// Versions that run on copies; one that is promoted leaves this role.
    pub shadows: Vec<u64>,
    /// Their sample rates, kept as they came.
    pub samples: Vec<(u64, Value)>,
    /// Versions that may answer, ascending.
    pub ready: Vec<u64>,
}

/// A canary as the admin API shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Canary {
    /// Its version.
    pub version: u64,
    /// Its weight, kept as it came so that it goes back unchanged.
    pub weight: Value,
}

impl ModelState {
    /// Reads the admin API's description of a model.
    ///
    /// # Errors
    /// If it names no champion.
    pub fn read(model: &Value) -> Result<Self, Error> {
        let plan = &model["plan"];
        let champion = number(&plan["champion"]["version"])
            .ok_or_else(|| Error::new("the model has no champion (plan.champion.version)"))?;
        let canary = number(&plan["canary"]["version"])
            .map(|version| Canary { version, weight: plan["canary"]["weight"].clone() });
        let shadows = versions_in(&plan["shadows"], |_| true);
        let shown = plan["shadows"].as_array().map_or(&[][..], Vec::as_slice);
        let sample = |shadow: &Value| Some((number(&shadow["version"])?, shadow["sample"].clone()));
        let samples = shown.iter().filter_map(sample).collect();
        let ready = versions_in(&model["versions"], |version| version["state"] == "ready");
        Ok(Self { champion, canary, shadows, samples, ready })
    }

    /// A version to change over to: the canary's, else the highest that is
    /// ready and has no role.
    #[must_use]
    pub fn other(&self) -> Option<u64> {
        let idle = |version: &&u64| **version != self.champion && !self.shadows.contains(version);
        let highest = || self.ready.iter().rev().find(idle).copied();
        self.canary.as_ref().map(|canary| canary.version).or_else(highest)
    }
}

/// One model, seen through the admin API.
#[derive(Debug)]
pub struct Admin {
    runtime: Runtime,
    server: Server,
    model: String,
    token: Option<HeaderValue>,
}

impl Admin {
    /// A client for `model` at the admin API's base URL; connects when used.
    ///
    /// # Errors
    /// If the URL, the model's name or the token is unusable.
    pub fn new(base: &str, model: &str, token: Option<&str>) -> Result<Self, Error> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if model.is_empty() || !model.chars().all(plain) {
            return Err(Error::new(format!("model {model:?}: expected letters, digits, - _ .")));
        }
        let server = Server::resolve(base)?;
        let token = token.map(bearer).transpose()?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| Error::new(format!("cannot start a runtime: {error}")))?;
        Ok(Self { runtime, server, model: model.to_owned(), token })
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The model's plan and versions.
    ///
    /// # Errors
    /// If the API does not answer, refuses, or describes no champion.
    pub fn state(&mut self) -> Result<ModelState, Error> {
        let reply = self.call(Method::GET, "", None)?;
        let model = serde_json::from_slice(&reply)
            .map_err(|error| Error::new(format!("admin API: the model's JSON: {error}")))?;
        ModelState::read(&model)
    }

    /// Makes a version champion.
    ///
    /// # Errors
    /// If the API does not answer or refuses.
    pub fn promote(&mut self, version: u64) -> Result<(), Error> {
        self.call(Method::POST, "/promote", Some(json!({ "version": version }))).map(drop)
    }

    /// Gives a version this weight as canary (`"5%"`, or as it was read).
    ///
    /// # Errors
    /// If the API does not answer or refuses.
    pub fn set_canary(&mut self, version: u64, weight: &Value) -> Result<(), Error> {
        let body = json!({ "version": version, "weight": weight });
        self.call(Method::PUT, "/canary", Some(body)).map(drop)
    }

    /// Takes the canary out.
    ///
    /// # Errors
    /// If the API does not answer or refuses.
    pub fn remove_canary(&mut self) -> Result<(), Error> {
        self.call(Method::DELETE, "/canary", None).map(drop)
    }

    /// Runs a version on this part of the champion's requests.
    ///
    /// # Errors
    /// If the API does not answer or refuses.
    pub fn set_shadow(&mut self, version: u64, sample: &Value) -> Result<(), Error> {
        let body = json!({ "sample": sample });
        self.call(Method::PUT, &format!("/shadows/{version}"), Some(body)).map(drop)
    }

    /// Takes a shadow out.
    ///
    /// # Errors
    /// If the API does not answer or refuses.
    pub fn remove_shadow(&mut self, version: u64) -> Result<(), Error> {
        self.call(Method::DELETE, &format!("/shadows/{version}"), None).map(drop)
    }

    /// Begins a rollout of a version that stays at this weight, whatever is found, and
    /// comes to no end by itself for an hour.
    ///
    /// # Errors
    /// If the API does not answer or refuses.
    pub fn start_rollout(&mut self, version: u64, weight: &str) -> Result<(), Error> {
        let overrides = json!({"shadow": "0%", "weights": [weight], "min": "1h",
            "on_worse": "freeze"});
        let body = json!({"version": version, "overrides": overrides});
        self.call(Method::POST, "/rollout", Some(body)).map(drop)
    }

    /// Ends it, and takes its version out.
    ///
    /// # Errors
    /// If the API does not answer or refuses.
    pub fn abort_rollout(&mut self) -> Result<(), Error> {
        self.call(Method::POST, "/rollout/abort", None).map(drop)
    }

    /// What became of the copies for a shadow since the gateway started.
    ///
    /// # Errors
    /// If the API does not answer or refuses.
    pub fn copies(&mut self, version: u64) -> Result<Copies, Error> {
        let text = self.metrics()?;
        let labels = [format!("model=\"{}\"", self.model), format!("version=\"{version}\"")];
        let sum = |name: &str| sum_of(&text, &format!("foreshadow_shadow_{name}{{"), &labels);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
        let count = |name: &str| sum(name) as u64;
        Ok(Copies {
            compared: count("compared_total"),
            dropped: count("dropped_total"),
            failed: count("failed_total"),
            cpu_s: sum("cpu_seconds_total"),
        })
    }

    /// A client of the same API for another model.
    ///
    /// # Errors
    /// As [`Admin::new`].
    pub fn for_model(&self, model: &str) -> Result<Self, Error> {
        let base = format!("http://{}{}", self.server.address, self.base());
        let mut other = Self::new(&base, model, None)?;
        other.token.clone_from(&self.token);
        Ok(other)
    }

    /// Makes the plan's champion, canary and shadows what they were.
    ///
    /// # Errors
    /// If the API does not answer or refuses; the sentence says what was to be
    /// put back.
    pub fn put_back(&mut self, found: &ModelState) -> Result<(), Error> {
        self.try_put_back(found).map_err(|error| {
            let canary = found.canary.as_ref().map_or("no canary".to_owned(), |canary| {
                format!("canary {} at {}", canary.version, canary.weight)
            });
            Error::new(format!(
                "could not put back champion {} and {canary} of {}: {error}",
                found.champion, self.model
            ))
        })
    }

    fn try_put_back(&mut self, found: &ModelState) -> Result<(), Error> {
        if self.state()?.champion != found.champion {
            self.promote(found.champion)?;
        }
        // A promotion may have changed the canary: look again.
        match (&found.canary, self.state()?.canary) {
            (Some(was), now) if now.as_ref() != Some(was) => {
                self.set_canary(was.version, &was.weight)?;
            }
            (None, Some(_)) => self.remove_canary()?,
            _ => {}
        }
        let now = self.state()?;
        for version in now.shadows.iter().filter(|version| !found.shadows.contains(version)) {
            self.remove_shadow(*version)?;
        }
        let changed = found.samples.iter().filter(|shadow| !now.samples.contains(shadow));
        changed.into_iter().try_for_each(|(version, sample)| self.set_shadow(*version, sample))
    }

    /// A version's state and the reason for it; `absent` if there is none.
    ///
    /// # Errors
    /// If the API does not answer or refuses.
    pub fn version_state(&mut self, version: u64) -> Result<(String, String), Error> {
        let reply = self.call(Method::GET, "", None)?;
        let model: Value = serde_json::from_slice(&reply)
            .map_err(|error| Error::new(format!("admin API: the model's JSON: {error}")))?;
        let versions = model["versions"].as_array().map_or(&[][..], Vec::as_slice);
        let found = versions.iter().find(|v| number(&v["version"]) == Some(version));
        let text = |key: &str| found.and_then(|v| v[key].as_str()).map(str::to_owned);
        Ok((text("state").unwrap_or_else(|| "absent".into()), text("reason").unwrap_or_default()))
    }

    /// The gateway's resident memory, from its metrics.
    ///
    /// # Errors
    /// If there are none, or not this one.
    pub fn resident_bytes(&mut self) -> Result<u64, Error> {
        const NAME: &str = "process_resident_memory_bytes ";
        let text = self.metrics()?;
        let value = text.lines().find_map(|line| line.strip_prefix(NAME)?.trim().parse().ok());
        value.ok_or_else(|| Error::new(format!("the metrics have no {NAME}")))
    }

    fn metrics(&mut self) -> Result<String, Error> {
        let path = format!("{}/metrics", self.base());
        let text = self.send(Method::GET, &path, None)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn base(&self) -> String {
        self.server.path.path().trim_end_matches('/').to_owned()
    }

    fn call(&mut self, method: Method, action: &str, body: Option<Value>) -> Result<Bytes, Error> {
        let path = format!("{}/v1/models/{}{action}", self.base(), self.model);
        self.send(method, &path, body)
    }

    fn send(&mut self, method: Method, path: &str, body: Option<Value>) -> Result<Bytes, Error> {
        let what = format!("admin API: {method} http://{}{path}", self.server.address);
        let request = self.request(method, path, body)?;
        let exchange =
            async { tokio::time::timeout(TIMEOUT, exchange(&self.server, request)).await };
        let result = self.runtime.block_on(exchange);
        let (status, bytes) = result
            .map_err(|_| Error::new(format!("{what}: no answer in {} s", TIMEOUT.as_secs())))?
            .map_err(|why| Error::new(format!("{what}: {why}")))?;
        if status.is_success() {
            return Ok(bytes);
        }
        let text: String = String::from_utf8_lossy(&bytes).chars().take(SHOWN_MAX).collect();
        Err(Error::new(format!("{what}: {status}: {text}")))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let mut builder = Request::builder().method(method).uri(path);
        builder = builder.header(HOST, &self.server.host);
        if let Some(token) = &self.token {
            builder = builder.header(AUTHORIZATION, token);
        }
        if body.is_some() {
            builder = builder.header(CONTENT_TYPE, "application/json");
        }
        let bytes = body.map_or(Bytes::new(), |body| body.to_string().into());
        builder.body(Full::new(bytes)).map_err(|error| Error::new(format!("admin API: {error}")))
    }
}

pub(crate) type Answer = (hyper::StatusCode, Bytes);

/// Sends on a connection of its own: one that waited for its next use may
/// have been closed by then, and whether a request on it was taken nobody knows.
pub(crate) async fn exchange(
    server: &Server,
    request: Request<Full<Bytes>>,
) -> Result<Answer, String> {
    let mut connection =
        Connection::open(server.address, false).await.map_err(|_| "cannot connect".to_owned())?;
    let response = connection.send(request).await;
    read(response.map_err(|_| "the connection broke".to_owned())?).await
}

async fn read(response: hyper::Response<hyper::body::Incoming>) -> Result<Answer, String> {
    let status = response.status();
    let body = Limited::new(response.into_body(), REPLY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| format!("reading the reply: {error}"))?;
    Ok((status, body.to_bytes()))
}

/// The sum of a metric's series that have these labels.
fn sum_of(metrics: &str, name: &str, labels: &[String]) -> f64 {
    let series = metrics.lines().filter(|line| line.starts_with(name));
    let ours = series.filter(|line| labels.iter().all(|label| line.contains(label)));
    ours.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

fn bearer(token: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .map_err(|_| Error::new("the admin token has characters that a header cannot carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The versions of a list's entries that qualify, ascending.
fn versions_in(list: &Value, qualifies: fn(&Value) -> bool) -> Vec<u64> {
    let entries = list.as_array().map_or(&[][..], Vec::as_slice);
    let versions = entries.iter().filter(|entry| qualifies(entry));
    let mut versions: Vec<u64> = versions.filter_map(|entry| number(&entry["version"])).collect();
    versions.sort_unstable();
    versions
}

/// A version, written as a number or as a string of digits.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_read_from_the_models_description() {
        let model = json!({
            "plan": {
                "champion": { "version": 1 },
                "canary": { "version": 2, "weight": "10%" },
                "shadows": [{ "version": 4, "sample": "100%" }],
            },
            "versions": [
                { "version": 4, "state": "ready" },
                { "version": 3, "state": "ready" },
                { "version": 2, "state": "ready" },
                { "version": 1, "state": "ready" },
                { "version": 5, "state": "failed" },
            ],
        });
        let state = ModelState::read(&model).unwrap();
        assert_eq!(state.champion, 1);
        assert_eq!(state.canary, Some(Canary { version: 2, weight: json!("10%") }));
        assert_eq!(state.ready, [1, 2, 3, 4]);
        assert_eq!(state.shadows, [4]);
        assert_eq!(state.other(), Some(2));
        assert_eq!(ModelState { canary: None, ..state }.other(), Some(3));
    }

    #[test]
    fn a_model_without_champion_or_choice_is_said_to_be_so() {
        for nothing in [json!({}), json!([]), json!({ "plan": { "champion": null } })] {
            assert!(ModelState::read(&nothing).unwrap_err().to_string().contains("champion"));
        }
        let alone = json!({
            "plan": { "champion": { "version": 1 }, "canary": null },
            "versions": [{ "version": 1, "state": "ready" }],
        });
        assert_eq!(ModelState::read(&alone).unwrap().other(), None);
    }

    #[test]
    fn names_and_tokens_that_cannot_be_sent_are_refused() {
        assert!(Admin::new("http://127.0.0.1:1", "a/b", None).is_err());
        assert!(Admin::new("http://127.0.0.1:1", "a", Some("x\ny")).is_err());
        assert!(Admin::new("http://127.0.0.1:1", "a", Some("secret\n")).is_ok());
    }
}
