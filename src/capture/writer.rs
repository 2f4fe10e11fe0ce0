//! Puts requests into files, finishes these, and removes those that are too old.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;

use crate::capture::Settings;
use crate::capture::file::OpenFile;
use crate::capture::folder;
use crate::capture::hash::Key;
use crate::capture::layout::{Form, Layout, Stored, TensorOf};
use crate::capture::problems::{Problem, Problems, Whose};
use crate::capture::view::{Board, FilesView};
use crate::telemetry::{CaptureDrop, CaptureStats, Metrics, Record};
use crate::types::{Data, Digest, ModelName, Tensor, VersionId};

/// Files that are under way at a time; for another one the oldest is finished.
const OPEN_MAX: usize = 32;
/// Layouts that are known at a time; they are found anew beyond that.
const KNOWN_MAX: usize = 256;
/// How often files are looked for that are too old.
const PRUNE_EACH: Duration = Duration::from_secs(60);
/// What is said where files stay that should have gone.
const NOT_REMOVED: &str = "old captures cannot be removed";

/// What a layout follows from: the tap, the version, and whether rows are whole requests.
type Of = (u64, VersionId, Digest, bool);

/// The state of the thread that stores.
pub(super) struct Writer {
    settings: Settings,
    metrics: Arc<Metrics>,
    board: Arc<ArcSwap<Board>>,
    open: Vec<OpenFile>,
    known: HashMap<Of, Result<Arc<Layout>, String>>,
    key: Option<Key>,
    problems: Problems,
    /// How many had been made at the last round, and the numbers of those in use.
    taps: (u64, Vec<u64>),
    kept: BTreeMap<String, FilesView>,
    pruned: Option<Instant>,
    /// Whether a file has come since.
    changed: bool,
}

impl Writer {
    pub(super) fn new(
        settings: Settings,
        metrics: Arc<Metrics>,
        board: Arc<ArcSwap<Board>>,
    ) -> Self {
        let mut new = Self {
            settings,
            metrics,
            board,
            open: Vec::new(),
            known: HashMap::new(),
            key: None,
            problems: Problems::default(),
            taps: (0, Vec::new()),
            kept: BTreeMap::new(),
            pruned: None,
            changed: true,
        };
        if let Err(error) = folder::clear(&new.settings.folder) {
            new.tell(NOT_REMOVED, &error);
        }
        new
    }

    /// Takes a request.
    pub(super) fn take(&mut self, record: &Record) {
        if let Err(error) = caught(|| self.store(record)) {
            self.failed(record.tap.model(), 1, record.tap.stats(), &error);
        }
    }

    /// An error is that of this request alone.
    fn store(&mut self, record: &Record) -> io::Result<()> {
        let (stats, tap) = (record.tap.stats(), Some(record.tap.number()));
        let whose = whose(record);
        let layout = match self.layout(record).and_then(|layout| fits(record, layout)) {
            Ok(layout) => layout,
            Err(text) => {
                stats.dropped(CaptureDrop::Columns, 1);
                self.problem(&whose, Problem { tap, text });
                return Ok(());
            }
        };
        if !are_texts(record, &layout) {
            stats.dropped(CaptureDrop::Text, 1);
            return Ok(());
        }
        let mut file = self.file(record, layout)?;
        // One that panics may leave half a row: the file is not put back.
        match caught(|| file.add(record)) {
            Err(error) => self.failed(&whose.0, file.requests(), file.stats(), &error),
            Ok(()) => {
                self.problems.over(&whose);
                if file.is_full(&self.settings, Instant::now()) {
                    self.finish(file);
                } else {
                    self.open.push(file);
                }
            }
        }
        Ok(())
    }

    /// What is done now and then: finishes old files, removes older ones, shows it all.
    pub(super) fn round(&mut self) {
        let looked = caught(|| {
            self.look();
            Ok(())
        });
        if let Err(error) = looked {
            self.tell("captures cannot be looked after", &error);
        }
    }

    fn look(&mut self) {
        let now = Instant::now();
        let full = self.open.extract_if(.., |file| file.is_full(&self.settings, now));
        let full: Vec<_> = full.collect();
        full.into_iter().for_each(|file| self.finish(file));
        self.follow();
        let due = self.pruned.is_none_or(|at| now.saturating_duration_since(at) >= PRUNE_EACH);
        if self.changed || due {
            (self.pruned, self.changed) = (Some(now), false);
            self.problems.forget(now);
            self.prune();
            self.show();
        } else if self.problems.take_changed() {
            self.show();
        }
    }

