//! Bad input to the Open Inference Protocol over REST: each is refused with what
//! is wrong, and the next request is answered.

use serde_json::{Value, json};

use crate::bad_tensors::{self, Contents, Input};
use crate::gateway::{start, start_with};
use crate::http::Client;

const INFER: &str = "/v2/models/m/infer";
const LENGTH: &str = "Inference-Header-Content-Length";
const GOOD: &str = r#"{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]}"#;

fn block_on<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
}

/// JSON, and the raw tensors behind it.
fn request(inputs: &[Input], outputs: &[&str]) -> (Vec<u8>, usize) {
    let mut tail = Vec::new();
    let mut tensors = Vec::new();
    for input in inputs {
        let (name, shape, datatype) = (input.name, &input.shape, input.datatype);
        let mut tensor = json!({"name": name, "shape": shape, "datatype": datatype});
        if let Contents::Raw(bytes) | Contents::Both(bytes, _) = &input.contents {
            tensor["parameters"] = json!({"binary_data_size": bytes.len()});
            tail.extend_from_slice(bytes);
        }
        if let Contents::Typed(elements) | Contents::Both(_, elements) = &input.contents {
            tensor["data"] = serde_json::from_str(elements).unwrap();
        }
        tensors.push(tensor);
    }
    let outputs: Vec<_> = outputs.iter().map(|name| json!({"name": name})).collect();
    let request = json!({
        "parameters": {"binary_data_output": true},
        "inputs": tensors,
        "outputs": outputs,
    });
    let json = serde_json::to_vec(&request).unwrap();
    let length = json.len();
    (json.into_iter().chain(tail).collect(), length)
}

#[test]
fn every_bad_tensor_is_told_what_is_wrong_with_it() {
    for (script, cases) in bad_tensors::by_script() {
        let gateway = start("", &[script]);
        let datatype = script.split_whitespace().nth(1).unwrap();
        let good = [bad_tensors::good(datatype)];
        block_on(async {
            let mut client = Client::connect(gateway.app.inference_address()).await;
            for bad in &cases {
                let (body, length) = request(&bad.inputs, bad.outputs);
                let length = length.to_string();
                let reply = client.send("POST", INFER, &[(LENGTH, &length)], body).await;
                assert_eq!(reply.status, bad.code.http_status(), "{}: {}", bad.what, reply.text());
                let message = reply.error(reply.status);
                for part in bad.says {
                    assert!(message.contains(part), "{}: {part:?} in {message:?}", bad.what);
                }
                let (body, length) = request(&good, &[]);
                let length = length.to_string();
                let reply = client.send("POST", INFER, &[(LENGTH, &length)], body).await;
                assert_eq!(reply.status, 200, "after {}: {}", bad.what, reply.text());
            }
        });
        gateway.app.stop();
    }
}

/// What only this protocol can get wrong: lengths in the JSON and in the header.
#[test]
fn every_length_that_lies_is_refused() {
    let gateway = start("", &["echoes FP32"]);
    let json = |size: &str| {
        format!(
            r#"{{"inputs":[{{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{{"binary_data_size":{size}}}}}]}}"#
        )
    };
    let sizes: [(&str, usize, &str); 7] = [
        ("8", 7, "\"binary_data_size\" is 8, only 7 bytes are left"),
        ("8", 9, "1 bytes are left behind the last binary input"),
        ("7", 7, "2 elements of 4 bytes, got 7 bytes"),
        ("-8", 8, "expected a whole number from 0, got -8"),
        ("8.0", 8, "expected a whole number from 0, got 8.0"),
        ("18446744073709551615", 8, "only 8 bytes are left"),
        ("18446744073709551616", 8, "expected a whole number from 0"),
    ];
    let headers = ["1000", "-1", "0x10", "", "99999999999999999999", "5"];
    block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        for (size, bytes, expected) in sizes {
            let json = json(size);
            let length = json.len().to_string();
            let body = [json.as_bytes(), &vec![0; bytes]].concat();
            let message = client.send("POST", INFER, &[(LENGTH, &length)], body).await.error(400);
            assert!(message.contains(expected), "{size}: {message}");
        }
        for length in headers {
            let reply = client.send("POST", INFER, &[(LENGTH, length)], json("8")).await;
            let message = reply.error(400);
            assert!(!message.is_empty(), "{length}");
        }
        // Without the header there is nothing behind the JSON.
        let message = client.post(INFER, json("8")).await.error(400);
        assert!(message.contains(LENGTH), "{message}");
        // A raw body for a tensor that is no multiple of its rows.
        let reply = client.send("POST", INFER, &[(LENGTH, "0")], vec![0; 9]).await;
        assert!(reply.error(400).contains("multiple of 8 bytes"), "{}", reply.text());
    });
    gateway.app.stop();
}

