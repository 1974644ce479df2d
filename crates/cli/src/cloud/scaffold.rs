//! `mse cloud scaffold [NAME]`: a project that works and can be deployed, to start from.

use std::path::Path;

use crate::exit::Exit;
use crate::home::scaffold;
use crate::output::say;

/// Write a new project: a small Flask application with its tests, its secrets, and a [cloud] table.
#[derive(clap::Args)]
pub struct Args {
    /// Name of the project, and of the directory to make; without it, the project is written into the current directory
    /// and called as that is.
    name: Option<String>,
}

/// Writes the project; nothing that is there is replaced.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    match &args.name {
        Some(name) => {
            scaffold::create(scaffold::Kind::Cloud, name, Path::new("."))?;
            say!("Wrote the project {name}/");
            say!("Next: mse cloud localtest --path {name}, or mse cloud deploy --path {name}");
        }
        None => {
            let name = scaffold::create_here(scaffold::Kind::Cloud, Path::new("."))?;
            say!("Wrote the project {name} into this directory");
            say!("Next: mse cloud localtest, or mse cloud deploy");
        }
    }
    Ok(Exit::Done)
}
