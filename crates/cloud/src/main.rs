//! `mse-cloud`: parses, starts, waits for a signal.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use cloud::config::Config;
use cloud::serve::{Backend, FIRST_TOKEN};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

/// What all connections of the public port and of the API need at once, and something for the rest.
const OPEN_FILES: u64 = 20_000;

/// How long work on other threads may take when everything else has ended.
const ENDING: Duration = Duration::from_secs(10);

/// The backend of `mse cloud`: runs packages for people who need not trust it.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve until SIGTERM or SIGINT. Nodes go on running, and are adopted by the next start.
    Serve(Serve),
    /// Save the database of a data directory to a new file. The backend may be running.
    Backup(Saved),
    /// Put a backup in the place of the database of a data directory. The backend must not be running.
    Restore(Saved),
}

#[derive(clap::Args)]
struct Saved {
    /// Where everything is kept; $XDG_STATE_HOME/mse-cloud without it.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The backup.
    file: PathBuf,
}

#[derive(clap::Args)]
struct Serve {
    /// What the operator chose; everything has a default.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where everything is kept; $XDG_STATE_HOME/mse-cloud without it.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the API listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where the public port is.
    #[arg(long, value_name = "ADDR")]
    router: Option<SocketAddr>,
    /// How much goes to the log (stderr).
    #[arg(long, value_enum, default_value_t)]
    log: Level,
    /// How the log is written; text on a terminal without it, JSON elsewhere.
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    // Before anything else, and not among the verbs: it is this program's own.
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|verb| verb == cloud::reader::VERB) {
        return cloud::reader::answer(&arguments[1..]);
    }
    let done = match Cli::parse().verb {
        Verb::Serve(args) => {
            start_log(&args);
            serve(&args)
        }
        Verb::Backup(args) => backup(&args),
        Verb::Restore(args) => restore(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", outside::printable::printable(&format!("{error:#}"), "\n\t"));
            ExitCode::FAILURE
        }
    }
}

fn start_log(args: &Serve) {
    let level = match args.log {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let on_terminal = std::io::stderr().is_terminal();
    let format = args.log_format.unwrap_or(if on_terminal { LogFormat::Text } else { LogFormat::Json });
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
}

fn serve(args: &Serve) -> anyhow::Result<()> {
    let mut config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    config.listen = args.listen.unwrap_or(config.listen);
    config.router = args.router.unwrap_or(config.router);
    let data = directory(args.data.as_ref())?;
    raise_open_files();
    block_on(async {
        // Before anything is made: who asks to end is heard from the first moment on.
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let backend = Backend::start(&config, &data).await?;
        let address = backend.address()?;
        println!("https://{address}");
        tracing::info!(%address, data = %data.display(), ?config, "ready");
        eprintln!(
            "The API is at https://{address}: log in with --ca {} --token-file {}",
            data.join(cloud::authority::CERTIFICATE).display(),
            data.join(FIRST_TOKEN).display()
        );
        backend
            .run(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            })
            .await?;
        Ok(())
    })
}

/// As many open files as this process may have: who fills the public port must not take those of everything else.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let raised = setrlimit(Resource::Nofile, limit);
    let open_files = getrlimit(Resource::Nofile).current;
    if raised.is_err() || open_files.is_some_and(|limit| limit < OPEN_FILES) {
        tracing::warn!(
            open_files,
            "expected to be allowed {OPEN_FILES} open files; with fewer, connections are refused before their limits"
        );
    }
}

fn backup(args: &Saved) -> anyhow::Result<()> {
    let data = directory(args.data.as_ref())?;
    block_on(async { Ok(cloud::backup::save(&data, &args.file).await?) })?;
    eprintln!(
        "Saved {}. Keys and nodes are files of {}: copy those that must not be lost.",
        args.file.display(),
        data.display()
    );
    Ok(())
}

fn restore(args: &Saved) -> anyhow::Result<()> {
    let data = directory(args.data.as_ref())?;
    let kept = block_on(async { Ok(cloud::backup::restore(&data, &args.file).await?) })?;
    eprintln!("Restored {} into {}", args.file.display(), data.display());
    if let Some(kept) = kept {
        eprintln!("What was there is {}", kept.display());
    }
    Ok(())
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    let done = runtime.block_on(work);
    // What another thread still does is left as a crash would leave it; else a package in hand would hold up the end.
    runtime.shutdown_timeout(ENDING);
    done
}

fn directory(named: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    named.cloned().map_or_else(default_data, Ok)
}

fn default_data() -> anyhow::Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Ok(state
        .context("neither XDG_STATE_HOME nor HOME is set; name a directory with --data")?
        .join("mse-cloud"))
}
