//! The repository through the inference listener: index, load, unload.

use foreshadow::registry::State;
use serde_json::{Value, json};

use crate::gateway::{Gateway, start, start_with, version, write_version};
use crate::http::Client;

const ON: (&str, &str) = ("repository.load_unload", "on");
const TOKEN: &str = "0123456789abcdef";
const INFER: &str = r#"{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]}"#;

fn block_on<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
}

async fn index(client: &mut Client, body: &str) -> Vec<Value> {
    let reply = client.post("/v2/repository/index", body.to_owned()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json().as_array().unwrap().clone()
}

fn state(gateway: &Gateway, number: u64) -> Option<State> {
    let view = gateway.app.control().model(&"m".parse().unwrap()).unwrap();
    view.versions.iter().find(|v| v.version == version(number)).map(|v| v.state)
}

#[test]
fn a_model_is_unloaded_and_loaded_again() {
    let gateway = start_with("", &["answers 1", "answers 2"], &[ON]);
    block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        let line = |version: &str, state: &str, reason: &str| json!({"name": "m", "version": version, "state": state, "reason": reason});
        let both = [line("1", "READY", ""), line("2", "READY", "")];
        assert_eq!(index(&mut client, "").await, both);
        let unload = r#"{"parameters":{"unload_dependents":false}}"#;
        let reply = client.post("/v2/repository/models/m/unload", unload).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "{}"));
        // From the answer on, nobody is answered by it.
        for path in ["/v2/models/m/ready", "/v2/models/m"] {
            assert_eq!(client.get(path).await.status, 404, "{path}");
        }
        assert_eq!(client.post("/v2/models/m/infer", INFER).await.status, 404);
        assert_eq!(client.get("/v2/health/ready").await.status, 200);
    });
    gateway.wait(|g| [1, 2].iter().all(|n| state(g, *n) == Some(State::Unloaded)));
    block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        assert_eq!(index(&mut client, r#"{"ready":true}"#).await, Vec::<Value>::new());
        let states = index(&mut client, "{}").await;
        assert!(states.iter().all(|line| line["state"] == "UNAVAILABLE"), "{states:?}");
        assert!(states.iter().all(|line| line["reason"] == "unloaded"), "{states:?}");
        let reply = client.post("/v2/repository/models/m/load", "{}").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let reply = client.post("/v2/models/m/infer", INFER).await;
        assert_eq!((reply.status, reply.header("x-model-version")), (200, "2"));
        let stats = client.get("/v2/models/m/versions/2/stats").await.json();
        assert_eq!(stats["model_stats"][0]["inference_count"], 1);
    });
    gateway.app.stop();
}

#[test]
fn a_load_says_what_came_of_it() {
    let gateway = start_with("", &["answers 1"], &[ON]);
    write_version(&gateway.model_folder(), 2, "nonsense");
    block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        let message = client.post("/v2/repository/models/m/load", "").await.error(409);
        assert!(message.contains("version 2: ") && message.contains("champion 1"), "{message}");
        let message = client.post("/v2/repository/models/nobody/load", "").await.error(404);
        assert!(message.contains("nobody") && message.contains("models: m"), "{message}");
        let body = r#"{"parameters":{"config":"{}"}}"#;
        let message = client.post("/v2/repository/models/m/load", body).await.error(400);
        assert!(message.contains("\"config\""), "{message}");
        let body = r#"{"parameters":{"version":"1"}}"#;
        let message = client.post("/v2/repository/models/m/unload", body).await.error(409);
        assert!(message.contains("version 1 is champion"), "{message}");
    });
    gateway.app.stop();
}

#[test]
fn only_those_who_may_load_and_unload() {
    let unload = "/v2/repository/models/m/unload";
    let closed = start("", &["answers 1"]);
    let open = start_with("", &["answers 1"], &[ON]);
    let guarded = start_with("", &["answers 1"], &[ON, ("admin.token", TOKEN)]);
    block_on(async {
        let mut client = Client::connect(closed.app.inference_address()).await;
        assert!(client.post(unload, "").await.error(403).contains("load_unload"));
        let mut client = Client::connect(open.app.inference_address()).await;
        let page = [("origin", "http://evil.example")];
        client.send("POST", unload, &page, "").await.error(403);
        let rebound = [("host", "evil.example")];
        client.send("POST", unload, &rebound, "").await.error(403);
        let mut client = Client::connect(guarded.app.inference_address()).await;
        client.post(unload, "").await.error(401);
        let wrong = [("authorization", "Bearer 0123456789abcdeX")];
        client.send("POST", unload, &wrong, "").await.error(401);
        assert_eq!(index(&mut client, r#"{"ready":true}"#).await.len(), 1);
        let bearer = format!("Bearer {TOKEN}");
        let right = [("authorization", bearer.as_str())];
        assert_eq!(client.send("POST", unload, &right, "").await.status, 200);
    });
    let history = block_on(guarded.app.control().history(None, 1)).unwrap();
    assert_eq!((history[0].actor.as_str(), history[0].action.as_str()), ("client", "unload"));
    for gateway in [closed, open, guarded] {
        gateway.app.stop();
    }
}
