//! More than a server can do: what is answered in time, what is refused, and
//! what a refusal costs.

use std::sync::Arc;
use std::time::Duration;

use crate::compare::median;
use crate::error::Error;
use crate::load::Load;
use crate::report::{Report, per};
use crate::stage::Stage;
use crate::target::Target;
use crate::text::Micros;

/// Runs at multiples of the capacity; the reports, and a table in words.
pub(crate) fn play(
    stage: &mut Stage<'_>,
    capacity: Option<f64>,
    factors: &[f64],
    deadline: Option<Duration>,
) -> Result<(Vec<Report>, Vec<String>), Error> {
    let mut reports = Vec::new();
    let phase = stage.phase();
    let capacity = match capacity {
        Some(capacity) => capacity,
        None => {
            let report = stage.run("capacity", &Load { closed: true, ..phase.clone() })?;
            let measured = report.rate_achieved;
            reports.push(report);
            measured
        }
    };
    if !(capacity.is_finite() && capacity > 0.0) {
        return Err(Error::new("no request was answered in a closed loop: there is no capacity"));
    }
    // The server may know, too, what is too late.
    let target = match deadline {
        Some(deadline) => Arc::new(Target::clone(&phase.target).within(deadline)),
        None => Arc::clone(&phase.target),
    };
    let mut steps: Vec<(f64, Vec<Report>)> = factors.iter().map(|f| (*f, Vec::new())).collect();
    for round in 1..=stage.rounds {
        for (factor, of_step) in &mut steps {
            if stage.stop.is_asked() {
                break;
            }
            let target = Arc::clone(&target);
            let load = Load { rate: capacity * *factor, deadline, target, ..phase.clone() };
            of_step.push(stage.run(&format!("overload {factor}x {round}"), &load)?);
        }
    }
    let mut notes = vec![format!("capacity {capacity:.0}/s; medians of {} round(s)", stage.rounds)];
    notes.extend(table(&steps));
    reports.extend(steps.into_iter().flat_map(|(_, reports)| reports));
    Ok((reports, notes))
}

fn table(steps: &[(f64, Vec<Report>)]) -> Vec<String> {
    let of = |reports: &[Report], figure: fn(&Report) -> f64| {
        median(reports.iter().map(figure).collect()).unwrap_or(0.0)
    };
    let peak = steps.iter().map(|(_, reports)| of(reports, goodput)).fold(0.0, f64::max);
    let head = format!(
        "{:>6}{:>12}{:>9}{:>12}{:>12}{:>12}{:>14}{:>12}",
        "load",
        "goodput/s",
        "of peak",
        "p99",
        "service p99",
        "refused/s",
        "with a wait",
        "resident"
    );
    let line = |(factor, reports): &(f64, Vec<Report>)| {
        let good = of(reports, goodput);
        let resident = of(reports, |r| r.server.map_or(0.0, |s| s.resident_bytes_after as f64));
        format!(
            "{:>5}x{good:>12.1}{:>8.0}%{:>12}{:>12}{:>12.1}{:>13.0}%{:>8.1} MiB",
            factor,
            100.0 * per(good, peak),
            Micros(of(reports, |r| r.latency.p99_us)).to_string(),
            Micros(of(reports, |r| r.service.p99_us)).to_string(),
            of(reports, |r| per(r.refused.total as f64, r.window_s)),
            100.0 * of(reports, |r| per(r.refused.with_retry_after as f64, r.refused.total as f64)),
            resident / f64::from(1 << 20),
        )
    };
    let mut lines = vec![head];
    lines.extend(steps.iter().filter(|(_, reports)| !reports.is_empty()).map(line));
    lines.extend(refusal_cost(steps));
    lines
}

fn goodput(report: &Report) -> f64 {
    report.goodput
}

/// CPU of the busiest step that is not what its answers cost elsewhere, over its
/// refusals. Tells something only where one step refuses nothing.
fn refusal_cost(steps: &[(f64, Vec<Report>)]) -> Option<String> {
    let all = || steps.iter().flat_map(|(_, reports)| reports);
    let calm = all().find(|report| report.refused.total == 0 && report.failed() == 0)?;
    let per_answer = calm.server?.cpu_us_per_request;
    let busy = all().max_by_key(|report| report.refused.total)?;
    let refused = busy.refused.total as f64;
    // The CPU time is of the whole run, the counts are of its window.
    let requests = busy.server?.cpu_s * 1e6 / busy.server?.cpu_us_per_request;
    let part = per(refused, busy.scheduled as f64);
    let left = busy.server?.cpu_s * 1e6 - per_answer * requests * (1.0 - part);
    (refused > 0.0).then(|| {
        format!(
            "a refusal took about {} of the server's CPU ({}: what is left over {} per answer)",
            Micros((left / (requests * part)).max(0.0)),
            busy.label,
            Micros(per_answer)
        )
    })
}
