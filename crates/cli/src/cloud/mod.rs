//! `mse cloud`: the whole flow on somebody's shared backend, which is not trusted; one file per verb.

mod apps;
mod context;
mod deploy;
mod init;
mod list;
mod localtest;
mod login;
mod logout;
mod logs;
mod project;
mod scaffold;
mod session;
mod status;
mod stop;
mod test;
mod verify;

use clap::Subcommand;

use crate::exit::Exit;

/// Deploy to a shared backend that need not be trusted, verify, test, and call.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Login(login::Args),
    Logout(logout::Args),
    Scaffold(scaffold::Args),
    Init(init::Args),
    Localtest(localtest::Args),
    Deploy(deploy::Args),
    List(list::Args),
    Status(status::Args),
    Logs(logs::Args),
    Test(test::Args),
    Verify(verify::Args),
    Stop(stop::Args),
    Context(context::Args),
}

/// Runs a verb.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    match args.verb {
        Verb::Login(args) => login::run(&args),
        Verb::Logout(args) => logout::run(&args),
        Verb::Scaffold(args) => scaffold::run(&args),
        Verb::Init(args) => init::run(&args),
        Verb::Localtest(args) => localtest::run(args),
        Verb::Deploy(args) => deploy::run(&args),
        Verb::List(args) => list::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Logs(args) => logs::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Verify(args) => verify::run(&args),
        Verb::Stop(args) => stop::run(&args),
        Verb::Context(args) => context::run(args),
    }
}
