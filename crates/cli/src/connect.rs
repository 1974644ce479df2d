//! `mse connect`: a local plain-HTTP door to a verified application.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use attestation::ratls::RatlsCertificate;
use client::forwarder::Forwarder;
use client::target::Target;
use jiff::Timestamp;

use crate::exit::{Advice, Exit, Failure};
use crate::files;
use crate::home::nodes;
use crate::output::{out, say};

/// Open a local door to a verified application, for a browser or any client. Ctrl-C closes it.
#[derive(clap::Args)]
pub struct Args {
    /// The certificate that `verify` wrote: no other peer is spoken to.
    #[arg(long, value_name = "PEM")]
    cert: PathBuf,
    /// The IP address of the application, instead of what its name resolves to.
    #[arg(long, value_name = "IP")]
    resolve: Option<IpAddr>,
    /// Where the door is.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The application: https://host:port
    url: String,
}

/// Serves until interrupted.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut target = Target::from_url(&args.url)?;
    if let Some(address) = args.resolve {
        target = target.resolve_to(address);
    }
    let certificate = RatlsCertificate::from_pem(&files::read(&args.cert)?)
        .hint("name with --cert the ratls.pem that `mse home verify` wrote")?;
    let record = nodes::records()?.by_certificate(&certificate.der)?.ok_or_else(|| {
        Failure::refused(format!("no verification of {} is recorded here", args.cert.display()))
            .hint("run `mse home verify` first; it writes the certificate and remembers its verification")
    })?;
    record.check_current(Timestamp::now())?;
    nodes::announce(&record);
    let door =
        Forwarder::start(&record, &target, args.listen).hint("choose another address with --listen")?;
    out!("http://{}/", door.addr())?;
    say!(
        "Everything sent there goes to the enclave at {}, and to nobody else. Ctrl-C ends it.",
        target.origin()
    );
    door.wait();
    Ok(Exit::Done)
}
