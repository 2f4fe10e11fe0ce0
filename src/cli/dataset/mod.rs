//! `foreshadow dataset`: what was answered and what turned out to be true, as one table.

mod hidden;
mod pages;
mod plain;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use crate::app::dataset::{Captures, LABEL, Labelled, Labelling, Labels, SheetForm};
use crate::cli::client::{Admin, ClientArgs};
use crate::cli::dataset::hidden::Hidden;
use crate::cli::dataset::pages::{Answer, each_page};
use crate::cli::dataset::plain::Spool;
use crate::cli::failure::Failure;
use crate::cli::offline::until_done_or_signal;
use crate::cli::output;
use crate::error::Error;
use crate::types::{ModelName, PredictionId};

/// Make a training set: what was answered, with what turned out to be true.
#[derive(Debug, Args)]
#[command(after_help = "\
Answers are kept, and labels joined, of a model with [labels] in its model.toml. There is a
row for each answer with a label: prediction_id, row, time, version, role, answer, a column
for each score (scores.0) and grouping (group.plan), and label.

With --captures, files that a gateway stored of the model with [capture], the columns are
those of the captures, inputs and outputs as they are there, and label. Both are a sample by
the answers' ids: with the same share the same requests are captured and kept. It is told how
many labelled rows were not captured, and how many captured rows have no label. Up to 20
million labels are held in memory, a gigabyte.

Labels are told in the words of the answers: classes by their names, else numbers. The file is
there once it is whole, in place of one that had its name; it can be read by you alone.

Exit codes: 0 written; 1 there is nothing to write, a file is not whole or does not fit, or
the gateway refused; 2 wrong usage; 130 ended by Ctrl-C.

