//! `mse home fingerprint`: the MRENCLAVE that `verify` will expect of a package.

use std::path::PathBuf;

use package::Package;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::output::{self, Format, out};

/// Print the fingerprint that an enclave of this package must show.
#[derive(clap::Args)]
pub struct Args {
    /// The package.
    #[arg(long, value_name = "FILE")]
    package: PathBuf,
    /// The enclave size in MB; all sizes without it.
    #[arg(long, value_name = "MB")]
    size: Option<u64>,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Row {
    size_mb: u64,
    fingerprint: String,
}

/// Computes from the package alone; no evidence is involved.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    if let Some(size) = args.size {
        package::fingerprint::check_size(size).map_err(Failure::usage)?;
    }
    let package = Package::open(&args.package)?;
    let fingerprints = match args.size {
        Some(size) => vec![(size, package.fingerprint(size)?)],
        None => package.fingerprints()?,
    };
    let rows: Vec<Row> = fingerprints
        .into_iter()
        .map(|(size_mb, fingerprint)| Row { size_mb, fingerprint: fingerprint.to_string() })
        .collect();
    match (args.format, rows.as_slice()) {
        (Format::Json, rows) => output::json(&rows)?,
        (Format::Human, [row]) if args.size.is_some() => out!("{}", row.fingerprint)?,
        (Format::Human, rows) => {
            for row in rows {
                out!("{:>5}  {}", row.size_mb, row.fingerprint)?;
            }
        }
    }
    Ok(Exit::Done)
}
