//! Which of a file's columns are which of the model's inputs. Pure.

use crate::types::{Data, Dim, Signature, Tensor, TensorSpec};

/// The most columns that a message lists.
const LISTED_MAX: usize = 30;

/// A column of an input, and of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slot {
    /// The input's place in the signature.
    pub(super) input: usize,
    /// The column's place in the file.
    pub(super) column: usize,
    /// Its name there.
    pub(super) name: String,
}

/// All columns that the model takes: input by input, in their order.
pub(super) fn slots(
    signature: &Signature,
    features: &[String],
    asked: &[String],
    header: &[String],
) -> Result<Vec<Slot>, String> {
    let mut own = Vec::new();
    for (input, spec) in signature.inputs.iter().enumerate() {
        let width = width(spec)?;
        let name = &spec.name;
        own.extend(
            (0..width)
                .map(|at| (input, if width == 1 { name.clone() } else { format!("{name}[{at}]") })),
        );
    }
    if own.is_empty() {
        return Err("the model takes no columns, so there is nothing to profile".to_owned());
    }
    let (inputs, own): (Vec<_>, Vec<_>) = own.into_iter().unzip();
    let named = signature.inputs.len() == 1 && features.len() == own.len();
    let found = if !asked.is_empty() {
        if asked.len() != own.len() {
            return Err(format!(
                "--columns names {}, the model takes {}: {}",
                asked.len(),
                own.len(),
                listed(if named { features } else { &own })
            ));
        }
        by_name(asked, header)?
    } else if named {
        by_name(features, header)?
    } else {
        match by_name(&own, header) {
            Ok(found) => found,
            Err(_) if inputs.last() == Some(&0) => in_order(own.len(), header)?,
            Err(why) => return Err(why),
        }
    };
    let slot =
        |(input, column): (usize, usize)| Slot { input, column, name: header[column].clone() };
    Ok(inputs.into_iter().zip(found).map(slot).collect())
}

/// How many columns an input has.
fn width(spec: &TensorSpec) -> Result<usize, String> {
    let rows = !matches!(spec.shape.first(), None | Some(Dim::Fixed(0 | 2..)));
    match spec.shape.get(1..) {
        Some([]) if rows => Ok(1),
        Some([Dim::Fixed(width)]) if rows => Ok(*width),
        _ => Err(format!(
            "input {:?} of the model is no table: expected a value or a row of a fixed width for \
             each row, its shape is {:?}",
            spec.name,
            spec.wire_shape()
        )),
    }
}

fn by_name(names: &[String], header: &[String]) -> Result<Vec<usize>, String> {
    let place = |name: &String| {
        let mut places = (0..header.len()).filter(|at| header[*at] == *name);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (Some(_), Some(_)) => Err(format!("column {name:?} is there twice")),
            (None, _) => Err(format!(
                "there is no column {name:?}; there are {}. Rename it, or say which are to be \
                 taken, in the model's order: --columns {}",
                listed(header),
                listed(names)
            )),
        }
    };
    names.iter().map(place).collect()
}

fn in_order(columns: usize, header: &[String]) -> Result<Vec<usize>, String> {
    if header.len() == columns {
        return Ok((0..columns).collect());
    }
    Err(format!(
        "the model takes {columns} columns and names none, here are {}: {}. Say which are to be \
         taken, in the model's order: --columns a,b,c; or name them in model.toml (features)",
        header.len(),
        listed(header)
    ))
}

fn listed(names: &[String]) -> String {
    let more = if names.len() > LISTED_MAX { ",…" } else { "" };
    names[..names.len().min(LISTED_MAX)].join(",") + more
}

