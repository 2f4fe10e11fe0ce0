//! `foreshadow feedback`: labels from files, reported to a gateway.

mod rows;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use serde::{Deserialize, Serialize};

use crate::cli::client::{self, Http, root_cause};
use crate::cli::failure::Failure;
use crate::cli::feedback::rows::{Columns, Labels, Piece};
use crate::cli::output;

/// Longest wait for a receipt: labels are on the disk by then.
const TIMEOUT: Duration = Duration::from_secs(90);
/// The largest reply.
const REPLY_BYTES_MAX: usize = 1 << 20;
/// What the refusal of a label begins with that was sent alone.
const ALONE: &str = "label 0: ";
/// Problems that are shown.
const SHOWN_MAX: usize = 10;

/// Report what turned out to be true, from CSV or Parquet files.
#[derive(Debug, Args)]
#[command(after_help = "\
A line is the label of one row of one prediction: the id that the reply had, the label (a
class by its name or number, or the true number), and which of the request's rows it is
of, if there is such a column; else the first. Lines without a label are passed over.

Labels count once: a file that broke off is sent again, and what was joined before is told
as duplicate.

Exit codes: 0 all were taken; 1 some were refused or dropped, or the gateway did not take
them; 2 wrong usage.

Examples:
  foreshadow feedback labels.csv
  foreshadow feedback churned.parquet --id request --label left
  foreshadow feedback 2026-10.csv 2026-11.csv --json")]
pub(super) struct FeedbackArgs {
    /// CSV (with a line of names) or Parquet files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The column with the prediction's id
    #[arg(long, value_name = "NAME", default_value = "prediction_id")]
    id: String,
    /// The column with the label
    #[arg(long, value_name = "NAME", default_value = "label")]
    label: String,
    /// The column with the row of the request, from 0 [default: row, where there is one]
    #[arg(long, value_name = "NAME")]
    row: Option<String>,
    /// Where the gateway answers requests
    #[arg(
        long,
        visible_alias = "url",
        value_name = "URL",
        env = "FORESHADOW_INFERENCE",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8000",
        value_parser = client::base_url
    )]
    inference: String,
    /// Print what became of them as JSON
    #[arg(long)]
    json: bool,
}

/// What became of labels.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Receipt {
    /// Lines without a label.
    #[serde(default)]
    unlabelled: u64,
    joined: u64,
    duplicate: u64,
    conflicting: u64,
    late: u64,
    waiting: u64,
    dropped: u64,
    refused: u64,
    problems: Vec<Problem>,
}

/// Why one was refused.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Problem {
    /// Its place among the labels that were sent together, from 0.
    #[serde(skip_serializing)]
    label: usize,
    /// The file and the place in it.
    #[serde(default)]
    place: String,
    problem: String,
}

impl Receipt {
    /// Adds what became of the next ones, of which `place` tells where they are.
    fn add(&mut self, more: Self, place: impl Fn(usize) -> String) {
        for (own, more) in [
            (&mut self.unlabelled, more.unlabelled),
            (&mut self.joined, more.joined),
            (&mut self.duplicate, more.duplicate),
            (&mut self.conflicting, more.conflicting),
            (&mut self.late, more.late),
            (&mut self.waiting, more.waiting),
            (&mut self.dropped, more.dropped),
            (&mut self.refused, more.refused),
        ] {
            *own += more;
        }
        let room = SHOWN_MAX.saturating_sub(self.problems.len());
        let problems = more.problems.into_iter().take(room);
        self.problems.extend(problems.map(|own| Problem { place: place(own.label), ..own }));
    }

    fn text(&self) -> String {
        let all = [
            ("joined", self.joined),
            ("duplicate", self.duplicate),
            ("conflicting", self.conflicting),
            ("late", self.late),
            ("waiting", self.waiting),
            ("dropped", self.dropped),
            ("refused", self.refused),
            ("without a label", self.unlabelled),
        ];
        let told = all.iter().filter(|(_, count)| *count > 0);
        let told: Vec<_> = told.map(|(what, count)| format!("{count} {what}")).collect();
        let mut text = if told.is_empty() { "no labels".to_owned() } else { told.join(", ") };
        for Problem { place, problem, .. } in &self.problems {
            text.push_str(&format!("\n  {place}: {problem}"));
        }
        text
    }
}

