//! `mse cloud login`: remember a backend, a token for it, and whose enclaves it runs.

use std::path::PathBuf;

use client::backend::Login;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::cloud::session;
use crate::exit::{Advice, Exit};
use crate::files;
use crate::judging;
use crate::output::{out, printable, say, warn};

/// Log in to a backend. Its operator's signer key is recorded: from then on only enclaves of that key are accepted.
#[derive(clap::Args)]
pub struct Args {
    /// The file that holds the token.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// The authority that signed the backend's certificate, if it is not one that the system trusts.
    #[arg(long, value_name = "PEM")]
    ca: Option<PathBuf>,
    /// The operator's signer (MRSIGNER), as the operator published it: another is refused. Without it the first one seen
    /// is taken, unconfirmed.
    #[arg(long, value_name = "HEX", value_parser = judging::hex_array::<32>)]
    signer: Option<[u8; 32]>,
    /// The backend: https://host:port
    url: String,
}

/// Asks the backend who runs it, and records the answer.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let text = Zeroizing::new(files::read_text(&args.token_file)?);
    let token = Zeroizing::new(text.trim().to_owned());
    let ca = args.ca.as_deref().map(files::read_text).transpose()?;
    let logins = session::logins()?;
    let met = logins.met(&args.url)?;
    let login = Login::first_use(&args.url, token, ca, args.signer, met.as_ref(), Timestamp::now())
        .hint("check the address, --token-file and --ca; the backend's operator gives all three")?;
    logins.save(&login)?;
    out!("Backend: {}", login.url)?;
    out!("Apps: https://<id>.{}", printable(&login.operator.domain, ""))?;
    if let Some(pccs) = &login.operator.pccs {
        out!("Collateral (by the backend's word, not asked): {}", printable(pccs, ""))?;
    }
    session::describe_signer(login.operator.mrsigner, login.signer_confirmed)?;
    if login.operator.is_simulated() {
        warn("the backend's enclaves are SIMULATED: they prove nothing about its machines");
    }
    say!("Logged in.");
    Ok(Exit::Done)
}
