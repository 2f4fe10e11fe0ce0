//! Tokens: who may do what.
#![allow(unused_qualifications, reason = "`utoipa::path` names parameter types in full")]

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::AdminState;
use crate::admin::access::Caller;
use crate::admin::extract::{Body, provenance};
use crate::admin::reply::{ApiError, ErrorBody};
use crate::error::Error;
use crate::store::{TokenRole, TokenRow};

/// A token to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenBody {
    /// Its name, the actor of what is done with it.
    #[schema(min_length = 1, max_length = 64, pattern = r"^[A-Za-z0-9._@-]+$")]
    name: String,
    /// What it may do.
    role: TokenRole,
    /// How long it is good (`"90d"`); until it is revoked, if absent.
    #[schema(max_length = 64, pattern = r"^[1-9][0-9]{0,2}(s|m|h|d)$")]
    expires: Option<String>,
    /// By whose hand it is made.
    #[schema(max_length = 128, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    actor: Option<String>,
}

/// A token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenView {
    /// Its name.
    name: String,
    /// What it may do.
    role: TokenRole,
    /// By whose hand it was made.
    creator: String,
    /// When, RFC 3339, UTC.
    created: String,
    /// Until when it is good, RFC 3339, UTC; absent for "until it is revoked".
    expires: Option<String>,
}

/// A token that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeToken {
    /// What its owner shows. It is told this once.
    secret: String,
    /// The token.
    token: TokenView,
}

/// All tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenList {
    /// By name.
    tokens: Vec<TokenView>,
}

/// A token that is good no more.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RevokedToken {
    /// Its name.
    revoked: String,
}

impl From<&TokenRow> for TokenView {
    fn from(row: &TokenRow) -> Self {
        let TokenRow { name, role, creator, created, expires, digest: _ } = row.clone();
        Self { name, role, creator, created, expires }
    }
}

/// All tokens, without their secrets.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", responses(
    (status = 200, description = "By name", body = TokenList),
))]
pub(super) async fn list(State(state): State<AdminState>) -> Result<Json<TokenList>, ApiError> {
    let rows = state.tokens.all().await?;
    Ok(Json(TokenList { tokens: rows.iter().map(TokenView::from).collect() }))
}

/// Makes a token.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens",
    request_body = TokenBody,
    responses(
        (status = 200, description = "Made; the secret is told this once", body = MadeToken),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 409, description = "There is one of this name", body = ErrorBody),
    )
)]
pub(super) async fn create(
    State(state): State<AdminState>,
    caller: Caller,
    Body(body): Body<TokenBody>,
) -> Result<Json<MadeToken>, ApiError> {
    let by = provenance(&caller, body.actor, None)?;
    let life = body.expires.as_deref().map(|text| {
        humantime::parse_duration(text).map_err(|_| {
            Error::invalid(format!("expires: expected a duration such as \"90d\", got {text:?}"))
        })
    });
    let made = state.tokens.create(&body.name, body.role, &by.actor, life.transpose()?).await?;
    Ok(Json(MadeToken { token: TokenView::from(&made.row), secret: made.secret }))
}

/// Revokes a token, from now on.
#[utoipa::path(delete, path = "/v1/tokens/{name}", tag = "tokens",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "Revoked", body = RevokedToken),
        (status = 404, description = "There is none of this name", body = ErrorBody),
    )
)]
pub(super) async fn revoke(
    State(state): State<AdminState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<RevokedToken>, ApiError> {
    let by = provenance(&caller, None, None)?;
    state.tokens.revoke(&name, &by.actor).await?;
    Ok(Json(RevokedToken { revoked: name }))
}
