//! The command line's shape, and its way into a [`Load`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use loadtest::arrivals::Process;
use loadtest::error::Error;
use loadtest::load::Load;
use loadtest::pace::Pace;
use loadtest::target::{self, Server, Target};
use loadtest::usage::listener;

/// Longest warm-up, window or timeout: a day.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Highest rate, requests a second.
const RATE_MAX: f64 = 1e6;

/// Open-loop load generator: requests leave on schedule whether or not replies
/// come, and latency counts from the schedule.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "Examples:
  loadtest run --url http://127.0.0.1:8000/predict/churn --rate 2000 --for 10s
  loadtest scenario swap --model churn --rate 1000 --for 20s --every 200ms
  loadtest versions --model churn --count 500
  loadtest bare --listen 127.0.0.1:9000 --reply-bytes 200";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One run against one URL.
    Run(RunArgs),
    /// A load on a Foreshadow model while its admin API changes the plan.
    Scenario(ScenarioArgs),
    /// Versions come, serve and go; what is left in the gateway's memory?
    Versions(VersionsArgs),
    /// A server that only does HTTP, to compare with.
    Bare(BareArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Where to POST.
    #[arg(long)]
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Two versions change places; a steady run comes first.
    Swap,
    /// Nothing changes.
    Steady,
    /// The canary's weight goes up in steps.
    Canary,
    /// Hostile version files are dropped in; a steady run comes first.
    Hostile,
}

