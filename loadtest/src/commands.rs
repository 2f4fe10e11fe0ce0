//! The subcommands: from arguments to what is printed.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use tokio::net::TcpListener;

use loadtest::admin::Admin;
use loadtest::bare as server;
use loadtest::error::Error;
use loadtest::load;
use loadtest::report::Report;
use loadtest::repository::Repository;
use loadtest::scenario::{Scenario, play};
use loadtest::stop::Stop;
use loadtest::target::{Server, Target, rows_from};
use loadtest::text::compare;
use loadtest::versions::{Cycle, run as run_versions};

use crate::args::{BareArgs, Kind, RunArgs, ScenarioArgs, VersionsArgs};

/// Where the admin token comes from if no file is named.
const TOKEN_VARIABLE: &str = "FORESHADOW_ADMIN_TOKEN";

pub(crate) fn run(args: &RunArgs) -> Result<(), Error> {
    let load = args.load.load(&args.url)?;
    let stop = Stop::default();
    stop.on_signals()?;
    let outcome = load::run(&load, &stop, &mut progress)?;
    let report = Report::new("run", &load, &outcome);
    say(&report.to_string())?;
    write_json(args.load.json.as_deref(), &[report])
}

pub(crate) fn scenario(args: &ScenarioArgs) -> Result<(), Error> {
    let url = format!("{}/predict/{}", args.base.trim_end_matches('/'), args.model);
    let load = args.load.load(&url)?;
    let token = token(args.token_file.as_deref())?;
    let mut admin = Admin::new(&args.admin, &args.model, token.as_deref())?;
    let stop = Stop::default();
    stop.on_signals()?;
    let finished = play(&plot(args), &load, &mut admin, &stop, &mut progress)?;
    for report in &finished.reports {
        say(&format!("{report}\n"))?;
    }
    if let (Kind::Swap | Kind::Hostile, [steady, other]) = (args.kind, &finished.reports[..]) {
        say(&compare(steady, other))?;
    }
    for (what, reason) in &finished.fates.failed {
        say(&format!("  a version that {what}: {reason}\n"))?;
    }
    for odd in &finished.fates.odd {
        say(&format!("  WARNING a version that {odd}\n"))?;
    }
    write_json(args.load.json.as_deref(), &finished.reports)?;
    finished.put_back?;
    finished.fates.judge()
}

pub(crate) fn versions(args: &VersionsArgs) -> Result<(), Error> {
    let url = format!("{}/predict/{}", args.base.trim_end_matches('/'), args.model);
    let sample = args.models.join(&args.model).join("sample.json");
    let target = Target::new(Server::resolve(&url)?, &[], rows_from(&sample)?)?;
    let token = token(args.token_file.as_deref())?;
    let mut admin = Admin::new(&args.admin, &args.model, token.as_deref())?;
    let mut repository = Repository::open(&args.models, &args.model)?;
    let stop = Stop::default();
    stop.on_signals()?;
    let cycle = Cycle { count: args.count, requests: args.requests };
    let growth = run_versions(cycle, &mut repository, &mut admin, &target, &stop, &mut progress)?;
    say(&growth.to_string())?;
    if growth.passed() {
        Ok(())
    } else {
        Err(Error::new("resident memory grew, or too few versions"))
    }
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
        say(&format!("http://{address}/ answers {} bytes; Ctrl-C ends it\n", args.reply_bytes))?;
        let shutdown = async { drop(tokio::signal::ctrl_c().await) };
        server::serve(listener, server::reply_of(args.reply_bytes as usize), shutdown).await;
        Ok(())
    })
}

fn plot(args: &ScenarioArgs) -> Scenario {
    match args.kind {
        Kind::Steady => Scenario::Steady,
        Kind::Hostile => Scenario::Hostile { models: args.models.clone(), every: args.every },
        Kind::Swap => Scenario::Swap { versions: args.versions, every: args.every },
        Kind::Canary => Scenario::Canary { version: args.version, weights: args.weights.clone() },
    }
}

fn token(file: Option<&Path>) -> Result<Option<String>, Error> {
    match file {
        Some(file) => fs::read_to_string(file)
            .map(Some)
            .map_err(|error| Error::new(format!("{}: {error}", file.display()))),
        None => Ok(std::env::var(TOKEN_VARIABLE).ok()),
    }
}

fn progress(line: &str) {
    eprintln!("{line}");
}

fn say(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Error::new(format!("standard output: {error}")))
}

fn write_json(file: Option<&Path>, reports: &[Report]) -> Result<(), Error> {
    let Some(file) = file else { return Ok(()) };
    let failed = |why: String| Error::new(format!("{}: {why}", file.display()));
    let mut json = serde_json::to_vec_pretty(reports).map_err(|error| failed(error.to_string()))?;
    json.push(b'\n');
    fs::write(file, json).map_err(|error| failed(error.to_string()))
}
