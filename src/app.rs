//! Wiring, in the order that a request meets it; and the process's life:
//! start, ready, drain, stop.
//!
//! Two runtimes: `data` has the request threads, `control` everything else,
//! so that nothing an operator or a scrape does can take a request's thread.

mod alerts;
mod audit;
mod banner;
mod capture;
mod drift;
mod labels;
mod log;
mod repository;
mod signals;
mod store;
mod tokens;
mod webhooks;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::{self, Access, AdminState, Events, Tokens};
pub use crate::app::audit::verify_audit;
use crate::app::repository::Clients;
use crate::app::signals::Signals;
use crate::app::store::Opened;
pub use crate::app::tokens::open_tokens;
use crate::capture::Capturing;
pub use crate::capture::dataset;
pub use crate::capture::{Example, Replay, ReplayValue, ReplayedVersion, Replaying, replay};
use crate::config::{ByteSize, Config, Preflight, ReadyWhen, ReplyCompression, Switch, Token};
use crate::engine::{EngineSet, EngineSettings};
use crate::error::{Error, Result};
use crate::monitor::quality::{self, Joining};
use crate::monitor::{self, Monitor, Monitoring};
use crate::protocol::{
    Compress, Grpc, GrpcSettings, Offload, OffloadSettings, RequestLimits, Service,
};
use crate::registry::preflight::{self, ChildPreflight};
use crate::registry::{Control, Past, Prepared, Registry, RegistrySettings};
use crate::rollout::{self, Recovered, Rollouts, Running};
use crate::routing::{Catalog, Lane, LaneSettings, Router};
use crate::server::{self, GrpcLimits, ServerLimits, Summary, Tls, TlsFiles};
use crate::serving::{Executor, ExecutorSettings};
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::types::{Readiness, thread};
use crate::webhooks::Couriers;

/// What may be exchanged: engines, the candidates' trial, the store.
pub struct Parts {
    /// The engines, by name.
    pub engines: EngineSet,
    /// Where candidates are tried.
    pub preflight: Arc<dyn preflight::Preflight>,
    /// Where the wanted state lives.
    /// `None` for the file in the state folder.
    pub store: Option<Arc<dyn Store>>,
}

impl Parts {
    /// The binary's engines, a child process of this binary, a file.
    #[must_use]
    pub fn standard(config: &Config) -> Self {
        let Preflight { memory_max, time_max } = config.preflight;
        let engines =
            EngineSettings { onnxruntime_library: config.engine.onnxruntime_library.clone() };
        let kept = config.repository.state.join("preflight");
        let preflight = ChildPreflight::new(memory_max.get(), time_max)
            .with_engines(&engines)
            .remember_in(kept);
        Self { engines: EngineSet::standard(&engines), preflight: Arc::new(preflight), store: None }
    }
}

/// A running gateway.
pub struct App {
    data: Runtime,
    control: Runtime,
    handle: Control,
    metrics: Arc<Metrics>,
    registry: Registry,
    rollouts: Rollouts,
    judging: Running,
    monitor: Monitor,
    monitoring: Monitoring,
    joining: Joining,
    /// Writes what the monitor has to tell.
    recording: JoinHandle<()>,
    capturing: Capturing,
    couriers: Couriers,
    readiness: Readiness,
    shutdown: watch::Sender<bool>,
    serving: Vec<JoinHandle<()>>,
    administering: JoinHandle<()>,
    inference: SocketAddr,
    grpc: Option<SocketAddr>,
    admin: SocketAddr,
    grace: Duration,
}

