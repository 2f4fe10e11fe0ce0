//! CSV files: a line of names, then a line for each row.

use std::borrow::Cow;
use std::io::{self, Read};

use csv::{ByteRecord, ErrorKind, Reader};

use crate::cli::data::Table;
use crate::cli::data::cell::Cell;

/// The longest line, in bytes: a quote that is never closed would be the whole file.
const LINE_BYTES_MAX: usize = 16 << 20;

/// A file that is read.
pub(super) struct Csv<R> {
    reader: Reader<Bounded<R>>,
    columns: Vec<String>,
    selected: Vec<usize>,
    record: ByteRecord,
}

/// Ends a reading that gets too long. What comes out has lines that end in a line feed,
/// the last one too: so it is known after each record how many there were.
struct Bounded<R> {
    inner: R,
    left: usize,
    /// A carriage return that may belong to a line feed.
    held: bool,
    ended: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // Room for what was held.
            let start = usize::from(self.held).min(buffer.len());
            let read = self.inner.read(&mut buffer[start..])?;
            if read == 0 {
                if self.ended || buffer.is_empty() {
                    return Ok(0);
                }
                (self.ended, self.held) = (true, false);
                buffer[0] = b'\n';
                return Ok(1);
            }
            self.left = self.left.checked_sub(read).ok_or_else(|| {
                io::Error::other(format!(
                    "a line has more than {LINE_BYTES_MAX} bytes; is a quote never closed?"
                ))
            })?;
            let kept = self.join_line_ends(&mut buffer[..start + read], start);
            if kept > 0 {
                return Ok(kept);
            }
        }
    }
}

impl<R> Bounded<R> {
    /// Leaves out carriage returns before line feeds; how many bytes are left.
    fn join_line_ends(&mut self, bytes: &mut [u8], start: usize) -> usize {
        let mut kept = 0;
        for at in start..bytes.len() {
            let byte = bytes[at];
            if std::mem::take(&mut self.held) && byte != b'\n' {
                bytes[kept] = b'\r';
                kept += 1;
            }
            if byte == b'\r' {
                self.held = true;
            } else {
                bytes[kept] = byte;
                kept += 1;
            }
        }
        kept
    }
}

impl<R: Read> Csv<R> {
    pub(super) fn open(file: R) -> Result<Self, String> {
        let bounded = Bounded { inner: file, left: LINE_BYTES_MAX, held: false, ended: false };
        let mut reader = csv::ReaderBuilder::new().from_reader(bounded);
        let header = reader.byte_headers().map_err(|error| error.to_string())?;
        let name = |name: &[u8]| std::str::from_utf8(name).map(|name| name.trim().to_owned());
        let columns: Result<Vec<_>, _> = header.iter().map(name).collect();
        let columns =
            columns.map_err(|_| "line 1: expected names in UTF-8, got other bytes".to_owned())?;
        if columns.iter().all(|name| name.parse::<f64>().is_ok()) {
            return Err(format!(
                "line 1: expected the columns' names, got {}; put a line of names before it",
                if columns.is_empty() { "nothing" } else { "numbers" }
            ));
        }
        Ok(Self { reader, columns, selected: Vec::new(), record: ByteRecord::new() })
    }
}

impl<R: Read> Csv<R> {
    /// The line that the present record begins in. The reader has come to the line
    /// behind it, over empty ones before it.
    fn line(&self) -> u64 {
        let inner = self.record.as_slice().iter().filter(|byte| **byte == b'\n').count();
        let behind = self.reader.position().line();
        behind.saturating_sub(1 + u64::try_from(inner).unwrap_or(u64::MAX))
    }

    /// What is wrong, and where.
    fn problem(&self, error: &csv::Error) -> String {
        let ErrorKind::UnequalLengths { expected_len, len, .. } = error.kind() else {
            return error.to_string();
        };
        let missing = self.columns.get(usize::try_from(*len).unwrap_or(usize::MAX));
        let more = missing.map_or_else(String::new, |missing| {
            format!("; {missing:?} is the first that is missing")
        });
        let line = self.line();
        format!("line {line}: expected {expected_len} cells, as line 1 has, got {len}{more}")
    }
}

impl<R: Read> Table for Csv<R> {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn select(&mut self, columns: &[usize]) -> Result<(), String> {
        self.selected = columns.to_vec();
        Ok(())
    }

    fn next(&mut self) -> Result<bool, String> {
        self.reader.get_mut().left = LINE_BYTES_MAX;
        let read = self.reader.read_byte_record(&mut self.record);
        read.map_err(|error| self.problem(&error))
    }

    fn place(&self) -> (&'static str, u64) {
        ("line", self.line())
    }

    fn cell(&self, at: usize) -> Cell<'_> {
        let text = self.selected.get(at).and_then(|column| self.record.get(*column));
        match text.unwrap_or_default() {
            [] => Cell::Missing,
            text => Cell::Text(Cow::Borrowed(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines and cells of the columns `b` and `a`, or what is wrong.
    fn read(text: &[u8]) -> Result<Vec<(u64, Vec<String>)>, String> {
        let mut csv = Csv::open(text)?;
        let place = |name| csv.columns().iter().position(|column| column == name).unwrap();
        let columns = [place("b"), place("a")];
        csv.select(&columns)?;
        let mut rows = Vec::new();
        while csv.next()? {
            let text = |at| match csv.cell(at) {
                Cell::Missing => "-".to_owned(),
                Cell::Text(text) => String::from_utf8_lossy(&text).into_owned(),
                other => panic!("{other:?}"),
            };
            rows.push((csv.place().1, vec![text(0), text(1)]));
        }
        Ok(rows)
    }

    fn row(line: u64, b: &str, a: &str) -> (u64, Vec<String>) {
        (line, vec![b.to_owned(), a.to_owned()])
    }

    #[test]
    fn cells_are_read_by_column() {
        let text = b"\xef\xbb\xbfa, b,c\r\n1,\"x\ny\",3\r\n\r\n,2,\"\"\"\"";
        assert_eq!(read(text).unwrap(), [row(2, "x\ny", "1"), row(5, "2", "-")]);
        assert_eq!(read(b"a,b").unwrap(), []);
        assert_eq!(
            read(b"a,b\n\n\n1,2\n\r\n3,\"4\r5\"\r\n").unwrap(),
            [row(4, "2", "1"), row(6, "4\r5", "3")]
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let cases: [(&[u8], &str); 5] = [
            (
                b"a,b\n1,2\n3\n",
                "line 3: expected 2 cells, as line 1 has, got 1; \"b\" is the first",
            ),
            (b"a,b\n1,2,3\n", "line 2: expected 2 cells, as line 1 has, got 3"),
            (b"1,2\n3,4\n", "line 1: expected the columns' names, got numbers"),
            (b"\n\n", "line 1: expected the columns' names, got nothing"),
            (b"a,\xff\n", "line 1: expected names in UTF-8"),
        ];
        for (text, expected) in cases {
            let problem = read(text).unwrap_err();
            assert!(problem.starts_with(expected), "{expected:?}: {problem}");
        }
    }

    #[test]
    fn a_quote_that_is_never_closed_does_not_fill_the_memory() {
        let text = b"a,b\n1,\"".chain(io::repeat(b'x'));
        let mut csv = Csv::open(text).unwrap();
        let problem = csv.next().unwrap_err();
        assert!(problem.contains("is a quote never closed?"), "{problem}");
    }
}
