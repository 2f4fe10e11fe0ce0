//! `foreshadow profile`: what a version's inputs and outputs look like on the data that
//! it was made from.

mod columns;
mod learn;
mod text;

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::offline::{Place, RepositoryArgs, until_done_or_signal};
use crate::cli::output;
use crate::cli::profile::learn::{Learnt, Wanted};
use crate::types::Profile;

/// Write down what a version's inputs and outputs look like, for live traffic to be
/// compared with.
#[derive(Debug, Args)]
#[command(after_help = "\
Give it the data that the version was trained on, or better: validated on, CSV with a
line of names or Parquet. Each row is run through the version; the distribution of each
input and output goes into profile.json in the version's folder, in bins that stay. A
gateway that watches the folder takes it up, an earlier one's place as well.

Columns are found by the names in model.toml (features), or by those of the inputs;
others, such as the label, are passed over. --columns says which instead, in the
model's order. An empty cell or a null is NaN, or an empty text, as a client would
send it. Of more than --rows-max rows the first are taken: shuffle sorted files.

Exit codes: 0 written; 1 the data or the version do not fit; 2 no such version, or
wrong usage; 130 ended by Ctrl-C.

Examples:
  foreshadow profile churn/3 --data train.csv
  foreshadow profile churn/3 --data 2026-01.parquet --data 2026-02.parquet
  foreshadow profile churn/3 --data train.csv --columns age,plan,usage --output p.json")]
pub(super) struct ProfileArgs {
    /// The model and the version, as in churn/3
    #[arg(value_name = "MODEL/VERSION")]
    version: Place,
    /// A CSV or Parquet file with the rows; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    data: Vec<PathBuf>,
    /// The columns that the model takes, in its order
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    columns: Vec<String>,
    /// The most rows that are taken; fewer, where there are very many columns
    #[arg(long, value_name = "NUMBER", default_value = "1000000")]
    rows_max: NonZeroUsize,
    /// Where it is written [default: profile.json in the version's folder]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the profile itself
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    repository: RepositoryArgs,
}

/// A profile, and what people should know of it.
struct Made {
    profile: Profile,
    folder: PathBuf,
    notes: Vec<String>,
}

/// Carries it out.
pub(super) fn run(args: ProfileArgs) -> ExitCode {
    let json = args.json;
    let output = args.output.clone();
    let written = until_done_or_signal("profile", move || make(&args)).and_then(|made| {
        let made = made?;
        let shown = serde_json::to_string_pretty(&made.profile)
            .map_err(|error| Failure::failed(format!("the profile cannot be written: {error}")))?;
        let file = output.unwrap_or_else(|| made.folder.join(Profile::FILE));
        let replaced = file.exists();
        write(&file, &shown)?;
        tell(&made, &file, replaced, json.then_some(&*shown));
        Ok(())
    });
    super::exit_code(written)
}

/// Loads the version and runs the rows.
fn make(args: &ProfileArgs) -> Result<Made, Failure> {
    let opened = args.repository.open(&args.version)?;
    let Place { model, .. } = args.version.clone();
    let rows_max = args.rows_max.get();
    let wanted = Wanted { files: &args.data, columns: &args.columns, rows_max };
    let Learnt { builder, more } = learn::learn(&opened, &wanted).map_err(Failure::failed)?;
    let mut notes: Vec<_> =
        builder.skipped().iter().map(|skipped| format!("left out: {skipped}")).collect();
    if more {
        notes.push(format!("the first {} rows; there are more (--rows-max)", builder.rows()));
    }
    let created = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let profile = builder.finish(model, opened.digest, learn::names(&args.data), created);
    let profile = profile.map_err(|error| Failure::failed(error.message()))?;
    if profile.inputs.is_empty() && profile.outputs.is_empty() {
        return Err(Failure::failed(format!("nothing to profile; {}", notes.join("; "))));
    }
    Ok(Made { profile, folder: opened.folder, notes })
}

/// What programs read stands alone on stdout.
fn tell(made: &Made, file: &Path, replaced: bool, json: Option<&str>) {
    let say = if json.is_some() { output::progress } else { output::print };
    match json {
        Some(json) => output::print_as_it_is(json),
        None => output::print(&format!("{}\n", text::render(&made.profile))),
    }
    for note in &made.notes {
        say(note);
    }
    let how = if replaced { "written anew" } else { "written" };
    let who = if file.parent() == Some(&made.folder) {
        "; a gateway that watches the folder takes it up"
    } else {
        ""
    };
    say(&format!("{how}: {}{who}", file.display()));
}

/// Whole or not at all: a gateway may read it while it is written.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let folder = output::folder_of(file);
    let mut temporary = tempfile::Builder::new();
    let written = temporary.prefix(".profile-").tempfile_in(folder).and_then(|mut temporary| {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::Permissions::from_mode(0o644);
        temporary.as_file().set_permissions(mode)?;
        writeln!(temporary, "{text}")?;
        temporary.as_file().sync_all()?;
        temporary.persist(file).map(drop).map_err(|error| error.error)
    });
    written
        .map_err(|error| Failure::failed(format!("{} cannot be written: {error}", file.display())))
}
