//! `mse quote explain-tcb`: the state of a platform in words.

use attestation::explain::explain;

use crate::exit::Exit;
use crate::judging;
use crate::output::{self, Format, out};
use crate::quote::subject::SubjectArgs;

/// Say in words what a platform lacks, which advisories apply, and how long the policy goes on tolerating it.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    subject: SubjectArgs,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Explains; the exit code is that of `quote verify`.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let case = args.subject.read()?;
    let explanation = explain(
        case.input(),
        case.collateral.as_deref(),
        &case.anchors,
        &case.policy,
        &case.expected,
        case.at,
    );
    match args.format {
        Format::Json => output::json(&explanation)?,
        Format::Human => out!("{}", explanation.to_string().trim_end())?,
    }
    judging::note(&explanation.judgement);
    Ok(if explanation.judgement.is_accepted() { Exit::Done } else { Exit::Refused })
}
