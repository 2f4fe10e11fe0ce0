//! Bad requests, whichever protocol brings them: what is asked for, and what must
//! be said to it. Both protocols are held to this one list.

use std::collections::BTreeMap;

use foreshadow::error::ErrorCode;

/// One input of a request.
#[derive(Clone)]
pub(crate) struct Input {
    pub(crate) name: &'static str,
    pub(crate) datatype: &'static str,
    pub(crate) shape: Vec<i64>,
    pub(crate) contents: Contents,
}

/// Where its elements are.
#[derive(Clone)]
pub(crate) enum Contents {
    /// Little-endian bytes.
    Raw(Vec<u8>),
    /// Elements of the protocol's own form, here as JSON.
    Typed(&'static str),
    /// Both at once.
    Both(Vec<u8>, &'static str),
    /// Nowhere.
    Nowhere,
}

/// A request for model `m`, and the answer to it.
pub(crate) struct Bad {
    /// What is bad about it.
    pub(crate) what: &'static str,
    /// What version 1 does (see `engine`).
    pub(crate) script: &'static str,
    pub(crate) inputs: Vec<Input>,
    /// Names of the outputs that are asked for; none for all.
    pub(crate) outputs: &'static [&'static str],
    pub(crate) code: ErrorCode,
    /// What the message must have in it.
    pub(crate) says: &'static [&'static str],
}

/// What a good request has, for those that are bad elsewhere.
const FP32: &str = "echoes FP32";

pub(crate) fn raw(datatype: &'static str, shape: &[i64], bytes: &[u8]) -> Input {
    Input { name: "x", datatype, shape: shape.to_vec(), contents: Contents::Raw(bytes.to_vec()) }
}

/// A good one for a script that echoes this datatype.
pub(crate) fn good(datatype: &'static str) -> Input {
    let bytes = match datatype {
        "BOOL" => 2,
        "FP16" => 4,
        "INT64" => 16,
        // Two empty strings, or two numbers.
        _ => 8,
    };
    raw(datatype, &[1, 2], &vec![0; bytes])
}

fn typed(datatype: &'static str, shape: &[i64], elements: &'static str) -> Input {
    Input { name: "x", datatype, shape: shape.to_vec(), contents: Contents::Typed(elements) }
}

fn bad(
    what: &'static str,
    script: &'static str,
    inputs: Vec<Input>,
    says: &'static [&'static str],
) -> Bad {
    Bad { what, script, inputs, outputs: &[], code: ErrorCode::InvalidArgument, says }
}

/// A BYTES element that says to have so many bytes.
fn element(length: u32, bytes: &[u8]) -> Vec<u8> {
    [&length.to_le_bytes()[..], bytes].concat()
}

/// Every bad request, by its script: one gateway will do for each.
pub(crate) fn by_script() -> BTreeMap<&'static str, Vec<Bad>> {
    let mut by_script: BTreeMap<_, Vec<Bad>> = BTreeMap::new();
    for bad in [sizes(), shapes(), strings(), names(), forms()].into_iter().flatten() {
        by_script.entry(bad.script).or_default().push(bad);
    }
    by_script
}

fn sizes() -> Vec<Bad> {
    let sizes: [(&str, &str, &str, usize); 6] = [
        ("an element too few", FP32, "FP32", 4),
        ("an element too many", FP32, "FP32", 12),
        ("half an element", FP32, "FP32", 7),
        ("nothing", FP32, "FP32", 0),
        ("FP16 as large as FP32", "echoes FP16", "FP16", 8),
        ("INT64 as large as INT32", "echoes INT64", "INT64", 8),
    ];
    let mut all: Vec<_> = sizes
        .into_iter()
        .map(|(what, script, datatype, size)| {
            let input = raw(datatype, &[1, 2], &vec![0; size]);
            bad(what, script, vec![input], &["\"x\"", "shape [1, 2]", "2 elements", "bytes"])
        })
        .collect();
    all.push(bad(
        "a BOOL that is neither",
        "echoes BOOL",
        vec![raw("BOOL", &[1, 2], &[1, 2])],
        &["\"x\"", "element 1 is 2", "BOOL"],
    ));
    all.push(bad(
        "too few elements",
        FP32,
        vec![typed("FP32", &[2, 2], "[1, 2, 3]")],
        &["\"x\"", "shape [2, 2] means 4 elements, got 3"],
    ));
    all
}

