//! The shapes of replies, and the one place that makes an error into one.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, ErrorCode};
use crate::registry::{DisagreementView, ModelView};
use crate::store::AuditEntry;

/// A failed request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    /// What was expected, what came, and what to do.
    error: String,
}

/// All models.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelList {
    /// By name.
    pub(super) models: Vec<ModelView>,
}

/// What was changed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct History {
    /// The newest first.
    pub(super) entries: Vec<AuditEntry>,
}

/// Where a shadow differed most.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Disagreements {
    /// The worst first.
    pub(super) disagreements: Vec<DisagreementView>,
}

/// An error on its way to the caller.
#[derive(Debug)]
pub(super) struct ApiError(pub(super) Error);

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.0.code();
        if let Some(detail) = self.0.detail() {
            tracing::warn!(
                code = code.as_str(),
                message = self.0.message(),
                detail,
                "admin request failed"
            );
        }
        let body = Json(ErrorBody { error: self.0.message().to_owned() });
        let mut response = (code.http_status(), body).into_response();
        if let Some((name, value)) = companion(code) {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// The header that HTTP asks for beside a status.
const fn companion(code: ErrorCode) -> Option<(HeaderName, HeaderValue)> {
    match code {
        ErrorCode::Unauthenticated => Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        ErrorCode::Unavailable => Some((RETRY_AFTER, HeaderValue::from_static("1"))),
        _ => None,
    }
}
