//! `mse home decrypt`: open a result that the application encrypted.

use std::path::PathBuf;

use crate::exit::Exit;
use crate::files::SECRET;
use crate::home::encrypt::{Cipher, Key};
use crate::output;

/// Decrypt a file: Fernet with --key, AES-GCM with --aes.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    key: Key,
    /// Where the plaintext goes; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// The file to decrypt.
    file: PathBuf,
}

/// Decrypts; nothing is written where the key does not open the file.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let ciphertext = crate::files::read(&args.file)?;
    let plaintext = match args.key.cipher()? {
        Cipher::Fernet(key) => secrets::fernet::decrypt(&key, &ciphertext)?,
        Cipher::Aes(key) => secrets::aes::decrypt(&key, &ciphertext)?,
    };
    output::bytes(&args.output, &plaintext, SECRET)?;
    Ok(Exit::Done)
}
