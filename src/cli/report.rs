//! A trial's report for people.

use crate::cli::figures::{difference, seconds};
use crate::cli::table::Sheet;
use crate::registry::preflight::{
    GoldenReport, MemoryReport, Report, RowsReport, RowsVerdict, TensorReport,
};

/// A line of a version's description: `  engine        tract 0.23.9`.
pub(super) fn line(name: &str, value: &str) -> String {
    format!("  {name:<13} {value}").trim_end().to_owned()
}

/// What it takes and gives, a line each.
pub(super) fn signature(report: &Report) -> Vec<String> {
    let inputs = report.signature.inputs.iter().map(|spec| line("input", &tensor(spec)));
    let outputs = report.signature.outputs.iter().map(|spec| line("output", &tensor(spec)));
    inputs.chain(outputs).collect()
}

/// Everything else that was found out; the costs are a table of their own.
pub(super) fn findings(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    let mut tell = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(line(name, &value));
        }
    };
    tell("made by", report.docs.producer.clone());
    tell("description", report.docs.description.lines().next().unwrap_or_default().to_owned());
    tell("operators", operators(report));
    if let Some(load) = report.load_seconds {
        let warm_up = report.warm_up_seconds;
        let warm_up = warm_up.map(|time| format!(", warmed up in {}", seconds(Some(time))));
        tell("load", format!("{}{}", seconds(Some(load)), warm_up.unwrap_or_default()));
    }
    if report.warm_up_seconds.is_some() {
        tell("memory", memory(&report.memory));
    }
    tell("rows", rows(&report.rows));
    tell("golden", report.golden.as_ref().map(golden).unwrap_or_default());
    lines
}

/// What a run costs, by batch size; nothing where it was not measured.
pub(super) fn costs(report: &Report) -> Option<String> {
    if report.costs.is_empty() {
        return report.costs_note.as_ref().map(|note| format!(" ({note})"));
    }
    let mut sheet = Sheet::new(&["rows", "time", "per row"]);
    for cost in &report.costs {
        sheet.row([
            cost.rows.to_string(),
            seconds(Some(cost.seconds)),
            seconds(Some(cost.seconds_per_row)),
        ]);
    }
    let note = report.costs_note.iter().map(|note| format!("\n ({note})"));
    Some(sheet.render() + &note.collect::<String>())
}

/// `x FP32 [N, 12]`, with its classes and what is said of it.
fn tensor(spec: &TensorReport) -> String {
    let symbols = spec.symbols.iter().map(String::as_str).chain(std::iter::repeat(""));
    let size = |(size, symbol): (&i64, &str)| match symbol {
        "" => size.to_string(),
        name => name.to_owned(),
    };
    let shape: Vec<_> = spec.shape.iter().zip(symbols).map(size).collect();
    let mut text = format!("{} {} [{}]", spec.name, spec.datatype, shape.join(", "));
    if !spec.classes.is_empty() {
        text.push_str(&format!(", classes {}", some(&spec.classes)));
    }
    if let Some(doc) = spec.doc.lines().next() {
        text.push_str(&format!(": {doc}"));
    }
    text
}

/// The first few, and how many more.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// `Gemm ×3, Relu ×2, ai.onnx.ml.Scaler`.
fn operators(report: &Report) -> String {
    let one = |operator: &crate::registry::preflight::OperatorReport| {
        let domain = match operator.domain.as_str() {
            "" => String::new(),
            domain => format!("{domain}."),
        };
        let times =
            if operator.count > 1 { format!(" ×{}", operator.count) } else { String::new() };
        format!("{domain}{}{times}", operator.op_type)
    };
    some(&report.operators.iter().map(one).collect::<Vec<_>>())
}

fn memory(memory: &MemoryReport) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    if memory.peak_bytes == 0 {
        return String::new();
    }
    let (resident, load, peak) = (memory.resident_bytes, memory.load_peak_bytes, memory.peak_bytes);
    format!(
        "{} resident; at most {} while it was loaded, {} in all",
        mib(resident),
        mib(load),
        mib(peak)
    )
}

fn rows(rows: &RowsReport) -> String {
    let detail = rows.detail.clone().unwrap_or_default();
    match rows.verdict {
        RowsVerdict::Independent => format!(
            "independent of their batch ({} rows, largest difference {})",
            rows.rows,
            difference(Some(rows.difference_max))
        ),
        RowsVerdict::Dependent => format!("DEPEND on their batch: {detail}"),
        RowsVerdict::NotApplicable => format!("not applicable: {detail}"),
        RowsVerdict::Unknown => detail,
    }
}

fn golden(golden: &GoldenReport) -> String {
    let failed = golden.failures.len() + golden.failures_more;
    let failed = if failed > 0 { format!(", {failed} FAILED") } else { String::new() };
    format!(
        "{} cases, {} rows, largest difference {}{failed}",
        golden.cases,
        golden.rows,
        difference(Some(golden.difference_max))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::preflight::{BatchCost, DocsReport, OperatorReport, SignatureReport};

    #[test]
    fn a_report_is_told_in_lines() {
        let spec = TensorReport {
            name: "p".into(),
            datatype: "FP32".into(),
            shape: vec![-1, 2, -1],
            symbols: vec!["N".into(), String::new(), String::new()],
            doc: "how sure it is\nand more".into(),
            classes: (0..10).map(|i| format!("c{i}")).collect(),
        };
        let operator = |domain: &str, op_type: &str, count| OperatorReport {
            domain: domain.into(),
            op_type: op_type.into(),
            count,
        };
        let report = Report {
            signature: SignatureReport { outputs: vec![spec], ..SignatureReport::default() },
            docs: DocsReport { producer: "sklearn".into(), ..DocsReport::default() },
            operators: vec![operator("", "Gemm", 2), operator("ai.onnx.ml", "Scaler", 1)],
            load_seconds: Some(0.0123),
            warm_up_seconds: Some(0.001),
            costs: vec![BatchCost { rows: 8, runs: 3, seconds: 8e-6, seconds_per_row: 1e-6 }],
            costs_note: Some("64 rows would take too long".into()),
            memory: MemoryReport {
                resident_bytes: 1 << 20,
                load_peak_bytes: 3 << 19,
                peak_bytes: 2 << 20,
            },
            rows: RowsReport {
                verdict: RowsVerdict::Independent,
                rows: 64,
                difference_max: 1e-7,
                detail: None,
            },
            golden: Some(GoldenReport { cases: 2, rows: 5, ..GoldenReport::default() }),
            ..Report::default()
        };
        assert_eq!(
            signature(&report),
            [
                "  output        p FP32 [N, 2, -1], classes c0, c1, c2, c3, c4, c5, c6, c7 and 2 more: how sure it is"
            ]
        );
        let expected = "  made by       sklearn
  operators     Gemm ×2, ai.onnx.ml.Scaler
  load          12.3 ms, warmed up in 1.00 ms
  memory        1.0 MiB resident; at most 1.5 MiB while it was loaded, 2.0 MiB in all
  rows          independent of their batch (64 rows, largest difference 1.0e-7)
  golden        2 cases, 5 rows, largest difference 0";
        assert_eq!(findings(&report).join("\n"), expected);
        let table = costs(&report).unwrap();
        assert!(table.contains("8     8.00 µs  1.00 µs"), "{table}");
        assert!(table.ends_with("(64 rows would take too long)"), "{table}");
        assert_eq!(findings(&Report::default()), Vec::<String>::new());
        assert_eq!(costs(&Report::default()), None);
    }
}
