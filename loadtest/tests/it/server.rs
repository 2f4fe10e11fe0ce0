//! A scripted server on a thread of its own, on a free port.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use loadtest::arrivals::Process;
use loadtest::load::{Load, Outcome};
use loadtest::pace::Pace;
use loadtest::stop::Stop;
use loadtest::target::{Server, Target};

pub(crate) type Reply = Response<Full<Bytes>>;

/// A running server; dropping it ends it.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic");
        }
    }
}

/// Runs `serve` on the listener until the guard is dropped.
pub(crate) fn listen<S, F>(serve: S) -> Running
where
    S: FnOnce(TcpListener) -> F + Send + 'static,
    F: Future<Output = ()>,
{
    let (stop, stopped) = oneshot::channel::<()>();
    let (told, address) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            tokio::select! {
                () = serve(listener) => {}
                _ = stopped => {}
            }
        });
    });
    Running { address: address.recv().unwrap(), stop: Some(stop), thread: Some(thread) }
}

/// Answers every request, whose body is read first, with what `handle` says.
pub(crate) fn answering<H, F>(keep_alive: bool, handle: H) -> Running
where
    H: Fn(Request<Bytes>) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let handle = Arc::new(handle);
    listen(move |listener| async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let handle = Arc::clone(&handle);
            let service = service_fn(move |request: Request<Incoming>| {
                let handle = Arc::clone(&handle);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.map(|body| body.to_bytes());
                    let request = Request::from_parts(head, body.unwrap_or_default());
                    Ok::<_, Infallible>(handle(request).await)
                }
            });
            let mut http = http1::Builder::new();
            let connection =
                http.keep_alive(keep_alive).serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    })
}

/// A reply with this status and body.
pub(crate) fn reply(status: u16, body: impl Into<Bytes>) -> Reply {
    Response::builder().status(status).body(Full::new(body.into())).unwrap()
}

/// 100 requests, 10 ms apart, on one connection, no warm-up.
pub(crate) fn load_on(url: &str) -> Load {
    let server = Server::resolve(url).unwrap();
    Load {
        target: Arc::new(Target::new(server, &[], vec![Bytes::from_static(b"{}")]).unwrap()),
        rate: 100.0,
        process: Process::Fixed,
        closed: false,
        server_pid: None,
        deadline: None,
        seed: 1,
        warmup: Duration::ZERO,
        window: Duration::from_secs(1),
        connections: 1,
        threads: 1,
        queue: 1_000,
        timeout: Duration::from_secs(10),
        pace: Pace::Sleep,
    }
}

pub(crate) fn run(load: &Load) -> Outcome {
    loadtest::load::run(load, &Stop::default(), &mut |_| {}).unwrap()
}
