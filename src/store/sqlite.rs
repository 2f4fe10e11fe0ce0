//! The store in a file: SQLite in the state folder.
//!
//! What was acknowledged is on the disk: an entry and its wanted state are one
//! transaction, which is synchronised before it ends. The callers' SQL would do
//! for another database as well; what is SQLite's own is in [`Sqlite::open`].

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Row as _, SqlSafeStr as _, SqlitePool};

use crate::error::{Error, ErrorCode, Result};
use crate::store::chain::{self, Check, Record};
use crate::store::{AuditEntry, NewEntry, Pending, Store, Wanted};
use crate::types::ModelName;

/// The file in the state folder.
pub const FILE: &str = "foreshadow.db";

/// One writes, and history is read beside it.
const CONNECTIONS_MAX: u32 = 2;

/// How long a disk, or another process with the file, may hold up a change.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The steps from an empty file to the present form, oldest first.
const MIGRATIONS: [(i64, &str, &str); 1] =
    [(1, "wanted and audit", include_str!("migrations/0001_wanted_and_audit.sql"))];

const ENTRIES: &str = "SELECT number, time, model, actor, action, reason, from_plan, to_plan, \
                       state, hash FROM audit ORDER BY number";
const NEWEST: &str = "SELECT number, time, model, actor, action, reason, from_plan, to_plan, \
                      state, hash FROM audit ORDER BY number DESC LIMIT $1";
const NEWEST_OF: &str = "SELECT number, time, model, actor, action, reason, from_plan, to_plan, \
                         state, hash FROM audit WHERE model = $1 ORDER BY number DESC LIMIT $2";
const LAST: &str = "SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1";
const ADD: &str = "INSERT INTO audit (number, time, model, actor, action, reason, from_plan, \
                   to_plan, state, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
const WANT: &str = "INSERT INTO wanted (model, state) VALUES ($1, $2) \
                    ON CONFLICT (model) DO UPDATE SET state = excluded.state";
const WANTED: &str = "SELECT state FROM wanted WHERE model = $1";

/// Keeps everything in a file.
pub struct Sqlite {
    pool: SqlitePool,
    path: PathBuf,
}

impl Sqlite {
    /// Opens the store in `folder`; makes what is missing of it.
    ///
    /// # Errors
    /// The file cannot be read or written, is none of SQLite's, is damaged, or is of
    /// a newer version of the program. It is left as it is.
    pub async fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        std::fs::create_dir_all(folder)
            .map_err(|error| unusable(&path, &format!("its folder cannot be made: {error}")))?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // Else the newest changes would be lost with the power.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(WAIT_MAX);
        let store = Self::connect(path, options).await?;
        store.check_integrity().await?;
        let migrator = migrator();
        migrator.run(&store.pool).await.map_err(|error| store.not_migrated(&error))?;
        Ok(store)
    }

    /// Opens the store in `folder` to read its audit log, beside a gateway that
    /// writes it.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    pub async fn open_to_read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Err(Error::new(ErrorCode::NotFound, format!("there is no {}", path.display())));
        }
        let options =
            SqliteConnectOptions::new().filename(&path).read_only(true).busy_timeout(WAIT_MAX);
        Self::connect(path, options).await
    }

    async fn connect(path: PathBuf, options: SqliteConnectOptions) -> Result<Self> {
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(WAIT_MAX)
            .connect_with(options);
        let pool = pool.await.map_err(|error| unusable(&path, &reason(&error)))?;
        Ok(Self { pool, path })
    }

    /// A damaged file is found now, not in the middle of a change.
    async fn check_integrity(&self) -> Result<()> {
        let found: String = sqlx::query_scalar("PRAGMA quick_check(1)")
            .fetch_one(&self.pool)
            .await
            .map_err(|error| unusable(&self.path, &reason(&error)))?;
        if found == "ok" { Ok(()) } else { Err(unusable(&self.path, &format!("damaged: {found}"))) }
    }

    fn not_migrated(&self, error: &MigrateError) -> Error {
        let why = match error {
            MigrateError::VersionMissing(version) => format!(
                "a newer version of this program wrote it (its form is {version}, the newest \
                 known here {}); use that one",
                MIGRATIONS.len()
            ),
            MigrateError::VersionMismatch(version) => {
                format!("its form {version} is another than the one known here")
            }
            other => other.to_string(),
        };
        unusable(&self.path, &why)
    }

    async fn write(
        &self,
        model: &ModelName,
        entry: NewEntry,
        wanted: &Wanted,
    ) -> Result<AuditEntry> {
        let state = wanted.to_json();
        let failed = |error: sqlx::Error| self.failed("written", &error);
        // Taken for writing at once: to become the writer later can fail.
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let last: Option<(i64, String)> =
            sqlx::query_as(LAST).fetch_optional(&mut *transaction).await.map_err(failed)?;
        let (number, before) = last.unwrap_or_default();
        let number = number + 1;
        let entry = chain::seal(entry, number.unsigned_abs(), model, &before, &state);
        let add = sqlx::query(ADD).bind(number).bind(&entry.time).bind(&entry.model);
        let add = add.bind(&entry.actor).bind(&entry.action).bind(&entry.reason);
        let add = add.bind(&entry.from).bind(&entry.to).bind(&state).bind(&entry.hash);
        add.execute(&mut *transaction).await.map_err(failed)?;
        let want = sqlx::query(WANT).bind(&entry.model).bind(&state);
        want.execute(&mut *transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(entry)
    }

    async fn read(&self, model: &ModelName) -> Result<Option<Wanted>> {
        let state: Option<String> = sqlx::query_scalar(WANTED)
            .bind(model.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| self.failed("read", &error))?;
        let parse = |state: String| {
            serde_json::from_str(&state).map_err(|error| {
                let message =
                    format!("what the store says of model {model} cannot be read: {error}");
                Error::new(ErrorCode::Internal, message)
            })
        };
        state.map(parse).transpose()
    }

    async fn newest(&self, model: Option<&ModelName>, limit: usize) -> Result<Vec<AuditEntry>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let query = match model {
            Some(model) => sqlx::query(NEWEST_OF).bind(model.as_str()).bind(limit),
            None => sqlx::query(NEWEST).bind(limit),
        };
        let rows = query.try_map(|row| record(&row)).fetch_all(&self.pool).await;
        let rows = rows.map_err(|error| self.failed("read", &error))?;
        Ok(rows.into_iter().map(|record| record.entry).collect())
    }

    /// Goes through the whole audit log, oldest first; how many entries it has, and
    /// the hash of the last. `known` is a hash that must be among them.
    ///
    /// # Errors
    /// `Conflict` with the entry where the chain is broken.
    pub async fn verify(&self, known: Option<String>) -> Result<(u64, String)> {
        let mut check = Check::new(known);
        let mut rows = sqlx::query(ENTRIES).try_map(|row| record(&row)).fetch(&self.pool);
        let broken = |error: chain::Broken| Error::new(ErrorCode::Conflict, error.to_string());
        while let Some(record) =
            rows.try_next().await.map_err(|error| self.failed("read", &error))?
        {
            check.take(&record).map_err(broken)?;
        }
        check.end().map_err(broken)
    }

    fn failed(&self, what: &str, error: &sqlx::Error) -> Error {
        let message = format!("the store cannot be {what}: {}", reason(error));
        Error::new(ErrorCode::Unavailable, message)
            .with_detail(format!("{}: {error}", self.path.display()))
    }
}

