//! The subcommands: from arguments to what is printed.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use tokio::net::TcpListener;

use loadtest::bare as server;
use loadtest::error::Error;
use loadtest::graph;
use loadtest::grpc;
use loadtest::html::{Document, page};
use loadtest::load;
use loadtest::report::Report;
use loadtest::repository::Repository;
use loadtest::scenario::{Scenario, play};
use loadtest::stop::Stop;
use loadtest::target::{Server, Target, rows_from};
use loadtest::versions::{Cycle, run as run_versions};

use crate::args::{BareArgs, Kind, LaneArg, LoadArgs, ModelArgs, PlayArgs, RunArgs, VersionsArgs};

pub(crate) fn run(args: &RunArgs) -> Result<(), Error> {
    let load = args.load.load(&args.url)?;
    let stop = Stop::default();
    stop.on_signals()?;
    let outcome = load::run(&load, &stop, &mut progress)?;
    let report = Report::new("run", &load, &outcome);
    clear_progress();
    say(&report.to_string())?;
    let document = Document { name: "run", reports: &[report], comparison: None, notes: &[] };
    write(&args.load, &document)
}

pub(crate) fn scenario(kind: &Kind) -> Result<(), Error> {
    let (name, args) = parts(kind);
    let load = args.load.load(&args.gateway.url(&args.gateway.model))?;
    let mut admin = args.gateway.admin()?;
    let stop = Stop::default();
    stop.on_signals()?;
    let scenario = plot(kind)?;
    let finished = play(&scenario, args.rounds, &load, &mut admin, &stop, &mut progress)?;
    clear_progress();
    for report in &finished.reports {
        say(&format!("{report}\n"))?;
    }
    if let Some(comparison) = &finished.comparison {
        say(&comparison.to_string())?;
    }
    for note in &finished.notes {
        say(&format!("  {note}\n"))?;
    }
    for (what, reason) in &finished.fates.failed {
        say(&format!("  a version that {what}: {reason}\n"))?;
    }
    for odd in &finished.fates.odd {
        say(&format!("  WARNING a version that {odd}\n"))?;
    }
    let (reports, notes) = (&finished.reports[..], &finished.notes[..]);
    let comparison = finished.comparison.as_ref();
    write(&args.load, &Document { name, reports, comparison, notes })?;
    finished.put_back?;
    finished.fates.judge()
}

pub(crate) fn versions(args: &VersionsArgs) -> Result<(), Error> {
    let url = args.gateway.url(&args.gateway.model);
    let sample = args.models.join(&args.gateway.model).join("sample.json");
    let target = Target::new(Server::resolve(&url)?, &[], rows_from(&sample)?)?;
    let mut admin = args.gateway.admin()?;
    let mut repository = Repository::open(&args.models, &args.gateway.model)?;
    let stop = Stop::default();
    stop.on_signals()?;
    let cycle = Cycle { count: args.count, requests: args.requests };
    let growth = run_versions(cycle, &mut repository, &mut admin, &target, &stop, &mut progress)?;
    clear_progress();
    say(&growth.to_string())?;
    if growth.passed() {
        Ok(())
    } else {
        Err(Error::new("resident memory grew, or too few versions"))
    }
}

/// The model's file appears last, and whole: a gateway may be watching.
pub(crate) fn model(args: &ModelArgs) -> Result<(), Error> {
    let wrong = |error: io::Error| Error::new(format!("{}: {error}", args.output.display()));
    let (model, row): (Vec<u8>, Vec<String>) = match args.transformer {
        Some([layers, width, tokens]) => {
            let token = |i: u64| (i * 37 % graph::VOCABULARY).to_string();
            (graph::transformer(layers, width, tokens), (0..tokens).map(token).collect())
        }
        None if args.layers.len() < 2 => {
            return Err(Error::new("--layers: expected two or more widths, as in 64,256,10"));
        }
        None => {
            let number = |i: u64| format!("0.{:03}", i * 37 % 1000);
            (graph::mlp(&args.layers), (0..args.layers[0]).map(number).collect())
        }
    };
    let folder = args.output.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(wrong)?;
    let sample = folder.join("sample.json");
    if !sample.exists() {
        let text = format!("{{\"instances\": [[{}]]}}\n", row.join(", "));
        fs::write(&sample, text).map_err(wrong)?;
    }
    fs::create_dir(&args.output).map_err(wrong)?;
    let hidden = args.output.join(".model.onnx");
    fs::write(&hidden, model).map_err(wrong)?;
    fs::rename(hidden, args.output.join("model.onnx")).map_err(wrong)
}

