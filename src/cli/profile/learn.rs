//! Runs the rows of files through a version, and gathers what goes in and comes out.

use std::path::Path;

use crate::cli::data::{self, Table};
use crate::cli::output;
use crate::cli::profile::columns::{self, Slot};
use crate::engine::Session;
use crate::registry::Opened;
use crate::types::{Batching, Data, Dim, ProfileBuilder, Signature, Tensor};

/// Rows after which it is told how far it is.
const TOLD_EACH: usize = 100_000;

/// What was asked for.
pub(super) struct Wanted<'a> {
    pub(super) files: &'a [std::path::PathBuf],
    pub(super) columns: &'a [String],
    pub(super) rows_max: usize,
}

/// What came of it.
pub(super) struct Learnt {
    pub(super) builder: ProfileBuilder,
    /// Whether rows are left that were not read.
    pub(super) more: bool,
}

/// Reads the files. Errors name the file and the place in it.
pub(super) fn learn(opened: &Opened, wanted: &Wanted<'_>) -> Result<Learnt, String> {
    let mut learner: Option<Learner<'_>> = None;
    for path in wanted.files {
        let at = |why: String| format!("{}{why}", before(path, &why));
        let mut table = data::open(path).map_err(at)?;
        let signature = opened.graph.signature();
        let features = &opened.settings.features;
        let slots = columns::slots(signature, features, wanted.columns, table.columns());
        let slots = slots.map_err(at)?;
        let places: Vec<_> = slots.iter().map(|slot| slot.column).collect();
        table.select(&places).map_err(at)?;
        let learner = learner.get_or_insert_with(|| Learner::new(opened, &slots, wanted.rows_max));
        if learner.read(&mut *table, &slots).map_err(at)? {
            break;
        }
    }
    match learner {
        Some(Learner { builder, more, .. }) if builder.rows() > 0 => Ok(Learnt { builder, more }),
        _ => Err(format!("{} has no rows; there is nothing to profile", names(wanted.files))),
    }
}

/// `train.csv, ` before a place in it, `train.csv: ` or `train.csv ` before the rest.
fn before(path: &Path, why: &str) -> String {
    let starts = |words: &[&str]| words.iter().any(|word| why.starts_with(word));
    let path = path.display();
    if starts(&["line ", "lines ", "row ", "rows ", "column "]) {
        format!("{path}, ")
    } else if starts(&["is ", "cannot "]) {
        format!("{path} ")
    } else {
        format!("{path}: ")
    }
}

/// The files' names, for people: of many the first ones.
pub(super) fn names(files: &[std::path::PathBuf]) -> String {
    const NAMED_MAX: usize = 3;
    let name = |path: &std::path::PathBuf| {
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    };
    let named: Vec<_> = files.iter().take(NAMED_MAX).map(name).collect();
    let more = files.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    named.join(", ") + &more
}

struct Learner<'a> {
    opened: &'a Opened,
    session: Option<Box<dyn Session>>,
    builder: ProfileBuilder,
    batch: Batch,
    batch_max: usize,
    more: bool,
}

/// Rows that wait to be run.
struct Batch {
    /// By the inputs.
    data: Vec<Data>,
    /// Where each row is in the file.
    places: Vec<u64>,
}

impl Batch {
    fn new(signature: &Signature) -> Self {
        let data = |spec: &crate::types::TensorSpec| Data::with_capacity(spec.datatype, 0);
        Self { data: signature.inputs.iter().map(data).collect(), places: Vec::new() }
    }
}

impl<'a> Learner<'a> {
    fn new(opened: &'a Opened, slots: &[Slot], rows_max: usize) -> Self {
        let signature = opened.graph.signature();
        // What the file calls them is better than numbers.
        let own: Vec<_> = slots.iter().map(|slot| slot.name.clone()).collect();
        let features = &opened.settings.features;
        let named = if features.is_empty() { &own } else { features };
        Self {
            opened,
            session: None,
            builder: ProfileBuilder::new(signature, named, rows_max),
            batch: Batch::new(signature),
            batch_max: batch_max(opened),
            more: false,
        }
    }

    /// Takes a file's rows; whether there is room for no more.
    fn read(&mut self, table: &mut dyn Table, slots: &[Slot]) -> Result<bool, String> {
        while table.next()? {
            if self.builder.is_full() {
                self.more = true;
                return Ok(true);
            }
            let (by, place) = table.place();
            for (at, slot) in slots.iter().enumerate() {
                let put = table.cell(at).put(&mut self.batch.data[slot.input]);
                put.map_err(|why| format!("{by} {place}, column {:?}: {why}", slot.name))?;
            }
            self.batch.places.push(place);
            let rows = self.batch.places.len();
            if rows == self.batch_max || self.builder.rows() + rows == self.builder.rows_max() {
                self.run(by)?;
            }
        }
        self.run(table.place().0)?;
        Ok(false)
    }

    /// Runs what waits.
    fn run(&mut self, by: &str) -> Result<(), String> {
        let Batch { data, places } =
            std::mem::replace(&mut self.batch, Batch::new(self.opened.graph.signature()));
        let rows = places.len();
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return Ok(()) };
        let inputs = self.tensors(data.clone(), rows)?;
        let outputs = match self.answer(&inputs) {
            Ok(outputs) => outputs,
            Err(why) => {
                for (row, place) in places.iter().enumerate().filter(|_| rows > 1) {
                    let alone = data.iter().map(|data| {
                        let width = data.len() / rows;
                        data.slice(row * width..(row + 1) * width).unwrap_or_else(|| data.clone())
                    });
                    let inputs = self.tensors(alone.collect(), 1)?;
                    if let Err(why) = self.answer(&inputs) {
                        return Err(format!("{by} {place}: the model does not take it: {why}"));
                    }
                }
                return Err(if rows == 1 {
                    format!("{by} {first}: the model does not take it: {why}")
                } else {
                    format!("{by}s {first} to {last}: the model fails on all together: {why}")
                });
            }
        };
        let before = self.builder.rows() / TOLD_EACH;
        self.builder.add(&inputs, &outputs);
        if self.builder.rows() / TOLD_EACH > before {
            output::progress(&format!("{} rows", self.builder.rows()));
        }
        Ok(())
    }

    fn tensors(&self, data: Vec<Data>, rows: usize) -> Result<Vec<Tensor>, String> {
        let signature = self.opened.graph.signature();
        let tensors = columns::tensors(signature, data, rows);
        let tensors = tensors.and_then(|tensors| signature.check(&tensors).map(|()| tensors));
        tensors.map_err(|error| error.message().to_owned())
    }

    /// A session that failed is not used again.
    fn answer(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
        let session = self.session.take().map_or_else(|| self.opened.graph.session(), Ok);
        let mut session = session.map_err(|error| error.to_string())?;
        let outputs = session.run(inputs).map_err(|error| error.to_string())?;
        self.session = Some(session);
        Ok(outputs)
    }
}

/// The rows of a run: one where the model takes one, or where its owner has no batches.
fn batch_max(opened: &Opened) -> usize {
    let signature = opened.graph.signature();
    let single = signature.inputs.iter().any(|spec| spec.shape.first() == Some(&Dim::Fixed(1)));
    if single || !opened.settings.batching.enabled {
        return 1;
    }
    opened.settings.rows_max.unwrap_or(Batching::ROWS_LIMIT).clamp(1, Batching::ROWS_LIMIT)
}
