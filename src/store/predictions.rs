//! Answered requests that wait for their labels, in a file of their own: they are many,
//! and shall not hold up the audit log.
//!
//! One task writes and reads it. What a write has returned for is on the disk.

mod coding;
mod page;
mod trials;

use std::path::{Path, PathBuf};

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{QueryBuilder, Row as _, Sqlite as Sqlite3, SqliteConnection, SqlitePool};

use crate::error::{Error, ErrorCode, Result};
use crate::store::sqlite::{WAIT_MAX, is_free, migrator, reason, unusable};
use crate::types::{LabelValue, PredictionId};

pub use coding::AnswerRow;
pub use page::{Page, PageOf};
pub use trials::{TrialKey, TrialRow};

/// The file in the state folder.
pub const PREDICTIONS_FILE: &str = "predictions.db";

const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "predictions", include_str!("predictions/0001_predictions.sql")),
    (2, "trials", include_str!("predictions/0002_trials.sql")),
];

/// The most values of one statement. What is left over is done in halves of it, so that few
/// statements have to be prepared.
const CHUNK: usize = 128;

const ADD_ANSWERER: &str = "INSERT INTO answerer (what) VALUES ($1) \
                            ON CONFLICT (what) DO UPDATE SET what = excluded.what RETURNING id";
const ANSWERERS: &str = "SELECT id, what FROM answerer ORDER BY id";
const CELLS: &str = "SELECT answerer, grouping, member, day, sums FROM quality";
const KEEP_CELL: &str = "INSERT INTO quality (answerer, grouping, member, day, sums) \
                         VALUES ($1, $2, $3, $4, $5) \
                         ON CONFLICT (answerer, grouping, member, day) \
                         DO UPDATE SET sums = excluded.sums";
const WAITING: &str = "SELECT id, row, at, label FROM waiting";
const COME: &str = "DELETE FROM waiting WHERE id = $1 AND row = $2";
const SET_TRUTHS: &str = "UPDATE prediction SET truths = $1 WHERE n = $2";
const BYTES: &str = "SELECT (p.page_count - f.freelist_count) * s.page_size \
                     FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s";
/// Of the oldest, so that it need not look at all.
const PRUNE: &str = "DELETE FROM prediction WHERE n IN (SELECT n FROM \
                     (SELECT n, at FROM prediction ORDER BY n LIMIT $2) WHERE at < $1)";
const PRUNE_OLDEST: &str =
    "DELETE FROM prediction WHERE n IN (SELECT n FROM prediction ORDER BY n LIMIT $1)";
const PRUNE_WAITING: &str = "DELETE FROM waiting WHERE at < $1";
const PRUNE_CELLS: &str = "DELETE FROM quality WHERE day < $1";

/// An answered request, to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NewPrediction {
    /// Its id.
    pub id: PredictionId,
    /// When it was answered, in milliseconds since 1970.
    pub at: i64,
    /// By whom: what [`Predictions::add_answerer`] returned.
    pub answerer: i64,
    /// Where its routing key lies in the split, if it has one and there is a canary.
    pub key: Option<u64>,
    /// What, row by row.
    pub rows: Vec<AnswerRow>,
    /// Labels that came before it, by row.
    pub truths: Vec<(u32, LabelValue)>,
}

/// An answered request, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its place in the file.
    pub n: i64,
    /// The rest.
    pub prediction: NewPrediction,
}

/// A label for an answer that is not known (yet).
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingLabel {
    /// The answer's id.
    pub id: PredictionId,
    /// The row.
    pub row: u32,
    /// When it was reported, in milliseconds since 1970.
    pub at: i64,
    /// What it says.
    pub label: LabelValue,
}

/// Sums of quality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellRow {
    /// Of whose answers.
    pub answerer: i64,
    /// Which grouping, from 0; −1 for all rows.
    pub grouping: i64,
    /// Which group of it.
    pub member: i64,
    /// The day of the answers, from 1970.
    pub day: i64,
    /// The sums, in JSON.
    pub sums: String,
}