impl App {
    /// Binds the listeners, then starts to serve and to load. Returns before
    /// the models are loaded: [`Readiness`] tells when they are.
    pub fn start(config: &Config, parts: Parts) -> Result<Self> {
        let tls = tls(config)?;
        let threads = config.server.threads.get();
        let data = runtime("data", threads)?;
        let control = runtime("control", 1)?;
        let inference = data.block_on(server::bind(config.server.listen, "--listen"))?;
        let grpc = match config.grpc.listen.address() {
            Some(address) => Some(data.block_on(server::bind(address, "--grpc-listen"))?),
            None => None,
        };
        let grpc_address = grpc.as_ref().map(address).transpose()?;
        let admin = control.block_on(server::bind(config.admin.listen, "--admin-listen"))?;
        // Nobody else uses what is opened from here on.
        let prepared = Prepared::new(registry_settings(config))?;
        let Opened { store, problem } = match parts.store {
            Some(store) => Opened { store, problem: None },
            None => {
                let required = config.repository.store_required == Switch::On;
                control.block_on(store::open(&config.repository.state, required))?
            }
        };
        let (inference_address, admin_address) = (address(&inference)?, address(&admin)?);

        let triton_names = config.admin.triton_metrics == Switch::On;
        let metrics = Arc::new(Metrics::new().with_triton_names(triton_names));
        if let Some(problem) = &problem {
            tracing::error!("{problem}");
        }
        metrics.set_store(problem.clone());
        let (captured, capturing) =
            crate::capture::spawn(capture::settings(config), Arc::clone(&metrics))?;
        let readiness = Readiness::default();
        let catalog = Arc::new(Catalog::default());
        let executor = executor(config, &metrics)?;
        let router = Arc::new(Router::new(Arc::clone(&catalog), executor, lane(config)?));
        let (shutdown, watcher) = watch::channel(false);
        let events = Events::new(Arc::clone(&store), watcher.clone());
        let couriers = {
            let _entered = control.enter();
            webhooks::spawn(config, &store, &metrics)?
        };
        // Behind whatever may end a start for reasons of its own, which is no unclean exit;
        // before anything is loaded: a version may be what ended the process.
        let unclean_max = u32::try_from(config.rollout.unclean_exits_max).unwrap_or(u32::MAX);
        let recovered = match (control.block_on(rollout::recover(&*store, unclean_max)), &problem) {
            (Err(error), Some(_)) => {
                tracing::error!(%error, "rollouts are not judged until the store can be used");
                Recovered::default()
            }
            (recovered, _) => recovered?,
        };
        let Recovered { open, unrecorded } = recovered;
        let (handle, registry) = {
            let _entered = control.enter();
            Registry::spawn(
                prepared,
                parts.engines,
                parts.preflight,
                Past { store: Arc::clone(&store), unrecorded },
                catalog,
                Arc::clone(&metrics),
                readiness.clone(),
            )?
        };
        let tokens = Arc::new(Tokens::new(Arc::clone(&store)));
        let fresh = Arc::clone(&tokens);
        control.spawn(async move { fresh.keep_fresh().await });
        let noted = Arc::clone(&store);
        let (rollouts, judging) = control.block_on(rollout::spawn(
            rollout_settings(config),
            handle.clone(),
            store,
            Arc::clone(&metrics),
            open,
        ))?;
        let (alerting, notices) = alerts::alerting(config, handle.clone(), &metrics);
        let recording = control.spawn(alerts::record(notices, noted, Arc::clone(&metrics)));
        let (monitor, monitoring) =
            monitor::spawn(drift::settings(config), alerting, Arc::clone(&metrics))?;
        let (quality, joining) = quality::spawn(labels::settings(config), Arc::clone(&metrics))?;
        let access = access(config).with_tokens(
            Arc::clone(&tokens),
            config.admin.open == Switch::On && config.admin.listen.ip().is_loopback(),
        );
        let service = Service::new(
            router,
            Arc::clone(&metrics),
            readiness.clone(),
            request_limits(config),
            offload(threads)?,
        );
        let service = service.with_feedback(Arc::new(quality.clone()));
        let service = Arc::new(service.with_repository(Arc::new(Clients {
            control: handle.clone(),
            access: access.clone(),
            load_unload: config.repository.load_unload == Switch::On,
        })));

        let limits = server_limits(config);
        if let Some(tls) = &tls {
            control.spawn(Arc::clone(tls).watch(config.server.tls_rescan));
        }
        let calls = grpc.map(|listener| {
            let own = Grpc::new(Arc::clone(&service), grpc_settings(config));
            let (limits, calls, tls) = (limits.clone(), grpc_limits(config), tls.clone());
            let stop = stopped(watcher.clone());
            data.spawn(async move {
                let summary =
                    server::run_grpc(listener, Arc::new(own), limits, calls, tls, stop).await;
                closed("gRPC", summary);
            })
        });
        let stop = stopped(watcher.clone());
        let serving = data.spawn(async move {
            let summary = server::run(inference, service, limits, tls, stop).await;
            closed("inference", summary);
        });
        let state = AdminState {
            control: handle.clone(),
            rollouts: rollouts.clone(),
            monitor: monitor.clone(),
            quality,
            capture: captured,
            metrics: Arc::clone(&metrics),
            readiness: readiness.clone(),
            access,
            tokens,
            events,
        };
        let administering = control.spawn(async move {
            admin::serve(admin, admin::router(state), stopped(watcher)).await;
        });
        Ok(Self {
            data,
            control,
            handle,
            metrics,
            registry,
            rollouts,
            judging,
            monitor,
            monitoring,
            joining,
            recording,
            capturing,
            couriers,
            readiness,
            shutdown,
            serving: std::iter::once(serving).chain(calls).collect(),
            administering,
            inference: inference_address,
            grpc: grpc_address,
            admin: admin_address,
            grace: config.server.grace,
        })
    }

