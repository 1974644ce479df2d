//! `mse sgx`: measure and sign enclaves by hand, as Gramine's own tools do.

mod inspect;
mod keygen;
mod measure;
mod sign;

use std::path::PathBuf;

use clap::Subcommand;

use crate::exit::Exit;
use crate::files;
use crate::output::warn;

/// Measure and sign SGX enclaves by hand.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Measure(measure::Args),
    Sign(sign::Args),
    Inspect(inspect::Args),
    Keygen(keygen::Args),
}

/// Runs a verb.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    match args.verb {
        Verb::Measure(args) => measure::run(&args),
        Verb::Sign(args) => sign::run(&args),
        Verb::Inspect(args) => inspect::run(&args),
        Verb::Keygen(args) => keygen::run(&args),
    }
}

/// The two files that an enclave is made of.
#[derive(clap::Args)]
struct Inputs {
    /// Gramine's manifest, ready to be signed (`NAME.manifest.sgx`).
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// Gramine's loader inside the enclave, `libpal.so`.
    #[arg(long, value_name = "FILE")]
    libpal: PathBuf,
}

impl Inputs {
    /// Reads both.
    fn read(&self) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
        let manifest = files::read_at_most(&self.manifest, gramine::manifest::MAX_SIZE)?;
        let libpal = files::read_at_most(&self.libpal, gramine::elf::MAX_SIZE)?;
        Ok((manifest, libpal))
    }
}

/// Warns of what can be measured and signed, but not started.
fn warn_of_the_loader(manifest: &[u8], libpal: &[u8]) {
    if let Err(error) = gramine::loader::check(manifest, libpal) {
        warn(format_args!("Gramine will not start this enclave: {error}"));
    }
}