/// What is written at once, or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// New answers.
    pub predictions: Vec<NewPrediction>,
    /// All labels of stored answers, by their place.
    pub truths: Vec<(i64, Vec<(u32, LabelValue)>)>,
    /// Labels that begin to wait.
    pub waiting: Vec<WaitingLabel>,
    /// Labels that wait no more.
    pub come: Vec<(PredictionId, u32)>,
    /// Sums in place of former ones.
    pub cells: Vec<CellRow>,
    /// Rollouts of which nothing is to be known any more; removed before the rest is written.
    pub ended_trials: Vec<i64>,
    /// What is known of rollouts, in place of what was.
    pub trials: Vec<TrialRow>,
    /// Routing keys that were counted in them.
    pub trial_keys: Vec<TrialKey>,
}

/// The file.
pub struct Predictions {
    pool: SqlitePool,
    path: PathBuf,
}

impl Predictions {
    /// Opens it in `folder`, which is made if it is missing.
    ///
    /// # Errors
    /// It cannot be read or written, is damaged, or is of a newer version of the program.
    pub async fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(PREDICTIONS_FILE);
        std::fs::create_dir_all(folder)
            .map_err(|error| unusable(&path, &format!("its folder cannot be made: {error}")))?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(WAIT_MAX);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(WAIT_MAX)
            .before_acquire(|connection, _| Box::pin(is_free(connection)))
            .connect_with(options);
        let pool = pool.await.map_err(|error| unusable(&path, &reason(&error)))?;
        let migrated = migrator(MIGRATIONS).run(&pool).await;
        migrated.map_err(|error| unusable(&path, &error.to_string()))?;
        Ok(Self { pool, path })
    }

    /// The number of an answerer that is described so; the same one each time.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn add_answerer(&self, what: &str) -> Result<i64> {
        let added = sqlx::query_scalar(ADD_ANSWERER).bind(what).fetch_one(&self.pool).await;
        added.map_err(|error| self.failed("written", &error))
    }

    /// All answerers, by number.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn answerers(&self) -> Result<Vec<(i64, String)>> {
        let found = sqlx::query_as(ANSWERERS).fetch_all(&self.pool).await;
        found.map_err(|error| self.failed("read", &error))
    }

    /// All sums.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn cells(&self) -> Result<Vec<CellRow>> {
        let found = sqlx::query(CELLS).fetch_all(&self.pool).await;
        let found = found.map_err(|error| self.failed("read", &error))?;
        let cell = |row: &SqliteRow| CellRow {
            answerer: row.get(0),
            grouping: row.get(1),
            member: row.get(2),
            day: row.get(3),
            sums: row.get(4),
        };
        Ok(found.iter().map(cell).collect())
    }

    /// All labels that wait.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn waiting(&self) -> Result<Vec<WaitingLabel>> {
        let found = sqlx::query(WAITING).fetch_all(&self.pool).await;
        let found = found.map_err(|error| self.failed("read", &error))?;
        let waiting = |row: &SqliteRow| {
            let mut labels = coding::read_labels(row.get(3))?;
            let (_, label) = labels.pop()?;
            let at = row.get(2);
            Some(WaitingLabel { id: id(row.get(0))?, row: unsigned(row.get(1))?, at, label })
        };
        Ok(found.iter().filter_map(waiting).collect())
    }

    /// Bytes of the file that are in use; what was removed makes room for what comes.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn bytes_used(&self) -> Result<u64> {
        let bytes: i64 = sqlx::query_scalar(BYTES)
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.failed("read", &error))?;
        Ok(u64::try_from(bytes).unwrap_or(0))
    }

    /// Those of these answers that are stored.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn find(&self, ids: &[PredictionId]) -> Result<Vec<Stored>> {
        let mut all = Vec::with_capacity(ids.len());
        for ids in chunks(ids) {
            let mut query: QueryBuilder<Sqlite3> = QueryBuilder::new(
                "SELECT n, id, at, answerer, answers, truths, routing FROM prediction WHERE id IN (",
            );
            let mut values = query.separated(", ");
            for PredictionId(id) in ids {
                values.push_bind(&id[..]);
            }
            query.push(")");
            let found = query.build().fetch_all(&self.pool).await;
            let found = found.map_err(|error| self.failed("read", &error))?;
            all.extend(found.iter().filter_map(stored));
        }
        Ok(all)
    }

    /// Writes all of it, or nothing.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn write(&self, changes: &Changes) -> Result<()> {
        let failed = |error: sqlx::Error| self.failed("written", &error);
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        write(&mut transaction, changes).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    /// Removes answers from before a time, at most so many at once; how many were removed.
    ///
    /// # Errors
    /// They cannot be removed.
    pub async fn prune(&self, before: i64, most: u32) -> Result<u64> {
        let removed = sqlx::query(PRUNE).bind(before).bind(i64::from(most));
        let removed = removed.execute(&self.pool).await;
        removed.map(|done| done.rows_affected()).map_err(|error| self.failed("written", &error))
    }

    /// Removes the oldest answers; how many were removed.
    ///
    /// # Errors
    /// They cannot be removed.
    pub async fn prune_oldest(&self, most: u32) -> Result<u64> {
        let removed = sqlx::query(PRUNE_OLDEST).bind(i64::from(most)).execute(&self.pool).await;
        removed.map(|done| done.rows_affected()).map_err(|error| self.failed("written", &error))
    }

    /// Removes labels that waited from before a time, and sums from before a day.
    ///
    /// # Errors
    /// They cannot be removed.
    pub async fn forget(&self, waiting_before: i64, day: i64) -> Result<()> {
        for (query, before) in [(PRUNE_WAITING, waiting_before), (PRUNE_CELLS, day)] {
            let removed = sqlx::query(query).bind(before).execute(&self.pool).await;
            removed.map_err(|error| self.failed("written", &error))?;
        }
        Ok(())
    }

    fn failed(&self, what: &str, error: &sqlx::Error) -> Error {
        let message = format!("predictions and labels cannot be {what}: {}", reason(error));
        Error::new(ErrorCode::Unavailable, message)
            .with_detail(format!("{}: {error}", self.path.display()))
    }
}

