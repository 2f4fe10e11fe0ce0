//! What happens is told: by signed webhooks, and as a stream.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;

use crate::http::Client;
use crate::program::{Program, command, serve};

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models");
pub(crate) const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// What a broken gateway would wait for.
const DEADLINE: Duration = Duration::from_secs(60);

/// A message as it arrived.
pub(crate) struct Message {
    headers: Vec<(String, String)>,
    body: String,
    /// What to answer.
    pub(crate) reply: Sender<u16>,
}

impl Message {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map_or("", |(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn action(&self) -> String {
        self.json()["data"]["action"].as_str().unwrap_or_default().to_owned()
    }

    fn number(&self) -> u64 {
        self.json()["data"]["number"].as_u64().unwrap()
    }

    /// As its receiver does it, by the specification.
    fn is_signed(&self) -> bool {
        let signed = format!(
            "{}.{}.{}",
            self.header("webhook-id"),
            self.header("webhook-timestamp"),
            self.body
        );
        let mut mac =
            Hmac::<sha2::Sha256>::new_from_slice(&STANDARD.decode(SECRET).unwrap()).unwrap();
        mac.update(signed.as_bytes());
        let signature = STANDARD.decode(self.header("webhook-signature").trim_start_matches("v1,"));
        mac.verify_slice(&signature.unwrap()).is_ok()
    }
}

/// Somebody who is told, and answers what the test says.
pub(crate) struct Told {
    pub(crate) address: SocketAddr,
    messages: Receiver<Message>,
}

impl Told {
    pub(crate) fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, messages) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let sender = sender.clone();
                thread::spawn(move || take(stream.unwrap(), &sender));
            }
        });
        Self { address, messages }
    }

    fn next(&self) -> Message {
        self.messages.recv_timeout(DEADLINE).expect("a message arrives")
    }

    /// Takes all up to the one with this action, which is not answered yet.
    pub(crate) fn until(&self, action: &str) -> Message {
        loop {
            let message = self.next();
            if message.action().contains(action) {
                return message;
            }
            message.reply.send(204).unwrap();
        }
    }
}

fn take(stream: TcpStream, sender: &Sender<Message>) {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let pairs = lines.iter().skip(1).filter_map(|line| line.split_once(": "));
    let headers: Vec<_> = pairs.map(|(n, v)| (n.to_lowercase(), v.to_owned())).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse();
    let mut body = vec![0; length.unwrap()];
    reader.read_exact(&mut body).unwrap();
    let (reply, answer) = channel();
    let body = String::from_utf8(body).unwrap();
    let _ = sender.send(Message { headers, body, reply });
    // Unanswered if the test forgets the message.
    if let Ok(status) = answer.recv() {
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let _ = reader.get_mut().write_all(head.as_bytes());
    }
}

fn start(root: &Path) -> Program {
    let file = root.join("webhooks.toml");
    let settings = [
        ("FORESHADOW_WEBHOOKS_FILE", file.to_str().unwrap()),
        ("FORESHADOW_WEBHOOKS_PAUSE", "10ms"),
    ];
    let mut program = serve(Path::new(MODELS), &root.join("state"), &settings);
    program.line("Try:");
    program
}

