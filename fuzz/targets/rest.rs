//! Any bytes as the body of a request, on every route that takes one: an
//! answer, or an error that says why. The first bytes choose route and headers.
#![no_main]

use std::cell::OnceCell;

use foreshadow_fuzz::service::Gateway;
use libfuzzer_sys::fuzz_target;

/// Routes, of which the first byte takes one.
const PATHS: [&str; 24] = [
    "/predict",
    "/predict/fp32",
    "/predict/bytes",
    "/predict/int64",
    "/predict/bool",
    "/predict/fp16",
    "/predict/pair",
    "/predict/rows",
    "/v2/models/fp32/infer",
    "/v2/models/bytes/infer",
    "/v2/models/int64/versions/1/infer",
    "/v2/models/bool/infer",
    "/v2/models/fp16/infer",
    "/v2/models/uint64/infer",
    "/v2/models/pair/infer",
    "/v2/models/rows/infer",
    "/v1/models/fp32:predict",
    "/v1/models/bytes/versions/1:predict",
    "/v1/models/pair/labels/champion:predict",
    "/v1/models/rows:predict",
    "/v2/repository/index",
    "/v2/repository/models/fp32/load",
    "/v2/repository/models/fp32/unload",
    "/v1/models/fp32:classify",
];
/// Values of `Accept-Encoding`.
const ACCEPT: [&str; 4] = ["", "gzip", "deflate, gzip;q=0.5", "*;q=0, identity"];

thread_local! {
    static GATEWAY: OnceCell<Gateway> = const { OnceCell::new() };
}

fuzz_target!(|bytes: &[u8]| {
    let [route, headers, body @ ..] = bytes else { return };
    let path = PATHS[usize::from(*route) % PATHS.len()];
    let mut request = http::Request::post(path);
    if headers & 1 != 0 {
        // Where the JSON ends: at the first newline, which no encoder writes.
        let length = body.iter().position(|byte| *byte == b'\n').unwrap_or(body.len());
        request = request.header("inference-header-content-length", length);
    }
    if headers & 2 != 0 {
        request = request.header("content-encoding", if headers & 4 == 0 { "gzip" } else { "deflate" });
    }
    request = request.header("accept-encoding", ACCEPT[usize::from(headers >> 3) % ACCEPT.len()]);
    GATEWAY.with(|gateway| gateway.get_or_init(Gateway::new).send(request, body.to_vec()));
});
