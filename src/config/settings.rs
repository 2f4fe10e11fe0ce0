//! The table of all settings: one line of declaration each.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::checked::Reader;
use super::kinds::{Kind as _, Positive};
use super::{
    ByteSize, Hosts, LogFormat, LogLevel, MaybeListen, ReadyWhen, ReplyCompression, Switch,
    Threads, Token,
};
use crate::types::Share;

/// One setting's declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The table in the file.
    pub section: &'static str,
    /// The key in that table.
    pub name: &'static str,
    /// The default, as it would stand in the environment; empty for "not set".
    pub default: &'static str,
    /// What it does, with leading blanks from the declaration.
    help: &'static str,
    /// Whether zero makes no sense.
    pub(super) positive: Positive,
}

impl Key {
    /// `section.key`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("FORESHADOW_{}_{}", self.section, self.name).to_uppercase()
    }

    /// What it does, in a sentence or two.
    #[must_use]
    pub fn help(&self) -> &'static str {
        self.help.trim()
    }
}

/// Makes the structs, the table, the reading and the listing from one
/// declaration. `positive` after a default refuses zero.
macro_rules! settings {
    ($(
        $(#[doc = $about:literal])+
        $section:ident: $Section:ident {
            $( $(#[doc = $help:literal])+ $key:ident: $kind:ty = $default:literal $($rule:ident)?; )+
        }
    )+) => {
        /// Every setting, checked.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $( $(#[doc = $about])+ pub $section: $Section, )+
        }

        /// Every setting's declaration, in the order of the file.
        pub const KEYS: &[Key] = &[$($( Key {
            section: stringify!($section),
            name: stringify!($key),
            default: $default,
            help: concat!($($help),+),
            positive: settings!(@rule $($rule)?),
        } ),+),+];

        impl Config {
            /// Reads all settings; `None` if any is wrong, which the reader tells.
            pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
                $( let $section = $Section::read(reader); )+
                Some(Self { $( $section: $section? ),+ })
            }

            /// Every setting's value as TOML, in the order of [`KEYS`]; `None`
            /// for what is not set or not to be shown.
            pub(super) fn values(&self) -> Vec<Option<String>> {
                vec![$($( self.$section.$key.to_toml() ),+),+]
            }
        }

        $(
            $(#[doc = $about])+
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Section {
                $( $(#[doc = $help])+ pub $key: $kind, )+
            }

            impl $Section {
                fn read(reader: &mut Reader<'_>) -> Option<Self> {
                    // All are read before the first failure returns.
                    $( let $key = reader.read(stringify!($section), stringify!($key)); )+
                    Some(Self { $( $key: $key? ),+ })
                }
            }
        )+
    };
    (@rule) => { Positive::No };
    (@rule positive) => { Positive::Yes };
}

settings! {
    /// Where clients are answered.
    server: Server {
        /// Address and port of the inference listener.
        listen: SocketAddr = "127.0.0.1:8000";
        /// At shutdown, how long requests in flight may take to finish.
        grace: Duration = "30s";
        /// How long a request's head may take to arrive, counted from the end
        /// of the request before it: an idle connection ends here, too.
        header_timeout: Duration = "60s" positive;
        /// How long a request's body may take to arrive.
        body_timeout: Duration = "30s" positive;
        /// How long a client may take to read what was written to it.
        write_timeout: Duration = "30s" positive;
        /// The deadline of a request that names none.
        request_timeout: Duration = "30s" positive;
        /// The largest request body.
        body_max: ByteSize = "64MiB" positive;
        /// Replies of at least this size are compressed for clients that accept
        /// gzip or deflate.
        compress_from: ByteSize = "64KiB" positive;
        /// The most header lines of a request.
        headers_max: usize = "100" positive;
        /// The largest head of a request.
        header_max: ByteSize = "32KiB" positive;
        /// The certificate of the inference listener, and behind it those that
        /// lead to its root, as PEM; without one it speaks no TLS.
        tls_certificate: Option<PathBuf> = "";
        /// The certificate's private key, as PEM without a passphrase.
        tls_key: Option<PathBuf> = "";
        /// How often these two files are looked at: new connections get a renewed
        /// certificate, without a restart.
        tls_rescan: Duration = "10s" positive;
        /// How long a handshake of TLS may take.
        tls_handshake_timeout: Duration = "10s" positive;
        /// The most requests under way on one HTTP/2 connection.
        http2_streams_max: usize = "128" positive;
        /// How often an HTTP/2 client is asked for a sign of life; 0 means never.
        http2_ping: Duration = "30s";
        /// The most open connections of a listener; more are closed at once.
        connections_max: usize = "10000" positive;
        /// Threads that read, decode and answer; 0 means one per core.
        threads: Threads = "0";
    }
    /// Where clients are answered over gRPC; the rest is as for the inference listener.
    grpc: Grpc {
        /// Address and port of the gRPC listener, or off.
        listen: MaybeListen = "127.0.0.1:8001";
        /// The largest message, decompressed, in both directions.
        message_max: ByteSize = "64MiB" positive;
        /// The most open calls of a connection.
        streams_max: usize = "1000" positive;
        /// The most requests of one stream (ModelStreamInfer) that are at work.
        stream_requests_max: usize = "32" positive;
        /// After how much silence a client is asked whether it is there; 0s means
        /// never.
        keepalive_interval: Duration = "60s";
        /// How long it may take to answer that.
        keepalive_timeout: Duration = "20s" positive;
        /// The age from which on a connection takes no new call, so that balancers
        /// of connections get their chance; 0s means never.
        connection_age_max: Duration = "0s";
        /// How long the calls of such a connection may take to finish.
        connection_age_grace: Duration = "30s";
        /// When replies are compressed: never, like-request (as the request is) or
        /// accepted (whenever the client can read it).
        compression: ReplyCompression = "like-request";
    }
    /// Where operators and monitoring are answered.
    admin: Admin {
        /// Address and port of the admin listener.
        listen: SocketAddr = "127.0.0.1:8002";
        /// Whether who shows no token may do everything, as long as `token` is not
        /// set and the address is loopback (on or off).
        open: Switch = "on";
        /// A bearer token that may do everything, to make the others with
        /// (`foreshadow token create`).
        token: Option<Token> = "";
        /// A file that holds the token, instead of `token`.
        token_file: Option<PathBuf> = "";
        /// Whether /metrics has the names that Triton gives its counters as well
        /// (nv_inference_count and the like; on or off).
        triton_metrics: Switch = "off";
        /// Host names by which callers may address it; IP addresses and
        /// localhost always work.
        allowed_hosts: Hosts = "";
    }
    /// The models on disk.
    repository: Repository {
        /// The folder of models.
        models: PathBuf = "models";
        /// The folder for what must outlive the process.
        state: PathBuf = ".foreshadow";
        /// How often the folder is read whole, besides being watched.
        rescan: Duration = "10s" positive;
        /// How long a version's files, or a changed model.toml, must be quiet.
        settle: Duration = "1s";
        /// Versions that may be loaded at the same time.
        load_threads: usize = "1" positive;
        /// The largest artifact.
        artifact_max: ByteSize = "2GiB" positive;
        /// How long a former champion stays loaded when its folder is gone, so that a
        /// rollback is immediate.
        retire_after: Duration = "10m";
        /// Former versions of a model whose files are kept for a rollback, in the
        /// state folder.
        keep_versions: usize = "10";
        /// How long they are kept after they last had a role.
        keep_for: Duration = "30d";
        /// The most bytes of them, of all models.
        keep_max: ByteSize = "20GiB";
        /// Whether it starts only with a store that can be used (on or off). Without
        /// one, who answers may be another than what was acknowledged.
        store_required: Switch = "on";
        /// What makes the gateway ready at start, once all that is there was
        /// tried: any model that serves, or all of them.
        ready_when: ReadyWhen = "any";
        /// Whether clients of the inference API may have models loaded and
        /// unloaded (on or off); they show the admin token, where one is set.
        load_unload: Switch = "off";
    }
    /// What runs the graphs.
    engine: Engine {
        /// The shared library of ONNX Runtime, for models whose engine is
        /// "onnxruntime"; ORT_DYLIB_PATH sets it as well.
        onnxruntime_library: Option<PathBuf> = "";
    }
    /// The trial of a candidate in a child process.
    preflight: Preflight {
        /// Memory that the child may use.
        memory_max: ByteSize = "2GiB" positive;
        /// CPU time that the child may take, and ten times as much of the clock.
        time_max: Duration = "60s" positive;
    }
    /// How the versions that answer are run.
    execution: Execution {
        /// Engine threads, for runs that are not inline; 0 means one per core.
        threads: Threads = "0";
        /// Runs that should take at most this long stay on the thread that
        /// read the request.
        inline_max: Duration = "200us";
        /// Rows that may wait for an engine thread; a request beyond them is
        /// refused (503).
        queue_rows_max: usize = "4096" positive;
        /// A request that would wait for longer than this, by what is known when
        /// it comes, is refused (503).
        queue_time_max: Duration = "2s" positive;
        /// The most rows that are run as one, of models whose rows are
        /// independent; 1 means one request at a time.
        batch_rows_max: usize = "64" positive;
        /// How long a request may be made to wait for others, although a thread
        /// is free.
        batch_delay_max: Duration = "0s";
    }
    /// How the shadows' copies are run.
    shadow: Shadow {
        /// Threads that run copies, with what the others leave over.
        threads: usize = "1" positive;
        /// Copies that may wait; more are dropped and counted.
        queue_max: usize = "1024" positive;
        /// Bytes that may wait; more are dropped and counted.
        queue_bytes_max: ByteSize = "64MiB" positive;
        /// A copy that runs for longer counts as failed; its waits for a processor are not counted.
        timeout: Duration = "10s" positive;
    }
    /// How rollouts are judged.
    rollout: Rollout {
        /// How often their counts are looked at.
        tick: Duration = "1s" positive;
        /// After so many unclean exits of the process within a stage the version is
        /// taken out at the next start, and the rollout paused.
        unclean_exits_max: usize = "3" positive;
    }
    /// How answered rows are compared with what the versions were made for. Rows count
    /// as independent of each other; a day that has its quiet and its busy hours differs
    /// from a week's mean in most of them.
    monitor: Monitor {
        /// How often their counts are looked at.
        tick: Duration = "5s" positive;
        /// A window of rows is at least this long; longer than traffic's ups and downs,
        /// or they are called drift: "24h" where days have a course,
        window: Duration = "5m";
        /// and has at least so many rows, 200 or more. No more than the profile has.
        window_rows: usize = "1000" positive;
        /// Rows, 200 or more, that a version without a profile.json learns one from, the
        /// first that it answers; 0 learns none.
        learn_rows: usize = "5000";
    }
    /// How long answers are kept for their labels, where a model.toml asks for it.
    labels: Labels {
        /// A label is joined with an answer that is at most this old.
        join_within: Duration = "14d" positive;
        /// The most space that kept answers and labels take; the oldest go first.
        keep_max: ByteSize = "1GiB" positive;
        /// How long figures of quality are kept, by the day of their answers; join_within at
        /// least.
        keep_figures: Duration = "30d" positive;
        /// The most labels that wait for an answer that nobody knows (yet),
        waiting_max: usize = "100000";
        /// and how long they wait.
        waiting_for: Duration = "1h" positive;
    }
    /// What somebody should look at.
    alerts: Alerts {
        /// Whether there are alerts (on or off).
        enabled: Switch = "on";
        /// How often conditions are looked at; monitor.tick, where that is shorter.
        tick: Duration = "1s" positive;
        /// How long a condition must hold before its alert fires. A drift, which has
        /// lasted for three windows, and a level that has changed fire at once.
        pending: Duration = "1m";
        /// How long a condition must be gone before its alert is resolved.
        clear_after: Duration = "5m";
        /// The least time from one firing of an alert to its next.
        again_after: Duration = "15m";
        /// Errors and latency are those of requests of the last so long,
        window: Duration = "1m" positive;
        /// if there were at least so many.
        requests_min: usize = "20" positive;
        /// The share of a model's requests that may fail by its fault or the gateway's;
        /// the alert is over below half of it. 0% means no alert.
        errors_above: Share = "5%";
        /// What the 99th percentile of a model's times in queue and engine may be; the
        /// alert is over below four fifths of it. 0s means no alert.
        p99_above: Duration = "0s";
        /// What is usual of a level is how it was over so long, 120 ticks at least, up to a
        /// tenth of that ago. What comes less often than that is a change each time.
        usual: Duration = "10m" positive;
        /// Whether a model's requests per second that rise or fall all at once are told
        /// (on or off).
        traffic_level: Switch = "on";
        /// Whether a share of failures that rises all at once is told (on or off).
        error_level: Switch = "on";
        /// Whether a champion's answers that change all at once are told, where it has a
        /// profile (on or off).
        score_level: Switch = "on";
        /// Whether columns that drift are told, of versions that serve (on or off).
        drift: Switch = "on";
        /// Whether wrong answers (labels.wrong_max of model.toml) and groups that are
        /// treated differently are told, by the labels of a week (on or off).
        quality: Switch = "on";
        /// Whether a store that cannot be written is told (on or off).
        store: Switch = "on";
        /// Whether models without a champion that is ready, and versions that failed,
        /// are told (on or off).
        models: Switch = "on";
    }
    /// How answered requests are stored, of models that ask for it (a table "capture" in
    /// their model.toml).
    capture: Capture {
        /// A file is finished when it has so many rows,
        file_rows: usize = "100000" positive;
        /// or about this size,
        file_bytes: ByteSize = "64MiB" positive;
        /// or is this old. What is in no finished file does not outlive a crash.
        file_age: Duration = "5m" positive;
        /// How long finished files are kept.
        keep_for: Duration = "7d" positive;
        /// The most bytes of them, of all models; the oldest go first.
        keep_bytes: ByteSize = "1GiB" positive;
        /// Requests that may wait to be stored; more are dropped and counted.
        queue_max: usize = "4096" positive;
        /// Bytes that may wait; more are dropped and counted.
        queue_bytes_max: ByteSize = "64MiB" positive;
    }
    /// Who is told what happens.
    webhooks: Webhooks {
        /// A file with a table "webhook" for each: name, url, secret or secret_file,
        /// form (json or slack), models.
        file: Option<PathBuf> = "";
        /// How long a receiver may take to answer.
        timeout: Duration = "10s" positive;
        /// The first pause after a failure; each further one is twice as long, up to
        /// five minutes.
        pause: Duration = "1s" positive;
        /// How old an entry may be when it fails again; then it is given up.
        give_up: Duration = "1d" positive;
    }
    /// What is logged, to stderr.
    log: Log {
        /// The least severe level: error, warn, info, debug or trace.
        level: LogLevel = "info";
        /// text, or json with one object per line.
        format: LogFormat = "text";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_derive_from_the_declaration() {
        let key = KEYS.iter().find(|key| key.path() == "shadow.queue_bytes_max").unwrap();
        assert_eq!(key.variable(), "FORESHADOW_SHADOW_QUEUE_BYTES_MAX");
        assert_eq!(key.help(), "Bytes that may wait; more are dropped and counted.");
    }

    #[test]
    fn two_settings_never_share_a_variable() {
        let mut variables: Vec<_> = KEYS.iter().map(Key::variable).collect();
        variables.sort_unstable();
        variables.dedup();
        assert_eq!(variables.len(), KEYS.len());
    }
}
