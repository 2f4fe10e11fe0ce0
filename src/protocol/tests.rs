//! What every form of request has in common.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::Full;
use proptest::prelude::*;

use crate::engine::EngineError;
use crate::error::Error;
use crate::protocol::RequestLimits;
use crate::protocol::call::{self, Ask, Counted};
use crate::protocol::testing::{
    Bench, Got, echo, echo_signature, golden, spec, sums, sums_signature, version,
};
use crate::routing::Assignment;
use crate::types::{Data, Datatype, ModelSettings, Tensor};

/// Polls once, and drops what is not done then.
fn once<T>(work: impl Future<Output = T>) -> Option<T> {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

fn sums_bench() -> Bench {
    let bench = Bench::new();
    let versions =
        [version("sums", 1, sums_signature(2), sums), version("sums", 2, sums_signature(2), sums)];
    let settings = ModelSettings {
        features: vec!["a".into(), "user".into()],
        routing_key: Some("user".into()),
        allow_forced_role: true,
        ..ModelSettings::default()
    };
    bench.add(&settings, &versions, Some(50.0));
    bench
}

#[tokio::test]
async fn a_path_may_be_encoded() {
    let bench = sums_bench();
    let row = r#"{"instances":[[1,2]]}"#;
    for path in ["/predict/%73ums", "/v1/models/sums%3Apredict", "/v1/models/su%6ds:predict"] {
        assert_eq!(bench.post(path, row).await.status, 200, "{path}");
    }
    // What is read elsewhere finds its model, too.
    let many = format!(r#"{{"instances":[{}[1,2]]}}"#, "[1,2],".repeat(20_000));
    assert_eq!(bench.post("/predict/%73ums", &many).await.status, 200);
    for (path, status) in
        [("/predict/my%20sums", 404), ("/predict%2Fsums", 404), ("/predict/%zz", 400)]
    {
        assert_eq!(bench.post(path, row).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn replies_name_version_role_request_and_prediction() {
    let bench = sums_bench();
    let headers = [("x-request-id", "mine"), ("x-foreshadow-role", "canary")];
    let got = bench.send("POST", "/predict/sums", &headers, r#"{"instances":[[1,2]]}"#).await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(got.header("x-model-version"), "2");
    assert_eq!(got.header("x-model-role"), "pinned");
    assert_eq!(got.header("x-request-id"), "mine");
    assert_eq!(got.header("x-prediction-id").len(), 32);
    let again = bench.post("/predict/sums", r#"{"instances":[[1,2]]}"#).await;
    assert_ne!(again.header("x-prediction-id"), got.header("x-prediction-id"));
    assert_eq!(again.header("x-request-id").len(), 32);
}

/// The same key must lead to the same version, wherever it stands.
#[tokio::test]
async fn the_routing_key_is_found_in_every_form() {
    let bench = sums_bench();
    let infer = "/v2/models/sums/infer";
    let mut seen = [0, 0];
    for user in 0..24_u8 {
        let mut versions = Vec::new();
        let key = user.to_string();
        let by_header = [("x-routing-key", key.as_str())];
        let body = r#"{"instances":[[1,99]]}"#;
        versions.push(bench.send("POST", "/predict/sums", &by_header, body).await);
        for body in [
            format!(r#"{{"instances":[[1,{user}],[1,98]]}}"#),
            format!(r#"{{"instances":[{{"a":1,"user":{user}.0}}]}}"#),
            format!(r#"{{"instances":[[1,99]],"user":"{user}"}}"#),
            format!(r#"{{"inputs":[[1,{user}]]}}"#),
        ] {
            versions.push(bench.post("/predict/sums", &body).await);
        }
        let tensor = |data: &str| {
            format!(r#""inputs":[{{"name":"X","datatype":"FP32","shape":[1,2],"data":{data}}}]"#)
        };
        versions.push(bench.post(infer, &format!("{{{}}}", tensor(&format!("[1,{user}]")))).await);
        let parameter = format!(r#"{{"parameters":{{"user":{user}}},{}}}"#, tensor("[1,99]"));
        versions.push(bench.post(infer, &parameter).await);
        let json = r#"{"inputs":[{"name":"X","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}]}"#;
        let mut body = json.as_bytes().to_vec();
        body.extend_from_slice(&1_f32.to_le_bytes());
        body.extend_from_slice(&f32::from(user).to_le_bytes());
        let length = json.len().to_string();
        let headers = [("inference-header-content-length", length.as_str())];
        versions.push(bench.send("POST", infer, &headers, body).await);
        let versions: Vec<_> = versions
            .iter()
            .map(|got| {
                assert_eq!(got.status, 200, "{}", got.text());
                got.header("x-model-version").to_owned()
            })
            .collect();
        assert!(versions.iter().all(|v| *v == versions[0]), "user {user}: {versions:?}");
        seen[usize::from(versions[0] == "2")] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0, "both versions must answer someone: {seen:?}");
}

#[tokio::test]
async fn failures_are_counted_where_they_belong() {
    let bench = sums_bench();
    let pinned = |body: &str| format!(r#"{{"version":1,"instances":{body}}}"#);
    assert_eq!(bench.post("/predict/sums", &pinned("[[1,2]]")).await.status, 200);
    // Before a version is chosen.
    assert_eq!(bench.post("/predict/sums", "{").await.status, 400);
    assert_eq!(bench.post("/predict/other", &pinned("[[1,2]]")).await.status, 404);
    // And after.
    let short = bench.post("/predict/sums", &pinned("[[1]]")).await;
    assert_eq!(short.header("x-model-version"), "1");
    let failed = bench.post("/predict/sums", &pinned("[[7,0]]")).await;
    assert_eq!(failed.error(), (500, "model sums version 1 failed to run".to_owned()));
    let panicked = bench.post("/predict/sums", &pinned("[[13,0]]")).await;
    assert_eq!(panicked.error(), (500, "model sums version 1 failed to run".to_owned()));
    let metrics = bench.metrics();
    for line in [
        "foreshadow_requests_total{model=\"sums\",outcome=\"ok\",role=\"pinned\",version=\"1\"} 1",
        "foreshadow_requests_total{model=\"sums\",outcome=\"invalid_argument\",role=\"pinned\",version=\"1\"} 1",
        "foreshadow_requests_total{model=\"sums\",outcome=\"internal\",role=\"pinned\",version=\"1\"} 2",
        "foreshadow_rejected_total{reason=\"invalid_argument\"} 1",
        "foreshadow_rejected_total{reason=\"not_found\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn a_shadow_gets_a_copy_and_is_not_seen() {
    let bench = Bench::new();
    let champion = version("sums", 1, sums_signature(2), sums);
    let shadow = version("sums", 2, sums_signature(2), sums);
    let plan = bench.add_shadowed(&champion, &shadow);
    for _ in 0..3 {
        let got = bench.post("/predict/sums", r#"{"instances":[[1,2]]}"#).await;
        assert_eq!(got.header("x-model-version"), "1");
    }
    // Answers to pinned requests are not compared.
    bench.post("/predict/sums", r#"{"version":1,"instances":[[1,2]]}"#).await;
    while plan.shadows[0].stats.snapshot().compared < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(plan.shadows[0].stats.snapshot().compared, 3);
}

#[tokio::test]
async fn a_copy_waits_until_the_replys_task_gives_its_thread_back() {
    let bench = Bench::new();
    let champion = version("sums", 1, sums_signature(2), sums);
    let shadow = version("sums", 2, sums_signature(2), sums);
    let plan = bench.add_shadowed(&champion, &shadow);
    let body = Full::new(Bytes::from_static(br#"{"instances":[[1,2]]}"#));
    let request = http::Request::post("/predict/sums").body(body).unwrap();
    // Runs inline, so that nothing here gives the thread back. The clock, not
    // the copy, ends the wait.
    let reply = once(bench.service.handle(request)).unwrap();
    assert_eq!(reply.status(), 200);
    let since = std::time::Instant::now();
    while since.elapsed() < Duration::from_millis(20) {
        std::thread::yield_now();
    }
    assert_eq!(plan.shadows[0].stats.snapshot().compared, 0);
    while plan.shadows[0].stats.snapshot().compared < 1 {
        tokio::task::yield_now().await;
    }
}

/// Whether [`gated`] may go on.
static OPEN: AtomicBool = AtomicBool::new(false);

fn gated(inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
    let Data::Fp32(x) = inputs[0].data() else { unreachable!("checked") };
    while x[0] == 5.0 && !OPEN.load(SeqCst) {
        std::thread::yield_now();
    }
    sums(inputs)
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_on_its_version() {
    let bench = Bench::with(RequestLimits::default(), Duration::ZERO);
    let sums = version("sums", 1, sums_signature(1), gated);
    bench.add(&ModelSettings::default(), &[sums], None);
    let body = Full::new(Bytes::from_static(br#"{"instances":[[5]]}"#));
    let request = http::Request::post("/predict/sums").body(body).unwrap();
    // Polled once and dropped.
    assert!(once(bench.service.handle(request)).is_none());
    OPEN.store(true, SeqCst);
    let line = "{model=\"sums\",outcome=\"cancelled\",role=\"champion\",version=\"1\"} 1";
    assert!(bench.metrics().contains(line), "{}", bench.metrics());
}

#[tokio::test]
async fn a_panic_of_ours_is_counted_once_and_on_the_version() {
    let bench = Bench::new();
    let sums = version("sums", 1, sums_signature(1), sums);
    let plan = bench.add(&ModelSettings::default(), &[sums], None);
    let at = std::time::Instant::now();
    let (version, role, key, deadline, grammar) = (None, None, None, None, &|| None);
    let (headers, parameter) = (&HeaderMap::new(), &|_: &str| None);
    let (plan_of, read) = (&plan, at);
    let ask =
        Ask { plan: plan_of, headers, version, role, key, parameter, deadline, at, read, grammar };
    let decode = |_: &Assignment| -> Result<(Vec<Tensor>, ()), Error> { panic!("ours") };
    let failed = call::accept(&bench.service.router, ask, decode);
    assert!(matches!(failed.err().unwrap().counted, Counted::OnVersion(_)));
    let stats = plan.champion.as_ref().unwrap().stats.snapshot();
    assert_eq!((stats.failed, stats.failures.get("internal")), (1, Some(&1)));
}

#[tokio::test]
async fn a_timeout_that_passed_runs_nothing() {
    let bench = Bench::with(RequestLimits::default(), Duration::ZERO);
    // A row of 13 would panic if it ran.
    let sums = version("sums", 1, sums_signature(1), sums);
    bench.add(&ModelSettings::default(), &[Arc::clone(&sums)], None);
    let body = r#"{"parameters":{"timeout":1},"instances":[[13]]}"#;
    let got = bench.post("/predict/sums", body).await;
    assert_eq!(got.error().0, 504, "{}", got.text());
    let got =
        bench.post("/predict/sums", r#"{"parameters":{"timeout":0},"instances":[[1]]}"#).await;
    assert_eq!(got.status, 200);
}

#[tokio::test]
async fn wrong_requests_get_their_status_and_a_reason() {
    let bench = sums_bench();
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], u16, &'a str);
    let cases: [Case<'_>; 11] = [
        ("GET", "/nowhere", &[], 404, "no such path: /nowhere; GET /v2/openapi.json describes"),
        ("GET", "/predict/sums", &[], 405, "GET /predict/sums: this path takes POST"),
        ("POST", "/predict/nobody", &[], 404, "unknown model \"nobody\"; models: sums"),
        ("POST", "/v2/models/nobody/infer", &[], 404, "unknown model \"nobody\"; models: sums"),
        (
            "POST",
            "/v2/models/sums/versions/9/infer",
            &[],
            404,
            "model sums has no ready version 9; ready: 1, 2",
        ),
        (
            "POST",
            "/v2/models/sums/versions/x/infer",
            &[],
            400,
            "version \"x\": expected a whole number from 1, without leading zeros",
        ),
        ("GET", "/v2/models/sums/trace", &[], 501, "/v2/models/sums/trace: this extension"),
        ("POST", "/v2/repository/index", &[], 501, "there is no repository behind this API"),
        (
            "POST",
            "/predict/sums",
            &[("content-encoding", "br")],
            415,
            "Content-Encoding \"br\": expected gzip, deflate or identity",
        ),
        (
            "POST",
            "/predict/sums",
            &[("content-encoding", "gzip")],
            400,
            "the body is not gzip, as its Content-Encoding says",
        ),
        (
            "POST",
            "/predict/sums",
            &[("x-foreshadow-role", "king")],
            400,
            "header X-Foreshadow-Role: role \"king\": expected champion, canary or shadow",
        ),
    ];
    let row = r#"{"instances":[[1,2]]}"#;
    let tensor = r#"{"inputs":[{"name":"X","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#;
    for (method, path, headers, status, message) in cases {
        let body = if path.starts_with("/v2") { tensor } else { row };
        let got = bench.send(method, path, headers, body).await;
        let (got_status, got_message) = got.error();
        assert_eq!(got_status, status, "{method} {path}: {got_message}");
        assert!(got_message.starts_with(message), "{got_message}");
        assert_eq!(got.header("content-type"), "application/json");
        assert_eq!(got.header("x-request-id").len(), 32);
        assert_eq!(got.header("allow"), if status == 405 { "POST" } else { "" });
    }
    let lost = bench.send("GET", "/nowhere", &[], "").await;
    golden("not_found.json", &lost.text());
}

/// A body that panics when it is read.
struct Trap;

impl hyper::body::Body for Trap {
    type Data = Bytes;
    type Error = std::convert::Infallible;
    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        panic!("sprung")
    }
}

#[tokio::test]
async fn a_panic_is_a_reply() {
    let bench = sums_bench();
    let request = http::Request::post("/predict/sums").body(Trap).unwrap();
    let reply = bench.service.handle(request).await;
    assert_eq!(reply.status(), 500);
    assert!(bench.metrics().contains("foreshadow_rejected_total{reason=\"internal\"} 1"));
    // And the service goes on.
    assert_eq!(bench.post("/predict/sums", r#"{"instances":[[1,2]]}"#).await.status, 200);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let limits = RequestLimits { body_bytes_max: 10, ..RequestLimits::default() };
    let bench = Bench::with(limits, Duration::MAX);
    let got = bench.post("/predict", r#"{"instances":[[1,2]]}"#).await;
    assert_eq!(got.error(), (413, "the body is over the limit of 10 bytes".to_owned()));
}

/// Requests that are right, for bodies that are nearly so.
const SEEDS: [(&str, &str); 6] = [
    (
        "/predict/one",
        r#"{"instances":[1,2.5e3,-0.25],"version":1,"parameters":{"timeout":9000000}}"#,
    ),
    ("/predict/rows", r#"{"instances":[{"a":1,"b":2},{"b":3,"a":4}],"model":"rows"}"#),
    ("/predict/two", r#"{"instances":[{"n":[1,2],"s":["x","\u00e9"]}]}"#),
    ("/predict/two", r#"{"inputs":{"n":[[1,2]],"s":[["x","y"]]}}"#),
    (
        "/v2/models/two/infer",
        r#"{"id":"1","inputs":[{"name":"n","shape":[1,2],"datatype":"INT64","data":[1,2]},{"name":"s","shape":[1,2],"datatype":"BYTES","data":[["a","b"]]}],"outputs":[{"name":"s_out"}]}"#,
    ),
    (
        "/v2/models/one/infer",
        r#"{"parameters":{"binary_data_output":true},"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}abcd"#,
    ),
];

/// Models that take the seeds.
fn seed_bench() -> Bench {
    let bench = Bench::new();
    let model = |name, inputs: &[_]| version(name, 1, echo_signature(inputs), echo);
    let one = model("one", &[spec("x", Datatype::Fp32, &[-1])]);
    let rows = model("rows", &[spec("x", Datatype::Fp32, &[-1, 2])]);
    let two = [spec("n", Datatype::Int64, &[-1, 2]), spec("s", Datatype::Bytes, &[-1, -1])];
    bench.add(&ModelSettings::default(), &[one], None);
    let features = vec!["a".to_owned(), "b".to_owned()];
    bench.add(&ModelSettings { features, ..ModelSettings::default() }, &[rows], None);
    bench.add(&ModelSettings::default(), &[model("two", &two)], None);
    bench
}

/// Sends a seed whose body may have been changed.
async fn send_seed(bench: &Bench, path: &str, json_length: usize, body: Vec<u8>) -> Got {
    let length = json_length.to_string();
    let headers = [("inference-header-content-length", length.as_str())];
    let headers = if path.starts_with("/v2") { &headers[..] } else { &[] };
    bench.send("POST", path, headers, body).await
}

/// The length of a seed's JSON part.
fn json_length(seed: &str) -> usize {
    seed.rfind('}').unwrap() + 1
}

#[tokio::test]
async fn the_seeds_are_right() {
    let bench = seed_bench();
    for (path, seed) in SEEDS {
        let got = send_seed(&bench, path, json_length(seed), seed.into()).await;
        assert_eq!(got.status, 200, "{path}: {}", String::from_utf8_lossy(&got.body));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Every datatype at once, so that each decoder meets the bytes.
    #[test]
    fn no_body_makes_a_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..80),
        text in r#"[\[\]{}",:0-9.eE+\-a-z ]{0,40}"#,
        header in proptest::option::of(0_usize..100),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            let inputs: Vec<_> = Datatype::ALL
                .into_iter()
                .map(|datatype| spec(datatype.as_str(), datatype, &[-1, -1]))
                .collect();
            let all = version("all", 1, echo_signature(&inputs), echo);
            bench.add(&ModelSettings::default(), &[all], None);
            let one = version("one", 1, echo_signature(&[spec("x", Datatype::Fp32, &[-1])]), echo);
            bench.add(&ModelSettings::default(), &[one], None);
            let length = header.map(|n| n.to_string()).unwrap_or_default();
            let headers: &[_] = &[("inference-header-content-length", length.as_str())];
            let headers = if header.is_some() { headers } else { &[] };
            let bodies = [
                noise.clone(),
                text.clone().into_bytes(),
                format!(r#"{{"instances":[{text}]}}"#).into_bytes(),
                format!(r#"{{"inputs":{{"FP32":[{text}],"BYTES":{text}}}}}"#).into_bytes(),
                format!(r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[{text}],"data":[{text}]}}]}}"#).into_bytes(),
            ];
            for body in bodies {
                for path in ["/predict/all", "/predict/one", "/v2/models/all/infer", "/v2/models/one/infer"] {
                    let got = bench.send("POST", path, headers, body.clone()).await;
                    // A panic would be a 500.
                    let status = got.status.as_u16();
                    assert!(matches!(status, 200 | 400), "{path}: {}", got.text());
                }
            }
        });
    }

    /// Right requests with a few bytes changed, cut out or put in.
    #[test]
    fn no_damage_makes_a_panic(
        at in 0..SEEDS.len(),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), 0..3, any::<u8>()), 1..4),
        json_shift in -2_isize..=2,
    ) {
        let (path, seed) = SEEDS[at];
        let mut body = seed.as_bytes().to_vec();
        for (index, kind, byte) in damage {
            // Mostly bytes that JSON is made of, to get past the grammar.
            let byte = *b"[]{}\",:-+.eE0123456789ntf\\".get(usize::from(byte) % 40).unwrap_or(&byte);
            let i = index.index(body.len());
            match kind {
                0 => body[i] = byte,
                1 => body.insert(i, byte),
                _ => drop(body.remove(i)),
            }
        }
        let length = json_length(seed).saturating_add_signed(json_shift);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let got = runtime.block_on(async { send_seed(&seed_bench(), path, length, body).await });
        // A panic would be a 500; a damaged name is a 404, a damaged timeout a 504.
        let status = got.status.as_u16();
        prop_assert!(
            matches!(status, 200 | 400 | 404 | 504),
            "{}", String::from_utf8_lossy(&got.body)
        );
    }
}

#[tokio::test]
async fn a_requests_future_is_small() {
    // It is copied when a connection takes it.
    let bench = sums_bench();
    let request = http::Request::post("/predict/sums").body(Full::new(Bytes::new())).unwrap();
    let size = size_of_val(&bench.service.handle(request));
    assert!(size <= 3072, "{size} bytes");
}

mod capture;
mod compression;
