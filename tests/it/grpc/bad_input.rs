//! The bad tensors of REST, over gRPC: the same codes and the same words.

use bytes::Bytes;

use super::{connect, pb, refused, runtime};
use crate::bad_tensors::{self, Bad, Contents, Input};
use crate::gateway::start;
use pb::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};

fn tensor(input: &Input) -> InferInputTensor {
    let contents = match input.contents {
        Contents::Typed(elements) | Contents::Both(_, elements) => Some(pb::InferTensorContents {
            fp32_contents: serde_json::from_str(elements).unwrap(),
            ..pb::InferTensorContents::default()
        }),
        Contents::Raw(_) | Contents::Nowhere => None,
    };
    InferInputTensor {
        name: input.name.to_owned(),
        datatype: input.datatype.to_owned(),
        shape: input.shape.clone(),
        contents,
        ..InferInputTensor::default()
    }
}

fn request(inputs: &[Input], outputs: &[&str]) -> pb::ModelInferRequest {
    let raw = |input: &Input| match &input.contents {
        Contents::Raw(bytes) | Contents::Both(bytes, _) => Some(Bytes::from(bytes.clone())),
        Contents::Typed(_) | Contents::Nowhere => None,
    };
    let output = |name: &&str| InferRequestedOutputTensor {
        name: (*name).to_owned(),
        ..InferRequestedOutputTensor::default()
    };
    pb::ModelInferRequest {
        model_name: "m".to_owned(),
        inputs: inputs.iter().map(tensor).collect(),
        outputs: outputs.iter().map(output).collect(),
        raw_input_contents: inputs.iter().filter_map(raw).collect(),
        ..pb::ModelInferRequest::default()
    }
}

#[test]
fn every_bad_tensor_is_told_what_is_wrong_with_it() {
    for (script, cases) in bad_tensors::by_script() {
        let gateway = start("", &[script]);
        let datatype = script.split_whitespace().nth(1).unwrap();
        let good = [bad_tensors::good(datatype)];
        runtime().block_on(async {
            let mut client = connect(&gateway).await;
            for Bad { what, inputs, outputs, code, says, .. } in &cases {
                let code = code.grpc_code();
                let message = refused(client.model_infer(request(inputs, outputs)).await, code);
                for part in *says {
                    assert!(message.contains(part), "{what}: {part:?} in {message:?}");
                }
                let after = client.model_infer(request(&good, &[])).await;
                assert!(after.is_ok(), "after {what}: {after:?}");
            }
        });
        gateway.app.stop();
    }
}