fn migrator() -> Migrator {
    let migration = |(version, description, sql): (i64, &'static str, &'static str)| {
        let (description, kind) = (Cow::Borrowed(description), MigrationType::Simple);
        Migration::new(version, description, kind, sql.into_sql_str(), false)
    };
    let migrations: Vec<_> = MIGRATIONS.into_iter().map(migration).collect();
    Migrator { migrations: Cow::Owned(migrations), ..Migrator::DEFAULT }
}

fn record(row: &SqliteRow) -> sqlx::Result<Record> {
    let number: i64 = row.try_get("number")?;
    let entry = AuditEntry {
        number: number.unsigned_abs(),
        time: row.try_get("time")?,
        model: row.try_get("model")?,
        actor: row.try_get("actor")?,
        action: row.try_get("action")?,
        reason: row.try_get("reason")?,
        from: row.try_get("from_plan")?,
        to: row.try_get("to_plan")?,
        hash: row.try_get("hash")?,
    };
    Ok(Record { entry, state: row.try_get("state")? })
}

/// What the database itself says, without what surrounds it.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}

fn unusable(path: &Path, why: &str) -> Error {
    let path = path.display();
    Error::invalid(format!(
        "the store {path} cannot be used: {why}. Mend it, or move it away to begin anew with what \
         each model.toml says"
    ))
}

impl Store for Sqlite {
    fn wanted<'a>(&'a self, model: &'a ModelName) -> Pending<'a, Option<Wanted>> {
        Box::pin(self.read(model))
    }

    fn record<'a>(
        &'a self,
        model: &'a ModelName,
        entry: NewEntry,
        wanted: &'a Wanted,
    ) -> Pending<'a, AuditEntry> {
        Box::pin(async move {
            let written = tokio::time::timeout(WAIT_MAX, self.write(model, entry, wanted)).await;
            written.unwrap_or_else(|_| {
                let message = format!("the store did not answer within {WAIT_MAX:?}");
                Err(Error::new(ErrorCode::Unavailable, message))
            })
        })
    }

    fn history<'a>(
        &'a self,
        model: Option<&'a ModelName>,
        limit: usize,
    ) -> Pending<'a, Vec<AuditEntry>> {
        Box::pin(self.newest(model, limit))
    }
}

#[cfg(test)]
mod tests;