/// Carries it out.
pub(super) async fn run(args: &FeedbackArgs) -> Result<(), Failure> {
    let (http, mut sum, mut sent) = (client::http(), Receipt::default(), 0);
    let outcome = report(args, &http, &mut sum, &mut sent).await;
    let text = serde_json::to_string_pretty(&sum);
    match text.as_ref().ok().filter(|_| args.json) {
        Some(json) => output::print_as_it_is(json),
        None => output::print(&sum.text()),
    }
    outcome?;
    if sum.refused + sum.dropped > 0 {
        let (refused, dropped) = (sum.refused, sum.dropped);
        return Err(Failure::failed(format!(
            "{refused} labels were refused and {dropped} dropped, since too many wait"
        )));
    }
    Ok(())
}

/// Reads and sends, piece by piece: what a gateway has taken it keeps.
async fn report(
    args: &FeedbackArgs,
    http: &Http,
    sum: &mut Receipt,
    sent: &mut u64,
) -> Result<(), Failure> {
    let columns = Columns { id: &args.id, label: &args.label, row: args.row.as_deref() };
    for path in &args.files {
        let at = |why: String, sent: u64| told(path, sent, &why);
        let mut labels = Labels::open(path, columns).map_err(|why| at(why, *sent))?;
        loop {
            let Piece { lines, places, problem } = labels.take();
            if !places.is_empty() {
                let receipt = send(args, http, lines, places.len()).await;
                let receipt = receipt.map_err(|why| at(why, *sent))?;
                let place = |label: usize| {
                    let (what, number) = places.get(label).copied().unwrap_or(("label", 0));
                    format!("{}: {what} {number}", path.display())
                };
                sum.add(receipt, place);
                *sent += u64::try_from(places.len()).unwrap_or(u64::MAX);
            }
            if let Some(problem) = problem {
                return Err(at(problem, *sent));
            }
            if places.is_empty() {
                break;
            }
        }
        sum.unlabelled += labels.unlabelled();
    }
    Ok(())
}

fn told(path: &Path, sent: u64, why: &str) -> Failure {
    let path = path.display();
    let before = match sent {
        0 => String::new(),
        sent => format!("; {sent} labels were sent before: send all again, they count once"),
    };
    Failure::failed(format!("{path}: {why}{before}"))
}

async fn send(
    args: &FeedbackArgs,
    http: &Http,
    lines: String,
    count: usize,
) -> Result<Receipt, String> {
    let url = format!("{}/v1/feedback", args.inference);
    let request = Request::builder().method(Method::POST).uri(&url);
    let request = request.header(header::CONTENT_TYPE, "application/x-ndjson");
    let request = request.body(Full::new(Bytes::from(lines))).map_err(|error| error.to_string())?;
    let exchange = async {
        let reply = http.request(request).await.map_err(|error| {
            let cause = root_cause(&error);
            format!("no gateway answers at {}: is it running? ({cause})", args.inference)
        })?;
        let (head, body) = reply.into_parts();
        let body = Limited::new(body, REPLY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("the reply broke off: {error}"))?.to_bytes();
        Ok::<_, String>((head.status, body))
    };
    let exchanged = tokio::time::timeout(TIMEOUT, exchange).await;
    let (status, body) = exchanged.map_err(|_| {
        format!("{} did not answer within {} s", args.inference, TIMEOUT.as_secs())
    })??;
    if status == StatusCode::OK {
        return serde_json::from_slice(&body)
            .map_err(|error| format!("the reply is no receipt of labels: {error}"));
    }
    let said: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let said = said.as_ref().and_then(|said| said.get("error")?.as_str());
    match said {
        // One alone that is refused has no receipt.
        Some(said) if count == 1 && said.starts_with(ALONE) => {
            let problem = said[ALONE.len()..].to_owned();
            let problems = vec![Problem { label: 0, place: String::new(), problem }];
            Ok(Receipt { refused: 1, problems, ..Receipt::default() })
        }
        Some(said) => Err(said.to_owned()),
        None => Err(format!("{url} answered {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_add_up_and_problems_keep_their_place() {
        let reply = r#"{"joined": 2, "duplicate": 0, "conflicting": 0, "late": 0, "waiting": 0,
            "dropped": 0, "refused": 1, "problems": [{"label": 1, "problem": "expected a number"}]}"#;
        let more = || serde_json::from_str::<Receipt>(reply).unwrap();
        let mut sum = Receipt::default();
        assert_eq!(sum.text(), "no labels");
        sum.add(more(), |label| format!("a.csv: line {}", label + 2));
        sum.add(more(), |label| format!("b.parquet: row {label}"));
        sum.unlabelled = 3;
        let text = "4 joined, 2 refused, 3 without a label\n  a.csv: line 3: expected a number\n  \
                    b.parquet: row 1: expected a number";
        assert_eq!(sum.text(), text);
    }
}
