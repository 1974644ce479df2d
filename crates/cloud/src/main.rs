//! `mse-cloud`: parses, starts, waits for a signal.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use cloud::config::Config;
use cloud::serve::{Backend, FIRST_TOKEN};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

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
    let Verb::Serve(args) = Cli::parse().verb;
    start_log(&args);
    match serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
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
    let data = match &args.data {
        Some(data) => data.clone(),
        None => default_data()?,
    };
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    runtime.block_on(async {
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
            .await;
        Ok(())
    })
}

fn default_data() -> anyhow::Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Ok(state
        .context("neither XDG_STATE_HOME nor HOME is set; name a directory with --data")?
        .join("mse-cloud"))
}
