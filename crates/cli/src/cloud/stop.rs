//! `mse cloud stop`: end apps for good.

use std::time::{Duration, Instant};

use client::backend::{Session, State};
use uuid::Uuid;

use crate::cloud::{apps, session};
use crate::exit::{Exit, Failure};
use crate::home::nodes;
use crate::output::{self, say};

/// Stop apps, for good: their enclaves, and what only these could open, are gone.
#[derive(clap::Args)]
pub struct Args {
    /// Seconds to wait for each.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = patience())]
    timeout: u64,
    /// The apps' ids, or names of such as were deployed from here.
    #[arg(required = true)]
    ids: Vec<String>,
}

/// Seconds that a command may be told to wait: a month at most, which every clock can add.
pub fn patience() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(..=31 * 24 * 3600)
}

/// Stops one after the other; one that cannot be stopped does not keep the others running.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let contexts = session::contexts()?;
    let (_, session) = session::open()?;
    let mut failures = Vec::new();
    for text in &args.ids {
        let stopped = apps::id_of(&contexts, text).and_then(|id| {
            stop(&session, id, Duration::from_secs(args.timeout))?;
            forget(id)
        });
        match stopped {
            Ok(()) => say!("Stopped {text}"),
            Err(error) => failures.push(format!("{text}: {}", crate::exit::chain(&error))),
        }
    }
    if failures.is_empty() {
        return Ok(Exit::Done);
    }
    Err(Failure::failed(failures.join("\n")).into())
}

/// Asks for the end of an app, and waits for it.
pub fn stop(session: &Session, id: Uuid, limit: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    let mut app = session.stop_app(id)?;
    let bar = output::progress();
    bar.set_message("stopping");
    while app.state != State::Stopped {
        if Instant::now() >= deadline {
            return Err(Failure::failed(format!("it is {} after {} seconds", app.state, limit.as_secs()))
                .hint("the backend goes on stopping it; `mse cloud status` tells when it is done")
                .into());
        }
        std::thread::sleep(Duration::from_millis(200));
        app = session.app(id)?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// Forgets what this home knows of an app that has ended: its code key opens nothing any more.
pub fn forget(id: Uuid) -> anyhow::Result<()> {
    session::contexts()?.remove(id)?;
    Ok(nodes::records()?.forget_deployment(id)?)
}
