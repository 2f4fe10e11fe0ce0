//! What is told to others, and how far.

use super::{AFTER, Sqlite, record, signed};
use crate::error::Result;
use crate::store::AuditEntry;

const TOLD: &str = "SELECT told FROM webhook WHERE name = $1";
const TELL: &str = "INSERT INTO webhook (name, told) VALUES ($1, $2) \
                    ON CONFLICT (name) DO UPDATE SET told = excluded.told";

impl Sqlite {
    pub(super) async fn next_after(&self, number: u64, limit: usize) -> Result<Vec<AuditEntry>> {
        let query = sqlx::query(AFTER).bind(signed(number));
        let query = query.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = query.try_map(|row| record(&row)).fetch_all(&self.pool).await;
        let rows = rows.map_err(|error| self.failed("read", &error))?;
        Ok(rows.into_iter().map(|record| record.entry).collect())
    }

    pub(super) async fn read_told(&self, webhook: &str) -> Result<Option<u64>> {
        let told: Option<i64> = sqlx::query_scalar(TOLD)
            .bind(webhook)
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| self.failed("read", &error))?;
        Ok(told.map(i64::unsigned_abs))
    }

    pub(super) async fn write_told(&self, webhook: &str, number: u64) -> Result<()> {
        let tell = sqlx::query(TELL).bind(webhook).bind(signed(number));
        tell.execute(&self.pool).await.map_err(|error| self.failed("written", &error))?;
        Ok(())
    }
}
