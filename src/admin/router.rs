//! The routes and their OpenAPI document, declared together.

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::admin::document::{self, Document};
use crate::admin::reply::ApiError;
use crate::admin::{
    AdminState, access, alerts, anomalies, answers, capture, changes, drift, events, models, pages,
    quality, rollouts, tokens,
};
use crate::error::{Error, ErrorCode};

/// Longest wait for a handler: changes wait for the manager's present step.
const TIMEOUT: Duration = Duration::from_secs(60);

fn routes() -> (Router<AdminState>, OpenApi) {
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(pages::index))
        .routes(routes!(pages::metrics))
        .routes(routes!(pages::health))
        .routes(routes!(models::list))
        .routes(routes!(models::show))
        .routes(routes!(models::compare))
        .routes(routes!(models::disagreements))
        .routes(routes!(anomalies::anomalies))
        .routes(routes!(drift::drift))
        .routes(routes!(drift::relearn))
        .routes(routes!(quality::quality))
        .routes(routes!(answers::answers))
        .routes(routes!(alerts::alerts))
        .routes(routes!(capture::capture))
        .routes(routes!(models::model_history))
        .routes(routes!(models::whole_history))
        .routes(routes!(events::events))
        .routes(routes!(changes::set_canary, changes::remove_canary))
        .routes(routes!(changes::set_shadow, changes::remove_shadow))
        .routes(routes!(changes::promote))
        .routes(routes!(changes::rollback))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(rollouts::status, rollouts::start))
        .routes(routes!(rollouts::pause))
        .routes(routes!(rollouts::resume))
        .routes(routes!(rollouts::abort))
        .routes(routes!(rollouts::skip))
        .routes(routes!(rollouts::promote))
        .routes(routes!(rollouts::approve))
        .routes(routes!(rollouts::comment))
        .routes(routes!(rollouts::forecast))
        .routes(routes!(rollouts::list))
        .routes(routes!(rollouts::replay))
        .split_for_parts();
    document::complete(&mut document);
    (router, document)
}

/// The OpenAPI document, as it is served.
#[must_use]
pub fn openapi() -> OpenApi {
    routes().1
}

/// The whole API behind its access rules.
pub fn router(state: AdminState) -> Router {
    let (router, document) = routes();
    let document = document.to_pretty_json().unwrap_or_else(|error| {
        tracing::error!(%error, "the OpenAPI document could not be written");
        "{}".to_owned()
    });
    let document = Bytes::from(document);
    let openapi = move || async move { ([(CONTENT_TYPE, "application/json")], document) };
    // The last layer is the outermost: nobody gets past the guard unknown.
    router
        .route("/v1/openapi.json", get(openapi))
        .fallback(pages::not_found)
        .method_not_allowed_fallback(pages::wrong_method)
        .layer(middleware::from_fn(bounded))
        .layer(middleware::from_fn_with_state(state.clone(), access::guard))
        .with_state(state)
}

/// Gives up on a handler that takes too long; what it began may still happen.
async fn bounded(request: Request, next: Next) -> Response {
    let response = tokio::time::timeout(TIMEOUT, next.run(request)).await;
    response.unwrap_or_else(|_| {
        let seconds = TIMEOUT.as_secs();
        let message = format!(
            "no answer within {seconds} s; what was asked may still happen: see the history"
        );
        ApiError(Error::new(ErrorCode::DeadlineExceeded, message)).into_response()
    })
}

#[cfg(test)]
mod tests;