Examples:
  foreshadow dataset churn --out answers.csv
  foreshadow dataset churn --out train.parquet --captures .foreshadow/captures/churn/*.parquet
  foreshadow dataset churn --out answers.parquet --all --json")]
pub(super) struct DatasetArgs {
    /// The model's name
    model: ModelName,
    /// The table that is written, by its ending: .parquet or .csv
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Captured files: take the columns of their rows
    #[arg(long, value_name = "FILE", num_args = 1..)]
    captures: Vec<PathBuf>,
    /// Rows without a label, too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// What was written.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Made {
    rows: u64,
    labelled: u64,
    columns: usize,
    label: String,
    /// Of captures only.
    #[serde(flatten)]
    left: Option<Left>,
}

/// What has no counterpart.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Left {
    labelled_rows_not_captured: u64,
    captured_rows_without_label: u64,
    captured_rows_repeated: u64,
}

/// Carries it out.
pub(super) fn run(args: DatasetArgs) -> ExitCode {
    super::exit_code(carry_out(args))
}

fn carry_out(args: DatasetArgs) -> Result<(), Failure> {
    let form = SheetForm::of(&args.out).ok_or_else(|| {
        let out = args.out.display();
        Failure::usage(format!("--out {out}: expected a name that ends in .parquet or .csv"))
    })?;
    check_out(&args)?;
    let (out, json, all) = (args.out.clone(), args.client.json, args.all);
    let hidden = Arc::new(Hidden::default());
    let own = Arc::clone(&hidden);
    let made = until_done_or_signal("dataset", move || make(&args, form, &own)).flatten();
    let made = made.and_then(|made| hidden.keep(&out).map(|()| made));
    // Where something failed, or a signal came, nothing is left behind.
    hidden.remove();
    let made = made?;
    if json {
        let shown = serde_json::to_value(&made);
        let shown = shown.map_err(|error| Failure::failed(format!("cannot be shown: {error}")))?;
        return output::print_json(&shown);
    }
    output::print(&format!("{}: {}", out.display(), text(&made, all)));
    Ok(())
}

/// That what is there is not in the way, and the captures' folder is the gateway's.
fn check_out(args: &DatasetArgs) -> Result<(), Failure> {
    let at = |why: &str| Err(Failure::usage(format!("--out {}: {why}", args.out.display())));
    if args.out.is_dir() {
        return at("is a folder; name a file");
    }
    let whole = |path: &Path| path.canonicalize().ok();
    let (out, folder) = (whole(&args.out), whole(output::folder_of(&args.out)));
    for file in args.captures.iter().filter_map(|file| whole(file)) {
        if out.as_ref() == Some(&file) {
            return at("is one of the captures; name another");
        }
        if folder.as_deref() == file.parent() && is_gateways(folder.as_deref()) {
            return at("is among the captures, which the gateway removes by and by; name a file \
                       elsewhere");
        }
    }
    Ok(())
}

/// Whether a gateway may take a folder for its own: it stores captures in `captures/MODEL`.
fn is_gateways(folder: Option<&Path>) -> bool {
    let above = folder.and_then(Path::parent).and_then(Path::file_name);
    above.is_some_and(|name| name == "captures")
}

/// Writes the table under its hidden name.
fn make(args: &DatasetArgs, form: SheetForm, hidden: &Hidden) -> Result<Made, Failure> {
    let admin = args.client.connect()?;
    // What does not fit is told before all labels are asked for.
    let captures = match &args.captures[..] {
        [] => None,
        files => Some(Captures::open(files, &args.model).map_err(Failure::failed)?),
    };
    let file = hidden.make(&args.out)?;
    match captures {
        None => from_answers(args, form, &admin, file),
        Some(captures) => from_captures(args, form, &admin, file, &captures),
    }
}

fn from_answers(
    args: &DatasetArgs,
    form: SheetForm,
    admin: &Admin,
    file: File,
) -> Result<Made, Failure> {
    let mut spool = Spool::beside(&args.out).map_err(Failure::failed)?;
    each_page(admin, &args.model, !args.all, |answers| {
        answers.iter().try_for_each(|answer| spool.add(answer)).map_err(Failure::failed)
    })?;
    if spool.is_empty() {
        return Err(Failure::failed(nothing(args)));
    }
    let (rows, labelled, columns) = spool.write(file, form).map_err(Failure::failed)?;
    Ok(Made { rows, labelled, columns, label: LABEL.to_owned(), left: None })
}

fn from_captures(
    args: &DatasetArgs,
    form: SheetForm,
    admin: &Admin,
    file: File,
    captures: &Captures,
) -> Result<Made, Failure> {
    let mut labels = Labels::default();
    each_page(admin, &args.model, true, |answers| {
        answers.iter().try_for_each(|answer| add(&mut labels, answer)).map_err(Failure::failed)
    })?;
    if labels.is_empty() && !args.all {
        return Err(Failure::failed(nothing(args)));
    }
    let how = Labelling { labels, all: args.all, form, file };
    let done = captures.label(how).map_err(Failure::failed)?;
    let Labelled { rows, labelled, columns, label, not_captured, not_labelled, repeated } = done;
    if rows == 0 {
        return Err(Failure::failed(format!(
            "none of the {not_labelled} captured rows has a label, and none of the {not_captured} \
             rows with one is in these files: are they of the same days? Nothing is written"
        )));
    }
    let left = Left {
        labelled_rows_not_captured: not_captured,
        captured_rows_without_label: not_labelled,
        captured_rows_repeated: repeated,
    };
    Ok(Made { rows, labelled, columns, label, left: Some(left) })
}

fn add(labels: &mut Labels, answer: &Answer) -> Result<(), String> {
    let Some(label) = &answer.label else { return Ok(()) };
    let id: Result<PredictionId, Error> = answer.prediction_id.parse();
    labels.add(id.map_err(|error| error.message().to_owned())?, answer.row, label)
}

fn nothing(args: &DatasetArgs) -> String {
    let model = &args.model;
    if args.all {
        return format!(
            "no answer of {model} is kept: a table [labels] in its model.toml keeps them. Nothing \
             is written"
        );
    }
    format!(
        "no kept answer of {model} has a label: report some (`foreshadow feedback`), or take all \
         rows with --all. Nothing is written"
    )
}

/// What was written and what was not, for people.
fn text(made: &Made, all: bool) -> String {
    let count = |n: u64, one: &str, more: &str| format!("{n} {}", if n == 1 { one } else { more });
    let mut text = format!(
        "{}, {} with a label, in {} columns",
        count(made.rows, "row", "rows"),
        made.labelled,
        made.columns
    );
    if made.label != LABEL {
        let label = &made.label;
        text += &format!("\n  labels are in column {label:?}: a captured one has their name");
    }
    let Some(left) = &made.left else { return text };
    let labelled = count(left.labelled_rows_not_captured, "labelled row", "labelled rows");
    text += &format!("\n  {labelled} in none of the captures");
    let captured = |n| count(n, "captured row", "captured rows");
    let kept = if all { "written without one" } else { "left out" };
    text += &format!("\n  {} without a label: {kept}", captured(left.captured_rows_without_label));
    if left.captured_rows_repeated > 0 {
        let repeated = captured(left.captured_rows_repeated);
        text += &format!("\n  {repeated} that came before: left out");
    }
    text
}

#[cfg(test)]
mod tests;
