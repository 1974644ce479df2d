//! `mse simulator pccs`: the simulator's collateral over HTTP, as Intel's service and caches of it serve theirs.

use std::net::SocketAddr;

use jiff::Timestamp;
use platform::pcs_endpoint;
use platform::simulated::Installation;

use crate::exit::{Advice, Exit};
use crate::output::{out, say};
use crate::places;

/// Serve this installation's simulated collateral (PCS API version 4) until Ctrl-C.
#[derive(clap::Args)]
pub struct Args {
    /// The address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
}

/// Serves until interrupted.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let installation = Installation::open_or_create(&places::simulator()?, Timestamp::now())?;
    let endpoint =
        pcs_endpoint::serve(installation, args.listen).hint("choose another address with --listen")?;
    out!("{}", endpoint.url())?;
    say!("Serving SIMULATED collateral; Ctrl-C ends it.");
    loop {
        std::thread::park();
    }
}