    /// Where requests are answered.
    #[must_use]
    pub const fn inference_address(&self) -> SocketAddr {
        self.inference
    }

    /// Where requests are answered over gRPC, if they are.
    #[must_use]
    pub const fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc
    }

    /// Where the admin API and the metrics are.
    #[must_use]
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// The operators' handle.
    #[must_use]
    pub const fn control(&self) -> &Control {
        &self.handle
    }

    /// The handle to rollouts.
    #[must_use]
    pub const fn rollouts(&self) -> &Rollouts {
        &self.rollouts
    }

    /// What the monitor found.
    #[must_use]
    pub const fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// Whether it wants traffic.
    #[must_use]
    pub const fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Readiness off, then what is in flight is finished within the grace
    /// period, then everything ends. Not to be called on one of the app's own
    /// runtimes.
    pub fn stop(self) {
        self.readiness.set_draining();
        self.shutdown.send_replace(true);
        let limit = self.grace + Duration::from_secs(1);
        self.data.block_on(async {
            let all = async {
                for serving in self.serving {
                    // One that panicked is over as well.
                    let _ = serving.await;
                }
            };
            if tokio::time::timeout(limit, all).await.is_err() {
                tracing::warn!("some requests did not finish within the grace period");
            }
        });
        self.monitoring.stop();
        self.control.block_on(async {
            let _ = tokio::time::timeout(Duration::from_secs(1), self.administering).await;
            self.joining.stop().await;
            // It ends with the monitor, unless the store does not take what is left.
            let _ = tokio::time::timeout(Duration::from_secs(1), self.recording).await;
            self.judging.stop().await;
            self.registry.stop().await;
            self.couriers.stop().await;
        });
        // Behind everything that has to end in order, as a disk may be slow, and behind the
        // last request, so that what was answered is stored.
        self.capturing.stop();
        self.data.shutdown_timeout(Duration::from_secs(1));
        self.control.shutdown_timeout(Duration::from_secs(1));
    }
}

/// `foreshadow serve`: runs until a signal, and ends with 0 if it drained.
#[must_use]
pub fn serve(config: &Config) -> ExitCode {
    let logging = log::init(&config.log);
    let app = match App::start(config, Parts::standard(config)) {
        Ok(app) => app,
        Err(error) => {
            tracing::error!(detail = error.detail(), "{error}");
            return ExitCode::FAILURE;
        }
    };
    app.metrics.watch_log(logging.dropped());
    // Before anything is printed: who reads the address may send a signal.
    let signals = app.control.block_on(async { Signals::watch() });
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "signals cannot be watched");
            app.stop();
            return ExitCode::FAILURE;
        }
    };
    banner::addresses(&app, config);
    app.control.block_on(async {
        let show = async {
            banner::models_when_tried(&app, config).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = show => {}
            signal = signals.next() => tracing::info!(signal, "draining; a second signal ends at once"),
        }
        tokio::spawn(signals.end_at_next());
    });
    app.stop();
    tracing::info!("stopped");
    ExitCode::SUCCESS
}

/// Tells what a listener did.
fn closed(listener: &str, Summary { accepted, refused, aborted }: Summary) {
    tracing::info!(listener, accepted, refused, aborted, "the listener is closed");
}

/// Done when the app is told to stop.
async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // An error means that the app is gone, which is as good.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

fn runtime(name: &str, threads: usize) -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .thread_stack_size(thread::STACK_BYTES)
        .enable_all()
        .build()
        .map_err(|e| Error::internal(format!("the {name} threads could not be started: {e}")))
}

fn address(listener: &TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|e| Error::internal(format!("a listener has no address: {e}")))
}

