//! What labels and answers say of rollouts under way.

use futures_util::TryStreamExt as _;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite as Sqlite3, SqliteConnection};

use crate::error::Result;
use crate::store::predictions::{Changes, Predictions, chunks};

const TRIALS: &str = "SELECT rollout, what FROM trial ORDER BY rollout";
const KEYS: &str = "SELECT rollout, cell, routing FROM trial_key";
const KEEP: &str = "INSERT INTO trial (rollout, what) VALUES ($1, $2) \
                    ON CONFLICT (rollout) DO UPDATE SET what = excluded.what";
const END: [&str; 2] =
    ["DELETE FROM trial WHERE rollout = $1", "DELETE FROM trial_key WHERE rollout = $1"];

/// What is known of one rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialRow {
    /// Its number.
    pub rollout: i64,
    /// The rest, in JSON.
    pub what: String,
}

/// A routing key that was counted in a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrialKey {
    /// Its number.
    pub rollout: i64,
    /// What it was counted in: all rows (0), a group, or whether a group was selected; the
    /// writer's to number.
    pub cell: u16,
    /// Where it lies in the split.
    pub key: u64,
}

impl Predictions {
    /// All trials with the keys that were counted in them.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn trials(&self) -> Result<(Vec<TrialRow>, Vec<TrialKey>)> {
        let failed = |error: sqlx::Error| self.failed("read", &error);
        let trials = sqlx::query(TRIALS).fetch_all(&self.pool).await.map_err(failed)?;
        // There may be a million: one after the other.
        let mut found = sqlx::query(KEYS).fetch(&self.pool);
        let mut keys = Vec::new();
        while let Some(row) = found.try_next().await.map_err(failed)? {
            keys.extend(trial_key(&row));
        }
        let trials = trials.iter().map(|row| TrialRow { rollout: row.get(0), what: row.get(1) });
        Ok((trials.collect(), keys))
    }
}

fn trial_key(row: &SqliteRow) -> Option<TrialKey> {
    let cell = u16::try_from(row.get::<i64, _>(1)).ok()?;
    let key = row.get::<i64, _>(2).cast_unsigned();
    Some(TrialKey { rollout: row.get(0), cell, key })
}

pub(super) async fn write(to: &mut SqliteConnection, changes: &Changes) -> sqlx::Result<()> {
    for rollout in &changes.ended_trials {
        for end in END {
            sqlx::query(end).bind(rollout).execute(&mut *to).await?;
        }
    }
    for TrialRow { rollout, what } in &changes.trials {
        sqlx::query(KEEP).bind(rollout).bind(what).execute(&mut *to).await?;
    }
    for keys in chunks(&changes.trial_keys) {
        let mut query: QueryBuilder<Sqlite3> =
            QueryBuilder::new("INSERT OR IGNORE INTO trial_key (rollout, cell, routing) ");
        query.push_values(keys, |mut values, TrialKey { rollout, cell, key }| {
            values.push_bind(*rollout).push_bind(i64::from(*cell)).push_bind(key.cast_signed());
        });
        query.build().execute(&mut *to).await?;
    }
    Ok(())
}