#[derive(Debug, Args)]
pub(crate) struct ScenarioArgs {
    /// What happens during the load.
    #[arg(value_enum)]
    pub(crate) kind: Kind,
    /// Where inference is served.
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    pub(crate) base: String,
    /// Where the admin API is served.
    #[arg(long, default_value = "http://127.0.0.1:8002")]
    pub(crate) admin: String,
    /// The model.
    #[arg(long, default_value = "churn")]
    pub(crate) model: String,
    /// hostile: the models folder that the gateway watches.
    #[arg(long, default_value = "models")]
    pub(crate) models: PathBuf,
    /// swap, hostile: time from one to the next.
    #[arg(long, default_value = "200ms", value_parser = duration)]
    pub(crate) every: Duration,
    /// swap: the two versions [default: champion and canary, or another].
    #[arg(long, value_name = "A,B", value_parser = pair)]
    pub(crate) versions: Option<[u64; 2]>,
    /// canary: its version [default: the canary's, or another].
    #[arg(long)]
    pub(crate) version: Option<u64>,
    /// canary: the steps, in percent.
    #[arg(long, value_delimiter = ',', default_values_t = [1.0, 5.0, 25.0, 50.0], value_parser = percent)]
    pub(crate) weights: Vec<f64>,
    /// A file with the admin API's token [default: FORESHADOW_ADMIN_TOKEN].
    #[arg(long)]
    pub(crate) token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct VersionsArgs {
    /// How many.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) count: u64,
    /// Requests to each.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) requests: u64,
    /// The models folder that the gateway watches.
    #[arg(long, default_value = "models")]
    pub(crate) models: PathBuf,
    /// Where inference is served.
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    pub(crate) base: String,
    /// Where the admin API is served.
    #[arg(long, default_value = "http://127.0.0.1:8002")]
    pub(crate) admin: String,
    /// The model; its folder has a sample.json.
    #[arg(long, default_value = "churn")]
    pub(crate) model: String,
    /// A file with the admin API's token [default: FORESHADOW_ADMIN_TOKEN].
    #[arg(long)]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BareArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9000")]
    pub(crate) listen: SocketAddr,
    /// Size of the reply's body.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=1 << 24))]
    pub(crate) reply_bytes: u32,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Requests a second.
    #[arg(long, default_value = "1000", value_parser = rate)]
    rate: f64,
    /// The measured window.
    #[arg(long = "for", default_value = "10s", value_parser = duration)]
    window: Duration,
    /// Time before it, under the same load.
    #[arg(long, default_value = "1s", value_parser = duration)]
    warmup: Duration,
    /// Connections, over all threads.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    connections: u32,
    /// Sending threads; each takes a core if it spins.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// How requests are spaced.
    #[arg(long, value_enum, default_value_t = Process::Poisson)]
    arrivals: Process,
    /// No schedule: each connection sends its next request as soon as it has
    /// the reply to the last. Finds the throughput; hides stalls.
    #[arg(long)]
    closed: bool,
    /// Speak HTTP/2 with prior knowledge, one request at a time on each
    /// connection.
    #[arg(long)]
    http2: bool,
    /// The server's process, whose CPU time and memory are reported [default:
    /// who listens at the address, on this machine].
    #[arg(long)]
    pid: Option<u32>,
    /// Write the report as one HTML page to this file too.
    #[arg(long)]
    pub(crate) html: Option<PathBuf>,
    /// Seed of the schedule; the same seed sends at the same moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How due times are waited for.
    #[arg(long, value_enum, default_value_t = Pace::Spin)]
    pace: Pace,
    /// Send this file as body.
    #[arg(long, conflicts_with = "rows")]
    body: Option<PathBuf>,
    /// Send the rows of this file in turn, as {"instances":[row]} [default:
    /// models/MODEL/sample.json].
    #[arg(long)]
    rows: Option<PathBuf>,
    /// A request header, NAME:VALUE; may be repeated.
    #[arg(long)]
    header: Vec<String>,
    /// Time from the actual send after which a request is given up.
    #[arg(long, default_value = "1s", value_parser = duration)]
    timeout: Duration,
    /// Requests that may wait for a connection, on each thread; further ones
    /// are not sent.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    queue: u32,
    /// Write the reports to this file too, as a JSON array.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

impl LoadArgs {
    /// The load on this URL.
    pub(crate) fn load(&self, url: &str) -> Result<Load, Error> {
        let server = Server::resolve(url)?;
        let bodies = self.bodies(server.path.path())?;
        let server_pid = self.pid.or_else(|| listener(server.address));
        let mut target = Target::new(server, &self.header, bodies)?;
        if self.http2 {
            target = target.over_http2()?;
        }
        Ok(Load {
            target: Arc::new(target),
            rate: self.rate,
            process: self.arrivals,
            closed: self.closed,
            server_pid,
            seed: self.seed,
            warmup: self.warmup,
            window: self.window,
            connections: self.connections,
            threads: self.threads,
            queue: self.queue as usize,
            timeout: self.timeout,
            pace: self.pace,
        })
    }

    fn bodies(&self, path: &str) -> Result<Vec<bytes::Bytes>, Error> {
        if let Some(body) = &self.body {
            return Ok(vec![target::body_from(body)?]);
        }
        let sample = self.rows.clone().or_else(|| target::sample_for(path, Path::new("models")));
        let sample = sample.ok_or_else(|| {
            Error::new(format!("no sample for {path} in ./models: name --body or --rows"))
        })?;
        target::rows_from(&sample)
    }
}

fn pair(text: &str) -> Result<[u64; 2], String> {
    let expected = || "expected two different versions, as in 1,2".to_owned();
    let (a, b) = text.split_once(',').ok_or_else(expected)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| expected());
    let (a, b) = (number(a)?, number(b)?);
    if a == b { Err(expected()) } else { Ok([a, b]) }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration > LONGEST { Err("longer than a day".to_owned()) } else { Ok(duration) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    let usable = rate > 0.0 && rate <= RATE_MAX;
    if usable { Ok(rate) } else { Err(format!("expected more than 0, at most {RATE_MAX}")) }
}

fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 =
        text.trim_end_matches('%').parse().map_err(|_| "expected a percentage".to_owned())?;
    if (0.0..=100.0).contains(&percent) { Ok(percent) } else { Err("expected 0 to 100".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nonsense_is_refused() {
        for flags in [
            ["--rate", "0"],
            ["--rate", "nan"],
            ["--rate", "1e9"],
            ["--for", "2days"],
            ["--connections", "0"],
            ["--queue", "0"],
        ] {
            let line = ["loadtest", "run", "--url", "http://127.0.0.1:1/"];
            assert!(Cli::try_parse_from(line.into_iter().chain(flags)).is_err(), "{flags:?}");
        }
    }

    #[test]
    fn documented_lines_parse() {
        for line in EXAMPLES.lines().skip(1) {
            let parsed = Cli::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}");
        }
        let line = "loadtest scenario canary --weights 1%,2.5 --versions 1,2";
        let parsed = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Scenario(scenario) = parsed.command else { panic!("{line}") };
        assert_eq!(scenario.weights, [1.0, 2.5]);
        assert_eq!(scenario.versions, Some([1, 2]));
        for odd in ["1", "1,1", "1,2,3", "a,b"] {
            assert!(pair(odd).is_err(), "{odd}");
        }
    }
}
