//! Which protocol a connection speaks, by its first bytes.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What an HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of the first read. Most first requests fit, and the rest is read by
/// whoever speaks the protocol.
const FIRST_BYTES: usize = 4 << 10;

/// The protocols of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1.1 (and 1.0).
    Http1,
    /// HTTP/2, by prior knowledge or as agreed on in the handshake of TLS.
    Http2,
}

/// Reads until it is certain which protocol it is: mostly once, and never more
/// than it can keep. What was read stays in `first`.
pub(super) async fn detect(
    stream: &mut (impl AsyncRead + Unpin),
    first: &mut BytesMut,
) -> std::io::Result<Protocol> {
    first.reserve(FIRST_BYTES);
    loop {
        let length = first.len().min(PREFACE.len());
        if first[..length] != PREFACE[..length] {
            return Ok(Protocol::Http1);
        }
        if length == PREFACE.len() {
            return Ok(Protocol::Http2);
        }
        // Who left, HTTP/1.1 will find out.
        if stream.read_buf(first).await? == 0 {
            return Ok(Protocol::Http1);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn detected(pieces: &[&[u8]]) -> (Protocol, Vec<u8>) {
        // Room for less than a piece, so that pieces stay pieces.
        let (mut here, mut there) = tokio::io::duplex(4);
        let mut first = BytesMut::new();
        let write = async {
            for piece in pieces {
                if here.write_all(piece).await.is_err() {
                    return;
                }
            }
            drop(here);
        };
        let read = async {
            let protocol = detect(&mut there, &mut first).await.unwrap();
            drop(there);
            protocol
        };
        let ((), protocol) = tokio::join!(write, read);
        (protocol, first.to_vec())
    }

    #[tokio::test]
    async fn the_preface_is_told_from_a_request() {
        let cases: [(&[&[u8]], Protocol); 7] = [
            (&[b"GET / HTTP/1.1\r\n"], Protocol::Http1),
            (&[b"P", b"OST /predict HTTP/1.1\r\n"], Protocol::Http1),
            (&[b"PRI * HTTP/1.1\r\n\r\n"], Protocol::Http1),
            (&[PREFACE], Protocol::Http2),
            (&[b"PRI * HTTP/2.0\r\n\r\n", b"SM\r", b"\n\r\nmore"], Protocol::Http2),
            (&[b"PRI"], Protocol::Http1),
            (&[], Protocol::Http1),
        ];
        for (pieces, expected) in cases {
            let (protocol, first) = detected(pieces).await;
            assert_eq!(protocol, expected, "{pieces:?}");
            assert!(pieces.concat().starts_with(&first), "nothing is lost: {first:?}");
        }
    }
}