async fn write(to: &mut SqliteConnection, changes: &Changes) -> sqlx::Result<()> {
    for predictions in chunks(&changes.predictions) {
        let mut query: QueryBuilder<Sqlite3> = QueryBuilder::new(
            "INSERT OR IGNORE INTO prediction (id, at, answerer, answers, truths, routing) ",
        );
        query.push_values(predictions, |mut values, prediction| {
            let truths = &prediction.truths;
            let truths = (!truths.is_empty()).then(|| coding::write_labels(truths));
            let PredictionId(id) = &prediction.id;
            values.push_bind(&id[..]).push_bind(prediction.at).push_bind(prediction.answerer);
            values.push_bind(coding::write_rows(&prediction.rows)).push_bind(truths);
            // As it is, bit by bit.
            values.push_bind(prediction.key.map(u64::cast_signed));
        });
        query.build().execute(&mut *to).await?;
    }
    for (n, truths) in &changes.truths {
        let set = sqlx::query(SET_TRUTHS).bind(coding::write_labels(truths)).bind(n);
        set.execute(&mut *to).await?;
    }
    for waiting in chunks(&changes.waiting) {
        let mut query: QueryBuilder<Sqlite3> =
            QueryBuilder::new("INSERT OR IGNORE INTO waiting (id, row, at, label) ");
        query.push_values(waiting, |mut values, WaitingLabel { id, row, at, label }| {
            let label = coding::write_labels(std::slice::from_ref(&(*row, label.clone())));
            values.push_bind(&id.0[..]).push_bind(i64::from(*row)).push_bind(*at).push_bind(label);
        });
        query.build().execute(&mut *to).await?;
    }
    for (PredictionId(id), row) in &changes.come {
        sqlx::query(COME).bind(&id[..]).bind(i64::from(*row)).execute(&mut *to).await?;
    }
    for cell in &changes.cells {
        let keep = sqlx::query(KEEP_CELL).bind(cell.answerer).bind(cell.grouping);
        let keep = keep.bind(cell.member).bind(cell.day).bind(&cell.sums);
        keep.execute(&mut *to).await?;
    }
    trials::write(to, changes).await
}

/// Pieces of [`CHUNK`], then of halves of it.
fn chunks<T>(mut all: &[T]) -> impl Iterator<Item = &[T]> {
    let mut size = CHUNK;
    std::iter::from_fn(move || {
        while size > all.len() {
            size /= 2;
        }
        let (chunk, rest) = all.split_at_checked(size).filter(|(chunk, _)| !chunk.is_empty())?;
        all = rest;
        Some(chunk)
    })
}

