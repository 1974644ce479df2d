//! `mse home evidence`: fresh evidence from a live node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use attestation::ratls::RatlsCertificate;
use attestation::{Arguments, Evidence};
use client::live;
use runtime::{NodeName, Runtime};

use crate::collateral::CollateralArgs;
use crate::exit::{Exit, Failure};
use crate::files::{self, PUBLIC};
use crate::home::nodes;
use crate::judging;
use crate::output::say;

/// Ask a live node for evidence and write it, with its collateral, for the code provider.
#[derive(clap::Args)]
pub struct Args {
    /// The directory for evidence.json, made if missing.
    #[arg(long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// The code provider's nonce, 16 to 64 bytes in hex; a random one without it.
    #[arg(long, value_name = "HEX", value_parser = judging::hex_bytes)]
    nonce: Option<std::vec::Vec<u8>>,
    #[command(flatten)]
    collateral: CollateralArgs,
    /// The node's name.
    name: NodeName,
}

/// Asks the node over a connection that must end in the enclave that was verified when it was spawned.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let summary = nodes::runtime()?.summary(&args.name)?;
    let record = nodes::record(&args.name)?;
    nodes::announce(&record);
    let nonce = match &args.nonce {
        Some(nonce) if attestation::ratls::NONCE_BYTES.contains(&nonce.len()) => nonce.clone(),
        Some(nonce) => {
            return Err(
                Failure::usage(format!("a nonce has 16 to 64 bytes, this one has {}", nonce.len())).into()
            );
        }
        None => live::fresh_nonce()?.to_vec(),
    };
    let target = nodes::target(&summary)?;
    let live = live::request(&target, &nonce, Duration::from_secs(60))?;
    if live.certificate() != record.certificate() {
        return Err(Failure::refused(format!(
            "whoever answers at {target} is not the enclave that was spawned here as {}",
            args.name
        ))
        .into());
    }
    let collateral = args.collateral.choice()?.fetch(live.quote(), record.is_simulated())?;
    let certificate = RatlsCertificate::parse(live.certificate())?;
    let lifetime = certificate.not_after.duration_since(certificate.not_before);
    let days = u32::try_from(lifetime.as_hours() / 24).unwrap_or(0);
    let arguments = Arguments {
        host: summary.host,
        port: summary.listen.port(),
        size_mb: summary.size_mb,
        days,
        subject: certificate.subject,
        app_id: summary.app_id.to_string(),
        platform: if record.is_simulated() { "simulated" } else { "sgx" }.to_owned(),
        runtime: summary.runtime.to_owned(),
    };
    write(&args.output, &live.with(collateral, arguments))?;
    say!("Wrote {}", args.output.join("evidence.json").display());
    Ok(Exit::Done)
}

/// Writes `evidence.json`.
pub fn write(output: &Path, evidence: &Evidence) -> anyhow::Result<()> {
    files::write(&output.join("evidence.json"), evidence.to_json().as_bytes(), PUBLIC)
}
