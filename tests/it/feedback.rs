//! Labels over real sockets: joined with the answers that they are of, whatever comes
//! twice, too late, or for nobody.

use serde_json::{Value, json};

use crate::gateway::{Gateway, start, start_with};
use crate::http::{Client, Reply};

/// The scores that are sent are the answer.
const MODEL: &str = "task = \"classification\"\nfeatures = [\"no\", \"yes\"]\n[labels]\n\
                     classes = [\"stays\", \"leaves\"]\n[groups.plan]\nheader = \"x-plan\"\n\
                     values = [\"basic\", \"pro\"]\n";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Sends rows; the answer's id.
async fn predict(client: &mut Client, rows: &Value, plan: &'static str) -> String {
    let body = json!({ "instances": rows }).to_string();
    let reply = client.send("POST", "/predict/m", &[("x-plan", plan)], body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["prediction_id"].as_str().unwrap().to_owned()
}

async fn report(client: &mut Client, body: impl ToString) -> Reply {
    client.post("/v1/feedback", body.to_string()).await
}

async fn quality(gateway: &Gateway) -> Value {
    let mut admin = Client::connect(gateway.app.admin_address()).await;
    let reply = admin.get("/v1/models/m/quality").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

#[test]
fn labels_are_joined_once_with_the_answers_that_they_are_of() {
    let gateway = start(MODEL, &["echoes FP32"]);
    runtime().block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        let one = predict(&mut client, &json!([[0.25, 0.75]]), "pro").await;
        let two = predict(&mut client, &json!([[0.875, 0.125], [0.5, 0.5]]), "basic").await;
        // One right; of two rows one wrong, and one that the model does not have.
        let got = report(&mut client, json!({"prediction_id": one, "label": "leaves"})).await;
        assert_eq!((got.status, got.json()["joined"].as_u64()), (200, Some(1)), "{}", got.text());
        let many = json!({"feedback": [
            {"prediction_id": two, "labels": ["leaves", "stays", "stays"]},
            {"prediction_id": one, "label": "leaves"},
            {"prediction_id": one, "label": 1},
            {"prediction_id": one, "label": "stays"},
            {"prediction_id": two, "row": 1, "label": "perhaps"},
            {"prediction_id": "0123456789abcdef0123456789abcdef", "label": "stays"},
        ]});
        let got = report(&mut client, &many).await.json();
        let counts = ["joined", "duplicate", "conflicting", "refused", "waiting", "late"]
            .map(|key| got[key].as_u64().unwrap());
        // Row 1 had its label by then: another one is in conflict, whatever it says.
        assert_eq!(counts, [2, 2, 2, 1, 1, 0], "{got:#}");
        let problem = got["problems"][0]["problem"].as_str().unwrap();
        assert_eq!(problem, "row: expected 0 to 1, got 2; so many rows of the answer are kept");

        let shown = quality(&gateway).await;
        let version = &shown["versions"][0];
        assert_eq!((&version["version"], &version["role"]), (&json!(1), &json!("champion")));
        let figures = &version["figures"];
        assert_eq!((&figures["rows"], &figures["labelled_rows"]), (&json!(3), &json!(3)));
        assert_eq!(figures["accuracy"]["count"], 2, "{shown:#}");
        assert_eq!(shown["labels_waiting"], 1);
        let groups = &version["groupings"][0];
        assert_eq!(groups["grouping"], "plan");
        let names: Vec<_> =
            groups["groups"].as_array().unwrap().iter().map(|group| &group["group"]).collect();
        assert_eq!(names, ["basic", "pro"]);
        assert_eq!(groups["groups"][0]["figures"]["accuracy"]["count"], 1);

        let wrong = report(&mut client, json!({"prediction_id": one, "row": 5, "label": 1})).await;
        assert!(wrong.error(400).starts_with("label 0: row: expected 0 to 0"), "{}", wrong.text());
        let wrong = report(&mut client, "{\"label\": 1}").await;
        assert_eq!(wrong.error(400), "\"prediction_id\" is missing");
    });
    gateway.app.stop();
}