/// Tensors of these elements: one for each input, of so many rows.
pub(super) fn tensors(
    signature: &Signature,
    data: impl IntoIterator<Item = Data>,
    rows: usize,
) -> crate::error::Result<Vec<Tensor>> {
    let tensor = |(spec, data): (&TensorSpec, Data)| {
        let mut shape = vec![rows];
        shape.extend(spec.shape.iter().skip(1).map(|_| data.len() / rows.max(1)));
        Tensor::new(&spec.name, shape, data)
    };
    signature.inputs.iter().zip(data).map(tensor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Datatype;

    fn spec(name: &str, width: Option<usize>) -> TensorSpec {
        let mut shape = vec![Dim::Any];
        shape.extend(width.map(Dim::Fixed));
        TensorSpec::new(name, Datatype::Fp32, shape)
    }

    fn names(names: &str) -> Vec<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    fn places(
        inputs: &[TensorSpec],
        features: &str,
        asked: &str,
        header: &str,
    ) -> Result<Vec<(usize, usize)>, String> {
        let signature = Signature::new(inputs.to_vec(), vec![]);
        let slots = slots(&signature, &names(features), &names(asked), &names(header))?;
        Ok(slots.into_iter().map(|slot| (slot.input, slot.column)).collect())
    }

    /// Inputs, features, `--columns`, the file's columns, and which are taken.
    type Case<'a> = (&'a [TensorSpec], &'a str, &'a str, &'a str, &'a [(usize, usize)]);

    #[test]
    fn columns_are_found_by_name_or_order() {
        let one = [spec("x", Some(2))];
        let several = [spec("a", None), spec("b", Some(1)), spec("c", Some(2))];
        let cases: [Case<'_>; 6] = [
            (&one, "age plan", "", "id plan age", &[(0, 2), (0, 1)]),
            (&one, "age plan", "p a", "a p", &[(0, 1), (0, 0)]),
            (&one, "", "", "u v", &[(0, 0), (0, 1)]),
            (&one, "", "", "x[1] label x[0]", &[(0, 2), (0, 0)]),
            (&[spec("x", None)], "", "", "label x", &[(0, 1)]),
            (&several, "", "", "c[1] c[0] b a", &[(0, 3), (1, 2), (2, 1), (2, 0)]),
        ];
        for (inputs, features, asked, header, expected) in cases {
            assert_eq!(places(inputs, features, asked, header).unwrap(), expected, "{header}");
        }
    }

    #[test]
    fn what_is_not_found_is_named_with_the_way_out() {
        let one = [spec("x", Some(2))];
        let picture = TensorSpec::new("p", Datatype::Fp32, vec![Dim::Any, Dim::Any, Dim::Any]);
        let fixed = TensorSpec::new("p", Datatype::Fp32, vec![Dim::Fixed(12)]);
        let cases: [(&[TensorSpec], &str, &str, &str, &str); 9] = [
            (&one, "age plan", "", "a plan", "no column \"age\"; there are a,plan. Rename it"),
            (&one, "age plan", "", "age plan age", "column \"age\" is there twice"),
            (&one, "", "", "u v w", "takes 2 columns and names none, here are 3: u,v,w."),
            (&one, "", "u", "u v w", "--columns names 1, the model takes 2: x[0],x[1]"),
            (&one, "", "u z", "u v w", "no column \"z\"; there are u,v,w"),
            (&[spec("a", None), spec("b", None)], "", "", "u v", "no column \"a\""),
            (&[picture], "", "", "u", "is no table: expected a value or a row"),
            (&[fixed], "", "", "u", "its shape is [12]"),
            (&[], "", "", "u", "takes no columns"),
        ];
        for (inputs, features, asked, header, expected) in cases {
            let problem = places(inputs, features, asked, header).unwrap_err();
            assert!(problem.contains(expected), "{expected:?} is not in {problem}");
        }
    }

    #[test]
    fn elements_get_their_shapes() {
        let signature = Signature::new(vec![spec("a", None), spec("b", Some(3))], vec![]);
        let data = [Data::zeros(Datatype::Fp32, 2), Data::zeros(Datatype::Fp32, 6)];
        let tensors = tensors(&signature, data, 2).unwrap();
        assert_eq!((tensors[0].shape(), tensors[1].shape()), (&[2][..], &[2, 3][..]));
    }
}
