//! What is not about models: metrics, health, the index.

use axum::extract::State;
use axum::response::IntoResponse;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Method, Uri};

use crate::admin::AdminState;
use crate::admin::reply::ApiError;
use crate::error::{Error, ErrorCode};

const TEXT: &str = "text/plain; charset=utf-8";
/// Prometheus's text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

const INDEX: &str = "\
Foreshadow: admin API

GET    /v1/models                                   all models
GET    /v1/models/{model}                           one model
GET    /v1/models/{model}/compare                   champion, canary and shadows side by side
PUT    /v1/models/{model}/canary                    {\"version\": 2, \"weight\": \"5%\"}
DELETE /v1/models/{model}/canary
PUT    /v1/models/{model}/shadows/{version}         {\"sample\": \"100%\"}
DELETE /v1/models/{model}/shadows/{version}
GET    /v1/models/{model}/shadows/{version}/disagreements
GET    /v1/models/{model}/anomalies
GET    /v1/models/{model}/drift
POST   /v1/models/{model}/drift/relearn             {\"version\": 2}
GET    /v1/models/{model}/quality
GET    /v1/models/{model}/answers                   kept answers with their labels
GET    /v1/models/{model}/capture
POST   /v1/models/{model}/promote                   {\"version\": 2}
POST   /v1/models/{model}/rollback                  {\"entry\": 17}, or nothing
GET    /v1/models/{model}/rollout
POST   /v1/models/{model}/rollout
POST   /v1/models/{model}/rollout/pause
POST   /v1/models/{model}/rollout/resume
POST   /v1/models/{model}/rollout/abort
POST   /v1/models/{model}/rollout/skip
POST   /v1/models/{model}/rollout/promote
POST   /v1/models/{model}/rollout/approve
POST   /v1/models/{model}/rollout/comments
POST   /v1/models/{model}/rollout/plan
GET    /v1/models/{model}/rollouts
GET    /v1/rollouts/{id}/replay
GET    /v1/models/{model}/history                   what was changed, by whom and why
GET    /v1/history
GET    /v1/alerts                                   what somebody should look at
GET    /v1/events                                   what happens, as it happens
GET    /v1/tokens                                   who may do what
POST   /v1/tokens                                   {\"name\": \"eve\", \"role\": \"operator\"}
DELETE /v1/tokens/{name}
GET    /v1/openapi.json                             all of this for programs
GET    /metrics                                     for Prometheus
GET    /healthz                                     starting, waiting …, ready or draining

The inference listener describes its own API: GET /v2/openapi.json there.
";

/// The routes, for people.
#[utoipa::path(get, path = "/", tag = "pages", responses(
    (status = 200, description = "The routes", body = String, content_type = "text/plain"),
))]
pub(super) async fn index() -> impl IntoResponse {
    ([(CONTENT_TYPE, TEXT)], INDEX)
}

/// All metrics in Prometheus's text format.
#[utoipa::path(get, path = "/metrics", tag = "pages", responses(
    (status = 200, description = "The metrics", body = String, content_type = "text/plain"),
))]
pub(super) async fn metrics(State(state): State<AdminState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, METRICS)], state.metrics.render())
}

/// That the process lives, and whether it wants traffic. Needs no token.
#[utoipa::path(get, path = "/healthz", tag = "pages", security(()), responses(
    (status = 200, description = "`starting`, `waiting for models that serve`, `ready` or `draining`; a second line where changes cannot be recorded", body = String, content_type = "text/plain"),
))]
pub(super) async fn health(State(state): State<AdminState>) -> impl IntoResponse {
    let mut text = format!("{}\n", state.readiness.as_str());
    if state.metrics.store_problem().is_some() {
        // Why, the log tells and those who have the token.
        text.push_str("changes cannot be recorded\n");
    }
    ([(CONTENT_TYPE, TEXT), (CACHE_CONTROL, "no-store")], text)
}

/// A path that does not exist.
pub(super) async fn not_found(uri: Uri) -> ApiError {
    let message = format!("no such path: {}; GET / lists them", uri.path());
    ApiError(Error::new(ErrorCode::NotFound, message))
}

/// A path that exists, with another method.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}; GET / lists the routes", uri.path());
    ApiError(Error::new(ErrorCode::MethodNotAllowed, message))
}