    /// Where a model is captured no more, its files are finished while there are counts of
    /// it; then these go.
    fn follow(&mut self) {
        // One may have come and gone since.
        let made = self.metrics.captures().made();
        let taps = self.metrics.captures().taps();
        let numbers: Vec<_> = taps.iter().map(|tap| tap.number()).collect();
        let seen = (made, numbers);
        if seen == self.taps {
            return;
        }
        self.taps = seen;
        let is_over = |file: &OpenFile| !taps.iter().any(|tap| *tap.model() == file.layout().model);
        let over: Vec<_> = self.open.extract_if(.., |file| is_over(file)).collect();
        over.into_iter().for_each(|file| self.finish(file));
        self.problems.keep(&taps);
        self.metrics.sweep_captures();
    }

    /// Finishes all files.
    pub(super) fn close(&mut self) {
        for file in std::mem::take(&mut self.open) {
            self.finish(file);
        }
        self.prune();
        self.show();
    }

    fn finish(&mut self, file: OpenFile) {
        let (model, requests) = (file.layout().model.clone(), file.requests());
        let stats = file.stats().clone();
        self.changed = true;
        match caught(|| file.finish()) {
            Ok(()) => self.problems.over(&(model, None)),
            Err(error) => self.failed(&model, requests, &stats, &error),
        }
    }

    /// So many requests cannot be stored.
    fn failed(
        &mut self,
        model: &ModelName,
        requests: u64,
        stats: &CaptureStats,
        error: &io::Error,
    ) {
        stats.dropped(CaptureDrop::Disk, requests);
        let text = format!("requests cannot be stored: {error}");
        self.problem(&(model.clone(), None), Problem { tap: None, text });
    }

    /// What this request is stored as.
    fn layout(&mut self, record: &Record) -> Result<Arc<Layout>, String> {
        let (tap, version) = (&record.tap, &record.version);
        let whole = record.rows.is_none();
        let of = (tap.number(), version.version(), version.digest(), whole);
        if let Some(known) = self.known.get(&of) {
            return known.clone();
        }
        let made = Layout::new(tap.model(), version.signature(), tap.features(), tap.rule(), whole);
        // Versions with equal columns share their files.
        let made = made.map(|layout| {
            let same = self.open.iter().map(OpenFile::layout).find(|open| ***open == layout);
            same.cloned().unwrap_or_else(|| Arc::new(layout))
        });
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(of, made.clone());
        made
    }

    /// The file for this layout: one that is under way, which is to be put back, or a new
    /// one.
    fn file(&mut self, record: &Record, layout: Arc<Layout>) -> io::Result<OpenFile> {
        // By what they say, not by where they are: equal ones may have been made apart.
        let same = |open: &Arc<Layout>| Arc::ptr_eq(open, &layout) || *open == layout;
        if let Some(at) = self.open.iter().map(OpenFile::layout).position(same) {
            let mut file = self.open.swap_remove(at);
            file.adopt(&record.tap);
            return Ok(file);
        }
        let key = if record.tap.rule().hash.is_empty() { None } else { Some(self.key()?) };
        if self.open.len() >= OPEN_MAX
            && let Some(oldest) = (0..self.open.len()).min_by_key(|at| self.open[*at].began())
        {
            let oldest = self.open.swap_remove(oldest);
            self.finish(oldest);
        }
        let folder = self.settings.folder.join(layout.model.as_str());
        Ok(OpenFile::new(layout, key, folder, &record.tap))
    }

    fn key(&mut self) -> io::Result<Key> {
        if let Some(key) = self.key {
            return Ok(key);
        }
        let key = Key::open(&self.settings.key)?;
        self.key = Some(key);
        Ok(key)
    }

    /// Removes what is too old.
    fn prune(&mut self) {
        let Settings { folder, keep_for, keep_bytes, .. } = &self.settings;
        let pruned = folder::prune(folder, SystemTime::now(), *keep_for, *keep_bytes);
        let left = pruned.left.into_iter();
        self.kept = left.map(|(model, files)| (model, FilesView::of(&files))).collect();
        if let Some(error) = pruned.problem {
            self.tell(NOT_REMOVED, &error);
        }
    }

