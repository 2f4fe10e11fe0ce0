use proptest::prelude::*;

use super::*;
use crate::types::{Datatype, VersionId};

fn parse(text: &str) -> Result<TritonFile, String> {
    TritonFile::parse(text, &ModelName::new("churn").unwrap())
}

const WHOLE: &str = r#"
# A model as people write it.
name: "churn"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  { name: "input" data_type: TYPE_FP32 dims: [ 12 ] }
]
output [
  {
    name: "label"
    data_type: TYPE_INT64
    dims: [ 1 ]
    reshape: { shape: [ ] }
  },
  {
    name: "probabilities"
    data_type: TYPE_FP32
    dims: [ 2 ]
    label_filename: "labels.txt"
  }
]
version_policy: { specific: { versions: [ 1, 3 ] } }
default_model_filename: "net.onnx"
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 100
  default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 1000 }
}
instance_group [ { count: 2 kind: KIND_CPU } ]
optimization { graph { level: 1 } }
parameters { key: "owner" value: { string_value: "growth" } }
parameters: { key: "empty" }
model_warmup [
  {
    name: "zeros"
    batch_size: 2
    inputs { key: "input" value: { data_type: TYPE_FP32 dims: 12 zero_data: true } }
  },
  {
    name: "files"
    count: 3
    inputs { key: "input" value { data_type: TYPE_FP32 dims: 12 input_data_file: "x" } }
  }
]
response_cache { enable: false }
model_transaction_policy { decoupled: false }
"#;

#[test]
fn every_field_with_a_meaning_arrives() {
    let file = parse(WHOLE).unwrap();
    let id = |n| VersionId::new(n).unwrap();
    let settings = &file.settings;
    assert_eq!(settings.max_batch_size, Some(8));
    assert_eq!(settings.version_policy, VersionPolicy::Specific(vec![id(1), id(3)]));
    assert_eq!(settings.default_model_filename.as_deref(), Some("net.onnx"));
    let parameters = [("empty", ""), ("owner", "growth")];
    let parameters = parameters.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(settings.parameters, parameters.into());
    let declared = &settings.declared;
    assert_eq!(declared.batched, Some(true));
    assert_eq!(declared.inputs[0].dims, [Some(12)]);
    assert_eq!(declared.outputs[0].datatype, Datatype::Int64);
    assert_eq!(declared.outputs[0].reshape.as_deref(), Some(&[][..]));
    assert_eq!(declared.outputs[1].label_file.as_deref(), Some("labels.txt"));
    assert_eq!(declared.warm_up.len(), 2);
    assert_eq!(declared.warm_up[0].inputs[0].shape, [2, 12]);
    assert_eq!((declared.warm_up[0].runs, declared.warm_up[1].runs), (1, 3));
    let delay_max = Some(Duration::from_micros(100));
    let batching = TritonBatching { enabled: None, rows_max: Some(8), delay_max };
    assert_eq!(file.batching, batching);
    let starts: Vec<_> =
        file.not_taken.iter().map(|note| note.split(':').next().unwrap()).collect();
    assert_eq!(
        starts,
        [
            "dynamic_batching.preferred_batch_size",
            "dynamic_batching.default_queue_policy",
            "instance_group",
            "optimization",
            "model_warmup's input_data_file of input \"input\"",
        ]
    );
}

