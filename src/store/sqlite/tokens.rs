//! Tokens in the file.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Sqlite, append};
use crate::error::{Error, ErrorCode, Result};
use crate::store::{AuditEntry, GATEWAY, NewEntry, TokenRow};

const ADD: &str = "INSERT INTO token (name, role, digest, creator, created, expires) \
                   VALUES ($1, $2, $3, $4, $5, $6)";
const REMOVE: &str = "DELETE FROM token WHERE name = $1";
const ALL: &str = "SELECT name, role, digest, creator, created, expires FROM token ORDER BY name";

impl Sqlite {
    pub(super) async fn insert_token(&self, row: &TokenRow, entry: NewEntry) -> Result<AuditEntry> {
        let mut transaction = self.begin().await?;
        let add = sqlx::query(ADD).bind(&row.name).bind(row.role.as_str());
        let add = add.bind(row.digest.to_string()).bind(&row.creator);
        let added = add.bind(&row.created).bind(&row.expires).execute(&mut *transaction).await;
        added.map_err(|error| match error {
            sqlx::Error::Database(error) if error.is_unique_violation() => Error::new(
                ErrorCode::Conflict,
                format!("there is a token {:?} already; revoke it first", row.name),
            ),
            error => self.failed("written", &error),
        })?;
        let entry = append(&mut transaction, GATEWAY, entry).await;
        let entry = entry.map_err(|error| self.failed("written", &error))?;
        self.commit(transaction, entry).await
    }

    pub(super) async fn delete_token(
        &self,
        name: &str,
        entry: NewEntry,
    ) -> Result<Option<AuditEntry>> {
        let failed = |error: sqlx::Error| self.failed("written", &error);
        let mut transaction = self.begin().await?;
        let removed = sqlx::query(REMOVE).bind(name).execute(&mut *transaction).await;
        if removed.map_err(failed)?.rows_affected() == 0 {
            return Ok(None);
        }
        let entry = append(&mut transaction, GATEWAY, entry).await.map_err(failed)?;
        self.commit(transaction, entry).await.map(Some)
    }

    pub(super) async fn all_tokens(&self) -> Result<Vec<TokenRow>> {
        let rows = sqlx::query(ALL).fetch_all(&self.pool).await;
        let rows = rows.map_err(|error| self.failed("read", &error))?;
        rows.iter().map(|row| token(row).map_err(|error| unreadable(&error))).collect()
    }
}

fn token(row: &SqliteRow) -> std::result::Result<TokenRow, Box<dyn std::error::Error>> {
    Ok(TokenRow {
        name: row.try_get("name")?,
        role: row.try_get::<String, _>("role")?.parse()?,
        digest: row.try_get::<String, _>("digest")?.parse()?,
        creator: row.try_get("creator")?,
        created: row.try_get("created")?,
        expires: row.try_get("expires")?,
    })
}

fn unreadable(error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorCode::Internal, format!("a token in the store cannot be read: {error}"))
}
