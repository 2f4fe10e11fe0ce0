//! tract as its crate comes: no checks, no rewriting, none of the gateway's
//! operators. It is given the shapes of every data set beforehand, which is
//! more than a client would tell.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use foreshadow::types::{Data, Tensor as Ours};
use half::f16;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use crate::case;
use crate::compare::Comparison;
use crate::outcome::{Outcome, Status};
use crate::suite::Suite;

/// Errors are outcomes too: what ended the case early.
pub(crate) fn run(folder: &Path) -> Result<Outcome, Outcome> {
    let suite = Suite::above(folder).map_err(|e| Outcome::new(Status::NotMade, &e))?;
    std::panic::set_hook(Box::new(|_| ()));
    let tried = catch_unwind(AssertUnwindSafe(|| cases(folder, &suite)));
    tried.unwrap_or_else(|_| Err(Outcome::new(Status::Crashed, "tract panicked")))
}

fn cases(folder: &Path, suite: &Suite) -> Result<Outcome, Outcome> {
    let refused = |error: TractError| Outcome::new(Status::Unsupported, &format!("{error:#}"));
    let failed = |reason: &str| Outcome::new(Status::Failed, reason);
    let path = folder.join("model.onnx");
    let proto = onnx().proto_model_for_path(&path).map_err(refused)?;
    let (inputs, outputs) = names(&proto);
    let mut comparison = None;
    for set in case::data_sets(folder).map_err(|e| failed(&e))? {
        let given = case::tensors(&set, "input", &inputs).map_err(|e| failed(&e))?;
        let expected = case::tensors(&set, "output", &outputs).map_err(|e| failed(&e))?;
        let plan = plan(&path, &given).map_err(refused)?;
        let got = answer(&plan, &given, &outputs).map_err(|e| failed(&format!("{e:#}")))?;
        let comparison = comparison.get_or_insert_with(|| Comparison::new(suite.rule, &expected));
        if let Some(what) = comparison.difference(&got, &expected) {
            return Err(failed(&format!("{}: {what}", case::set_name(&set))));
        }
    }
    Ok(Outcome::passed())
}

/// The inputs that are no initialisers, and the outputs.
fn names(proto: &ModelProto) -> (Vec<String>, Vec<String>) {
    let Some(graph) = &proto.graph else { return (vec![], vec![]) };
    let given = |name: &String| !graph.initializer.iter().any(|tensor| tensor.name == *name);
    let inputs = graph.input.iter().map(|value| value.name.clone()).filter(given);
    (inputs.collect(), graph.output.iter().map(|value| value.name.clone()).collect())
}

fn plan(path: &Path, given: &[Ours]) -> TractResult<Arc<TypedRunnableModel>> {
    let mut model = onnx().model_for_path(path)?;
    for (i, tensor) in given.iter().enumerate() {
        let datatype = to_tract(tensor)?.datum_type();
        model.set_input_fact(i, InferenceFact::dt_shape(datatype, tensor.shape()))?;
    }
    model.into_optimized()?.into_runnable()
}

fn answer(
    plan: &Arc<TypedRunnableModel>,
    given: &[Ours],
    names: &[String],
) -> TractResult<Vec<Ours>> {
    let inputs = given.iter().map(|tensor| to_tract(tensor).map(Tensor::into_tvalue));
    let values = plan.run(inputs.collect::<TractResult<TVec<TValue>>>()?)?;
    let named = values.iter().zip(names);
    named.map(|(value, name)| from_tract(name, value)).collect()
}

fn to_tract(tensor: &Ours) -> TractResult<Tensor> {
    if let Data::Bytes(texts) = tensor.data() {
        let texts = texts.iter().map(|text| String::from_utf8(text.clone()));
        return tensor1(&texts.collect::<Result<Vec<_>, _>>()?).into_shape(tensor.shape());
    }
    macro_rules! numbers {
        ($($variant:ident),*) => {
            match tensor.data() {
                $(Data::$variant(v) => Tensor::from_shape(tensor.shape(), v),)*
                Data::Bytes(_) => unreachable!("handled above"),
            }
        };
    }
    numbers!(Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Fp32, Fp64)
}

/// Shapes, which tract keeps in a type of its own, are INT64 in ONNX.
fn from_tract(name: &str, value: &Tensor) -> TractResult<Ours> {
    let value = match value.datum_type() {
        DatumType::TDim => value.cast_to::<i64>()?.into_owned(),
        _ => value.clone(),
    };
    let view = value.try_as_plain_ram()?;
    macro_rules! data {
        ($($kind:ident $variant:ident $type:ty),*) => {
            match value.datum_type() {
                $(DatumType::$kind => Data::$variant(view.as_slice::<$type>()?.to_vec()),)*
                DatumType::String => {
                    let texts = view.as_slice::<String>()?.iter();
                    Data::Bytes(texts.map(|text| text.clone().into_bytes()).collect())
                }
                other => anyhow::bail!("an output of {other:?}"),
            }
        };
    }
    let data = data!(
        Bool Bool bool, U8 Uint8 u8, U16 Uint16 u16, U32 Uint32 u32, U64 Uint64 u64,
        I8 Int8 i8, I16 Int16 i16, I32 Int32 i32, I64 Int64 i64,
        F16 Fp16 f16, F32 Fp32 f32, F64 Fp64 f64
    );
    Ours::new(name, value.shape().to_vec(), data).map_err(|e| anyhow::anyhow!("{}", e.message()))
}
