//! `mse home nonce`: a nonce that proves the age of evidence.

use jiff::Timestamp;

use crate::exit::Exit;
use crate::home::nodes;
use crate::output::{out, say};

/// Issue a nonce: give it to the operator (`evidence --nonce`), and name it when you verify (`verify --nonce`). Evidence
/// over it is no older than it is; this installation remembers when it was issued.
#[derive(clap::Args)]
pub struct Args {}

/// Prints the nonce in hex.
pub fn run(_: &Args) -> anyhow::Result<Exit> {
    let nonce = nodes::records()?.issue_nonce(Timestamp::now())?;
    out!("{}", hex::encode(nonce))?;
    say!("Issued now, and remembered here.");
    Ok(Exit::Done)
}
