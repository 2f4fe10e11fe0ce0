//! Runs suites of cases in the layout of ONNX's backend tests through the
//! gateway's engine, and through plain tract beside it.
//!
//! ```text
//! conformance SUITE --results FILE            fails when a case falls
//! conformance SUITE --results FILE --record   writes what came out, and the figures in the documents
//! ```
//!
//! A suite is a folder with a `suite.toml` (title and tolerances) and, at any
//! depth, folders that hold `model.onnx` and `test_data_set_*`. Every case is
//! run in a process of its own, with limits: one that crashes, loops or eats
//! memory is a result like any other.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may"))]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod case;
mod child;
mod compare;
mod documents;
mod outcome;
mod plain;
mod results;
mod suite;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use child::{Limits, Runner};
use results::{Change, Results};
use suite::Suite;

/// Runs ONNX cases through the gateway's engine and compares the answers.
#[derive(Parser)]
struct Args {
    /// The suite's folder (in a child process: the case's).
    folder: PathBuf,
    /// The committed results that the run is compared with.
    #[arg(long, required_unless_present = "child")]
    results: Option<PathBuf>,
    /// Writes the results, and the figures in the documents.
    #[arg(long, requires = "results")]
    record: bool,
    /// Documents in which the program keeps its figures.
    #[arg(long)]
    document: Vec<PathBuf>,
    /// Only cases whose name contains this; prints each of them, and judges nothing.
    #[arg(long, conflicts_with = "record")]
    only: Option<String>,
    /// Runs one case in this process, with this runner, and prints its outcome.
    #[arg(long, hide = true)]
    child: Option<Runner>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(runner) = args.child {
        Limits::default().apply();
        println!("{}", child::run(&args.folder, runner));
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Whether no case fell.
fn run(args: &Args) -> Result<bool, String> {
    let suite = Suite::open(&args.folder)?;
    let cases = case::find(&args.folder, args.only.as_deref().unwrap_or(""))?;
    let came = Results::new(child::run_all(&args.folder, &cases)?);
    if args.only.is_some() {
        came.lines().for_each(|line| println!("{line}"));
        return Ok(true);
    }
    println!("{}: {}", suite.title, came.summary());
    let Some(path) = &args.results else { return Ok(true) };
    if args.record {
        write(path, &came.render(&suite.title))?;
        for document in &args.document {
            let text = read(document)?;
            write(document, &documents::update(&text, &suite, &args.folder, &came)?)?;
        }
        return Ok(true);
    }
    let changes = came.changes(&read(path)?)?;
    for change in &changes {
        println!("{change}");
    }
    if changes.iter().any(|change| matches!(change, Change::Rise { .. })) {
        println!("To record the rises, run this again with --record, and commit the results.");
    }
    let fell = changes.iter().any(|change| !matches!(change, Change::Rise { .. }));
    Ok(!fell)
}

fn read(path: &PathBuf) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &PathBuf, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
