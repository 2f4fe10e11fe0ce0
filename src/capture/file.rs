//! A file under way: under a hidden name until it is whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use tempfile::TempPath;

use crate::capture::folder::{HIDDEN, sync};
use crate::capture::hash::Key;
use crate::capture::layout::Layout;
use crate::capture::rows::{self, Rows};
use crate::capture::{Settings, rfc3339};
use crate::telemetry::{CaptureStats, Record, Tap};

/// Rows are written when they have so many bytes: they are what a reader holds at a time.
pub(super) const GROUP_BYTES: usize = 4 << 20;
/// Names that are tried before it is given up: of files that were finished in one second.
const NAMES_MAX: u32 = 1000;

/// A file under way. Dropped unfinished, it leaves nothing behind.
pub(super) struct OpenFile {
    layout: Arc<Layout>,
    /// Whose requests they are.
    tap: u64,
    stats: CaptureStats,
    folder: PathBuf,
    rows: Rows,
    /// From the first row group on.
    written: Option<(SerializedFileWriter<File>, TempPath)>,
    requests: u64,
    rows_count: usize,
    began: Instant,
}

impl OpenFile {
    pub(super) fn new(layout: Arc<Layout>, key: Option<Key>, folder: PathBuf, tap: &Tap) -> Self {
        let (tap, stats) = (tap.number(), tap.stats().clone());
        let rows = Rows::new(Arc::clone(&layout), key);
        let (written, requests, rows_count, began) = (None, 0, 0, Instant::now());
        Self { layout, tap, stats, folder, rows, written, requests, rows_count, began }
    }

    pub(super) const fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// What becomes of its requests is counted here.
    pub(super) const fn stats(&self) -> &CaptureStats {
        &self.stats
    }

    /// Counts for this tap from now on: the series of the former one may be gone.
    pub(super) fn adopt(&mut self, tap: &Tap) {
        if self.tap != tap.number() {
            (self.tap, self.stats) = (tap.number(), tap.stats().clone());
        }
    }

    /// Requests that it has.
    pub(super) const fn requests(&self) -> u64 {
        self.requests
    }

    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    /// Adds a request.
    pub(super) fn add(&mut self, record: &Record) -> io::Result<()> {
        // Counted before anything else: what happens to it happens to the whole file.
        self.requests += 1;
        self.rows_count += self.rows.add(record);
        if self.rows.bytes() >= GROUP_BYTES { self.write() } else { Ok(()) }
    }

    /// Whether it is as large or as old as a file may be.
    pub(super) fn is_full(&self, settings: &Settings, now: Instant) -> bool {
        let on_disk = self.written.as_ref().map_or(0, |(writer, _)| writer.bytes_written());
        let bytes = u64::try_from(on_disk + self.rows.bytes()).unwrap_or(u64::MAX);
        self.rows_count >= settings.file_rows
            || bytes >= settings.file_bytes
            || now.saturating_duration_since(self.began) >= settings.file_age
    }

    /// Writes what is in memory.
    fn write(&mut self) -> io::Result<()> {
        if self.rows.len() == 0 {
            return Ok(());
        }
        if self.written.is_none() {
            self.written = Some(self.begin()?);
        }
        match &mut self.written {
            Some((writer, _)) => Ok(self.rows.write(writer)?),
            None => Ok(()),
        }
    }

    fn begin(&self) -> io::Result<(SerializedFileWriter<File>, TempPath)> {
        fs::create_dir_all(&self.folder)?;
        // For this user alone: what people send is in it.
        let file = tempfile::Builder::new().prefix(HIDDEN).tempfile_in(&self.folder)?;
        let (file, path) = file.into_parts();
        let layout = serde_json::to_string(&*self.layout)?;
        let layout = vec![KeyValue::new(Layout::KEY.to_owned(), layout)];
        let properties = properties().set_key_value_metadata(Some(layout)).build();
        let schema = Arc::new(rows::schema(&self.layout)?);
        Ok((SerializedFileWriter::new(file, schema, Arc::new(properties))?, path))
    }

    /// Finishes it: writes what is left, and gives it its name.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.write()?;
        let Some((writer, path)) = self.written.take() else { return Ok(()) };
        let file = writer.into_inner()?;
        file.sync_all()?;
        publish(path, &self.folder)?;
        // It is there, and whole; whether its name outlives a power cut is another question.
        self.stats.stored(self.requests, u64::try_from(self.rows_count).unwrap_or(u64::MAX));
        if let Err(error) = sync(&self.folder) {
            let folder = self.folder.display();
            tracing::debug!(%folder, %error, "a folder's entries cannot be flushed");
        }
        Ok(())
    }
}

/// How Parquet files are written.
pub(super) fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(format!("foreshadow {}", env!("CARGO_PKG_VERSION")))
}

/// Gives a file a name that no other has: when it was finished, in UTC, and a number.
fn publish(mut path: TempPath, folder: &Path) -> io::Result<()> {
    let now = rfc3339(SystemTime::now()).replace(['-', ':'], "");
    for number in 1..=NAMES_MAX {
        match path.persist_noclobber(folder.join(format!("{now}-{number:03}.parquet"))) {
            Ok(()) => return Ok(()),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => path = error.path,
            Err(error) => return Err(error.error),
        }
    }
    Err(io::Error::other(format!("{NAMES_MAX} files were finished in this second")))
}
