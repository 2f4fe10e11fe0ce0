//! The store in a file: SQLite in the state folder.
//!
//! What was acknowledged is on the disk: an entry and its wanted state are one
//! transaction, which is synchronised before it ends. The callers' SQL would do
//! for another database as well; what is SQLite's own is in [`Sqlite::open`].

mod kept;
mod notes;
mod rollouts;
mod tokens;
mod webhooks;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{
    Connection as _, Row as _, SqlSafeStr as _, Sqlite as Sqlite3, SqliteConnection, SqlitePool,
    Transaction,
};

use tokio::sync::watch;

use crate::error::{Error, ErrorCode, Result};
use crate::store::chain::{self, Check, Record};
use crate::store::{
    AuditEntry, Kept, NewEntry, Pending, RolloutQuery, RolloutRow, Store, TokenRow, Wanted,
};
use crate::types::ModelName;

/// The file in the state folder.
pub const FILE: &str = "foreshadow.db";

/// One writes, and history is read beside it.
const CONNECTIONS_MAX: u32 = 2;

/// How long a disk, or another process with the file, may hold up a change.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(10);
const SILENT: &str = "the store did not answer within 10 s";

/// The steps from an empty file to the present form, oldest first.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "wanted and audit", include_str!("migrations/0001_wanted_and_audit.sql")),
    (2, "rollouts", include_str!("migrations/0002_rollouts.sql")),
    (3, "tokens", include_str!("migrations/0003_tokens.sql")),
    (4, "kept contents", include_str!("migrations/0004_kept.sql")),
    (5, "webhooks", include_str!("migrations/0005_webhooks.sql")),
    (6, "keys of rollouts", include_str!("migrations/0006_rollout_keys.sql")),
];

/// What an entry is read from, before the condition.
macro_rules! entries {
    ($rest:literal) => {
        concat!(
            "SELECT number, time, model, actor, action, reason, from_plan, to_plan, state, ",
            "evidence, hash FROM audit ",
            $rest
        )
    };
}

const ENTRIES: &str = entries!("ORDER BY number");
const NEWEST: &str = entries!("ORDER BY number DESC LIMIT $1");
const NEWEST_OF: &str = entries!("WHERE model = $1 ORDER BY number DESC LIMIT $2");
const AFTER: &str = entries!("WHERE number > $1 ORDER BY number LIMIT $2");
const STEPS: &str = entries!("WHERE rollout = $1 ORDER BY number");
const LAST: &str = "SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1";
const ADD: &str = "INSERT INTO audit (number, time, model, actor, action, reason, from_plan, \
                   to_plan, state, evidence, rollout, hash) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
const WANT: &str = "INSERT INTO wanted (model, state) VALUES ($1, $2) \
                    ON CONFLICT (model) DO UPDATE SET state = excluded.state";
const FORM: &str = "SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations";
const WANTED: &str = "SELECT state FROM wanted WHERE model = $1";
const STATE_AT: &str = "SELECT model, state FROM audit WHERE number = $1 AND state <> 'null'";

