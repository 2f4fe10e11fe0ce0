//! Labels of the real program, which is killed in the middle of them: what was
//! acknowledged is known afterwards, and counted once.
//!
//! A few kills each time; `KILLS=200` for more.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::program::{Program, serve};

const ROW: &str = "{\"instances\": [[8, 39.25, 289.75, 24, 1, 1, 2.5, 3, 1, 4, 0, 29]]}";

fn repository(root: &Path) {
    let sample = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/churn/1/model.onnx"));
    let folder = root.join("models/churn/1");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(sample, folder.join("model.onnx")).unwrap();
    fs::write(root.join("models/churn/model.toml"), "[labels]\n").unwrap();
}

/// One request on a connection of its own; an error if it was not answered whole.
fn ask(to: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect(to)?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-type: \
         application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, serde_json::from_str(body).map_err(|_| std::io::ErrorKind::UnexpectedEof)?))
}

/// Predicts, and reports each answer's label at once, until nobody answers any more; the
/// reports that were acknowledged.
fn report_on(inference: SocketAddr) -> JoinHandle<Vec<Value>> {
    let one = move || -> std::io::Result<Value> {
        let (status, reply) = ask(inference, "POST", "/predict/churn", ROW)?;
        assert_eq!(status, 200, "{reply}");
        let label = json!({"prediction_id": reply["prediction_id"], "label": 1});
        let (status, receipt) = ask(inference, "POST", "/v1/feedback", &label.to_string())?;
        assert_eq!((status, &receipt["joined"]), (200, &json!(1)), "{receipt}");
        Ok(label)
    };
    std::thread::spawn(move || std::iter::from_fn(|| one().ok()).collect())
}

fn wait_until_ready(program: &Program) {
    // The board's address answers when the program does; the model is ready a little later.
    let ready = || matches!(ask(program.inference, "POST", "/predict/churn", ROW), Ok((200, _)));
    while !ready() {
        std::thread::yield_now();
    }
}

#[test]
fn no_label_that_was_acknowledged_is_lost_or_counted_twice() {
    let kills = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(3);
    let root = tempfile::tempdir().unwrap();
    repository(root.path());
    let (models, state) = (root.path().join("models"), root.path().join("state"));
    let mut all: Vec<Value> = Vec::new();
    for kill in 0..kills {
        let mut program = serve(&models, &state, &[]);
        wait_until_ready(&program);
        let reporters = [report_on(program.inference), report_on(program.inference)];
        // So many more are acknowledged before it is killed.
        let before = labelled(program.admin);
        while labelled(program.admin) < before + 5 + 7 * (kill % 3) {
            std::thread::yield_now();
        }
        program.signal("KILL");
        program.wait();
        for reporter in reporters {
            all.extend(reporter.join().unwrap());
        }
    }
    let program = serve(&models, &state, &[]);
    wait_until_ready(&program);
    let counted = labelled(program.admin);
    let lines: Vec<_> = all.iter().map(ToString::to_string).collect();
    let again = ask(program.inference, "POST", "/v1/feedback", &lines.join("\n")).unwrap().1;
    assert_eq!(again["duplicate"], all.len(), "{again}");
    assert_eq!(labelled(program.admin), counted, "counted again");
    // At most the ones under way at each kill were stored and not acknowledged.
    let known = u64::try_from(all.len()).unwrap();
    assert!((known..=known + 2 * kills).contains(&counted), "{counted} of {known}");
}

/// Labelled rows of the only version.
fn labelled(admin: SocketAddr) -> u64 {
    let (status, reply) = ask(admin, "GET", "/v1/models/churn/quality", "").unwrap();
    assert_eq!(status, 200, "{reply}");
    reply["versions"][0]["figures"]["labelled_rows"].as_u64().unwrap_or(0)
}
