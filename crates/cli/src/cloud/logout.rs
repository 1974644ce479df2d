//! `mse cloud logout`: forget the token.

use crate::cloud::session;
use crate::exit::Exit;
use crate::output::say;

/// Forget the token. Apps go on running; their contexts stay, and the record of the operator's signer.
#[derive(clap::Args)]
pub struct Args {}

/// Removes the login.
pub fn run(_: &Args) -> anyhow::Result<Exit> {
    match session::logins()?.remove()? {
        true => say!("Logged out. The token is still valid: end it at the backend if it may be known."),
        false => say!("This home was not logged in."),
    }
    Ok(Exit::Done)
}
