//! Contents that are kept for a rollback.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Sqlite, signed};
use crate::error::Result;
use crate::store::Kept;
use crate::types::VersionId;

const KEEP: &str = "INSERT INTO kept (model, version, digest, content, bytes, needed) \
                    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (model, version, digest) \
                    DO UPDATE SET content = excluded.content, needed = excluded.needed";
const DISCARD: &str = "DELETE FROM kept WHERE model = $1 AND version = $2 AND digest = $3";
const KEPT: &str = "SELECT model, version, digest, content, bytes, needed FROM kept";

impl Sqlite {
    pub(super) async fn write_kept(&self, kept: &Kept) -> Result<()> {
        let query = sqlx::query(KEEP).bind(kept.model.as_str()).bind(signed(kept.version.get()));
        let query = query.bind(kept.digest.to_string()).bind(&kept.content);
        let query = query.bind(signed(kept.bytes)).bind(signed(kept.needed));
        query.execute(&self.pool).await.map_err(|error| self.failed("written", &error))?;
        Ok(())
    }

    pub(super) async fn remove_kept(&self, kept: &Kept) -> Result<()> {
        let query = sqlx::query(DISCARD).bind(kept.model.as_str());
        let query = query.bind(signed(kept.version.get())).bind(kept.digest.to_string());
        query.execute(&self.pool).await.map_err(|error| self.failed("written", &error))?;
        Ok(())
    }

    /// What cannot be understood was written by nobody that is known here: it is
    /// left where it is.
    pub(super) async fn read_kept(&self) -> Result<Vec<Kept>> {
        let rows = sqlx::query(KEPT).try_map(|row| self::row(&row)).fetch_all(&self.pool).await;
        Ok(rows.map_err(|error| self.failed("read", &error))?.into_iter().flatten().collect())
    }
}

fn row(row: &SqliteRow) -> sqlx::Result<Option<Kept>> {
    let (model, digest): (String, String) = (row.try_get("model")?, row.try_get("digest")?);
    let (version, bytes): (i64, i64) = (row.try_get("version")?, row.try_get("bytes")?);
    let (content, needed): (String, i64) = (row.try_get("content")?, row.try_get("needed")?);
    let named = model.parse().ok().zip(VersionId::new(version.unsigned_abs()));
    Ok(named.zip(digest.parse().ok()).map(|((model, version), digest)| Kept {
        model,
        version,
        digest,
        content,
        bytes: bytes.unsigned_abs(),
        needed: needed.unsigned_abs(),
    }))
}