#[test]
fn rows_are_grouped_by_a_parameter_in_every_form() {
    let model = MODEL.replace("header = \"x-plan\"", "parameter = \"plan\"");
    let gateway = start(&model, &["echoes FP32"]);
    runtime().block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        let rows = json!([[0.25, 0.75]]);
        let tensor =
            json!([{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.25, 0.75]}]);
        for (path, body) in [
            ("/predict/m", json!({"instances": rows, "plan": "pro"})),
            ("/v1/models/m:predict", json!({"instances": rows, "plan": "pro"})),
            ("/v2/models/m/infer", json!({"inputs": tensor, "parameters": {"plan": "pro"}})),
            ("/predict/m", json!({"instances": rows, "plan": "gold"})),
            ("/predict/m", json!({"instances": rows, "plan": ["basic"]})),
            ("/predict/m", json!({"instances": rows})),
        ] {
            let reply = client.post(path, body.to_string()).await;
            assert_eq!(reply.status, 200, "{path} {body}: {}", reply.text());
        }
        let stranger = json!({"instances": rows, "land": "de"}).to_string();
        let told = client.post("/predict/m", stranger).await.error(400).to_owned();
        assert!(told.starts_with("unknown key \"land\""), "{told}");
        let shown = quality(&gateway).await;
        let groups = shown["versions"][0]["groupings"][0]["groups"].as_array().unwrap();
        let rows: Vec<_> =
            groups.iter().map(|own| (&own["group"], &own["figures"]["rows"])).collect();
        assert_eq!(rows, [(&json!("(other)"), &json!(3)), (&json!("pro"), &json!(3))]);
    });
    gateway.app.stop();
}

#[test]
fn who_asks_for_a_version_by_its_number_is_not_counted_and_nobody_is_by_default() {
    let gateway = start(MODEL, &["echoes FP32"]);
    runtime().block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        let body = json!({"instances": [[0.25, 0.75]], "version": 1}).to_string();
        let reply = client.post("/predict/m", body).await;
        let id = reply.json()["prediction_id"].clone();
        let got = report(&mut client, json!({"prediction_id": id, "label": "stays"})).await;
        assert_eq!(got.json()["waiting"], 1, "{}", got.text());
        assert_eq!(quality(&gateway).await["versions"], json!([]));
    });
    gateway.app.stop();

    let gateway = start("", &["echoes FP32"]);
    runtime().block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        let id = predict(&mut client, &json!([[0.25, 0.75]]), "pro").await;
        let got = report(&mut client, json!({"prediction_id": id, "label": 1})).await;
        assert!(got.error(409).starts_with("no model keeps its answers for labels"));
        assert!(quality(&gateway).await["problem"].is_string());
    });
    gateway.app.stop();
}

#[test]
fn strangers_are_bounded() {
    let gateway = start_with(MODEL, &["echoes FP32"], &[("labels.waiting_max", "2")]);
    runtime().block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        let stranger = |n: u32| json!({"prediction_id": format!("{n:032x}"), "label": "stays"});
        let lines: Vec<_> = (0..5).map(|n| stranger(n).to_string()).collect();
        let got = report(&mut client, lines.join("\n")).await.json();
        assert_eq!((&got["waiting"], &got["dropped"]), (&json!(2), &json!(3)), "{got:#}");
        gateway.wait_for_metric("foreshadow_labels_total{outcome=\"dropped\"} 3").await;
    });
    gateway.app.stop();
}

#[test]
fn a_number_is_judged_by_its_distance() {
    let gateway = start("task = \"regression\"\n[labels]\n", &["answers 20"]);
    runtime().block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        let mut lines = Vec::new();
        for x in 0..8_i32 {
            let reply = client.post("/predict/m", json!({"instances": [[x]]}).to_string()).await;
            let id = reply.json()["prediction_id"].clone();
            // Two below at even ones.
            lines.push(json!({"prediction_id": id, "label": 20 - 2 * i32::from(x % 2 == 0)}));
        }
        let body: Vec<_> = lines.iter().map(ToString::to_string).collect();
        let got = report(&mut client, body.join("\n")).await.json();
        assert_eq!(got["joined"], 8, "{got:#}");
        let errors = &quality(&gateway).await["versions"][0]["figures"]["errors"];
        assert_eq!(errors["mae"]["value"], 1.0, "{errors:#}");
        assert_eq!(errors["bias"]["value"], 1.0);
        assert!((errors["rmse"].as_f64().unwrap() - 2.0_f64.sqrt()).abs() < 1e-12);
    });
    gateway.app.stop();
}