fn executor(config: &Config, metrics: &Arc<Metrics>) -> Result<Executor> {
    let execution = &config.execution;
    let settings = ExecutorSettings {
        threads: execution.threads.get(),
        inline_limit: execution.inline_max,
        queue_rows_max: execution.queue_rows_max,
        queue_time_max: execution.queue_time_max,
        batch_rows_max: execution.batch_rows_max,
        batch_delay_max: execution.batch_delay_max,
    };
    Executor::spawn(&settings, metrics)
        .map_err(|e| Error::internal(format!("the engine threads could not be started: {e}")))
}

fn lane(config: &Config) -> Result<Lane> {
    let settings = LaneSettings {
        threads: config.shadow.threads,
        queue_count_max: config.shadow.queue_max,
        queue_bytes_max: bytes(config.shadow.queue_bytes_max),
        timeout: config.shadow.timeout,
    };
    Lane::spawn(&settings)
        .map_err(|e| Error::internal(format!("the shadow threads could not be started: {e}")))
}

/// As many threads as there are request threads, whose large bodies they read.
fn offload(threads: usize) -> Result<Offload> {
    Offload::spawn(&OffloadSettings { threads, ..OffloadSettings::default() })
        .map_err(|e| Error::internal(format!("the decode threads could not be started: {e}")))
}

fn registry_settings(config: &Config) -> RegistrySettings {
    let repository = &config.repository;
    RegistrySettings {
        models_dir: repository.models.clone(),
        state_dir: repository.state.clone(),
        rescan: repository.rescan,
        settle: repository.settle,
        load_threads: repository.load_threads,
        artifact_bytes_max: repository.artifact_max.get(),
        ready_when_all: repository.ready_when == ReadyWhen::All,
        retire_after: repository.retire_after,
        keep_versions: repository.keep_versions,
        keep_for: repository.keep_for,
        keep_bytes_max: repository.keep_max.get(),
    }
}

fn rollout_settings(config: &Config) -> rollout::Settings {
    rollout::Settings { tick: config.rollout.tick, ..rollout::Settings::default() }
}

fn server_limits(config: &Config) -> ServerLimits {
    ServerLimits {
        connections_max: config.server.connections_max,
        headers_max: config.server.headers_max,
        header_bytes_max: bytes(config.server.header_max),
        header_timeout: config.server.header_timeout,
        write_timeout: config.server.write_timeout,
        handshake_timeout: config.server.tls_handshake_timeout,
        streams_max: u32::try_from(config.server.http2_streams_max).unwrap_or(u32::MAX),
        ping_interval: Some(config.server.http2_ping).filter(|ping| !ping.is_zero()),
        grace: config.server.grace,
    }
}

/// The certificate, if there is one.
fn tls(config: &Config) -> Result<Option<Arc<Tls>>> {
    let (Some(certificate), Some(key)) = (&config.server.tls_certificate, &config.server.tls_key)
    else {
        return Ok(None);
    };
    let files = TlsFiles { certificate: certificate.clone(), key: key.clone() };
    Ok(Some(Arc::new(Tls::load(files)?)))
}

fn request_limits(config: &Config) -> RequestLimits {
    RequestLimits {
        body_bytes_max: bytes(config.server.body_max),
        body_timeout: config.server.body_timeout,
        timeout: config.server.request_timeout,
        compress_from: bytes(config.server.compress_from),
    }
}

fn grpc_limits(config: &Config) -> GrpcLimits {
    let grpc = &config.grpc;
    let unless_zero = |duration: Duration| (!duration.is_zero()).then_some(duration);
    GrpcLimits {
        streams_max: u32::try_from(grpc.streams_max).unwrap_or(u32::MAX),
        keepalive_interval: unless_zero(grpc.keepalive_interval),
        keepalive_timeout: grpc.keepalive_timeout,
        age_max: unless_zero(grpc.connection_age_max),
        age_grace: grpc.connection_age_grace,
    }
}

fn grpc_settings(config: &Config) -> GrpcSettings {
    GrpcSettings {
        message_bytes_max: bytes(config.grpc.message_max),
        stream_requests_max: config.grpc.stream_requests_max,
        compress: match config.grpc.compression {
            ReplyCompression::Never => Compress::Never,
            ReplyCompression::LikeRequest => Compress::LikeRequest,
            ReplyCompression::Accepted => Compress::Accepted,
        },
    }
}

fn access(config: &Config) -> Access {
    let token = config.admin.token.as_ref().map(Token::reveal);
    Access::new(token, config.admin.allowed_hosts.names())
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.get()).unwrap_or(usize::MAX)
}
