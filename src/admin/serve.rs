//! The admin listener's sockets.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// The most open connections; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
/// How long a request's head may take, and how long a connection may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest life of a connection: a client that reads nothing ends here.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(600);
/// The most header lines.
const HEADERS_MAX: usize = 64;
/// At shutdown, how long open requests may take.
const GRACE: Duration = Duration::from_secs(5);
/// The pause after a failed accept: out of descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until `shutdown` is done, then lets open
/// requests finish for a few seconds.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    serve_with(HEADER_TIMEOUT, listener, router, shutdown).await;
}

async fn serve_with(
    header_timeout: Duration,
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let (closing, closed) = watch::channel(false);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let next = async {
            // Never closed, so it cannot fail.
            let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
            Some((accept(&listener).await, slot))
        };
        tokio::select! {
            () = &mut shutdown => break,
            next = next => {
                let Some((stream, slot)) = next else { break };
                let (router, closed) = (router.clone(), closed.clone());
                connections.spawn(async move {
                    connection(header_timeout, stream, router, closed).await;
                    drop(slot);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    closing.send_replace(true);
    let finished = async { while connections.join_next().await.is_some() {} };
    // What is still open after the grace period is dropped with the set.
    let _ = tokio::time::timeout(GRACE, finished).await;
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "the admin listener could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection's life.
async fn connection(
    header_timeout: Duration,
    stream: TcpStream,
    router: Router,
    mut closed: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let served = async {
        tokio::select! {
            result = connection.as_mut() => return result,
            _ = closed.wait_for(|closed| *closed) => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    // Broken connections are the client's business.
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIME_MAX, served).await {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn an_open_request_finishes_and_no_new_one_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (entered, inside) = oneshot::channel::<()>();
        let (leave, left) = oneshot::channel::<()>();
        let gates = Arc::new(std::sync::Mutex::new(Some((entered, left))));
        let handler = move || async move {
            let (entered, left) = gates.lock().unwrap().take().unwrap();
            entered.send(()).unwrap();
            left.await.unwrap();
            "done"
        };
        let router = Router::new().route("/", axum::routing::get(handler));
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, router, async {
            let _ = stopped.await;
        }));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        inside.await.unwrap();
        stop.send(()).unwrap();
        // The listener is closed once connecting fails.
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        leave.send(()).unwrap();
        let mut reply = String::new();
        client.read_to_string(&mut reply).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 200") && reply.ends_with("done"), "{reply}");
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_sends_nothing_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let short = Duration::from_millis(20);
        tokio::spawn(serve_with(short, listener, Router::new(), std::future::pending()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTT").await.unwrap();
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).await.unwrap();
        assert!(reply.is_empty() || reply.starts_with(b"HTTP/1.1 408"), "{reply:?}");
    }
}