#[test]
fn what_is_left_out_has_the_meaning_that_it_has_there() {
    let file = parse("").unwrap();
    assert_eq!(file.settings.version_policy, VersionPolicy::Latest(1));
    // Rows are found out where nothing is declared, and are none where shapes
    // are declared without them.
    assert_eq!(file.settings.declared.batched, None);
    assert_eq!(file.batching, TritonBatching::default());
    let file = parse("input { name: 'x' data_type: TYPE_FP32 dims: [-1, 4] }").unwrap();
    assert_eq!(file.settings.declared.batched, Some(false));
    assert_eq!(file.settings.declared.inputs[0].dims, [None, Some(4)]);
    assert_eq!(file.batching.enabled, Some(false));
    let policy = |text: &str| parse(text).unwrap().settings.version_policy;
    assert_eq!(policy("version_policy { all { } }"), VersionPolicy::All);
    assert_eq!(policy("version_policy { latest { } }"), VersionPolicy::Latest(1));
    assert_eq!(policy("version_policy { latest { num_versions: 2 } }"), VersionPolicy::Latest(2));
    let long = parse("dynamic_batching { max_queue_delay_microseconds: 5000000 }").unwrap();
    assert_eq!(long.batching.delay_max, Some(BATCH_DELAY_MAX));
    assert!(long.not_taken[0].contains("5s"), "{:?}", long.not_taken);
    let many = parse("max_batch_size: 5000").unwrap();
    assert_eq!(many.batching.rows_max, Some(Batching::ROWS_LIMIT));
    assert_eq!(many.settings.max_batch_size, Some(5000));
}

#[test]
fn what_is_wrong_or_impossible_is_refused_by_name() {
    let tensor = |inner: &str| format!("input {{ name: 'x' data_type: TYPE_FP32 {inner} }}");
    let cases = [
        (
            "name: \"other\"".to_owned(),
            "config.pbtxt: name: expected that of the folder, \"churn\"",
        ),
        ("platform: \"tensorrt_plan\"".into(), "platform: ONNX models are served here"),
        ("platform: \"ensemble\"".into(), "got \"ensemble\""),
        ("backend: \"python\"".into(), "backend: ONNX models are served here"),
        ("ensemble_scheduling { step [] }".into(), "ensemble_scheduling is not served here"),
        ("sequence_batching { }".into(), "sequence_batching is not served here"),
        ("batch_input [ { kind: BATCH_ELEMENT_COUNT } ]".into(), "batch_input is not served"),
        (
            "model_transaction_policy { decoupled: True }".into(),
            "model_transaction_policy.decoupled is not served here",
        ),
        (tensor("dims: 1 allow_ragged_batch: true"), "allow_ragged_batch is not served here"),
        ("max_batch_size: -1".into(), "line 1, column 1: max_batch_size: expected a whole number"),
        (
            "max_batch_size: 8\nmax_batch_size: 9".into(),
            "line 2, column 1: \"max_batch_size\" is no",
        ),
        ("nam: 'churn'".into(), "line 1, column 1: unknown field \"nam\"; known here: name, "),
        ("name: churn".into(), "name: expected a string in quotes, got churn"),
        ("input { nme: 'x' }".into(), "line 1, column 9: unknown field \"nme\""),
        ("input { data_type: TYPE_FP32 dims: 1 }".into(), "input[0]: expected a name"),
        ("input { name: 'x' dims: 1 }".into(), "input \"x\": expected a data_type"),
        ("input { name: 'x' data_type: TYPE_BF16 }".into(), "expected one of TYPE_BOOL, "),
        ("input { name: 'x' data_type: TYPE_BYTES }".into(), "TYPE_STRING, got TYPE_BYTES"),
        (tensor(""), "input \"x\": expected dims"),
        (tensor("dims: 0"), "expected numbers from 1, or -1, got [0]"),
        (tensor("dims: -2"), "dims: expected a whole number from -1 to"),
        (tensor("dims: 4 reshape { shape: [2, 3] }"), "[2, 3] has not as many elements as dims"),
        (tensor("dims: -1 reshape { shape: [-1, 1] }"), "that may vary are not reshaped"),
        (format!("{0} {0}", tensor("dims: 1")), "input \"x\" is declared twice"),
        (
            "output { name: 'y' data_type: TYPE_FP32 dims: 1 label_filename: '../l' }".into(),
            "label_filename: expected the name of a file beside",
        ),
        ("default_model_filename: '../x.onnx'".into(), "default_model_filename: expected a file's"),
        ("version_policy { specific { versions: 0 } }".into(), "versions: expected a whole number"),
        ("version_policy { all { } latest { } }".into(), "expected one policy, got two"),
        ("version_policy { newest { } }".into(), "known here: latest, all, specific"),
        ("parameters { key: 'a' value: 'b' }".into(), "value: expected fields in braces"),
        (
            "model_warmup { inputs { key: 'x' value { data_type: TYPE_FP32 dims: -1 } } }".into(),
            "model_warmup 0: input \"x\": expected dims that do not vary",
        ),
        ("name: \"churn".into(), "config.pbtxt, line 1, column 13: expected \""),
    ];
    for (text, expected) in cases {
        let why = parse(&text).expect_err(&text);
        assert!(why.contains(expected), "{text}: {why}");
    }
}

