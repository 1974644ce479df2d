//! `mse cloud logs`: what the operator sees of an app's output.

use crate::cloud::{apps, session};
use crate::exit::Exit;
use crate::output;

/// Show what an app has written. The operator sees the same: an app should print nothing confidential. On a terminal
/// control characters are shown as escapes; a pipe or a file gets the bytes as they are.
#[derive(clap::Args)]
pub struct Args {
    /// Go on until the app ends or Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    /// The app's id, or its name if it was deployed from here.
    id: String,
}

/// Copies it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let id = apps::id_of(&session::contexts()?, &args.id)?;
    let (_, session) = session::open()?;
    output::log(|out| Ok(session.logs(id, args.follow, out)?))?;
    Ok(Exit::Done)
}
