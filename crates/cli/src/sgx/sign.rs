//! `mse sgx sign`: the SIGSTRUCT of an enclave, as `gramine-sgx-sign` writes it.

use std::path::PathBuf;

use gramine::{Date, SigStruct, SignerKey};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Inputs, warn_of_the_loader};
use crate::exit::{Advice, Exit};
use crate::files::{self, PUBLIC};
use crate::output::{self, Format, out, say};

/// Measure an enclave and sign the result.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,
    /// The signer's key: RSA-3072 with exponent 3, in PEM (`mse sgx keygen` makes one).
    #[arg(long, value_name = "PEM")]
    key: PathBuf,
    /// The date in the signature, as YYYY-MM-DD; today without it.
    #[arg(long, value_name = "DATE")]
    date: Option<Date>,
    /// Where the 1808 bytes of the SIGSTRUCT go.
    #[arg(long, value_name = "FILE.sig")]
    output: PathBuf,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Measures, signs, writes.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let key = read_key(args)?;
    let (manifest, libpal) = args.inputs.read()?;
    let sigstruct = SigStruct::sign(&manifest, &libpal, &key, args.date.unwrap_or_else(today))?;
    warn_of_the_loader(&manifest, &libpal);
    output::bytes(&args.output, &sigstruct.to_bytes(), PUBLIC)?;
    if args.output.as_os_str() == "-" {
        return Ok(Exit::Done);
    }
    let (mrenclave, mrsigner) = (hex::encode(sigstruct.mrenclave), hex::encode(sigstruct.mrsigner()));
    match args.format {
        Format::Json => output::json(&json!({
            "mrenclave": mrenclave,
            "mrsigner": mrsigner,
            "date": sigstruct.date.to_string(),
            "sigstruct": args.output.display().to_string(),
        }))?,
        Format::Human => {
            out!("mrenclave: {mrenclave}")?;
            out!("mrsigner: {mrsigner}")?;
            say!("Wrote {}", args.output.display());
        }
    }
    Ok(Exit::Done)
}

fn read_key(args: &Args) -> anyhow::Result<SignerKey> {
    let pem = Zeroizing::new(files::read_text(&args.key)?);
    SignerKey::from_pem(&pem).hint("`mse sgx keygen --output FILE` makes a key of the right kind")
}

/// The calendar date in UTC: the same for everybody at this moment.
fn today() -> Date {
    let date = Timestamp::now().to_zoned(TimeZone::UTC).date();
    Date {
        year: date.year().unsigned_abs(),
        month: date.month().unsigned_abs(),
        day: date.day().unsigned_abs(),
    }
}