fn stored(row: &SqliteRow) -> Option<Stored> {
    let truths: Option<&[u8]> = row.get(5);
    let prediction = NewPrediction {
        id: id(row.get(1))?,
        at: row.get(2),
        answerer: row.get(3),
        key: row.get::<Option<i64>, _>(6).map(i64::cast_unsigned),
        rows: coding::read_rows(row.get(4))?,
        truths: coding::read_labels(truths.unwrap_or_default())?,
    };
    Some(Stored { n: row.get(0), prediction })
}

fn id(bytes: &[u8]) -> Option<PredictionId> {
    bytes.try_into().ok().map(PredictionId)
}

fn unsigned(number: i64) -> Option<u32> {
    u32::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::RowAnswer;

    fn prediction(number: u8, at: i64) -> NewPrediction {
        NewPrediction {
            id: PredictionId([number; 16]),
            at,
            answerer: 1,
            key: (number == 5).then_some(u64::MAX),
            rows: vec![(Some(RowAnswer::Value(f64::from(number))), [0; 8])],
            truths: vec![],
        }
    }

    async fn open(folder: &Path) -> Predictions {
        Predictions::open(folder).await.unwrap()
    }

    #[tokio::test]
    async fn what_was_written_is_found_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await;
        assert_eq!(store.add_answerer("a").await.unwrap(), 1);
        assert_eq!(store.add_answerer("b").await.unwrap(), 2);
        assert_eq!(store.add_answerer("a").await.unwrap(), 1);
        let (label, truth) = (LabelValue::Number(2.5), LabelValue::Bool(true));
        let waiting =
            WaitingLabel { id: PredictionId([9; 16]), row: 3, at: 7, label: label.clone() };
        let cell = CellRow { answerer: 1, grouping: -1, member: 0, day: 20_000, sums: "{}".into() };
        let trial = TrialRow { rollout: 7, what: "{}".into() };
        let key = TrialKey { rollout: 7, cell: 3, key: u64::MAX };
        let changes = Changes {
            predictions: (0..200).map(|n| prediction(n, i64::from(n))).collect(),
            waiting: vec![waiting.clone()],
            cells: vec![cell.clone()],
            trials: vec![trial.clone(), TrialRow { rollout: 8, ..trial.clone() }],
            trial_keys: vec![key, TrialKey { rollout: 8, ..key }, key],
            ..Changes::default()
        };
        store.write(&changes).await.unwrap();
        drop(store);
        let store = open(folder.path()).await;
        let used = store.bytes_used().await.unwrap();
        assert!((10_000..200_000).contains(&used), "{used}");
        assert_eq!(store.answerers().await.unwrap(), [(1, "a".into()), (2, "b".into())]);
        assert_eq!(store.waiting().await.unwrap(), [waiting]);
        assert_eq!(store.cells().await.unwrap(), [cell]);
        let found = store.find(&[PredictionId([5; 16]), PredictionId([201; 16])]).await.unwrap();
        assert_eq!(found, [Stored { n: 6, prediction: prediction(5, 5) }]);
        let changes = Changes {
            truths: vec![(6, vec![(0, truth.clone())])],
            come: vec![(PredictionId([9; 16]), 3)],
            ended_trials: vec![8],
            ..Changes::default()
        };
        store.write(&changes).await.unwrap();
        let found = store.find(&[PredictionId([5; 16])]).await.unwrap();
        assert_eq!(found[0].prediction.truths, [(0, truth)]);
        assert_eq!(store.waiting().await.unwrap(), []);
        assert_eq!(store.trials().await.unwrap(), (vec![trial], vec![key]));
    }

    #[tokio::test]
    async fn the_oldest_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await;
        let predictions = (0..10).map(|n| prediction(n, i64::from(n))).collect();
        store.write(&Changes { predictions, ..Changes::default() }).await.unwrap();
        assert_eq!(store.prune(5, 3).await.unwrap(), 3);
        assert_eq!(store.prune(5, 3).await.unwrap(), 2);
        assert_eq!(store.prune_oldest(1).await.unwrap(), 1);
        let left = store.find(&(0..10).map(|n| PredictionId([n; 16])).collect::<Vec<_>>()).await;
        let left: Vec<_> = left.unwrap().iter().map(|stored| stored.prediction.at).collect();
        assert_eq!(left, [6, 7, 8, 9]);
    }

    #[test]
    fn pieces_have_few_sizes() {
        let sizes = |len: usize| chunks(&vec![0; len]).map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(0), [0; 0]);
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(300), [128, 128, 32, 8, 4]);
    }
}
