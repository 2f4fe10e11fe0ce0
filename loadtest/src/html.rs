//! A report as one HTML page that needs nothing else: plots, and the same
//! figures as tables.

use std::fmt::Write;

use plotters::prelude::*;
use serde::Serialize;

use crate::compare::Comparison;
use crate::error::Error;
use crate::report::{Percentiles, Report};
use crate::text::Micros;

/// The look, light and dark. Plots come in stand-in colours, which are mapped to
/// the page's.
const STYLE: &str = include_str!("page.css");
/// Stand-ins for what the style sheet colours.
const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);
const MARK: RGBColor = RGBColor(3, 3, 3);
const SERIES: [RGBColor; 6] = [
    RGBColor(11, 1, 1),
    RGBColor(12, 1, 1),
    RGBColor(13, 1, 1),
    RGBColor(14, 1, 1),
    RGBColor(15, 1, 1),
    RGBColor(16, 1, 1),
];
const SIZE: (u32, u32) = (960, 380);
/// Marks that are drawn; all of them are in the JSON.
const MARKS_MAX: usize = 1_000;

/// Everything that a run or a scenario says, for a program or a page.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Document<'a> {
    /// The scenario, or `run`.
    pub name: &'a str,
    /// One report for each run.
    pub reports: &'a [Report],
    /// Steady and disturbed phases side by side.
    pub comparison: Option<&'a Comparison>,
    /// Sentences that belong to no single run.
    pub notes: &'a [String],
}

/// The page.
///
/// # Errors
/// If a plot cannot be drawn.
pub fn page(document: &Document<'_>) -> Result<String, Error> {
    let title = format!("loadtest: {}", escape(document.name));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n<main>\n<h1>{title}</h1>\n"
    );
    if let Some(first) = document.reports.first() {
        let _ = writeln!(page, "<p>{}</p>", escape(&first.url));
    }
    if let Some(comparison) = document.comparison {
        page += &compared(comparison);
    }
    if !document.notes.is_empty() {
        let notes = escape(&document.notes.join("\n"));
        let _ = writeln!(page, "<h2>Notes</h2><pre tabindex=\"0\">{notes}</pre>");
    }
    let failed = |error: String| Error::new(format!("a plot cannot be drawn: {error}"));
    let about = "p50 (thin) and p99 of what came due in each interval; ticks at the bottom are \
                 swaps, vertical lines other marks";
    page += &figure("Latency over time", about, &over_time(document.reports).map_err(failed)?);
    let about = "latency at each quantile, one line for each run";
    page += &figure("Percentiles", about, &percentiles(document.reports).map_err(failed)?);
    page += &legend(document.reports);
    page += &table(document.reports);
    page += &marks(document.reports);
    page += "</main>\n</html>\n";
    Ok(page)
}

fn compared(comparison: &Comparison) -> String {
    let mut text = format!(
        "<h2>Steady and {} side by side</h2>\n<div class=\"scroll\" tabindex=\"0\"><table>\
         <caption>Medians of {} rounds; the ratio is that of each phase to the one before\
         </caption><tr><th scope=\"col\">figure<th scope=\"col\">steady<th scope=\"col\">{}\
         <th scope=\"col\">ratio\n",
        escape(&comparison.disturbed),
        comparison.rounds,
        escape(&comparison.disturbed)
    );
    for row in &comparison.rows {
        let ratio = row.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        let (a, b) = (Micros(row.steady_us), Micros(row.disturbed_us));
        let _ = writeln!(text, "<tr><th scope=\"row\">{}<td>{a}<td>{b}<td>{ratio}", row.name);
    }
    let (a, b) = (comparison.failed_steady, comparison.failed_disturbed);
    let _ = writeln!(text, "<tr><th scope=\"row\">failed<td>{a}<td>{b}<td></table></div>");
    text
}

fn figure(title: &str, about: &str, svg: &str) -> String {
    let view = format!("<svg role=\"img\" aria-label=\"{title}: {about}\" ");
    let svg = svg.replacen("<svg ", &view, 1);
    format!(
        "<h2>{title}</h2>\n<figure><div class=\"scroll\" tabindex=\"0\">{svg}</div>\
         <figcaption>{about}</figcaption></figure>\n"
    )
}

