//! `mse sgx keygen`: a key that signs enclaves.

use std::path::PathBuf;

use gramine::SignerKey;
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::files::SECRET;
use crate::output::{self, Format, out, say};

/// Make a key that signs enclaves: RSA-3072 with exponent 3.
#[derive(clap::Args)]
pub struct Args {
    /// Where the private key goes (PEM, mode 0600); a file that exists is never replaced.
    #[arg(long, value_name = "PEM")]
    output: PathBuf,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Makes the key and says its MRSIGNER.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let to_stdout = args.output.as_os_str() == "-";
    if !to_stdout && args.output.symlink_metadata().is_ok() {
        return Err(Failure::usage(format!("{} exists already", args.output.display()))
            .hint("a lost key cannot be made again: choose another name, or move the file away")
            .into());
    }
    let key = SignerKey::generate()?;
    output::bytes(&args.output, key.to_pem()?.as_bytes(), SECRET)?;
    if to_stdout {
        return Ok(Exit::Done);
    }
    let mrsigner = hex::encode(key.mrsigner());
    match args.format {
        Format::Json => {
            output::json(&json!({ "mrsigner": mrsigner, "key": args.output.display().to_string() }))?;
        }
        Format::Human => {
            out!("mrsigner: {mrsigner}")?;
            say!("Wrote {}; keep it to yourself", args.output.display());
        }
    }
    Ok(Exit::Done)
}
