//! Rows and labels as bytes: small, and the same number again.

use crate::types::{LabelValue, RowAnswer};

/// A row as it is stored: what was answered, and the row's groups.
pub type AnswerRow = (Option<RowAnswer>, [u8; crate::types::GROUPINGS_MAX]);

const NOTHING: u8 = 0;
const CLASS: u8 = 1;
const VALUE: u8 = 2;

const BOOL: u8 = 0;
const NUMBER: u8 = 1;
const TEXT: u8 = 2;

/// Rows to bytes.
pub(super) fn write_rows(rows: &[AnswerRow]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.len() * 32);
    for (answer, groups) in rows {
        bytes.extend_from_slice(groups);
        match answer {
            None => bytes.push(NOTHING),
            Some(RowAnswer::Class { class, scores }) => {
                bytes.push(CLASS);
                bytes.extend_from_slice(&class.to_le_bytes());
                // At most 32 classes.
                let scores = &scores[..scores.len().min(usize::from(u8::MAX))];
                bytes.push(u8::try_from(scores.len()).unwrap_or(u8::MAX));
                scores.iter().for_each(|score| bytes.extend_from_slice(&score.to_le_bytes()));
            }
            Some(RowAnswer::Value(value)) => {
                bytes.push(VALUE);
                bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
    }
    bytes
}

/// Bytes to rows; `None` if they are not such bytes.
pub(super) fn read_rows(bytes: &[u8]) -> Option<Vec<AnswerRow>> {
    let mut reader = Reader(bytes);
    let mut rows = Vec::new();
    while !reader.0.is_empty() {
        let groups = reader.array()?;
        let answer = match reader.byte()? {
            NOTHING => None,
            CLASS => {
                let class = u16::from_le_bytes(reader.array()?);
                let scores = (0..reader.byte()?).map(|_| reader.number());
                Some(RowAnswer::Class { class, scores: scores.collect::<Option<_>>()? })
            }
            VALUE => Some(RowAnswer::Value(reader.number()?)),
            _ => return None,
        };
        rows.push((answer, groups));
    }
    Some(rows)
}

/// Labels of rows to bytes.
pub(super) fn write_labels(labels: &[(u32, LabelValue)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(labels.len() * 16);
    for (row, label) in labels {
        bytes.extend_from_slice(&row.to_le_bytes());
        match label {
            LabelValue::Bool(truth) => bytes.extend_from_slice(&[BOOL, u8::from(*truth)]),
            LabelValue::Number(number) => {
                bytes.push(NUMBER);
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            LabelValue::Text(text) => {
                bytes.push(TEXT);
                let text = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
                let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
                bytes.extend_from_slice(&len.to_le_bytes());
                bytes.extend_from_slice(text);
            }
        }
    }
    bytes
}

/// Bytes to labels of rows; `None` if they are not such bytes.
pub(super) fn read_labels(bytes: &[u8]) -> Option<Vec<(u32, LabelValue)>> {
    let mut reader = Reader(bytes);
    let mut labels = Vec::new();
    while !reader.0.is_empty() {
        let row = u32::from_le_bytes(reader.array()?);
        let label = match reader.byte()? {
            BOOL => LabelValue::Bool(reader.byte()? != 0),
            NUMBER => LabelValue::Number(reader.number()?),
            TEXT => {
                let len = u16::from_le_bytes(reader.array()?);
                let text = reader.take(usize::from(len))?;
                LabelValue::Text(String::from_utf8_lossy(text).into_owned())
            }
            _ => return None,
        };
        labels.push((row, label));
    }
    Some(labels)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<f64> {
        self.array().map(f64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let rows = vec![
            (None, [255; 8]),
            (
                Some(RowAnswer::Class { class: 300, scores: vec![0.1, 0.9] }),
                [1, 2, 3, 4, 5, 6, 7, 8],
            ),
            (Some(RowAnswer::Value(-0.1)), [0; 8]),
        ];
        let bytes = write_rows(&rows);
        assert_eq!(read_rows(&bytes), Some(rows));
        let labels = vec![
            (0, LabelValue::Bool(true)),
            (7, LabelValue::Number(0.1 + 0.2)),
            (u32::MAX, LabelValue::Text("läuft".into())),
        ];
        let bytes = write_labels(&labels);
        assert_eq!(read_labels(&bytes), Some(labels));
        assert_eq!((read_rows(&[]), read_labels(&[])), (Some(vec![]), Some(vec![])));
    }

    #[test]
    fn bytes_that_end_early_are_nothing() {
        let rows = write_rows(&[(Some(RowAnswer::Value(1.0)), [0; 8])]);
        let labels = write_labels(&[(0, LabelValue::Text("abc".into()))]);
        for end in 1..rows.len() {
            assert_eq!(read_rows(&rows[..end]), None, "{end}");
        }
        for end in 1..labels.len() {
            assert_eq!(read_labels(&labels[..end]), None, "{end}");
        }
        assert_eq!(read_rows(&[0, 0, 0, 0, 0, 0, 0, 0, 9]), None);
    }
}
