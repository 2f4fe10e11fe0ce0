//! The audit log, without a gateway.

use std::path::Path;

use crate::error::Result;
use crate::store::Sqlite;

/// Goes through the audit log in a state folder; how many entries it has, and the
/// hash of the last. `known` is a hash that must be among them.
///
/// # Errors
/// There is no log, it cannot be read, or it is not whole.
pub async fn verify_audit(state: &Path, known: Option<String>) -> Result<(u64, String)> {
    Sqlite::open_to_read(state).await?.verify(known).await
}
