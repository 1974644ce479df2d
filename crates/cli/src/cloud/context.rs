//! `mse cloud context`: what this home keeps of its deployments.

use std::path::PathBuf;

use clap::Subcommand;
use client::backend::{Context, ProblemKind, Session, State};
use serde::Serialize;
use uuid::Uuid;

use crate::cloud::status;
use crate::cloud::{apps, session};
use crate::exit::{Exit, Failure};
use crate::home::nodes;
use crate::output::{self, Format, out, say};

/// List, export, import and remove what this home keeps of its deployments: code keys, fingerprints, how they were verified.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List them.
    List {
        /// How the report is written.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Write one into a file, mode 0600. It holds the code key, unless --public.
    Export {
        /// Leave the code key out: what remains may be given to users, to verify with.
        #[arg(long)]
        public: bool,
        /// The file, which must not be there; NAME.context.json without it.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// The app's id or name.
        id: String,
    },
    /// Take one from a file, of an app that this home does not know.
    Import {
        /// The file.
        file: PathBuf,
    },
    /// Remove some. The apps go on running, and nobody can prove their code any more.
    Remove {
        /// The apps' ids or names.
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Remove those of apps that have ended, on the backend that this home is logged in to.
    Purge,
}

/// One line of the list.
#[derive(Serialize)]
struct Line {
    id: Uuid,
    name: String,
    project: String,
    backend: String,
    domain: String,
    fingerprint: String,
    verified: String,
}

impl From<&Context> for Line {
    fn from(context: &Context) -> Line {
        Line {
            id: context.id,
            name: context.name.clone(),
            project: context.project.clone(),
            backend: context.backend.clone(),
            domain: context.domain.clone(),
            fingerprint: hex::encode(context.fingerprint),
            verified: status::words(&context.verified),
        }
    }
}

/// Runs a verb.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    let contexts = session::contexts()?;
    match args.verb {
        Verb::List { format } => {
            let lines: Vec<Line> = contexts.list()?.iter().map(Line::from).collect();
            if format == Format::Json {
                output::json(&lines)?;
                return Ok(Exit::Done);
            }
            if lines.is_empty() {
                say!("Nothing was deployed from here.");
            }
            for line in lines {
                out!(
                    "{}  {}/{}  {}  verified: {}",
                    line.id,
                    line.project,
                    line.name,
                    line.domain,
                    line.verified
                )?;
            }
        }
        Verb::Export { public, output, id } => {
            let context = apps::context_of(&contexts, &id)?;
            let output = output.unwrap_or_else(|| format!("{}.context.json", context.name).into());
            let context = if public { Context { code_key: None, ..context } } else { context };
            context.export(&output)?;
            say!("Wrote {}", output.display());
        }
        Verb::Import { file } => {
            let context = Context::import(&file)?;
            // What this home knows by itself is worth more than what a file says, and may be the only copy of a key.
            if contexts.load(context.id)?.is_some() {
                return Err(Failure::failed(format!("{} is known here already", context.id))
                    .hint(format!("`mse cloud context remove {}` forgets it, code key and all", context.id))
                    .into());
            }
            contexts.save(&context)?;
            say!("Imported {} ({})", context.name, context.id);
        }
        Verb::Remove { ids } => {
            for id in ids {
                let context = apps::context_of(&contexts, &id)?;
                contexts.remove(context.id)?;
                nodes::records()?.forget_deployment(context.id)?;
                say!("Removed {} ({})", context.name, context.id);
            }
        }
        Verb::Purge => {
            let (_, session) = session::open()?;
            let mut removed = 0;
            // Of other backends' apps this one knows nothing, and what it does not know is no reason to forget a key.
            for context in contexts.list()?.iter().filter(|context| context.backend == session.url()) {
                if has_ended(&session, context.id)? {
                    contexts.remove(context.id)?;
                    nodes::records()?.forget_deployment(context.id)?;
                    removed += 1;
                }
            }
            say!("Removed {removed}");
        }
    }
    Ok(Exit::Done)
}

/// Whether an app has ended, or is none of this owner's any more.
fn has_ended(session: &Session, id: Uuid) -> anyhow::Result<bool> {
    match session.app(id) {
        Ok(app) => Ok(app.state == State::Stopped),
        Err(client::Error::Backend { kind: ProblemKind::NotFound, .. }) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
