//! Warm-up with the requests that a model's owner names.

use half::f16;

use crate::engine::{EngineError, EngineErrorKind};
use crate::serving::{LoadedVersion, RunError};
use crate::types::{Data, Tensor, WarmUpInput, WarmUpSample, element_count};

impl LoadedVersion {
    /// Runs these, each as often as it says. One whose values the model does not
    /// take has warmed it up all the same.
    ///
    /// # Errors
    /// A sample does not fit the model, or its run fails.
    pub fn warm_up_with(&self, samples: &[WarmUpSample]) -> Result<(), RunError> {
        for sample in samples {
            let wrong = |kind, why: &str| {
                let message = format!("model_warmup {:?}: {why}", sample.name);
                RunError::Engine(EngineError::new(kind, message))
            };
            let tensors: Result<Vec<_>, _> = sample.inputs.iter().map(tensor).collect();
            let inputs = tensors
                .and_then(|tensors| self.signature().arrange(tensors))
                .map_err(|error| wrong(EngineErrorKind::BadInput, error.message()))?;
            for _ in 0..sample.runs {
                match self.run(&inputs) {
                    Ok(_) => {}
                    Err(RunError::Engine(e)) if e.kind == EngineErrorKind::BadValue => {}
                    Err(RunError::Engine(e)) => return Err(wrong(e.kind, &e.message)),
                    Err(panic @ RunError::Panic(_)) => return Err(panic),
                }
            }
        }
        Ok(())
    }
}

fn tensor(input: &WarmUpInput) -> crate::error::Result<Tensor> {
    // Too many overflow: `new` says so, as no data has so many.
    let len = element_count(&input.shape).unwrap_or(0);
    let mut data = Data::zeros(input.datatype, len);
    if input.random {
        randomise(&mut data);
    }
    Tensor::new(&input.name, input.shape.clone(), data)
}

/// Numbers from 0 to 1; whole ones are either. Strings stay empty.
fn randomise(data: &mut Data) {
    let mut state = 20_261_125_u32;
    let mut next = || {
        // Numerical Recipes' generator: the same numbers on every run.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    macro_rules! whole {
        ($v:ident) => {
            $v.iter_mut().for_each(|x| *x = if next() & 0x80_0000 == 0 { 0 } else { 1 })
        };
    }
    const RANGE: f64 = (1 << 24) as f64;
    match data {
        Data::Bool(v) => v.iter_mut().for_each(|x| *x = next() & 0x80_0000 == 0),
        Data::Uint8(v) => whole!(v),
        Data::Uint16(v) => whole!(v),
        Data::Uint32(v) => whole!(v),
        Data::Uint64(v) => whole!(v),
        Data::Int8(v) => whole!(v),
        Data::Int16(v) => whole!(v),
        Data::Int32(v) => whole!(v),
        Data::Int64(v) => whole!(v),
        Data::Fp16(v) => v.iter_mut().for_each(|x| *x = f16::from_f64(f64::from(next()) / RANGE)),
        #[expect(clippy::cast_possible_truncation, reason = "24 bits fit")]
        Data::Fp32(v) => v.iter_mut().for_each(|x| *x = (f64::from(next()) / RANGE) as f32),
        Data::Fp64(v) => v.iter_mut().for_each(|x| *x = f64::from(next()) / RANGE),
        Data::Bytes(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::version::tests::Doubler;
    use crate::types::Datatype;

    fn sample(name: &str, shape: &[usize], random: bool) -> WarmUpSample {
        let (name, shape, datatype) = (name.to_owned(), shape.to_vec(), Datatype::Fp32);
        let input = WarmUpInput { name, datatype, shape, random };
        WarmUpSample { name: "s".into(), runs: 2, inputs: vec![input] }
    }

    #[test]
    fn samples_run_or_say_why_not() {
        let version = Doubler::version();
        version.warm_up_with(&[sample("x", &[3, 1], true), sample("x", &[1, 1], false)]).unwrap();
        for (wrong, why) in [
            (sample("y", &[1, 1], false), "model_warmup \"s\": input \"x\" is missing"),
            (sample("x", &[1, 2], false), "model_warmup \"s\": input \"x\": expected shape"),
            (sample("x", &[usize::MAX, 2], false), "model_warmup \"s\": tensor \"x\": shape"),
        ] {
            let error = version.warm_up_with(&[wrong]).unwrap_err().to_string();
            assert!(error.starts_with(why), "{error}");
        }
    }

    #[test]
    fn random_numbers_lie_between_zero_and_one() {
        for datatype in Datatype::ALL {
            let mut data = Data::zeros(datatype, 64);
            randomise(&mut data);
            let numbers: Vec<_> = (0..64).filter_map(|i| data.as_f64(i)).collect();
            assert!(numbers.iter().all(|x| (0.0..=1.0).contains(x)), "{data:?}");
            let differ = numbers.iter().any(|x| *x != numbers[0]);
            assert_eq!(differ, datatype != Datatype::Bytes, "{data:?}");
        }
    }
}
