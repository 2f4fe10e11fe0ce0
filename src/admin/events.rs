//! What happens, as it happens: the audit log as server-sent events.
#![allow(unused_qualifications, reason = "`utoipa::path` names parameter types in full")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use http::HeaderMap;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use crate::admin::AdminState;
use crate::admin::extract::Params;
use crate::admin::reply::{ApiError, ErrorBody};
use crate::error::{Error, ErrorCode, Result};
use crate::store::{AuditEntry, Store};
use crate::types::ModelName;

/// Streams at the same time; more are refused.
const STREAMS_MAX: usize = 64;
/// Entries that are read at once.
const BATCH: usize = 64;
/// How often the log is looked at although nothing was recorded here: another process
/// may have.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The longest life of a stream: whoever wants more comes again, with a token that is
/// still good.
const LIFE_MAX: Duration = Duration::from_secs(540);
/// How often a silent stream shows that it lives.
const BEAT: Duration = Duration::from_secs(15);
/// The header by which a browser says how far it came.
const LAST_ID: &str = "last-event-id";

/// Hands out what is recorded. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    store: Arc<dyn Store>,
    slots: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl Events {
    /// The events of a store, until `stop` is true.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, stop: watch::Receiver<bool>) -> Self {
        Self { store, slots: Arc::new(Semaphore::new(STREAMS_MAX)), stop }
    }

    /// The newest entry's number.
    async fn newest(&self) -> Result<u64> {
        let newest = self.store.history(None, 1).await?;
        Ok(newest.first().map_or(0, |entry| entry.number))
    }
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only this model's.
    model: Option<String>,
    /// Those after this entry; from now on, if absent. The header `Last-Event-ID` says
    /// the same, and more lately.
    #[param(maximum = 9_007_199_254_740_991_u64)]
    after: Option<u64>,
    /// Whether to wait for more (`true`, the default), or to end with the newest.
    follow: Option<bool>,
}

/// An event, as the document describes it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only described: axum writes events")]
struct Streamed {
    /// The entry's number.
    id: String,
    /// `audit`.
    event: String,
    /// The entry, in JSON.
    data: String,
}

/// Entries of the audit log as they are written, as server-sent events: `id` is the
/// entry's number, `event` is `audit`, `data` the entry in JSON.
///
/// A stream ends after nine minutes, and with the gateway; a browser's `EventSource`
/// comes again by itself and misses nothing.
#[utoipa::path(get, path = "/v1/events", tag = "history",
    params(Which),
    responses(
        (status = 200, description = "The stream", body = Streamed, content_type = "text/event-stream"),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 503, description = "Too many streams are open", body = ErrorBody),
    )
)]
pub(super) async fn events(
    State(state): State<AdminState>,
    Params(which): Params<Which>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event>>>, ApiError> {
    let events = state.events;
    let model = which.model.map(|name| name.parse::<ModelName>()).transpose()?;
    let slot = Arc::clone(&events.slots).try_acquire_owned().map_err(|_| {
        let message = format!("{STREAMS_MAX} streams of events are open already");
        Error::new(ErrorCode::Unavailable, message)
    })?;
    // Before the look at what is there: nothing is missed in between.
    let recorded = events.store.recorded();
    let after = match last_id(&headers)?.or(which.after) {
        Some(after) => after,
        None => events.newest().await?,
    };
    let feed = Feed {
        store: Arc::clone(&events.store),
        recorded,
        stop: events.stop.clone(),
        model,
        after,
        follow: which.follow.unwrap_or(true),
        read: VecDeque::new(),
        ends: Instant::now() + LIFE_MAX,
        _slot: slot,
    };
    let stream = stream::unfold(feed, |mut feed| async move {
        let entry = feed.next().await.transpose()?;
        // An error breaks the body off: nobody shall take it for the end.
        Some((entry.map(|entry| event(&entry)), feed))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(BEAT)))
}

fn last_id(headers: &HeaderMap) -> Result<Option<u64>> {
    let Some(value) = headers.get(LAST_ID).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    let wrong = || Error::invalid("Last-Event-ID: expected an entry's number");
    number.map(Some).ok_or_else(wrong)
}

fn event(entry: &AuditEntry) -> Event {
    let data = serde_json::to_string(entry).expect("its keys are strings");
    Event::default().id(entry.number.to_string()).event("audit").data(data)
}

/// One stream.
struct Feed {
    store: Arc<dyn Store>,
    recorded: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    model: Option<ModelName>,
    after: u64,
    follow: bool,
    read: VecDeque<AuditEntry>,
    ends: Instant,
    _slot: OwnedSemaphorePermit,
}

impl Feed {
    /// The next entry; `None` when it is over.
    async fn next(&mut self) -> Result<Option<AuditEntry>> {
        loop {
            if let Some(entry) = self.read.pop_front() {
                self.after = entry.number;
                if self.model.as_ref().is_none_or(|model| model.as_str() == entry.model) {
                    return Ok(Some(entry));
                }
                continue;
            }
            if *self.stop.borrow() {
                return Ok(None);
            }
            let entries = self.store.after(self.after, BATCH).await;
            self.read = entries
                .inspect_err(|error| tracing::warn!(%error, "a stream of events breaks off"))?
                .into();
            if self.read.is_empty() && !(self.follow && self.wait().await) {
                return Ok(None);
            }
        }
    }

    /// Waits for more; whether there may be.
    async fn wait(&mut self) -> bool {
        tokio::select! {
            changed = self.recorded.changed() => changed.is_ok(),
            () = tokio::time::sleep(LOOK_EVERY) => Instant::now() < self.ends,
            _ = self.stop.wait_for(|stop| *stop) => false,
            () = tokio::time::sleep_until(self.ends) => false,
        }
    }
}