fn client(program: &Program, args: &[&str]) {
    let url = format!("http://{}", program.admin);
    let output = command(args).env("FORESHADOW_ADMIN", url).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_change_is_told_signed_once_taken_and_in_order() {
    let root = tempfile::tempdir().unwrap();
    let told = Told::listen();
    let file = format!(
        "[[webhook]]\nname = \"ci\"\nurl = \"http://{}/hook\"\nsecret = \"whsec_{SECRET}\"\n\
         models = [\"churn\"]\n",
        told.address
    );
    std::fs::write(root.path().join("webhooks.toml"), file).unwrap();
    let mut program = start(root.path());
    client(&program, &["promote", "churn", "2", "--actor", "eve", "--reason", "a week"]);
    let first = told.until("promote 2");
    assert!(first.is_signed(), "{:?}", first.headers);
    let sent = first.json();
    assert_eq!((&sent["type"], &sent["data"]["actor"]), (&"audit.entry".into(), &"eve".into()));
    assert!(sent["data"]["hash"].as_str().unwrap().starts_with("sha256:"));
    // It is not taken: it comes again, and nothing before it.
    let id = first.header("webhook-id").to_owned();
    first.reply.send(500).unwrap();
    let again = told.next();
    assert_eq!((again.header("webhook-id"), &again.body), (&*id, &first.body));
    assert!(again.is_signed());
    again.reply.send(204).unwrap();

    // The process ends while one is not taken, and while there are others behind it.
    client(&program, &["canary", "churn", "3", "--weight", "5%"]);
    let open = told.until("canary 3 at 5%");
    client(&program, &["canary", "churn", "3", "--weight", "6%"]);
    client(&program, &["canary", "churn", "3", "--weight", "7%"]);
    program.signal("KILL");
    program.wait();
    let number = open.number();
    drop(open);
    let program = start(root.path());
    let mut numbers = Vec::new();
    for weight in ["5%", "6%", "7%"] {
        let message = told.next();
        assert_eq!(message.action(), format!("canary 3 at {weight}"));
        numbers.push(message.number());
        message.reply.send(200).unwrap();
    }
    assert_eq!(numbers, [number, number + 1, number + 2]);
    drop(program);
}

#[test]
fn a_team_is_told_in_words() {
    let root = tempfile::tempdir().unwrap();
    let told = Told::listen();
    let file = format!(
        "[[webhook]]\nname = \"team\"\nurl = \"http://{}/x\"\nform = \"slack\"\n",
        told.address
    );
    std::fs::write(root.path().join("webhooks.toml"), file).unwrap();
    let program = start(root.path());
    client(&program, &["promote", "churn", "2", "--actor", "eve"]);
    loop {
        let message = told.next();
        let text = message.json()["text"].as_str().unwrap().to_owned();
        message.reply.send(200).unwrap();
        assert_eq!(message.header("webhook-signature"), "");
        if text.starts_with("*churn*: promote 2 (by eve)\nchampion 1, ") {
            break;
        }
    }
}

/// The next `data` of a stream, without the entries of other models.
fn entry(stream: &mut BufReader<TcpStream>) -> Value {
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream ended");
        if let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str(data).unwrap();
        }
    }
}

fn client_output(program: &Program, path: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reply = runtime.block_on(async { Client::connect(program.admin).await.get(path).await });
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text()
}

#[test]
fn a_stream_shows_what_happens_and_goes_on_where_it_was() {
    let root = tempfile::tempdir().unwrap();
    let mut program = serve(Path::new(MODELS), &root.path().join("state"), &[]);
    program.line("Try:");
    let open = |header: &str| {
        let mut stream = TcpStream::connect(program.admin).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let head =
            format!("GET /v1/events?model=churn HTTP/1.1\r\nhost: localhost\r\n{header}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        reader
    };
    let mut live = open("");
    client(&program, &["promote", "churn", "2"]);
    let promoted = entry(&mut live);
    assert_eq!(promoted["action"], "promote 2");
    drop(live);
    client(&program, &["rollback", "churn"]);
    client(&program, &["canary", "churn", "3", "--weight", "5%"]);
    let mut later = open(&format!("last-event-id: {}\r\n", promoted["number"]));
    assert_eq!(entry(&mut later)["action"], "rollback");
    assert_eq!(entry(&mut later)["action"], "canary 3 at 5%");
    // All of it, and then its end.
    let all = client_output(&program, "/v1/events?after=0&follow=false&model=churn");
    assert!(all.starts_with("id: 1\nevent: audit\ndata: {\"number\":1,"), "{all}");
    assert!(all.contains("\"action\":\"canary 3 at 5%\""), "{all}");
    // It ends with the gateway, and holds up nothing.
    program.signal("TERM");
    let mut rest = String::new();
    later.read_to_string(&mut rest).unwrap();
    assert_eq!(program.wait().0, Some(0));
}
