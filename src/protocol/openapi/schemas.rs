//! Schemas of what is read and written without a type of its own.
#![expect(dead_code, reason = "these types are read by their derive alone")]

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::openapi::schema::{
    AnyOf, AnyOfBuilder, ArrayBuilder, ObjectBuilder, Schema, SchemaType,
};
use utoipa::openapi::{Object, Ref, RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::types::Datatype;

/// A failed request.
#[derive(ToSchema)]
pub(super) struct Failure {
    /// What was expected, what came, where, and what to do.
    #[schema(min_length = 1)]
    error: String,
}

/// One row per entry, or one column per input.
#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum PredictRequest {
    Rows(PredictRows),
    Columns(PredictColumns),
}

/// Predictions for rows.
#[derive(ToSchema)]
pub(super) struct PredictRows {
    /// A row is an array, a bare value, an object by feature, or an object by input.
    #[schema(min_items = 1)]
    instances: Vec<Values>,
    #[serde(flatten)]
    common: PredictCommon,
}

/// Predictions for columns.
#[derive(ToSchema)]
pub(super) struct PredictColumns {
    /// The value of the only input, or an object by input.
    inputs: Values,
    #[serde(flatten)]
    common: PredictCommon,
}

/// What may stand beside rows or columns, and the field that is the model's
/// routing key.
#[derive(ToSchema)]
struct PredictCommon {
    /// The model, unless the path names it or there is only one.
    #[schema(nullable = false)]
    model: Option<String>,
    /// The version that must answer.
    #[schema(nullable = false)]
    version: Option<VersionNumber>,
    /// `role`, where the model allows it, and `timeout` (microseconds).
    #[schema(nullable = false)]
    parameters: Option<FreeForm>,
    /// Taken for the sake of V1's clients.
    #[schema(nullable = false)]
    signature_name: Option<SignatureName>,
}

/// Rows for rows, columns for columns.
#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum PredictReply {
    Rows(PredictedRows),
    Columns(PredictedColumns),
}

#[derive(ToSchema)]
pub(super) struct PredictedRows {
    model: String,
    #[schema(minimum = 1)]
    version: u64,
    prediction_id: String,
    /// One entry per row: the value of the only output, or an object by output.
    predictions: Vec<Answers>,
}

#[derive(ToSchema)]
pub(super) struct PredictedColumns {
    model: String,
    #[schema(minimum = 1)]
    version: u64,
    prediction_id: String,
    /// The value of the only output, or an object by output.
    outputs: Answers,
}

/// TensorFlow Serving's rows or columns. Other keys mean nothing.
#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum V1PredictRequest {
    Rows(V1Rows),
    Columns(V1Columns),
}

#[derive(ToSchema)]
pub(super) struct V1Rows {
    /// A row is the value of the only input, or an object by input.
    #[schema(min_items = 1)]
    instances: Vec<Values>,
    #[schema(nullable = false)]
    signature_name: Option<SignatureName>,
}

#[derive(ToSchema)]
pub(super) struct V1Columns {
    /// The value of the only input, or an object by input.
    inputs: Values,
    #[schema(nullable = false)]
    signature_name: Option<SignatureName>,
}

