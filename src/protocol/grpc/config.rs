//! A model's configuration as a message.

use crate::protocol::grpc::pb;
use crate::protocol::grpc::pb::model_version_policy::{All, Latest, PolicyChoice, Specific};
use crate::protocol::v2::config::{
    DynamicBatching, Input, ModelConfig, Output, Parameter, Policy, Reshape,
};

impl From<ModelConfig> for pb::ModelConfig {
    fn from(of: ModelConfig) -> Self {
        let scheduling =
            of.dynamic_batching.map(|DynamicBatching { max_queue_delay_microseconds, .. }| {
                pb::model_config::SchedulingChoice::DynamicBatching(pb::ModelDynamicBatching {
                    max_queue_delay_microseconds,
                    ..pb::ModelDynamicBatching::default()
                })
            });
        let parameter =
            |(key, Parameter { string_value })| (key, pb::ModelParameter { string_value });
        Self {
            name: of.name,
            platform: of.platform,
            backend: of.backend,
            version_policy: Some(of.version_policy.into()),
            max_batch_size: i32::try_from(of.max_batch_size).unwrap_or(i32::MAX),
            input: of.input.into_iter().map(Into::into).collect(),
            output: of.output.into_iter().map(Into::into).collect(),
            default_model_filename: of.default_model_filename,
            parameters: of.parameters.into_iter().map(parameter).collect(),
            scheduling_choice: scheduling,
            ..Self::default()
        }
    }
}

impl From<Policy> for pb::ModelVersionPolicy {
    fn from(policy: Policy) -> Self {
        let number = |version| i64::try_from(version).unwrap_or(i64::MAX);
        let choice = match policy {
            Policy::All {} => PolicyChoice::All(All {}),
            Policy::Latest { num_versions } => PolicyChoice::Latest(Latest {
                num_versions: u32::try_from(num_versions).unwrap_or(u32::MAX),
            }),
            Policy::Specific { versions } => PolicyChoice::Specific(Specific {
                versions: versions.into_iter().map(number).collect(),
            }),
        };
        Self { policy_choice: Some(choice) }
    }
}

impl From<Input> for pb::ModelInput {
    fn from(input: Input) -> Self {
        Self {
            name: input.name,
            data_type: data_type(input.data_type),
            dims: input.dims,
            reshape: input.reshape.map(Into::into),
            ..Self::default()
        }
    }
}

impl From<Output> for pb::ModelOutput {
    fn from(output: Output) -> Self {
        Self {
            name: output.name,
            data_type: data_type(output.data_type),
            dims: output.dims,
            reshape: output.reshape.map(Into::into),
            label_filename: output.label_filename,
            ..Self::default()
        }
    }
}

impl From<Reshape> for pb::ModelTensorReshape {
    fn from(Reshape { shape }: Reshape) -> Self {
        Self { shape: shape.into_iter().map(|n| i64::try_from(n).unwrap_or(i64::MAX)).collect() }
    }
}

/// The number of a name such as `TYPE_FP32`.
fn data_type(name: &str) -> i32 {
    pb::DataType::from_str_name(name).unwrap_or(pb::DataType::TypeInvalid).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Datatype;

    #[test]
    fn every_datatype_has_its_number() {
        for datatype in Datatype::ALL {
            assert!(data_type(datatype.config_name()) > 0, "{datatype}");
        }
    }
}
