//! A server that does nothing but HTTP: one thread reads each request to its
//! end and answers a constant.
//!
//! It is the yardstick: what a run against it shows is the cost of the
//! generator, the kernel and the HTTP library on this machine at this moment.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 1024;
/// Pause after a failed accept: most are a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A JSON string of exactly this many bytes, at least two.
#[must_use]
pub fn reply_of(bytes: usize) -> Bytes {
    format!("\"{}\"", "x".repeat(bytes.saturating_sub(2))).into()
}

/// Answers every request on the listener with `reply` until `shutdown`.
pub async fn serve(listener: TcpListener, reply: Bytes, shutdown: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::select! {
        () = accept(listener, reply, places) => {}
        () = shutdown => {}
    }
}

async fn accept(listener: TcpListener, reply: Bytes, places: Arc<Semaphore>) {
    // A place first: who finds none waits in the kernel's backlog.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Without it replies are only slower.
        drop(stream.set_nodelay(true));
        let reply = reply.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, reply.clone()));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A client that breaks off is the client's business.
            drop(connection.await);
            drop(place);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    reply: Bytes,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    let mut response = Response::new(Full::new(reply));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_is_json_of_the_asked_size() {
        for bytes in [2, 3, 200] {
            let reply = reply_of(bytes);
            assert_eq!(reply.len(), bytes);
            assert!(serde_json::from_slice::<String>(&reply).is_ok());
        }
        assert_eq!(reply_of(0).len(), 2);
    }
}
