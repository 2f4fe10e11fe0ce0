//! Compressed bodies and replies, through the whole service.

use bytes::Bytes;

use crate::protocol::compression::{BODY, Coding, Inflating};
use crate::protocol::testing::{Bench, Got, sums, sums_signature, version};
use crate::protocol::{LARGE_BYTES, RequestLimits};
use crate::types::ModelSettings;

const INFER: &str = "/v2/models/sums/infer";
const CODINGS: [(&str, Coding); 2] = [("gzip", Coding::Gzip), ("deflate", Coding::Deflate)];

fn bench(compress_from: usize) -> Bench {
    let limits =
        RequestLimits { compress_from, body_bytes_max: 4 << 20, ..RequestLimits::default() };
    let bench = Bench::with(limits, std::time::Duration::MAX);
    let sums = version("sums", 1, sums_signature(2), sums);
    bench.add(&ModelSettings::default(), &[sums], None);
    bench
}

/// A body of so many rows for `/predict`.
fn rows(count: usize, row: impl Fn(usize) -> String) -> String {
    let rows: Vec<_> = (0..count).map(row).collect();
    format!("{{\"instances\":[{}]}}", rows.join(","))
}

/// JSON and a raw tensor for [`INFER`], and the length of the JSON.
fn binary(values: &[f32]) -> (Vec<u8>, String) {
    let tail: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let json = format!(
        r#"{{"inputs":[{{"name":"X","shape":[{},2],"datatype":"FP32","parameters":{{"binary_data_size":{}}}}}]}}"#,
        values.len() / 2,
        tail.len()
    );
    ([json.as_bytes(), &tail].concat(), json.len().to_string())
}

fn inflated(got: &Got, coding: Coding) -> Bytes {
    Inflating::new(BODY, coding, got.body.clone(), usize::MAX).read().unwrap()
}

#[tokio::test]
async fn a_compressed_body_is_read_as_if_it_were_plain() {
    let bench = bench(usize::MAX);
    // Small; small only when compressed; large in both forms.
    let bodies = [
        rows(1, |_| "[1,2]".to_owned()),
        rows(LARGE_BYTES / 4, |_| "[1,2]".to_owned()),
        rows(20_000, |i| format!("[{},{}]", (i * 7919) % 10_007, (i * 104_729) % 99_991)),
    ];
    for body in bodies {
        let plain = bench.post("/predict/sums", &body).await;
        assert_eq!(plain.status, 200);
        for (name, coding) in CODINGS {
            let packed = coding.compress(body.as_bytes(), vec![]);
            let headers = [("content-encoding", name)];
            let got = bench.send("POST", "/predict/sums", &headers, packed).await;
            assert_eq!(got.status, 200, "{}", got.text());
            assert_eq!(got.text(), plain.text());
        }
    }
}

#[tokio::test]
async fn the_length_of_the_json_is_that_of_the_plain_json() {
    let bench = bench(usize::MAX);
    let (body, length) = binary(&[1.0, 2.0, 3.0, 4.0]);
    for (name, coding) in CODINGS {
        let packed = coding.compress(&body, vec![]);
        let header =
            |length| [("content-encoding", name), ("inference-header-content-length", length)];
        let got = bench.send("POST", INFER, &header(&length), packed.clone()).await;
        assert!(got.text().ends_with("\"data\":[3.0,7.0]}]}"), "{}", got.text());
        // It may well be more than there are compressed bytes, but not plain ones.
        let got = bench.send("POST", INFER, &header("1000"), packed).await;
        let expected = format!("1000 bytes of JSON, but the body has only {}", body.len());
        assert!(got.error().1.ends_with(&expected), "{}", got.text());
    }
}

#[tokio::test]
async fn a_bomb_is_refused_at_the_limit() {
    let bench = bench(usize::MAX);
    for (name, coding) in CODINGS {
        let bomb = coding.compress(&vec![b' '; 64 << 20], vec![]);
        assert!(bomb.len() < 1 << 20);
        let headers = [("content-encoding", name)];
        for path in ["/predict/sums", INFER, "/v2/repository/index"] {
            let got = bench.send("POST", path, &headers, bomb.clone()).await;
            let expected = "the body, decompressed, is over the limit of 4194304 bytes".to_owned();
            assert_eq!(got.error(), (413, expected), "{path}");
        }
    }
    assert!(bench.metrics().contains("foreshadow_rejected_total{reason=\"too_large\"} 6"));
}

#[tokio::test]
async fn a_large_reply_is_compressed_for_who_takes_it() {
    let bench = bench(1000);
    let body = rows(1000, |_| "[1,2]".to_owned());
    let identity = [("accept-encoding", "identity")];
    let plain = bench.send("POST", "/predict/sums", &identity, body.clone()).await;
    assert_eq!((plain.status.as_u16(), plain.header("content-encoding")), (200, ""));
    for (name, coding) in CODINGS {
        let got =
            bench.send("POST", "/predict/sums", &[("accept-encoding", name)], body.clone()).await;
        assert_eq!((got.header("content-encoding"), got.header("vary")), (name, "accept-encoding"));
        assert!(got.body.len() < plain.body.len() / 4);
        let text = String::from_utf8(inflated(&got, coding).to_vec()).unwrap();
        let id = got.header("x-prediction-id");
        assert_eq!(text.replace(id, "ID"), plain.text());
    }
    // A small one is not, and a binary one tells the length of the plain JSON.
    let small = rows(1, |_| "[1,2]".to_owned());
    let got = bench.send("POST", "/predict/sums", &[("accept-encoding", "gzip")], small).await;
    assert_eq!(got.header("content-encoding"), "");
    let (body, length) = binary(&[1.0; 4000]);
    let body = String::from_utf8_lossy(&body[..length.parse().unwrap()])
        .replace("\"inputs\"", "\"parameters\":{\"binary_data_output\":true},\"inputs\"")
        .into_bytes()
        .into_iter()
        .chain(body[length.parse().unwrap()..].iter().copied())
        .collect::<Vec<_>>();
    let length = (body.len() - 16_000).to_string();
    let headers =
        [("accept-encoding", "gzip"), ("inference-header-content-length", length.as_str())];
    let got = bench.send("POST", INFER, &headers, body).await;
    assert_eq!(got.header("content-encoding"), "gzip");
    let plain = inflated(&got, Coding::Gzip);
    let json: usize = got.header("inference-header-content-length").parse().unwrap();
    assert_eq!(plain.len() - json, 2000 * 4);
    serde_json::from_slice::<serde_json::Value>(&plain[..json]).unwrap();
}
