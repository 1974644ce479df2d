//! `mse simulator root`: the certificate under which this installation's simulated quotes chain.

use std::path::PathBuf;

use jiff::Timestamp;
use platform::simulated::Installation;

use crate::exit::Exit;
use crate::files::PUBLIC;
use crate::{output, places};

/// Print the root certificate of this installation's simulated platform, for `--simulated-root` elsewhere.
#[derive(clap::Args)]
pub struct Args {
    /// Where the certificate goes; `-` is standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
}

/// Makes the installation if there is none yet.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let installation = Installation::open_or_create(&places::simulator()?, Timestamp::now())?;
    output::bytes(&args.output, installation.root_pem().as_bytes(), PUBLIC)?;
    Ok(Exit::Done)
}
