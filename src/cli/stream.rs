//! Reads a stream of server-sent events.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::cli::client::Admin;
use crate::cli::failure::Failure;

/// The longest event; the gateway's are far smaller.
const EVENT_BYTES_MAX: usize = 4 << 20;
/// The longest silence: the gateway shows every 15 s that it lives.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A stream of events.
pub(super) struct Events {
    body: Incoming,
    read: BytesMut,
}

impl Admin {
    /// Opens the stream at `path`.
    pub(super) async fn events(&self, path: &str) -> Result<Events, Failure> {
        let (status, body) = self.open(Method::GET, path).await?;
        if status == StatusCode::OK {
            return Ok(Events { body, read: BytesMut::new() });
        }
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        // Never 200 with JSON: it is the gateway's refusal, or somebody else's answer.
        Err(self.accept(status, &body).err().unwrap_or_else(|| self.foreign()))
    }
}

impl Events {
    /// The next event's data; `None` when the gateway ended the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            while let Some(event) = take_event(&mut self.read) {
                if let Some(data) = data_of(&event) {
                    return Ok(Some(data));
                }
            }
            let frame = tokio::time::timeout(SILENCE_MAX, self.body.frame()).await;
            let frame = frame.map_err(|_| {
                let seconds = SILENCE_MAX.as_secs();
                Failure::failed(format!("the gateway was silent for {seconds} s"))
            })?;
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    self.read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                }
                Some(Err(error)) => {
                    return Err(Failure::failed(format!("the stream broke off: {error}")));
                }
            }
            if self.read.len() > EVENT_BYTES_MAX {
                return Err(Failure::failed("the stream has an event that is too large"));
            }
        }
    }
}

/// What is before the next empty line, which is taken out.
fn take_event(read: &mut BytesMut) -> Option<Bytes> {
    let end = read.windows(2).position(|pair| pair == b"\n\n")?;
    Some(read.split_to(end + 2).freeze())
}

/// The data of an event; `None` for a sign of life.
fn data_of(event: &Bytes) -> Option<Bytes> {
    let mut lines = event.split(|byte| *byte == b'\n');
    let line = lines.find_map(|line| line.strip_prefix(b"data:"))?;
    Some(event.slice_ref(line.strip_prefix(b" ").unwrap_or(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_out_one_by_one() {
        let mut read =
            BytesMut::from(&b"id: 1\nevent: audit\ndata: {\"a\":1}\n\n:\n\nid: 2\nda"[..]);
        let first = take_event(&mut read).unwrap();
        assert_eq!(data_of(&first).unwrap(), &b"{\"a\":1}"[..]);
        let beat = take_event(&mut read).unwrap();
        assert_eq!(data_of(&beat), None);
        assert_eq!(take_event(&mut read), None);
        read.extend_from_slice(b"ta:x\n\n");
        assert_eq!(data_of(&take_event(&mut read).unwrap()).unwrap(), &b"x"[..]);
        assert!(read.is_empty());
    }
}
