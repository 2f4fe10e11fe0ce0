//! The command line's shape, and its way into a [`Load`].

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use loadtest::admin::Admin;
use loadtest::arrivals::Process;
use loadtest::error::Error;
use loadtest::load::Load;
use loadtest::pace::Pace;
use loadtest::target::{self, Server, Target};
use loadtest::usage::listener;

/// Where the admin token comes from if no file is named.
const TOKEN_VARIABLE: &str = "FORESHADOW_ADMIN_TOKEN";
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
  loadtest scenario overload --model slow --connections 256 --deadline 100ms
  loadtest scenario mixed --model churn --rate 1000 --lane digits=30% --lane image=10
  loadtest versions --model churn --count 500
  loadtest model --layers 256,4096,4096,10 --output models/slow/1
  loadtest model --transformer 6,128,16 --output models/text/1
  loadtest bare --listen 127.0.0.1:9000 --reply-bytes 200
  loadtest run --grpc --url http://127.0.0.1:8001/v2/models/churn/infer --body request.json
  loadtest bare --listen 127.0.0.1:9001 --grpc";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One run against one URL.
    Run(RunArgs),
    /// A load on a Foreshadow model while its admin API changes the plan.
    Scenario {
        #[command(subcommand)]
        kind: Box<Kind>,
    },
    /// Versions come, serve and go; what is left in the gateway's memory?
    Versions(VersionsArgs),
    /// Makes a model of known size, with random weights.
    Model(ModelArgs),
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

/// Which gateway, and which model.
#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    /// Where inference is served.
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    base: String,
    /// Where the admin API is served.
    #[arg(long, default_value = "http://127.0.0.1:8002")]
    admin: String,
    /// The model.
    #[arg(long, default_value = "churn")]
    pub(crate) model: String,
    /// A file with the admin API's token [default: FORESHADOW_ADMIN_TOKEN].
    #[arg(long)]
    token_file: Option<PathBuf>,
}

impl GatewayArgs {
    /// Where a model is asked.
    pub(crate) fn url(&self, model: &str) -> String {
        format!("{}/predict/{model}", self.base.trim_end_matches('/'))
    }

    /// The admin API's client.
    pub(crate) fn admin(&self) -> Result<Admin, Error> {
        let token = match &self.token_file {
            Some(file) => Some(
                fs::read_to_string(file)
                    .map_err(|error| Error::new(format!("{}: {error}", file.display())))?,
            ),
            None => std::env::var(TOKEN_VARIABLE).ok(),
        };
        Admin::new(&self.admin, &self.model, token.as_deref())
    }
}

/// What happens during the load.
#[derive(Debug, Subcommand)]
pub(crate) enum Kind {
    /// Nothing changes.
    Steady(PlayArgs),
    /// Two versions change places, in turns with steady phases.
    Swap {
        /// The two versions [default: champion and canary, or another].
        #[arg(long, value_name = "A,B", value_parser = pair)]
        versions: Option<[u64; 2]>,
        /// Time from swap to swap.
        #[arg(long, default_value = "200ms", value_parser = duration)]
        every: Duration,
        /// Also load and retire a graph of the size of ResNet-50 (100 MB) over
        /// and over, in this models folder that the gateway watches; in the end,
        /// once more with the data path saturated.
        #[arg(long, value_name = "MODELS")]
        heavy: Option<PathBuf>,
        #[command(flatten)]
        play: PlayArgs,
    },
    /// A version runs on copies of the requests, in turns with phases without.
    Shadow {
        /// Its version [default: the shadow's, or another].
        #[arg(long)]
        version: Option<u64>,
        /// Part of the requests, in percent.
        #[arg(long, default_value = "100%", value_parser = percent)]
        sample: f64,
        #[command(flatten)]
        play: PlayArgs,
    },
    /// The canary's weight goes up in steps.
    Canary {
        /// Its version [default: the canary's, or another].
        #[arg(long)]
        version: Option<u64>,
        /// The steps, in percent.
        #[arg(long, value_delimiter = ',', default_values_t = [1.0, 5.0, 25.0, 50.0], value_parser = percent)]
        weights: Vec<f64>,
        #[command(flatten)]
        play: PlayArgs,
    },
    /// A rollout watches its canary, in turns with the same canary without one.
    Judged {
        /// Its version [default: the canary's, or another].
        #[arg(long)]
        version: Option<u64>,
        /// The canary's weight, in percent.
        #[arg(long, default_value = "10%", value_parser = percent)]
        weight: f64,
        #[command(flatten)]
        play: PlayArgs,
    },
    /// Multiples of what the gateway can do; --rate does not count.
    Overload {
        /// What it can do, requests a second [default: measured in a closed
        /// loop].
        #[arg(long, value_parser = rate)]
        capacity: Option<f64>,
        /// The multiples.
        #[arg(long, value_delimiter = ',', default_values_t = [1.0, 2.0, 4.0, 8.0], value_parser = rate)]
        factors: Vec<f64>,
        /// A reply later than this, from when its request was due, is no good.
        #[arg(long, value_parser = duration)]
        deadline: Option<Duration>,
        #[command(flatten)]
        play: PlayArgs,
    },
    /// Other models are asked too, in turns with phases of --model alone.
    Mixed {
        /// MODEL=RATE[,body=FILE|,rows=FILE], such as digits=30% (of --rate) or
        /// image=10; may be repeated.
        #[arg(long = "lane", required = true, value_parser = lane)]
        lanes: Vec<LaneArg>,
        #[command(flatten)]
        play: PlayArgs,
    },
    /// Hostile version files are dropped in, in turns with steady phases.
    Hostile {
        /// The models folder that the gateway watches.
        #[arg(long, default_value = "models")]
        models: PathBuf,
        /// Time from one to the next.
        #[arg(long, default_value = "200ms", value_parser = duration)]
        every: Duration,
        #[command(flatten)]
        play: PlayArgs,
    },
}

