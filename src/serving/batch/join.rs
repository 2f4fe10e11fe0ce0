//! Joins the tensors of several requests along their first axis, and takes the
//! answers apart again.

use crate::types::{Data, Tensor};

/// One tensor for each input, with the rows of all requests in their order. The
/// elements go into `buffers`, as far as there are any of their datatype.
///
/// `None` if the requests do not fit together: other inputs, datatypes, or
/// shapes behind the first axis.
pub(in crate::serving) fn join(
    requests: &[&[Tensor]],
    mut buffers: Vec<Data>,
) -> Option<Vec<Tensor>> {
    let (first, others) = requests.split_first()?;
    let mut joined = Vec::with_capacity(first.len());
    for (i, tensor) in first.iter().enumerate() {
        let (rows, row) = tensor.shape().split_first()?;
        let place = buffers.iter().position(|buffer| buffer.datatype() == tensor.datatype());
        let mut data = match place {
            Some(place) => buffers.swap_remove(place),
            None => Data::with_capacity(tensor.datatype(), tensor.data().len() * requests.len()),
        };
        data.clear();
        data.append(tensor.data());
        let mut total = *rows;
        for other in others {
            let other = other.get(i).filter(|_| other.len() == first.len())?;
            let (rows, same) = other.shape().split_first()?;
            if same != row || other.name() != tensor.name() || !data.append(other.data()) {
                return None;
            }
            total += rows;
        }
        let shape = std::iter::once(total).chain(row.iter().copied()).collect();
        joined.push(Tensor::new(tensor.name(), shape, data).ok()?);
    }
    Some(joined)
}

/// Each request's part of the answer, by its number of rows. `None` if some
/// output does not have exactly their sum of rows.
pub(in crate::serving) fn split(outputs: &[Tensor], rows: &[usize]) -> Option<Vec<Vec<Tensor>>> {
    let total = rows.iter().sum::<usize>();
    if outputs.iter().any(|output| output.shape().first() != Some(&total)) {
        return None;
    }
    let mut first = 0;
    let part = |rows: &usize| {
        let range = first..first + rows;
        first = range.end;
        outputs.iter().map(|output| rows_of(output, total, range.clone())).collect()
    };
    rows.iter().map(part).collect()
}

fn rows_of(tensor: &Tensor, total: usize, rows: std::ops::Range<usize>) -> Option<Tensor> {
    let width = tensor.data().len().checked_div(total).unwrap_or(0);
    let mut shape = tensor.shape().to_vec();
    *shape.first_mut()? = rows.len();
    let data = tensor.data().slice(rows.start * width..rows.end * width)?;
    Tensor::new(tensor.name(), shape, data).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[usize], numbers: impl Iterator<Item = u16>) -> Tensor {
        let data = Data::Fp32(numbers.map(f32::from).collect());
        Tensor::new(name, shape.to_vec(), data).unwrap()
    }

    fn request(from: u16, rows: u16) -> Vec<Tensor> {
        let names = (from..from + rows).map(|n| n.to_string().into_bytes()).collect();
        vec![
            tensor("x", &[rows.into(), 2], from * 2..(from + rows) * 2),
            Tensor::new("name", vec![rows.into()], Data::Bytes(names)).unwrap(),
        ]
    }

    #[test]
    fn what_is_joined_comes_apart_again() {
        let requests = [request(0, 1), request(1, 3), request(4, 0), request(4, 2)];
        let parts: Vec<&[Tensor]> = requests.iter().map(Vec::as_slice).collect();
        let joined = join(&parts, Vec::new()).unwrap();
        assert_eq!(joined, request(0, 6));
        let rows: Vec<usize> = requests.iter().map(|request| request[0].rows()).collect();
        assert_eq!(split(&joined, &rows).unwrap(), requests);
    }

    #[test]
    fn buffers_are_used_again_whatever_was_in_them() {
        let mut buffer = Vec::with_capacity(64);
        buffer.extend([9.0_f32; 5]);
        let place = buffer.as_ptr();
        let (a, b) = (request(0, 1), request(1, 1));
        let joined = join(&[&a, &b], vec![Data::Bool(vec![true]), Data::Fp32(buffer)]).unwrap();
        assert_eq!(joined, request(0, 2));
        let Data::Fp32(x) = joined[0].data() else { unreachable!("as sent") };
        assert_eq!(x.as_ptr(), place);
    }

    #[test]
    fn what_does_not_fit_together_is_not_joined() {
        let one = request(0, 1);
        let wide = vec![tensor("x", &[1, 3], 0..3), one[1].clone()];
        let named = vec![tensor("z", &[1, 2], 0..2), one[1].clone()];
        let whole =
            vec![Tensor::new("x", vec![1, 2], Data::Int8(vec![0, 1])).unwrap(), one[1].clone()];
        for other in [wide, named, whole, one[..1].to_vec()] {
            assert_eq!(join(&[&one, &other], Vec::new()), None, "{other:?}");
        }
        let scalar = [Tensor::new("s", vec![], Data::Fp32(vec![1.0])).unwrap()];
        assert_eq!(join(&[&scalar, &scalar], Vec::new()), None);
    }

    #[test]
    fn an_answer_with_other_rows_is_not_taken_apart() {
        let outputs = request(0, 3);
        assert_eq!(split(&outputs, &[1, 1]), None);
        assert_eq!(split(&[tensor("y", &[], 0..1)], &[1]), None);
        assert!(split(&outputs, &[1, 2]).is_some());
    }
}