#[test]
fn labels_are_the_lines_of_their_file() {
    let mut file = parse(WHOLE).unwrap();
    assert_eq!(file.label_files().collect::<Vec<_>>(), ["labels.txt"]);
    file.label(|name| Ok(format!("stays\nleaves {name}\n"))).unwrap();
    assert_eq!(file.settings.declared.outputs[1].classes, ["stays", "leaves labels.txt"]);
    let why = file.label(|_| Err("it is not there".into())).unwrap_err();
    assert!(why.contains("label_filename of output \"probabilities\": it is not there"), "{why}");
}

#[test]
fn what_is_passed_over_is_bounded() {
    let input =
        |i: usize| format!("input {{ name: 'x{i}' data_type: TYPE_FP32 dims: 1 optional: true }}");
    let text: String = (0..200).map(input).collect();
    let file = parse(&text).unwrap();
    assert_eq!(file.settings.declared.inputs.len(), 200);
    assert_eq!((file.not_taken.len(), &*file.not_taken[50]), (51, "and more"));
}

/// Words and signs of the language, in any order.
fn documents() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "name",
        "platform",
        "backend",
        "max_batch_size",
        "input",
        "output",
        "dims",
        "data_type",
        "reshape",
        "shape",
        "version_policy",
        "latest",
        "all",
        "specific",
        "versions",
        "num_versions",
        "dynamic_batching",
        "max_queue_delay_microseconds",
        "model_warmup",
        "inputs",
        "key",
        "value",
        "parameters",
        "string_value",
        "label_filename",
        "instance_group",
        "optional",
        "count",
        "batch_size",
        "TYPE_FP32",
        "TYPE_STRING",
        "true",
        "-1",
        "0",
        "8",
        "99999999999",
        "1.5",
        "'x'",
        "'churn'",
        "'onnxruntime'",
        ":",
        ":",
        "{",
        "}",
        "[",
        "]",
        ",",
        "<",
        ">",
        ";",
        "#\n",
    ];
    let words = proptest::collection::vec(proptest::sample::select(WORDS), 0..40);
    words.prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn whatever_it_says_is_taken_or_refused(text in documents()) {
        if let Err(why) = parse(&text) {
            prop_assert!(why.starts_with("config.pbtxt"), "{}", why);
        }
    }

    #[test]
    fn a_damaged_file_is_taken_or_refused(
        at in any::<proptest::sample::Index>(), with in "\\PC{0,3}",
    ) {
        let chars: Vec<char> = WHOLE.chars().collect();
        let at = at.index(chars.len());
        let text: String = chars[..at].iter().collect::<String>() + &with + &String::from_iter(&chars[at + 1..]);
        if let Err(why) = parse(&text) {
            prop_assert!(why.starts_with("config.pbtxt"), "{}", why);
        }
    }
}

#[test]
fn long_warm_ups_are_cut() {
    let input = |dims: &str| {
        format!(
            "inputs {{ key: 'x' value {{ data_type: TYPE_FP32 dims: {dims} zero_data: true }} }}"
        )
    };
    let (small, large) = (input("[1]"), input("[100000, 100000]"));
    let text =
        format!("model_warmup {{ count: 1000 {small} }} model_warmup {{ name: 'l' {large} }}");
    let file = parse(&text).unwrap();
    let [sample] = &file.settings.declared.warm_up[..] else { panic!("{file:?}") };
    assert_eq!((sample.runs, &sample.inputs[0].shape[..]), (100, &[1][..]));
    assert!(file.not_taken[0].contains("of 1000 runs 100"), "{:?}", file.not_taken);
    assert!(file.not_taken[1].contains("model_warmup l: input \"x\" has more"));
}
