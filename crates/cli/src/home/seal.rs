//! `mse home seal`: encrypt secrets so that only the verified enclave can open them.

use std::path::{Path, PathBuf};

use attestation::ratls::RatlsCertificate;
use jiff::Timestamp;
use secrets::code::CodeKey;
use secrets::seal::Payload;
use zeroize::Zeroizing;

use crate::exit::{Advice, Exit, Failure};
use crate::files::{self, PUBLIC};
use crate::home::nodes;
use crate::output::{self, say};

/// Seal secrets, and the code key, to an enclave that `verify` accepted.
#[derive(clap::Args)]
pub struct Args {
    /// The secrets, a JSON object.
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// The code key that `package --encrypt` saved.
    #[arg(long, value_name = "FILE")]
    code_key: Option<PathBuf>,
    /// The certificate that `verify` wrote.
    #[arg(long, value_name = "PEM", default_value = "ratls.pem")]
    cert: PathBuf,
    /// The directory for the sealed file; `-` is standard output.
    #[arg(long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Seal to a certificate that nothing verified. Whoever made it can read the secrets.
    #[arg(long)]
    unverified: bool,
}

/// Seals; refuses a certificate that no recorded verification covers.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    if args.secrets.is_none() && args.code_key.is_none() {
        return Err(Failure::usage("there is nothing to seal")
            .hint("name --secrets FILE, --code-key FILE or both")
            .into());
    }
    let payload = Payload {
        secrets: args.secrets.as_deref().map(json_object).transpose()?,
        code_key: args.code_key.as_deref().map(code_key).transpose()?,
    };
    let certificate = RatlsCertificate::from_file(&files::read(&args.cert)?)
        .hint("name with --cert the ratls.pem that `mse home verify` wrote")?;
    let sealed = if args.unverified {
        output::warn("UNVERIFIED: nothing says that this certificate belongs to an enclave");
        client::seal::seal_unverified(&certificate, &payload)?
    } else {
        let record = nodes::records()?.by_certificate(&certificate.der)?.ok_or_else(|| {
            Failure::refused(format!("no verification of {} is recorded here", args.cert.display()))
                .hint("run `mse home verify` first; it writes the certificate and remembers its verification")
        })?;
        nodes::announce(&record);
        client::seal::seal(&record, &payload, Timestamp::now())?
    };
    let name =
        args.secrets.as_deref().or(args.code_key.as_deref()).and_then(Path::file_name).unwrap_or_default();
    let mut name = name.to_owned();
    name.push(".sealed");
    let path = if args.output.as_os_str() == "-" { args.output.clone() } else { args.output.join(name) };
    output::bytes(&path, &sealed, PUBLIC)?;
    say!("Sealed for {}: {}", output::printable(&certificate.hosts.join(", "), ""), path.display());
    Ok(Exit::Done)
}

fn json_object(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let bytes = files::read_secret(path)?;
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes) {
        Ok(_) => Ok(bytes),
        // The message may quote what it found there: only the place is told.
        Err(error) => Err(Failure::failed(format!(
            "{} is not a JSON object (line {}, column {})",
            path.display(),
            error.line(),
            error.column()
        ))
        .into()),
    }
}

/// Reads a code key file: 64 hex digits.
pub fn code_key(path: &Path) -> anyhow::Result<CodeKey> {
    let text = Zeroizing::new(files::read_text(path)?);
    CodeKey::from_hex(text.trim())
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())).into())
}