/// Rows for rows, columns for columns.
#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum V1PredictReply {
    Rows(V1PredictedRows),
    Columns(V1PredictedColumns),
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct V1PredictedRows {
    /// One entry per row: the value of the only output, or an object by output.
    predictions: Vec<Answers>,
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct V1PredictedColumns {
    /// The value of the only output, or an object by output.
    outputs: Answers,
}

/// What of the index is wanted.
#[derive(ToSchema)]
pub(super) struct IndexRequest {
    /// Only what is ready.
    #[schema(nullable = false)]
    ready: Option<bool>,
}

/// Labels of one prediction, or of several. Several objects may follow one another, as
/// JSON lines.
#[derive(ToSchema)]
pub(super) struct FeedbackRequest {
    /// The prediction's id, as its reply had it.
    #[schema(nullable = false, pattern = "^[0-9a-fA-F]{32}$")]
    prediction_id: Option<String>,
    /// The row of its request, from 0, that the label is of.
    #[schema(nullable = false)]
    row: Option<u32>,
    /// What turned out to be true of the row.
    #[schema(nullable = false)]
    label: Option<LabelOfRow>,
    /// The same of all rows, in their order.
    #[schema(nullable = false)]
    labels: Option<Vec<LabelOfRow>>,
    /// Several of them, and nothing beside.
    #[schema(nullable = false)]
    feedback: Option<Vec<LabelsOfOne>>,
}

/// Labels of one prediction.
#[derive(ToSchema)]
struct LabelsOfOne {
    /// The prediction's id, as its reply had it.
    #[schema(pattern = "^[0-9a-fA-F]{32}$")]
    prediction_id: String,
    /// The row of its request, from 0, that the label is of.
    #[schema(nullable = false)]
    row: Option<u32>,
    /// What turned out to be true of the row.
    #[schema(nullable = false)]
    label: Option<LabelOfRow>,
    /// The same of all rows, in their order.
    #[schema(nullable = false)]
    labels: Option<Vec<LabelOfRow>>,
}

/// How a model is to be loaded or unloaded.
#[derive(ToSchema)]
pub(super) struct WishRequest {
    parameters: Option<WishParameters>,
}

/// Others mean nothing, but `config` and `file:…`, which are refused.
#[derive(ToSchema)]
struct WishParameters {
    /// Only this version.
    #[schema(nullable = false)]
    version: Option<VersionNumber>,
}

/// Tensors of the Open Inference Protocol.
#[derive(ToSchema)]
pub(super) struct InferRequest {
    /// Comes back with the reply.
    id: Option<String>,
    /// `role`, `timeout` (microseconds), `binary_data_output`, and the model's routing key.
    parameters: Option<FreeForm>,
    inputs: Vec<InferInput>,
    /// What is wanted; nothing means everything.
    outputs: Option<Vec<InferWanted>>,
}

#[derive(ToSchema)]
struct InferInput {
    name: String,
    shape: Vec<Size>,
    datatype: DatatypeName,
    /// `binary_data_size`, where the elements stand behind the JSON.
    parameters: Option<FreeForm>,
    /// The elements, flat or nested, in row-major order.
    data: Option<Vec<Elements>>,
}

#[derive(ToSchema)]
struct InferWanted {
    name: String,
    /// `binary_data`, and the extensions' own.
    parameters: Option<FreeForm>,
}

/// The answer's tensors.
#[derive(ToSchema)]
pub(super) struct InferReply {
    model_name: String,
    model_version: String,
    /// The request's.
    #[schema(nullable = false)]
    id: Option<String>,
    parameters: InferredBy,
    outputs: Vec<InferOutput>,
}

#[derive(ToSchema)]
struct InferredBy {
    prediction_id: String,
    /// Why this version answered: champion, canary or pinned.
    role: String,
}

#[derive(ToSchema)]
struct InferOutput {
    name: String,
    datatype: DatatypeName,
    shape: Vec<u64>,
    /// `binary_data_size`, where the elements stand behind the JSON.
    #[schema(nullable = false)]
    parameters: Option<FreeForm>,
    /// The elements, flat, in row-major order.
    #[schema(nullable = false)]
    data: Option<Vec<Answers>>,
}

/// Declares schemas that no type says.
macro_rules! schemas {
    ($( $(#[doc = $about:literal])+ $name:ident => $schema:expr; )+) => {$(
        $(#[doc = $about])+
        pub(super) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                RefOr::T(Schema::from($schema))
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    )+};
}

schemas! {
    /// Values of a request: numbers, strings, booleans, and arrays and objects of them.
    Values => nested("Values", &[Type::Number, Type::String, Type::Boolean]);
    /// Elements of a tensor: numbers, strings, booleans, and arrays of them.
    Elements => arrays("Elements", &[Type::Number, Type::String, Type::Boolean]).build();
    /// Values of a reply: `null` is a number that JSON does not have, of a model that says so.
    Answers => nested("Answers", &[Type::Number, Type::String, Type::Boolean, Type::Null]);
    /// An object of anything.
    FreeForm => ObjectBuilder::new().build();
    /// It is done.
    Granted => ObjectBuilder::new().build();
    /// An OpenAPI document.
    Document => ObjectBuilder::new()
        .property("openapi", Object::with_type(Type::String))
        .required("openapi")
        .build();
    /// A size of a dimension.
    Size => ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).build();
    /// A datatype of the Open Inference Protocol.
    DatatypeName => one_of_texts(Datatype::ALL.iter().map(|d| json!(d.as_str())).collect());
    /// A class or a number: what was true.
    LabelOfRow => utoipa::openapi::schema::OneOfBuilder::new()
        .item(Object::with_type(Type::Number))
        .item(Object::with_type(Type::Boolean))
        .item(ObjectBuilder::new().schema_type(Type::String).max_length(Some(256)).build())
        .build();
    /// A version's number, or the same as a string.
    VersionNumber => AnyOfBuilder::new()
        .item(version())
        .item(text_like("^[1-9][0-9]{0,18}$"))
        .build();
    /// The only signature that a model has.
    SignatureName => one_of_texts(vec![json!(crate::protocol::v1::SIGNATURE), json!("")]);
}

/// Scalars, and arrays of what has this name.
fn arrays(name: &str, scalars: &[Type]) -> AnyOfBuilder {
    let scalars = ObjectBuilder::new().schema_type(SchemaType::Array(scalars.to_vec())).build();
    let array = ArrayBuilder::new().items(Ref::from_schema_name(name)).build();
    AnyOfBuilder::new().item(scalars).item(array)
}

/// Scalars, and arrays and objects of what has this name.
fn nested(name: &str, scalars: &[Type]) -> AnyOf {
    let this = Ref::from_schema_name(name);
    let object = ObjectBuilder::new().additional_properties(Some(this)).build();
    arrays(name, scalars).item(object).build()
}

/// One of these strings.
pub(super) fn one_of_texts(texts: Vec<Value>) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(texts)).build()
}

/// A string of this form.
pub(super) fn text_like(pattern: &str) -> Object {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).build()
}

pub(super) fn text() -> Object {
    Object::with_type(Type::String)
}

pub(super) fn roles() -> Object {
    one_of_texts(vec![json!("champion"), json!("canary"), json!("shadow")])
}

pub(super) fn seconds() -> Object {
    text_like("^[1-9][0-9]{0,3}s$")
}

/// A number from 1 to the largest of 64 bits.
pub(super) fn version() -> Object {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    number.maximum(Some(usize::MAX)).build()
}

pub(super) fn whole_number() -> Object {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build()
}
