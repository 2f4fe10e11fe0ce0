//! Tokens, without a gateway.

use std::path::Path;
use std::sync::Arc;

use crate::admin::Tokens;
use crate::error::Result;
use crate::store::Sqlite;

/// The tokens in a state folder, which is made if it is missing; a gateway beside
/// sees within seconds what is changed.
///
/// # Errors
/// The store in it cannot be used.
pub async fn open_tokens(state: &Path) -> Result<Tokens> {
    Ok(Tokens::new(Arc::new(Sqlite::open(state).await?)))
}
