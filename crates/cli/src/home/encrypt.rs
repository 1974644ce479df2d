//! `mse home encrypt`: the reverse of `decrypt`, for data that the application is to open.

use std::path::PathBuf;

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::exit::Exit;
use crate::files::{self, PUBLIC};
use crate::output;

/// Encrypt a file: Fernet with --key, AES-GCM with --aes.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    key: Key,
    /// Where the ciphertext goes; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// The file to encrypt.
    file: PathBuf,
}

/// The key, and by it the cipher.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct Key {
    /// A file that holds a Fernet key (44 characters of base64).
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// An AES-128 or AES-256 key in hex, for AES-GCM: nonce, ciphertext, tag.
    #[arg(long, value_name = "HEX")]
    aes: Option<String>,
}

/// A cipher with its key, as text.
pub enum Cipher {
    /// Fernet.
    Fernet(Zeroizing<String>),
    /// AES-GCM.
    Aes(Zeroizing<String>),
}

impl Key {
    /// Reads the key.
    pub fn cipher(&self) -> anyhow::Result<Cipher> {
        match (&self.key, &self.aes) {
            (Some(file), _) => {
                let text = Zeroizing::new(files::read_text(file)?);
                Ok(Cipher::Fernet(Zeroizing::new(text.trim().to_owned())))
            }
            (None, aes) => Ok(Cipher::Aes(Zeroizing::new(aes.clone().unwrap_or_default()))),
        }
    }
}

/// Encrypts the file.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let plaintext = files::read_secret(&args.file)?;
    let ciphertext = match args.key.cipher()? {
        Cipher::Fernet(key) => secrets::fernet::encrypt(&key, &plaintext, Timestamp::now())?.into_bytes(),
        Cipher::Aes(key) => secrets::aes::encrypt(&key, &plaintext)?,
    };
    output::bytes(&args.output, &ciphertext, PUBLIC)?;
    Ok(Exit::Done)
}
