//! Binary tensors, right and wrong, plain and compressed: what is answered is
//! what was sent, and everything else is an error of the request.
#![no_main]

use std::cell::OnceCell;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use foreshadow::types::Datatype;
use foreshadow_fuzz::service::{Gateway, Reply};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// Rows of a tensor, at most.
const ROWS_MAX: usize = 6;

thread_local! {
    static GATEWAY: OnceCell<Gateway> = const { OnceCell::new() };
}

/// A request as it is sent, and what must come back if it is right.
struct Case {
    model: String,
    head: Value,
    tail: Vec<u8>,
    /// The header's value.
    length: Option<String>,
    /// Compression: none, gzip, zlib.
    packed: u8,
    /// Whether the answer is asked for as raw bytes.
    binary: bool,
    right: bool,
}

/// Elements of a datatype, `count` of them.
fn elements(datatype: Datatype, count: usize, bytes: &mut Unstructured) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for _ in 0..count {
        match datatype {
            Datatype::Bool => out.push(u8::from(bytes.arbitrary::<bool>()?)),
            Datatype::Bytes => {
                let length = bytes.int_in_range(0..=5_u32)?;
                out.extend_from_slice(&length.to_le_bytes());
                for _ in 0..length {
                    out.push(bytes.arbitrary()?);
                }
            }
            // Infinity and not-a-number are not answered; zeros always are.
            Datatype::Fp16 | Datatype::Fp32 | Datatype::Fp64 => {
                let size = datatype.size().unwrap_or(0);
                out.extend(std::iter::repeat_n(0, size - 2));
                out.extend_from_slice(&(bytes.arbitrary::<u16>()? & 0x3fff).to_le_bytes());
            }
            _ => {
                for _ in 0..datatype.size().unwrap_or(0) {
                    out.push(bytes.arbitrary()?);
                }
            }
        }
    }
    Ok(out)
}

fn case(bytes: &mut Unstructured) -> Result<Case> {
    let datatype = *bytes.choose(&Datatype::ALL)?;
    let rows = bytes.int_in_range(1..=ROWS_MAX)?;
    let mut tail = elements(datatype, rows * 3, bytes)?;
    let (mut shape, mut size) = (json!([rows, 3]), json!(tail.len()));
    let mut name = "x";
    let mut data = None;
    let mut right = true;
    // Up to two lies.
    for _ in 0..bytes.int_in_range(0..=2_u8)? {
        right = false;
        match bytes.int_in_range(0..=7_u8)? {
            0 => shape = json!(bytes.arbitrary::<[i64; 2]>()?),
            1 => shape = json!([rows, 3, 1, bytes.arbitrary::<u64>()?]),
            2 => size = json!(bytes.arbitrary::<i64>()?),
            3 => size = json!(bytes.arbitrary::<f64>()?),
            4 => tail.truncate(bytes.int_in_range(0..=tail.len())?),
            5 => tail.extend_from_slice(bytes.arbitrary::<&[u8]>()?),
            6 => name = *bytes.choose(&["", "y", "\u{0}", "x_out"])?,
            _ => data = Some(json!(bytes.arbitrary::<Vec<u8>>()?)),
        }
    }
    let binary = bytes.arbitrary()?;
    let mut input = json!({
        "name": name, "shape": shape, "datatype": datatype.to_string(),
        "parameters": {"binary_data_size": size},
    });
    if let Some(data) = data {
        input["data"] = data;
    }
    let head = json!({"inputs": [input], "parameters": {"binary_data_output": binary}});
    let mut length = Some(head.to_string().len().to_string());
    match bytes.int_in_range(0..=15_u8)? {
        0 => (length, right) = (None, false),
        1 => (length, right) = (Some(bytes.arbitrary::<u64>()?.to_string()), false),
        2 => (length, right) = (Some(bytes.arbitrary::<i8>()?.to_string()), false),
        _ => {}
    }
    let packed = bytes.int_in_range(0..=2)?;
    let model = datatype.to_string().to_lowercase();
    Ok(Case { model, head, tail, length, packed, binary, right })
}

fn pack(packed: u8, body: &[u8]) -> Vec<u8> {
    let level = Compression::fast();
    let written = match packed {
        1 => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(body).and_then(|()| encoder.finish())
        }
        2 => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(body).and_then(|()| encoder.finish())
        }
        _ => Ok(body.to_vec()),
    };
    written.expect("memory takes everything")
}

/// The bytes of the only output of an answer, where it came as raw bytes.
fn raw(reply: &Reply) -> &[u8] {
    let length = &reply.headers["inference-header-content-length"];
    let length: usize = length.to_str().expect("ASCII").parse().expect("a number");
    let head: Value = serde_json::from_slice(&reply.body[..length]).expect("JSON");
    let tail = &reply.body[length..];
    let size = head["outputs"][0]["parameters"]["binary_data_size"].as_u64();
    assert_eq!(size, Some(tail.len() as u64));
    tail
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(case) = case(&mut Unstructured::new(bytes)) else { return };
    let mut request = http::Request::post(format!("/v2/models/{}/infer", case.model));
    if let Some(length) = &case.length {
        request = request.header("inference-header-content-length", length);
    }
    if case.packed > 0 {
        let name = if case.packed == 1 { "gzip" } else { "deflate" };
        request = request.header("content-encoding", name);
    }
    let body = [case.head.to_string().as_bytes(), &case.tail].concat();
    let body = pack(case.packed, &body);
    let reply = GATEWAY.with(|gateway| gateway.get_or_init(Gateway::new).send(request, body));
    let Some(reply) = reply else { return };
    let text = String::from_utf8_lossy(&reply.body);
    // FP16, and bytes that are no text, have no form in JSON.
    let may_have_no_json = matches!(case.model.as_str(), "fp16" | "bytes") && !case.binary;
    if case.right && !may_have_no_json {
        assert_eq!(reply.status, 200, "{text}");
        if case.binary {
            assert_eq!(raw(&reply), case.tail);
        }
    } else if reply.status != 200 {
        // Whatever is wrong is wrong with the request.
        assert!(reply.status.is_client_error(), "{}: {text}", reply.status);
    }
});
