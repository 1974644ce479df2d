//! `mse completions SHELL`: a completion script.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::exit::Exit;

/// Print a completion script for a shell.
#[derive(clap::Args)]
pub struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes the script to standard output.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "mse", &mut script);
    crate::output::bytes("-".as_ref(), &script, crate::files::PUBLIC)?;
    Ok(Exit::Done)
}
