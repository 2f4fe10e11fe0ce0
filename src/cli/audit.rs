//! `foreshadow audit`: whether the audit log is still what it was.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::app;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::types::Digest;

/// Check the audit log in the state folder, without a gateway or beside one.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Find entries that were changed, removed or reordered
    #[command(after_help = "\
Each entry carries a hash over itself and the entry before. A hash that was kept
elsewhere (every change logs its own) shows also a cut end and a log that was
written anew.

Exit codes: 0 it is whole; 1 it is not, or cannot be read.

Examples:
  foreshadow audit verify
  foreshadow audit verify --state /var/lib/foreshadow --head sha256:…")]
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// The gateway's state folder
    #[arg(
        long,
        value_name = "DIR",
        env = "FORESHADOW_REPOSITORY_STATE",
        default_value = ".foreshadow"
    )]
    state: PathBuf,
    /// The hash of an entry that must be in the log
    #[arg(long, value_name = "HASH")]
    head: Option<Digest>,
}

pub(super) async fn run(args: &AuditArgs) -> Result<(), Failure> {
    let AuditCommand::Verify(VerifyArgs { state, head }) = &args.command;
    let failed = |error: crate::error::Error| Failure::failed(error.message().to_owned());
    let known = head.map(|head| head.to_string());
    let (entries, last) = app::verify_audit(state, known).await.map_err(failed)?;
    output::print(&match entries {
        0 => "the audit log is empty".to_owned(),
        1 => format!("1 entry, whole; its hash is {last}"),
        _ => format!("{entries} entries, whole; the hash of the last is {last}"),
    });
    Ok(())
}