/// Keeps everything in a file.
pub struct Sqlite {
    pool: SqlitePool,
    path: PathBuf,
    /// The newest entry that was recorded here.
    recorded: watch::Sender<u64>,
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
        let migrator = migrator(MIGRATIONS);
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
        let error = match Self::connect_and_read(path.clone(), options.clone()).await {
            Ok(store) => return Ok(store),
            Err(error) => error,
        };
        // The log of newest changes goes with a clean end, and SQLite would make a new one,
        // which a disk without room, or one that can only be read, does not let it.
        let log = path.with_extension("db-wal");
        if std::fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            return Err(error);
        }
        Self::connect_and_read(path, options.immutable(true)).await.map_err(|_| error)
    }

    /// A connection alone reads nothing yet.
    async fn connect_and_read(path: PathBuf, options: SqliteConnectOptions) -> Result<Self> {
        let store = Self::connect(path, options).await?;
        let read = sqlx::query("SELECT COUNT(*) FROM sqlite_master").fetch_one(&store.pool).await;
        read.map_err(|error| unusable(&store.path, &reason(&error)))?;
        Ok(store)
    }

    /// Opens the store in `folder` although it cannot be written, for what it says.
    ///
    /// # Errors
    /// It is not there, cannot be read, is damaged, or of a newer version of the
    /// program.
    pub async fn open_as_it_is(folder: &Path) -> Result<Self> {
        let store = Self::open_to_read(folder).await?;
        store.check_integrity().await?;
        let form: i64 = sqlx::query_scalar(FORM)
            .fetch_one(&store.pool)
            .await
            .map_err(|error| unusable(&store.path, &reason(&error)))?;
        if MIGRATIONS.iter().any(|(version, ..)| *version == form) {
            return Ok(store);
        }
        Err(store.not_migrated(&MigrateError::VersionMissing(form)))
    }

    async fn connect(path: PathBuf, options: SqliteConnectOptions) -> Result<Self> {
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(WAIT_MAX)
            .before_acquire(|connection, _| Box::pin(is_free(connection)))
            .connect_with(options);
        let pool = pool.await.map_err(|error| unusable(&path, &reason(&error)))?;
        Ok(Self { pool, path, recorded: watch::Sender::new(0) })
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
                MIGRATIONS.last().map_or(0, |(version, ..)| *version)
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
        let mut transaction = self.begin().await?;
        let step = entry.rollout.clone();
        let entry = append(&mut transaction, (model.as_str(), &state), entry).await;
        let entry = entry.map_err(failed)?;
        let want = sqlx::query(WANT).bind(&entry.model).bind(&state);
        want.execute(&mut *transaction).await.map_err(failed)?;
        if let Some(step) = step {
            rollouts::keep(&mut transaction, &step.row).await.map_err(failed)?;
        }
        self.commit(transaction, entry).await
    }

    /// Taken for writing at once: to become the writer later can fail.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite3>> {
        let begun = self.pool.begin_with("BEGIN IMMEDIATE").await;
        begun.map_err(|error| self.failed("written", &error))
    }

    async fn commit(
        &self,
        transaction: Transaction<'static, Sqlite3>,
        entry: AuditEntry,
    ) -> Result<AuditEntry> {
        transaction.commit().await.map_err(|error| self.failed("written", &error))?;
        self.recorded.send_replace(entry.number);
        Ok(entry)
    }

    async fn read(&self, model: &ModelName) -> Result<Option<Wanted>> {
        let state: Option<String> = sqlx::query_scalar(WANTED)
            .bind(model.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| self.failed("read", &error))?;
        state.map(|state| parse(model.as_str(), &state)).transpose()
    }

    async fn read_at(&self, number: u64) -> Result<Option<(String, Wanted)>> {
        let Ok(number) = i64::try_from(number) else { return Ok(None) };
        let found: Option<(String, String)> = sqlx::query_as(STATE_AT)
            .bind(number)
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| self.failed("read", &error))?;
        let Some((model, state)) = found else { return Ok(None) };
        let wanted = parse(&model, &state)?;
        Ok(Some((model, wanted)))
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

    /// Gives up on a disk that does not answer.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let silent = || Err(Error::new(ErrorCode::Unavailable, SILENT));
        tokio::time::timeout(WAIT_MAX, work).await.unwrap_or_else(|_| silent())
    }

    /// The same where it matters whether it may have been done after all.
    async fn done_or_unknown<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let silent = || Err(Error::new(ErrorCode::DeadlineExceeded, SILENT));
        tokio::time::timeout(WAIT_MAX, work).await.unwrap_or_else(|_| silent())
    }

    /// Writes something that means nothing: the file's header has a number for whoever
    /// wants one.
    async fn write_anything(&self) -> Result<()> {
        let failed = |error: sqlx::Error| self.failed("written", &error);
        let number: i64 = sqlx::query_scalar("PRAGMA user_version")
            .fetch_one(&self.pool)
            .await
            .map_err(failed)?;
        let next = if number == 1 { "PRAGMA user_version = 2" } else { "PRAGMA user_version = 1" };
        sqlx::query(next).execute(&self.pool).await.map_err(failed)?;
        Ok(())
    }

    fn failed(&self, what: &str, error: &sqlx::Error) -> Error {
        let message = format!("the store cannot be {what}: {}", reason(error));
        Error::new(ErrorCode::Unavailable, message)
            .with_detail(format!("{}: {error}", self.path.display()))
    }
}

/// Whether a connection is in no transaction; one that is not is closed. A full disk
/// makes SQLite end a transaction by itself, after which the driver believes in it for
/// good: nothing could ever be written again.
pub(super) async fn is_free(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    Ok(match connection.begin_with("BEGIN").await {
        Ok(transaction) => transaction.rollback().await.is_ok(),
        Err(_) => false,
    })
}

/// Adds an entry behind the newest one.
async fn append(
    to: &mut SqliteConnection,
    (model, state): (&str, &str),
    entry: NewEntry,
) -> sqlx::Result<AuditEntry> {
    let last: Option<(i64, String)> = sqlx::query_as(LAST).fetch_optional(&mut *to).await?;
    let (number, before) = last.unwrap_or_default();
    let number = number + 1;
    let rollout = entry.rollout.as_ref().map(|step| signed(step.row.id));
    let entry = chain::seal(entry, number.unsigned_abs(), model, &before, state);
    let add = sqlx::query(ADD).bind(number).bind(&entry.time).bind(&entry.model);
    let add = add.bind(&entry.actor).bind(&entry.action).bind(&entry.reason);
    let add = add.bind(&entry.from).bind(&entry.to).bind(state).bind(&entry.evidence);
    add.bind(rollout).bind(&entry.hash).execute(to).await?;
    Ok(entry)
}

