//! Entries that change nothing that is wanted.

use super::{Sqlite, WANTED, append};
use crate::error::Result;
use crate::store::{AuditEntry, NOTHING, NewEntry};
use crate::types::ModelName;

impl Sqlite {
    /// With what is wanted at this time, read in the transaction that writes the entry:
    /// between the two nobody can change it.
    pub(super) async fn write_note(
        &self,
        model: Option<&ModelName>,
        entry: NewEntry,
    ) -> Result<AuditEntry> {
        let failed = |error: sqlx::Error| self.failed("written", &error);
        let name = model.map_or("", ModelName::as_str);
        let mut transaction = self.begin().await?;
        let state: Option<String> = sqlx::query_scalar(WANTED)
            .bind(name)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed)?;
        let state = state.as_deref().unwrap_or(NOTHING);
        let entry = append(&mut transaction, (name, state), entry).await.map_err(failed)?;
        self.commit(transaction, entry).await
    }
}