    /// Shows what is left, and what is wrong.
    fn show(&mut self) {
        self.problems.take_changed();
        let (problems, files) = (self.problems.shown().clone(), self.kept.clone());
        self.board.store(Arc::new(Board { problems, files }));
    }

    /// Something is wrong with requests: it is shown, and logged once in a while.
    fn problem(&mut self, whose: &Whose, problem: Problem) {
        let text = problem.text.clone();
        if self.problems.found(whose, problem, Instant::now()) {
            let (model, version) = (&whose.0, whose.1.map(|(version, _)| version.get()));
            let folder = self.settings.folder.display();
            tracing::error!(%model, version, %folder, "{text}");
        }
    }

    /// Something is wrong with the folder, which is no model's alone: it is logged once in a
    /// while.
    fn tell(&mut self, what: &str, error: &io::Error) {
        if self.problems.is_to_be_told(None, Instant::now()) {
            let folder = self.settings.folder.display();
            tracing::error!(%folder, "{what}: {error}");
        }
    }
}

/// Does it; a panic becomes an error. What it worked on may be half done.
fn caught<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|panic| Err(io::Error::other(format!("a panic: {}", message(&*panic)))))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Whose problem it is if this one cannot be stored.
fn whose(record: &Record) -> Whose {
    let version = (record.version.version(), record.version.digest());
    (record.tap.model().clone(), Some(version))
}

/// The layout, if the tensors are those that it is of: a version may give others than it
/// says.
fn fits(record: &Record, layout: Arc<Layout>) -> Result<Arc<Layout>, String> {
    let tensors = || record.inputs.iter().chain(&record.outputs);
    let fit = |(of, tensor): (&TensorOf, &Tensor)| {
        // Where rows are whole requests, no tensor has columns.
        let rows = record.rows.unwrap_or(1);
        let width = (of.form == Form::Columns).then_some(of.columns.len());
        of.datatype == tensor.datatype()
            && width.is_none_or(|width| tensor.data().len() == rows * width)
    };
    if layout.tensors().count() == tensors().count() && layout.tensors().zip(tensors()).all(fit) {
        return Ok(layout);
    }
    let version = record.version.version();
    let given: Vec<_> = record.outputs.iter().map(form).collect();
    Err(format!(
        "version {version} gives other outputs than it says, which cannot be stored: {}",
        given.join(", ")
    ))
}

/// A tensor's name, datatype and shape, without its rows, so that all requests say the same.
fn form(tensor: &Tensor) -> String {
    let dim = |(axis, dim): (usize, &usize)| if axis == 0 { "-1".into() } else { dim.to_string() };
    let shape: Vec<String> = tensor.shape().iter().enumerate().map(dim).collect();
    format!("{:?} {} [{}]", tensor.name(), tensor.datatype(), shape.join(", "))
}

/// Whether all texts are UTF-8 that would be values of columns: as others they would not be
/// what was asked or answered.
fn are_texts(record: &Record, layout: &Layout) -> bool {
    let tensors = record.inputs.iter().chain(&record.outputs);
    layout.tensors().zip(tensors).all(|(of, tensor)| match (of.form, tensor.data()) {
        (Form::Columns, Data::Bytes(texts)) => {
            let columns = of.columns.iter().cycle();
            let plain = texts.iter().zip(columns).filter(|(_, own)| own.stored == Stored::Plain);
            plain.map(|(text, _)| std::str::from_utf8(text)).all(|text| text.is_ok())
        }
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        let problem = |work: fn() -> io::Result<()>| caught(work).unwrap_err().to_string();
        assert_eq!(problem(|| panic!("row 7")), "a panic: row 7");
        assert_eq!(problem(|| panic!("row {}", 7)), "a panic: row 7");
        assert_eq!(problem(|| Err(io::Error::other("full"))), "full");
        assert_eq!(caught(|| Ok(7)).unwrap(), 7);
    }

    #[test]
    fn a_problems_text_leaves_the_rows_out() {
        let of = |shape: &[usize]| {
            let data = Data::zeros(crate::types::Datatype::Fp32, shape.iter().product());
            form(&Tensor::new("y", shape.to_vec(), data).unwrap())
        };
        assert_eq!(of(&[7, 2]), "\"y\" FP32 [-1, 2]");
        assert_eq!((of(&[7]), of(&[])), ("\"y\" FP32 [-1]".into(), "\"y\" FP32 []".into()));
    }
}