/// What every scenario takes.
#[derive(Debug, Args)]
pub(crate) struct PlayArgs {
    #[command(flatten)]
    pub(crate) gateway: GatewayArgs,
    /// Pairs of a steady and a disturbed phase (of overload: passes through its
    /// factors); each phase has this part of --for.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// Another model's part of a mixed load.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LaneArg {
    model: String,
    /// Requests a second, or a part of the main rate.
    rate: f64,
    is_part: bool,
    body: Option<PathBuf>,
    rows: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct VersionsArgs {
    /// How many.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) count: u64,
    /// Requests to each.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) requests: u64,
    /// The models folder that the gateway watches; the model's folder has a
    /// sample.json.
    #[arg(long, default_value = "models")]
    pub(crate) models: PathBuf,
    #[command(flatten)]
    pub(crate) gateway: GatewayArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// Widths of a network of fully connected layers, the input's first.
    #[arg(long, value_delimiter = ',', required_unless_present = "transformer", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) layers: Vec<u64>,
    /// A transformer's layers, width (a multiple of 32) and tokens, instead.
    #[arg(long, value_name = "LAYERS,WIDTH,TOKENS", conflicts_with = "layers", value_parser = transformer)]
    pub(crate) transformer: Option<[u64; 3]>,
    /// The version's folder, such as models/slow/1; beside it goes a
    /// sample.json, if there is none.
    #[arg(long)]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct BareArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9000")]
    pub(crate) listen: SocketAddr,
    /// Size of the reply's body.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=1 << 24))]
    pub(crate) reply_bytes: u32,
    /// Speak gRPC, and answer each inference with its own tensors.
    #[arg(long, conflicts_with = "reply_bytes")]
    pub(crate) grpc: bool,
}

#[derive(Clone, Debug, Args)]
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
    /// Send --body, a JSON request of the Open Inference Protocol, over gRPC. The
    /// URL is that of REST, /v2/models/MODEL/infer, with gRPC's port.
    #[arg(long, requires = "body")]
    grpc: bool,
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
        if self.grpc {
            target = target.over_grpc()?;
        } else if self.http2 {
            target = target.over_http2()?;
        }
        Ok(Load {
            target: Arc::new(target),
            rate: self.rate,
            process: self.arrivals,
            closed: self.closed,
            server_pid,
            deadline: None,
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

    /// The load of a lane beside this one; it leaves the core to this one's
    /// sending thread.
    pub(crate) fn lane(&self, url: &str, lane: &LaneArg) -> Result<Load, Error> {
        let args = Self { body: lane.body.clone(), rows: lane.rows.clone(), ..self.clone() };
        let rate = if lane.is_part { self.rate * lane.rate } else { lane.rate };
        let load = args.load(url)?;
        let seed = load.seed.wrapping_add(1);
        // The process serves all lanes: its time is nobody's alone.
        Ok(Load { rate, seed, threads: 1, pace: Pace::Sleep, server_pid: None, ..load })
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

impl LaneArg {
    /// The model and what it is called in a report.
    pub(crate) fn model(&self) -> &str {
        &self.model
    }
}

fn lane(text: &str) -> Result<LaneArg, String> {
    let expected = || "expected MODEL=RATE[,body=FILE|,rows=FILE], as in digits=30%".to_owned();
    let mut parts = text.split(',');
    let (model, share) = parts.next().and_then(|part| part.split_once('=')).ok_or_else(expected)?;
    let is_part = share.ends_with('%');
    let rate = if is_part { percent(share)? / 100.0 } else { rate(share)? };
    let (mut body, mut rows) = (None, None);
    for part in parts {
        match part.split_once('=') {
            Some(("body", file)) => body = Some(PathBuf::from(file)),
            Some(("rows", file)) => rows = Some(PathBuf::from(file)),
            _ => return Err(expected()),
        }
    }
    Ok(LaneArg { model: model.to_owned(), rate, is_part, body, rows })
}

fn transformer(text: &str) -> Result<[u64; 3], String> {
    let expected = || {
        "expected layers, width (a multiple of 32, at most 4096) and tokens, as in 6,128,16"
            .to_owned()
    };
    let numbers: Option<Vec<u64>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[layers @ 1..=64, width @ 32..=4096, tokens @ 1..=4096]) if width % 32 == 0 => {
            Ok([layers, width, tokens])
        }
        _ => Err(expected()),
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
        let line = "loadtest scenario canary --weights 1%,2.5";
        let parsed = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Scenario { kind } = parsed.command else { panic!("{line}") };
        let Kind::Canary { weights, .. } = *kind else { panic!("{line}") };
        assert_eq!(weights, [1.0, 2.5]);
        assert_eq!(transformer("6,128,16"), Ok([6, 128, 16]));
        assert!(transformer("6,100,16").is_err() && transformer("6,128").is_err());
        assert_eq!(pair("1,2"), Ok([1, 2]));
        let digits = lane("digits=30%,body=b.json").unwrap();
        assert!((digits.rate - 0.3).abs() < 1e-9 && digits.is_part);
        assert_eq!(digits.body, Some("b.json".into()));
        assert!(lane("digits").is_err() && lane("digits=1,x=2").is_err());
        for odd in ["1", "1,1", "1,2,3", "a,b"] {
            assert!(pair(odd).is_err(), "{odd}");
        }
    }
}