/// What a run is called without the number of its round.
fn kind(report: &Report) -> String {
    let is_number = |word: &&str| word.trim_end_matches(':').parse::<u32>().is_ok();
    let words = report.label.split(' ').filter(|word| !is_number(word));
    words.collect::<Vec<_>>().join(" ")
}

/// The kinds of runs, in order: runs of a kind share a colour.
fn kinds(reports: &[Report]) -> Vec<String> {
    let mut kinds: Vec<String> = Vec::new();
    for report in reports {
        let kind = kind(report);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

fn colour(kinds: &[String], report: &Report) -> RGBColor {
    let kind = kind(report);
    let index = kinds.iter().position(|known| *known == kind).unwrap_or(0);
    SERIES[index % SERIES.len()]
}

fn legend(reports: &[Report]) -> String {
    let item = |(index, kind): (usize, &String)| {
        let series = index % SERIES.len();
        format!("<li><i class=\"s{series}\"></i>{}</li>", escape(kind))
    };
    let items: String = kinds(reports).iter().enumerate().map(item).collect();
    format!("<ul class=\"legend\">{items}</ul>\n")
}

fn table(reports: &[Report]) -> String {
    let mut text = "<h2>Runs</h2>\n<div class=\"scroll\" tabindex=\"0\"><table><tr>".to_owned();
    for name in [
        "run",
        "asked/s",
        "2xx/s",
        "due",
        "failed",
        "refused",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "service p99",
        "lag p99",
        "CPU/request",
    ] {
        let _ = write!(text, "<th scope=\"col\">{name}");
    }
    for report in reports {
        let Percentiles { p50_us, p90_us, p99_us, p999_us, max_us, .. } = report.latency;
        let _ = write!(
            text,
            "\n<tr><th scope=\"row\">{}<td>{:.1}<td>{:.1}<td>{}<td>{}<td>{}",
            escape(&report.label),
            report.rate_asked,
            report.rate_achieved,
            report.scheduled,
            report.failed(),
            report.refused.total
        );
        let (service, lag) = (report.service.p99_us, report.lag.p99_us);
        for us in [p50_us, p90_us, p99_us, p999_us, max_us, service, lag] {
            let _ = write!(text, "<td>{}", Micros(us));
        }
        let cpu =
            report.server.map_or("-".to_owned(), |s| Micros(s.cpu_us_per_request).to_string());
        let _ = write!(text, "<td>{cpu}");
    }
    text += "</table></div>\n";
    let warn = |report: &Report| {
        let label = escape(&report.label);
        let line = |warning: &String| format!("<li>{label}: {}</li>", escape(warning));
        report.warnings.iter().map(line).collect::<String>()
    };
    let warnings: String = reports.iter().map(warn).collect();
    if !warnings.is_empty() {
        let _ = writeln!(text, "<h2>Warnings</h2><ul>{warnings}</ul>");
    }
    text
}

fn marks(reports: &[Report]) -> String {
    let all = reports.iter().flat_map(|report| report.marks.iter().map(move |mark| (report, mark)));
    let rows: String = all
        .take(MARKS_MAX)
        .map(|(report, mark)| {
            let at = report.began_s + mark.at_s;
            format!("<tr><td>{at:.3}<td>{}<td>{}\n", escape(&report.label), escape(&mark.what))
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "<details><summary>Marks</summary><table><tr><th scope=\"col\">second\
         <th scope=\"col\">run<th scope=\"col\">what\n{rows}</table></details>\n"
    )
}

/// p50 and p99 of every run on one axis of time.
fn over_time(reports: &[Report]) -> Result<String, String> {
    let end = reports.iter().flat_map(|report| {
        report.timeline.iter().map(move |point| report.began_s + point.at_s + point.length_s)
    });
    let end = end.fold(1.0, f64::max);
    let figures = reports.iter().flat_map(|report| &report.timeline);
    let range = decades(figures.flat_map(|point| [point.p50_us, point.p99_us]));
    let kinds = kinds(reports);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(80)
            .build_cartesian_2d(0.0..end, (range.0..range.1).log_scale())
            .map_err(|error| error.to_string())?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc("seconds").y_label_formatter(&|us| Micros(*us).to_string());
        mesh.axis_style(INK).bold_line_style(GRID).light_line_style(TRANSPARENT);
        mesh.label_style(("sans-serif", 13, &INK)).draw().map_err(|error| error.to_string())?;
        for (report, mark) in reports
            .iter()
            .flat_map(|report| report.marks.iter().map(move |mark| (report, mark)))
            .take(MARKS_MAX)
        {
            let at = (report.began_s + mark.at_s).clamp(0.0, end);
            // Swaps come so often that whole lines would hide all else.
            let part = if mark.what.starts_with("swap") { 0.06 } else { 1.0 };
            let top = range.0 * (range.1 / range.0).powf(part);
            let line = PathElement::new([(at, range.0), (at, top)], MARK.stroke_width(1));
            chart.draw_series([line]).map_err(|error| error.to_string())?;
        }
        for report in reports {
            let colour = colour(&kinds, report);
            for (of, width) in [
                ((|point| point.p50_us) as fn(&crate::timeline::Point) -> f64, 1),
                (|point| point.p99_us, 2),
            ] {
                let values = report.timeline.iter().filter(|point| of(point) > 0.0);
                let at = |point: &crate::timeline::Point| {
                    (report.began_s + point.at_s + point.length_s / 2.0, of(point))
                };
                chart
                    .draw_series(LineSeries::new(values.map(at), colour.stroke_width(width)))
                    .map_err(|error| error.to_string())?;
            }
        }
        area.present().map_err(|error| error.to_string())?;
    }
    Ok(svg)
}

/// Latency by quantile; the axis counts nines.
fn percentiles(reports: &[Report]) -> Result<String, String> {
    let curves = reports.iter().flat_map(|report| &report.curve);
    let range = decades(curves.clone().map(|point| point.1));
    let nines = |quantile: f64| -(1.0 - quantile).log10();
    let end = curves.map(|point| nines(point.0)).fold(2.0, f64::max);
    let kinds = kinds(reports);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(80)
            .build_cartesian_2d(0.0..end, (range.0..range.1).log_scale())
            .map_err(|error| error.to_string())?;
        let percent = |nines: &f64| {
            let digits = (nines.ceil() as usize).saturating_sub(2).max(1);
            format!("{:.digits$}", 100.0 - 100.0 * 10_f64.powf(-nines))
        };
        let mut mesh = chart.configure_mesh();
        mesh.x_desc("percentile").x_labels(6).x_label_formatter(&percent);
        mesh.y_label_formatter(&|us| Micros(*us).to_string());
        mesh.axis_style(INK).bold_line_style(GRID).light_line_style(TRANSPARENT);
        mesh.label_style(("sans-serif", 13, &INK)).draw().map_err(|error| error.to_string())?;
        for report in reports {
            let points = report.curve.iter().map(|(quantile, us)| (nines(*quantile), *us));
            let line = colour(&kinds, report).stroke_width(2);
            chart.draw_series(LineSeries::new(points, line)).map_err(|error| error.to_string())?;
        }
        area.present().map_err(|error| error.to_string())?;
    }
    Ok(svg)
}

/// Whole decades around the values.
fn decades(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let positive = values.filter(|value| *value > 0.0);
    let (low, high) = positive
        .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    if high <= 0.0 {
        return (1.0, 10.0);
    }
    let (low, high) = (low.log10().floor(), high.log10().ceil());
    (10_f64.powf(low), 10_f64.powf(high.max(low + 1.0)))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_span_whole_decades() {
        assert_eq!(decades([0.0, 150.0, 9_000.0].into_iter()), (100.0, 10_000.0));
        assert_eq!(decades([100.0].into_iter()), (100.0, 1_000.0));
        assert_eq!(decades(std::iter::empty()), (1.0, 10.0));
    }

    #[test]
    fn a_page_without_runs_is_whole_and_loads_nothing() {
        let notes = ["<b>".to_owned()];
        let document = Document { name: "run", reports: &[], comparison: None, notes: &notes };
        let page = page(&document).unwrap();
        assert!(page.ends_with("</html>\n") && page.matches("<svg").count() == 2);
        assert!(page.contains("&lt;b&gt;"));
        let links = ["src=", "href=", "url(", "@import"];
        assert!(links.iter().all(|link| !page.contains(link)), "{page}");
    }
}
