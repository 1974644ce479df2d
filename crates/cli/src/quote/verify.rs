//! `mse quote verify`: judge any SGX quote, alone, with no package.

use attestation::judge_bytes;

use crate::exit::Exit;
use crate::judging;
use crate::output::Format;
use crate::quote::subject::SubjectArgs;

/// Judge a quote, an RA-TLS certificate or an evidence file. Exit code 0 accepted, 3 refused, 1 could not judge.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    subject: SubjectArgs,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Judges, and prints every check.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let case = args.subject.read()?;
    let judgement = judge_bytes(
        case.input(),
        case.collateral.as_deref(),
        &case.anchors,
        &case.policy,
        &case.expected,
        case.at,
    );
    judging::print(&judgement, args.format)?;
    if judgement.is_accepted() {
        return Ok(Exit::Done);
    }
    Err(judging::refusal(&judgement).into())
}