pub(crate) fn bare(args: &BareArgs) -> Result<(), Error> {
    let failed = |error: io::Error| Error::new(format!("{}: {error}", args.listen));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shutdown = async { drop(tokio::signal::ctrl_c().await) };
        if args.grpc {
            say(&format!("{address} echoes over gRPC; Ctrl-C ends it\n"))?;
            return grpc::serve(listener, shutdown).await;
        }
        say(&format!("http://{address}/ answers {} bytes; Ctrl-C ends it\n", args.reply_bytes))?;
        server::serve(listener, server::reply_of(args.reply_bytes as usize), shutdown).await;
        Ok(())
    })
}

fn parts(kind: &Kind) -> (&'static str, &PlayArgs) {
    match kind {
        Kind::Steady(play) => ("steady", play),
        Kind::Swap { play, .. } => ("swap", play),
        Kind::Shadow { play, .. } => ("shadow", play),
        Kind::Canary { play, .. } => ("canary", play),
        Kind::Judged { play, .. } => ("judged", play),
        Kind::Overload { play, .. } => ("overload", play),
        Kind::Mixed { play, .. } => ("mixed", play),
        Kind::Hostile { play, .. } => ("hostile", play),
    }
}

fn plot(kind: &Kind) -> Result<Scenario, Error> {
    Ok(match kind {
        Kind::Steady(_) => Scenario::Steady,
        Kind::Hostile { models, every, .. } => {
            Scenario::Hostile { models: models.clone(), every: *every }
        }
        Kind::Swap { versions, every, heavy, .. } => {
            Scenario::Swap { versions: *versions, every: *every, heavy: heavy.clone() }
        }
        Kind::Shadow { version, sample, .. } => {
            Scenario::Shadow { version: *version, sample: *sample }
        }
        Kind::Canary { version, weights, .. } => {
            Scenario::Canary { version: *version, weights: weights.clone() }
        }
        Kind::Judged { version, weight, .. } => {
            Scenario::Judged { version: *version, weight: *weight }
        }
        Kind::Overload { capacity, factors, deadline, .. } => Scenario::Overload {
            capacity: *capacity,
            factors: factors.clone(),
            deadline: *deadline,
        },
        Kind::Mixed { lanes, play } => {
            let load = |lane: &LaneArg| {
                let url = play.gateway.url(lane.model());
                Ok((lane.model().to_owned(), play.load.lane(&url, lane)?))
            };
            Scenario::Mixed { lanes: lanes.iter().map(load).collect::<Result<_, Error>>()? }
        }
    })
}

/// On a terminal one line that is written over; elsewhere a line each.
fn progress(line: &str) {
    if !io::stderr().is_terminal() {
        eprintln!("{line}");
    } else if line.starts_with(' ') {
        eprint!("\r\x1b[K{line}");
    } else {
        // A phase's name stays.
        eprintln!("\r\x1b[K{line}");
    }
}

fn clear_progress() {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

fn say(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Error::new(format!("standard output: {error}")))
}

fn write(args: &LoadArgs, document: &Document<'_>) -> Result<(), Error> {
    let to = |file: &Path, text: String| {
        fs::write(file, text).map_err(|error| Error::new(format!("{}: {error}", file.display())))
    };
    if let Some(file) = &args.json {
        let json = serde_json::to_string_pretty(document);
        let json = json.map_err(|error| Error::new(format!("{}: {error}", file.display())))?;
        to(file, json + "\n")?;
    }
    args.html.as_ref().map_or(Ok(()), |file| to(file, page(document)?))
}
