//! `mse home localtest`: serve the application on this machine, without an enclave, and run its tests.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use package::python::Interpreter;

use crate::exit::{Exit, Failure};
use crate::home::package::{self as packaging, ProjectArgs};
use crate::interrupt::{Group, Scratch, Work};
use crate::output::{out, say};
use crate::{embedded, places, plain_http, provider_tests};

/// Serve the application in development mode on localhost and run its tests against it.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// The Dockerfile of the image. Without a container engine the application is served natively, with the
    /// requirements.txt that lies beside it.
    #[arg(long, value_name = "FILE")]
    dockerfile: Option<PathBuf>,
    /// Secrets for the application; `secrets.json` of the project without it.
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// Secrets that will be sealed; `secrets_to_seal.json` of the project without it.
    #[arg(long, value_name = "FILE")]
    sealed_secrets: Option<PathBuf>,
    /// Serve until Ctrl-C instead of running the tests.
    #[arg(long)]
    no_tests: bool,
    /// The port; any free one without it.
    #[arg(long)]
    port: Option<u16>,
    /// Seconds to wait for the application.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// Serves, waits for the health check, tests.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let (mut project, app) = args.project.open()?;
    if let Some(dockerfile) = &args.dockerfile {
        let dockerfile = absolute(dockerfile)?;
        say!("Serving natively: {} is not built here.", dockerfile.display());
        let requirements = dockerfile.with_file_name("requirements.txt");
        if project.requirements.is_none() && requirements.is_file() {
            project.requirements = Some(requirements);
        }
    }
    let interpreter = Interpreter::discover()?;
    let work = Work::begin();
    let bar = packaging::progress();
    let site = package::native::install(
        project.requirements.as_deref(),
        &project.lock,
        &interpreter,
        &places::cache()?.join("packages"),
        &mut |step| bar.set_message(step.to_owned()),
    );
    bar.finish_and_clear();
    drop(work);
    let site = site?;

    let beside = |name: &str| Some(args.project.folder().join(name)).filter(|path| path.is_file());
    let secrets = args.secrets.clone().or_else(|| beside("secrets.json"));
    let sealed = args.sealed_secrets.clone().or_else(|| beside("secrets_to_seal.json"));
    let scratch = Scratch::new()?;
    let node = scratch.path().join("node");
    for (path, content) in embedded::node_files().files {
        crate::files::write(&node.join(path), &content, crate::files::PUBLIC)?;
    }
    let port = args.port.map_or_else(free_port, Ok)?;
    let mut python_path = node.into_os_string();
    python_path.push(":");
    python_path.push(&site);
    let mut command = Command::new(interpreter.path());
    let code =
        project.code.canonicalize().with_context(|| format!("cannot find {}", project.code.display()))?;
    command
        .args(["-m", "mse_node", "--dev", "--application", &app.python_application])
        .args(["--host", "127.0.0.1", "--port", &port.to_string()])
        .current_dir(&code)
        .env("PYTHONPATH", python_path)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1")
        .env("MODULE_PATH", &code)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .stdout(Stdio::from(std::io::stderr()))
        .process_group(0);
    for (variable, name) in [("HOME", "home"), ("TMPDIR", "tmpdir"), ("TMP_PATH", "tmp"), ("KEY_PATH", "key")]
    {
        let folder = scratch.path().join(name);
        std::fs::create_dir(&folder)?;
        command.env(variable, folder);
    }
    for (variable, file) in [("SECRETS_PATH", &secrets), ("SEALED_SECRETS_PATH", &sealed)] {
        match file {
            Some(file) => command.env(variable, absolute(file)?),
            None => command.env_remove(variable),
        };
    }
    say!("Serving {} on http://localhost:{port}/", app.python_application);
    let mut server = Group::new(command.spawn().context("cannot start the application")?);
    let log = server.child().stderr.take();
    let log = std::thread::spawn(move || {
        for line in log.into_iter().flat_map(|log| BufReader::new(log).lines().map_while(Result::ok)) {
            say!("  | {line}");
        }
    });
    let limit = Duration::from_secs(args.timeout);
    if let Err(error) = wait_for_health(&mut server, port, &app.healthcheck_endpoint, limit) {
        drop(server);
        // The application's own words come before ours.
        let _ = log.join();
        return Err(error);
    }
    let url = format!("http://localhost:{port}/");
    let exit = if args.no_tests {
        out!("{url}")?;
        say!("Ctrl-C ends it.");
        let status = server.child().wait()?;
        return Err(Failure::failed(format!("the application ended with {status}")).into());
    } else {
        provider_tests::Run {
            command: &app.tests_cmd,
            requirements: &app.tests_requirements,
            tests: &project.tests,
            url: &url,
            secrets: secrets.as_deref(),
            sealed_secrets: sealed.as_deref(),
        }
        .run()
    };
    drop(server);
    let _ = log.join();
    exit
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize().with_context(|| format!("cannot find {}", path.display()))
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr())?.port())
}

/// Asks until the health check answers with success, the application ends, or time is up.
fn wait_for_health(server: &mut Group, port: u16, path: &str, limit: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = server.child().try_wait()? {
            return Err(Failure::failed(format!("the application ended with {status} before it answered"))
                .hint("its own words are above")
                .into());
        }
        let found = match plain_http::get(port, path, Duration::from_secs(10)) {
            Ok((200..300, _)) => return Ok(()),
            Ok((status, _)) => format!("{path} answers {status}"),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            return Err(Failure::failed(format!(
                "the application is not healthy after {} seconds: {found}",
                limit.as_secs()
            ))
            .hint("check healthcheck_endpoint in mse.toml, or give it more time with --timeout")
            .into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