fn shapes() -> Vec<Bad> {
    let good = [0; 8];
    let shape = |what, shape: &[i64], says| bad(what, FP32, vec![raw("FP32", shape, &good)], says);
    vec![
        shape("another width", &[2, 1], &["\"x\"", "expected shape [-1, 2], got [2, 1]"]),
        shape("another rank", &[2], &["\"x\"", "expected shape [-1, 2], got [2]"]),
        shape("no shape", &[], &["\"x\"", "expected shape [-1, 2], got []"]),
        shape("a negative size", &[-1, 2], &["\"x\"", "expected sizes from 1"]),
        shape("no rows", &[0, 2], &["\"x\"", "expected sizes from 1"]),
        shape("a product that overflows", &[i64::MAX, 4], &["\"x\"", "is too large"]),
        shape("more than there is memory", &[i64::MAX / 8, 2], &["\"x\"", "elements"]),
        bad(
            "another datatype, of the same size",
            FP32,
            vec![raw("INT32", &[1, 2], &good)],
            &["\"x\"", "expected datatype FP32, got INT32"],
        ),
        bad(
            "a datatype that nobody has",
            FP32,
            vec![raw("FP8", &[1, 2], &good)],
            &["\"x\"", "\"FP8\"", "FP32"],
        ),
    ]
}

fn strings() -> Vec<Bad> {
    let strings = |what, bytes: Vec<u8>, says| {
        bad(what, "echoes BYTES", vec![raw("BYTES", &[1, 2], &bytes)], says)
    };
    let good = element(1, b"a");
    vec![
        strings(
            "an element that overruns",
            [good.clone(), element(3, b"bc")].concat(),
            &["\"x\"", "element 1", "3 bytes", "2 are left"],
        ),
        strings(
            "an element as long as can be",
            [good.clone(), element(u32::MAX, b"bc")].concat(),
            &["\"x\"", "element 1", "4294967295"],
        ),
        strings(
            "half a length",
            [&good[..], &[1, 0]].concat(),
            &["\"x\"", "2 BYTES elements do not fit in 7 bytes"],
        ),
        strings("an element too few", element(4, b"abcd"), &["\"x\"", "element 1 of 2 is missing"]),
        strings(
            "an element too many",
            [good.clone(), good.clone(), good].concat(),
            &["\"x\"", "5 bytes are left"],
        ),
    ]
}

fn names() -> Vec<Bad> {
    let good = || raw("FP32", &[1, 2], &[0; 8]);
    let outputs = |what, outputs, says| Bad { outputs, ..bad(what, FP32, vec![good()], says) };
    vec![
        bad("no input", FP32, vec![], &["input \"x\" is missing"]),
        bad("an input twice", FP32, vec![good(), good()], &["input \"x\" is given twice"]),
        bad(
            "an input that the model does not take",
            FP32,
            vec![Input { name: "z", ..good() }],
            &["input \"z\" is unknown", "\"x\""],
        ),
        bad(
            "one more than it takes",
            FP32,
            vec![good(), Input { name: "z", ..good() }],
            &["input \"z\" is unknown", "\"x\""],
        ),
        outputs(
            "an output that does not exist",
            &["y", "nothing"],
            &["output \"nothing\" is unknown", "\"y\""],
        ),
        outputs("an output twice", &["y", "y"], &["output \"y\" is asked for twice"]),
    ]
}

fn forms() -> Vec<Bad> {
    let with = |contents| Input { contents, ..raw("FP32", &[1, 2], &[]) };
    vec![
        bad(
            "both raw and typed",
            FP32,
            vec![with(Contents::Both(vec![0; 8], "[1, 2]"))],
            &["both"],
        ),
        bad("neither raw nor typed", FP32, vec![with(Contents::Nowhere)], &["\"x\""]),
        bad(
            "FP16, which has no typed form",
            "echoes FP16",
            vec![typed("FP16", &[1, 2], "[1, 2]")],
            &["\"x\"", "FP16"],
        ),
    ]
}
