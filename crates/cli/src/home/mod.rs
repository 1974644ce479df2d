//! `mse home`: the whole flow on one's own machine, one file per verb.

mod decrypt;
mod encrypt;
mod evidence;
mod fingerprint;
mod list;
pub mod localtest;
mod logs;
pub mod nodes;
mod nonce;
pub mod package;
mod restart;
mod run;
pub mod scaffold;
mod seal;
mod spawn;
mod status;
mod stop;
mod test;
mod verify;

use clap::Subcommand;

use crate::exit::Exit;

/// Package, spawn, verify, seal, run and test on one's own machine.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Scaffold(scaffold::Args),
    Localtest(localtest::Args),
    Package(package::Args),
    Fingerprint(fingerprint::Args),
    Spawn(spawn::Args),
    Nonce(nonce::Args),
    Evidence(evidence::Args),
    Verify(verify::Args),
    Seal(seal::Args),
    Run(run::Args),
    Test(test::Args),
    Decrypt(decrypt::Args),
    Encrypt(encrypt::Args),
    List(list::Args),
    Status(status::Args),
    Logs(logs::Args),
    Stop(stop::Args),
    Restart(restart::Args),
}

/// Runs a verb.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    match args.verb {
        Verb::Scaffold(args) => scaffold::run(&args),
        Verb::Localtest(args) => localtest::run(&args),
        Verb::Package(args) => package::run(&args),
        Verb::Fingerprint(args) => fingerprint::run(&args),
        Verb::Spawn(args) => spawn::run(&args),
        Verb::Nonce(args) => nonce::run(&args),
        Verb::Evidence(args) => evidence::run(&args),
        Verb::Verify(args) => verify::run(&args),
        Verb::Seal(args) => seal::run(&args),
        Verb::Run(args) => run::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Decrypt(args) => decrypt::run(&args),
        Verb::Encrypt(args) => encrypt::run(&args),
        Verb::List(args) => list::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Logs(args) => logs::run(&args),
        Verb::Stop(args) => stop::run(&args),
        Verb::Restart(args) => restart::run(&args),
    }
}
