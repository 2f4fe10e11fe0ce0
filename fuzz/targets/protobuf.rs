//! Any bytes as messages of the gRPC service, plain and compressed, alone and
//! in a stream: an answer, or an error that says why. The first bytes choose
//! the method and the framing.
#![no_main]

use std::cell::OnceCell;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use foreshadow_fuzz::service::Gateway;
use libfuzzer_sys::fuzz_target;

/// Methods, of which the first byte takes one.
const METHODS: [&str; 10] = [
    "ModelInfer",
    "ModelInfer",
    "ModelInfer",
    "ModelStreamInfer",
    "ModelStreamInfer",
    "ModelReady",
    "ModelMetadata",
    "ModelConfig",
    "ModelStatistics",
    "RepositoryIndex",
];
/// Ends a message of several.
const MARK: &[u8] = b"\0\xff\0\xff";
/// Statuses that are the server's own fault: unknown, internal, data loss.
const FAULTS: [i32; 3] = [2, 13, 15];

thread_local! {
    static GATEWAY: OnceCell<Gateway> = const { OnceCell::new() };
}

/// One message behind its prefix: whether it is compressed, and its length.
fn frame(out: &mut Vec<u8>, message: &[u8], how: u8, lie: bool) {
    let packed = match how {
        1 => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(message).and_then(|()| encoder.finish()).expect("memory")
        }
        2 => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(message).and_then(|()| encoder.finish()).expect("memory")
        }
        _ => message.to_vec(),
    };
    out.push(u8::from(how > 0));
    let length = u32::try_from(packed.len()).expect("small");
    out.extend_from_slice(&(length.wrapping_add(u32::from(lie) * 7)).to_be_bytes());
    out.extend_from_slice(&packed);
}

fuzz_target!(|bytes: &[u8]| {
    let [method, framing, rest @ ..] = bytes else { return };
    let method = METHODS[usize::from(*method) % METHODS.len()];
    let (how, lie) = (framing & 3, framing & 4 != 0);
    let mut body = Vec::new();
    let mut rest = rest;
    while let Some(at) = rest.windows(MARK.len()).position(|window| window == MARK) {
        frame(&mut body, &rest[..at], how, false);
        rest = &rest[at + MARK.len()..];
    }
    // 3 is sent as compressed, and is not.
    frame(&mut body, rest, how, lie);
    let mut request = http::Request::post(format!("/inference.GRPCInferenceService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if how > 0 {
        request = request.header("grpc-encoding", if how == 2 { "deflate" } else { "gzip" });
    }
    if framing & 8 != 0 {
        request = request.header("grpc-accept-encoding", "gzip,deflate");
    }
    let status = GATEWAY.with(|gateway| gateway.get_or_init(Gateway::new).call(request, body));
    assert!(status.is_none_or(|status| !FAULTS.contains(&status)), "status {status:?}");
});