#[test]
fn parameters_of_a_wrong_kind_are_refused() {
    let gateway = start("", &["answers 1"]);
    let with = |parameters: Value| {
        let mut request: Value = serde_json::from_str(GOOD).unwrap();
        request["parameters"] = parameters;
        request.to_string()
    };
    let cases = [
        (json!({"timeout": "soon"}), 400, "a whole number from 0"),
        (json!({"timeout": -1}), 400, "a whole number from 0"),
        (json!({"priority": true}), 400, "a whole number from 0"),
        (json!({"binary_data_output": "yes"}), 400, "true or false"),
        (json!({"mine": {"a": 1}}), 400, "a string, a number or a boolean, got an object"),
        (json!({"mine": [1]}), 400, "a string, a number or a boolean, got an array"),
        (json!({"mine": null}), 400, "a string, a number or a boolean, got null"),
        (json!({"sequence_id": 7}), 400, "keeps state between requests"),
        (json!({"sequence_start": true}), 400, "keeps state between requests"),
        (json!(7), 400, "expected an object"),
    ];
    block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        for (parameters, status, expected) in cases {
            let message = client.post(INFER, with(parameters.clone())).await.error(status);
            assert!(message.contains(expected), "{parameters}: {message}");
        }
        let fine = json!({"priority": 1, "timeout": 10_000_000, "mine": 1.5, "more": "a"});
        assert_eq!(client.post(INFER, with(fine)).await.status, 200);
    });
    gateway.app.stop();
}

#[test]
fn wrong_compression_is_refused_and_a_bomb_ends_early() {
    let gateway = start_with("", &["answers 1"], &[("server.body_max", "1MiB")]);
    let gzip = |bytes: &[u8]| {
        use std::io::Write as _;
        let level = flate2::Compression::best();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let packed = gzip(GOOD.as_bytes());
    block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        let mut post = async |encoding: &str, body: Vec<u8>| {
            client.send("POST", INFER, &[("content-encoding", encoding)], body).await
        };
        assert_eq!(post("gzip", packed.clone()).await.status, 200);
        let message = post("gzip", GOOD.into()).await.error(400);
        assert!(message.contains("is not gzip"), "{message}");
        let message = post("deflate", packed.clone()).await.error(400);
        assert!(message.contains("is not deflate"), "{message}");
        let message = post("gzip", packed[..packed.len() - 4].to_vec()).await.error(400);
        assert!(message.contains("breaks off before its end"), "{message}");
        let message = post("zstd", packed.clone()).await.error(415);
        assert!(message.contains("expected gzip, deflate or identity"), "{message}");
        // 256 MiB of blanks in 256 KiB.
        let message = post("gzip", gzip(&vec![b' '; 256 << 20])).await.error(413);
        assert!(message.contains("1048576 bytes"), "{message}");
        assert_eq!(post("gzip", packed.clone()).await.status, 200);
    });
    gateway.app.stop();
}

/// The client hangs up in the middle of its body.
#[test]
fn a_body_that_stops_in_the_middle_costs_nobody_anything() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let gateway = start("", &["answers 1"]);
    block_on(async {
        let address = gateway.app.inference_address();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!("POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.unwrap();
        let reply = String::from_utf8_lossy(&reply);
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 400"), "{reply}");
        let mut client = Client::connect(address).await;
        assert_eq!(client.post(INFER, GOOD).await.status, 200);
    });
    gateway.app.stop();
}