pub(super) fn migrator(migrations: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migration = |(version, description, sql): (i64, &'static str, &'static str)| {
        let (description, kind) = (Cow::Borrowed(description), MigrationType::Simple);
        Migration::new(version, description, kind, sql.into_sql_str(), false)
    };
    let migrations: Vec<_> = migrations.iter().copied().map(migration).collect();
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
        evidence: row.try_get("evidence")?,
        hash: row.try_get("hash")?,
    };
    Ok(Record { entry, state: row.try_get("state")? })
}

/// As the database takes it: its numbers have a sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn parse(model: &str, state: &str) -> Result<Wanted> {
    serde_json::from_str(state).map_err(|error| {
        let message = format!("what the store says of model {model} cannot be read: {error}");
        Error::new(ErrorCode::Internal, message)
    })
}

/// What the database itself says, without what surrounds it.
pub(super) fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}

pub(super) fn unusable(path: &Path, why: &str) -> Error {
    let path = path.display();
    Error::invalid(format!(
        "the store {path} cannot be used: {why}. Mend it, or move it away to begin anew with what \
         each model.toml says"
    ))
}

impl Store for Sqlite {
    fn wanted<'a>(&'a self, model: &'a ModelName) -> Pending<'a, Option<Wanted>> {
        Box::pin(self.in_time(self.read(model)))
    }

    fn record<'a>(
        &'a self,
        model: &'a ModelName,
        entry: NewEntry,
        wanted: &'a Wanted,
    ) -> Pending<'a, AuditEntry> {
        Box::pin(self.done_or_unknown(self.write(model, entry, wanted)))
    }

    fn note<'a>(&'a self, of: Option<&'a ModelName>, entry: NewEntry) -> Pending<'a, AuditEntry> {
        Box::pin(self.done_or_unknown(self.write_note(of, entry)))
    }

    fn history<'a>(
        &'a self,
        model: Option<&'a ModelName>,
        limit: usize,
    ) -> Pending<'a, Vec<AuditEntry>> {
        Box::pin(self.in_time(self.newest(model, limit)))
    }

    fn save_rollout<'a>(&'a self, row: &'a RolloutRow) -> Pending<'a, ()> {
        Box::pin(self.in_time(self.save(row)))
    }

    fn rollouts<'a>(&'a self, query: &'a RolloutQuery) -> Pending<'a, Vec<RolloutRow>> {
        Box::pin(self.in_time(self.read_rollouts(query)))
    }

    fn last_rollout(&self) -> Pending<'_, u64> {
        Box::pin(self.in_time(self.last_rollout_id()))
    }

    fn tokens(&self) -> Pending<'_, Vec<TokenRow>> {
        Box::pin(self.in_time(self.all_tokens()))
    }

    fn add_token<'a>(&'a self, row: &'a TokenRow, entry: NewEntry) -> Pending<'a, AuditEntry> {
        Box::pin(self.in_time(self.insert_token(row, entry)))
    }

    fn remove_token<'a>(
        &'a self,
        name: &'a str,
        entry: NewEntry,
    ) -> Pending<'a, Option<AuditEntry>> {
        Box::pin(self.in_time(self.delete_token(name, entry)))
    }

    fn rollout_steps<'a>(&'a self, id: u64) -> Pending<'a, Vec<AuditEntry>> {
        Box::pin(self.in_time(self.steps_of(id)))
    }

    fn state_at(&self, number: u64) -> Pending<'_, Option<(String, Wanted)>> {
        Box::pin(self.in_time(self.read_at(number)))
    }

    fn keep<'a>(&'a self, kept: &'a Kept) -> Pending<'a, ()> {
        Box::pin(self.in_time(self.write_kept(kept)))
    }

    fn discard<'a>(&'a self, kept: &'a Kept) -> Pending<'a, ()> {
        Box::pin(self.in_time(self.remove_kept(kept)))
    }

    fn kept(&self) -> Pending<'_, Vec<Kept>> {
        Box::pin(self.in_time(self.read_kept()))
    }

    fn probe(&self) -> Pending<'_, ()> {
        Box::pin(self.in_time(self.write_anything()))
    }

    fn recorded(&self) -> watch::Receiver<u64> {
        self.recorded.subscribe()
    }

    fn after(&self, number: u64, limit: usize) -> Pending<'_, Vec<AuditEntry>> {
        Box::pin(self.in_time(self.next_after(number, limit)))
    }

    fn told<'a>(&'a self, webhook: &'a str) -> Pending<'a, Option<u64>> {
        Box::pin(self.in_time(self.read_told(webhook)))
    }

    fn tell<'a>(&'a self, webhook: &'a str, number: u64) -> Pending<'a, ()> {
        Box::pin(self.in_time(self.write_told(webhook, number)))
    }
}

#[cfg(test)]
mod tests;
