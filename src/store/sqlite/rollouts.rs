//! Rollouts as they stood last.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite as Database, Transaction};

use super::{STEPS, Sqlite, record, signed};
use crate::error::{Error, ErrorCode, Result};
use crate::store::{AuditEntry, RolloutQuery, RolloutRow};
use crate::types::VersionId;

const KEEP: &str = "INSERT INTO rollout (id, model, version, is_open, state) \
                    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO UPDATE \
                    SET is_open = excluded.is_open, state = excluded.state";
const KEEP_KEYS: &str = "INSERT INTO rollout_keys (rollout, keys) VALUES ($1, $2) \
                         ON CONFLICT (rollout) DO UPDATE SET keys = excluded.keys";
const DROP_KEYS: &str = "DELETE FROM rollout_keys WHERE rollout = $1";
const KEYS: &str = "SELECT keys FROM rollout_keys WHERE rollout = $1";
const OPEN: &str =
    "SELECT id, model, version, is_open, state FROM rollout WHERE is_open = 1 ORDER BY id";
const ONE: &str = "SELECT id, model, version, is_open, state FROM rollout WHERE id = $1";
const NEWEST: &str = "SELECT id, model, version, is_open, state FROM rollout WHERE model = $1 \
                      ORDER BY id DESC LIMIT $2";
const LAST: &str = "SELECT COALESCE(MAX(id), 0) FROM rollout";

/// Keeps a rollout within a transaction.
pub(super) async fn keep(
    transaction: &mut Transaction<'_, Database>,
    row: &RolloutRow,
) -> sqlx::Result<()> {
    let keep = sqlx::query(KEEP).bind(signed(row.id)).bind(row.model.as_str());
    let keep = keep.bind(signed(row.version.get())).bind(i64::from(row.open)).bind(&row.state);
    keep.execute(&mut **transaction).await?;
    let id = signed(row.id);
    if !row.open {
        sqlx::query(DROP_KEYS).bind(id).execute(&mut **transaction).await?;
    } else if let Some(keys) = &row.keys {
        let keep = sqlx::query(KEEP_KEYS).bind(id).bind(keys);
        keep.execute(&mut **transaction).await?;
    }
    Ok(())
}

impl Sqlite {
    pub(super) async fn save(&self, row: &RolloutRow) -> Result<()> {
        let failed = |error: sqlx::Error| self.failed("written", &error);
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        keep(&mut transaction, row).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    pub(super) async fn read_rollouts(&self, query: &RolloutQuery) -> Result<Vec<RolloutRow>> {
        let found = match query {
            RolloutQuery::Open => sqlx::query(OPEN),
            RolloutQuery::Id(id) => sqlx::query(ONE).bind(signed(*id)),
            RolloutQuery::Newest(model, limit) => {
                let limit = i64::try_from(*limit).unwrap_or(i64::MAX);
                sqlx::query(NEWEST).bind(model.as_str()).bind(limit)
            }
        };
        let rows = found.fetch_all(&self.pool).await;
        let rows = rows.map_err(|error| self.failed("read", &error))?;
        let mut rows: Vec<RolloutRow> = rows.iter().map(rollout).collect::<Result<_>>()?;
        for row in rows.iter_mut().filter(|row| row.open) {
            let keys = sqlx::query_scalar(KEYS).bind(signed(row.id));
            let keys = keys.fetch_optional(&self.pool).await;
            row.keys = keys.map_err(|error| self.failed("read", &error))?;
        }
        Ok(rows)
    }

    pub(super) async fn last_rollout_id(&self) -> Result<u64> {
        let last: i64 = sqlx::query_scalar(LAST)
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.failed("read", &error))?;
        Ok(last.unsigned_abs())
    }

    pub(super) async fn steps_of(&self, id: u64) -> Result<Vec<AuditEntry>> {
        let query = sqlx::query(STEPS).bind(signed(id));
        let rows = query.try_map(|row| record(&row)).fetch_all(&self.pool).await;
        let rows = rows.map_err(|error| self.failed("read", &error))?;
        Ok(rows.into_iter().map(|record| record.entry).collect())
    }
}

fn rollout(row: &SqliteRow) -> Result<RolloutRow> {
    let wrong = |error: &dyn std::fmt::Display| {
        let message = format!("a rollout in the store cannot be read: {error}");
        Error::new(ErrorCode::Internal, message)
    };
    let read = || -> sqlx::Result<(i64, String, i64, i64, String)> {
        Ok((
            row.try_get("id")?,
            row.try_get("model")?,
            row.try_get("version")?,
            row.try_get("is_open")?,
            row.try_get("state")?,
        ))
    };
    let (id, model, version, open, state) = read().map_err(|error| wrong(&error))?;
    let version = VersionId::new(version.unsigned_abs());
    Ok(RolloutRow {
        id: id.unsigned_abs(),
        model: model.parse().map_err(|error| wrong(&error))?,
        version: version.ok_or_else(|| wrong(&"its version is 0"))?,
        open: open != 0,
        state,
        keys: None,
    })
}
