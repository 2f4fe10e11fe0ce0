//! The routes and their OpenAPI document, declared together.

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi as _, ToSchema as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::admin::reply::{ApiError, ErrorBody};
use crate::admin::{AdminState, access, changes, models, pages};
use crate::error::{Error, ErrorCode};

/// Longest wait for a handler: changes wait for the manager's present step.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Foreshadow admin API",
        description = "Who answers for a model, what the others would have answered, and how to change it.",
        version = "1",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    modifiers(&Token),
    security(("token" = []), ()),
)]
struct Document;

/// The token, as the document describes it.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut OpenApi) {
        let text = "Required where the gateway has a token; a loopback listener may have none.";
        let scheme =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text)).build();
        let components = document.components.get_or_insert_with(Components::new);
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

fn routes() -> (Router<AdminState>, OpenApi) {
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(pages::index))
        .routes(routes!(pages::metrics))
        .routes(routes!(pages::health))
        .routes(routes!(models::list))
        .routes(routes!(models::show))
        .routes(routes!(models::compare))
        .routes(routes!(models::disagreements))
        .routes(routes!(models::model_history))
        .routes(routes!(models::whole_history))
        .routes(routes!(changes::set_canary, changes::remove_canary))
        .routes(routes!(changes::set_shadow, changes::remove_shadow))
        .routes(routes!(changes::promote))
        .routes(routes!(changes::rollback))
        .split_for_parts();
    document_refusals(&mut document);
    (router, document)
}

/// What every operation may answer as well: the rules for callers, the form
/// of what they send, and a gateway that stops are the same for all.
fn document_refusals(document: &mut OpenApi) {
    let text = "Refused; `error` says why: 400 malformed, 401 no or a wrong token, 403 a foreign \
                Host or Origin, 408, 413, 503 or 504 when it takes too long or is too much";
    let schema = Ref::from_schema_name(ErrorBody::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new().description(text).content("application/json", content);
    let response = RefOr::T(response.build());
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), response.clone());
        }
    }
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
