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
use loadtest::scenario::{Scenario, play};
use loadtest::stop::Stop;
use loadtest::text::compare;

use crate::args::{BareArgs, Kind, RunArgs, ScenarioArgs};

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
    let mut admin = Admin::new(&args.admin, &args.model, token(args)?.as_deref())?;
    let stop = Stop::default();
    stop.on_signals()?;
    let finished = play(&plot(args), &load, &mut admin, &stop, &mut progress)?;
    for report in &finished.reports {
        say(&format!("{report}\n"))?;
    }
    if let (Kind::Swap, [steady, swap]) = (args.kind, finished.reports.as_slice()) {
        say(&compare(steady, swap))?;
    }
    write_json(args.load.json.as_deref(), &finished.reports)?;
    finished.put_back
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
        Kind::Swap => Scenario::Swap { versions: args.versions, every: args.every },
        Kind::Canary => Scenario::Canary { version: args.version, weights: args.weights.clone() },
    }
}

fn token(args: &ScenarioArgs) -> Result<Option<String>, Error> {
    match &args.token_file {
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
