//! `mse home localtest`: serve the application on this machine, without an enclave, and run its tests.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use package::Project;
use package::config::AppConfig;
use package::python::Interpreter;
use runtime::docker::{DevContainer, DevSpec, Engine};
use runtime::process::ISOLATED;

use crate::exit::{Exit, Failure};
use crate::home::package::{self as packaging, BuilderChoice, ProjectArgs};
use crate::image::{self, BuildArgs};
use crate::interrupt::{self, Group, Scratch, Work};
use crate::output::{self, out, say};
use crate::{embedded, places, plain_http, provider_tests};

/// Serve the application in development mode on localhost and run its tests against it.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub project: ProjectArgs,
    /// The Dockerfile, if not the one in the project. Where no engine can build it the application is served natively,
    /// with the requirements.txt that lies beside it.
    #[arg(long, value_name = "FILE")]
    pub dockerfile: Option<PathBuf>,
    /// What makes the environment that the application runs in.
    #[arg(long, value_enum, default_value_t)]
    pub builder: BuilderChoice,
    #[command(flatten)]
    pub build: BuildArgs,
    /// Secrets for the application; `secrets.json` of the project without it.
    #[arg(long, value_name = "FILE")]
    pub secrets: Option<PathBuf>,
    /// Secrets that will be sealed; `secrets_to_seal.json` of the project without it.
    #[arg(long, value_name = "FILE")]
    pub sealed_secrets: Option<PathBuf>,
    /// Serve until Ctrl-C instead of running the tests.
    #[arg(long)]
    pub no_tests: bool,
    /// The port; any free one without it.
    #[arg(long)]
    pub port: Option<u16>,
    /// Seconds to wait for the application.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
}

/// Serves, waits for the health check, tests.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let (mut project, app) = args.project.open()?;
    let dockerfile = packaging::dockerfile(args.dockerfile.as_deref(), &args.project)?;
    if let Some(engine) = packaging::engine_for(args.builder, &dockerfile, &args.build)? {
        return in_an_image(args, &engine, &dockerfile, &project, &app);
    }
    if let Some(dockerfile) = &args.dockerfile {
        let requirements = absolute(dockerfile)?.with_file_name("requirements.txt");
        if project.requirements.is_none() && requirements.is_file() {
            project.requirements = Some(requirements);
        }
    }
    let requirements = package::discovery::requirements(&project)?;
    if let Some(note) = &requirements.note {
        say!("{note}.");
    }
    let interpreter = Interpreter::discover()?;
    let work = Work::begin();
    let bar = output::progress();
    let site = package::native::install(
        requirements.path.as_deref(),
        &project.lock,
        &interpreter,
        &places::cache()?.join("packages"),
        &mut |step| bar.set_message(output::printable(step, "")),
    );
    bar.finish_and_clear();
    drop(work);
    let site = site?;

    let (secrets, sealed) = args.secrets();
    let scratch = Scratch::new()?;
    let node = scratch.path().join("node");
    for (path, content) in embedded::node_files().files {
        crate::files::write(&node.join(path), &content, crate::files::PUBLIC)?;
    }
    let port = args.port.map_or_else(free_port, Ok)?;
    let mut command = Command::new(interpreter.path());
    let code = unpacked(&project, scratch.path())?;
    command
        .args(ISOLATED)
        .args([&node, &site])
        .args(["--", "--dev", "--application", &app.python_application])
        .args(["--host", "127.0.0.1", "--port", &port.to_string()])
        .current_dir(&code)
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
    let mut ended = || Ok(server.child().try_wait()?.map(|status| format!("with {status}")));
    if let Err(error) = wait_for_health(&mut ended, port, &app.healthcheck_endpoint, args.timeout) {
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
        args.test(&project, &app, &url)
    };
    drop(server);
    let _ = log.join();
    exit
}

impl Args {
    /// The files with the secrets for the application, and with those that will be sealed.
    fn secrets(&self) -> (Option<PathBuf>, Option<PathBuf>) {
        let beside = |name: &str| Some(self.project.folder().join(name)).filter(|path| path.is_file());
        (
            self.secrets.clone().or_else(|| beside("secrets.json")),
            self.sealed_secrets.clone().or_else(|| beside("secrets_to_seal.json")),
        )
    }

    fn test(&self, project: &Project, app: &AppConfig, url: &str) -> anyhow::Result<Exit> {
        let (secrets, sealed) = self.secrets();
        provider_tests::Run {
            command: &app.tests_cmd,
            requirements: &app.tests_requirements,
            tests: &project.tests,
            url,
            secrets: secrets.as_deref(),
            sealed_secrets: sealed.as_deref(),
        }
        .run()
    }
}

/// A copy of the code as a node would unpack it: what a package would carry, no more. What the application writes
/// there goes with it.
fn unpacked(project: &Project, scratch: &Path) -> anyhow::Result<PathBuf> {
    let archive = scratch.join("app.tar");
    package::code_archive::write(&project.code, std::fs::File::create(&archive)?)?;
    let code = scratch.join("code");
    package::code_archive::unpack(std::fs::File::open(&archive)?, &code)?;
    Ok(code.canonicalize()?)
}

/// The port on which the application listens in its container.
const INSIDE: u16 = 5000;

/// The files of [`Args::secrets`] in the container.
const SECRETS: [(&str, &str); 2] = [
    ("SECRETS_PATH", "mse-secrets/secrets.json"),
    ("SEALED_SECRETS_PATH", "mse-secrets/sealed_secrets.json"),
];

/// Builds the image and serves the application in a container of it.
fn in_an_image(
    args: &Args,
    engine: &Engine,
    dockerfile: &Path,
    project: &Project,
    app: &AppConfig,
) -> anyhow::Result<Exit> {
    let draft = image::build(engine, &args.project.folder(), dockerfile, &args.build)?;
    let scratch = Scratch::new()?;
    let code = unpacked(project, scratch.path())?;

    let (secrets, sealed) = args.secrets();
    let mut variables: Vec<(String, String)> = [
        ("PYTHONPATH", "/opt/mse/python"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTHONUNBUFFERED", "1"),
        ("MODULE_PATH", "/mse-app"),
        ("HOME", "/root"),
        ("TMP_PATH", "/tmp"),
        ("KEY_PATH", "/key"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let given: Vec<(&str, PathBuf)> = (SECRETS.iter().zip([secrets, sealed]))
        .filter_map(|((variable, place), file)| {
            let file = file?;
            variables.push(((*variable).to_owned(), format!("/{place}")));
            Some((*place, file))
        })
        .collect();
    let port = INSIDE.to_string();
    let command = ["python3", "-m", "mse_node", "--dev", "--application", &app.python_application]
        .into_iter()
        .chain(["--host", "0.0.0.0", "--port", &port])
        .map(str::to_owned)
        .collect::<Vec<_>>();
    let spec = DevSpec {
        image: draft.tag(),
        command: &command,
        env: &variables,
        working_dir: "/mse-app",
        port: INSIDE,
        host_port: args.port.unwrap_or(0),
        tmpfs: &["/root", "/tmp", "/key"].map(|place| (place.to_owned(), 256)),
    };
    let container = DevContainer::start(engine, &spec, |out| {
        let pack = || -> std::io::Result<()> {
            let mut tar = tar::Builder::new(out);
            tar.mode(tar::HeaderMode::Deterministic);
            tar.append_dir_all("mse-app", &code)?;
            for (place, file) in &given {
                tar.append_path_with_name(file, place)?;
            }
            tar.into_inner()?.flush()
        };
        pack().map_err(|source| runtime::Error::Stream { action: "pack the code".to_owned(), source })
    })?;
    let _guard = interrupt::on_interrupt(container.undo());
    let port = container.address().port();
    say!("Serving {} on http://localhost:{port}/", app.python_application);
    let log = container.follow(Prefixed::default());
    let mut ended = || Ok((!container.is_running()?).then(|| "by itself".to_owned()));
    let healthy = wait_for_health(&mut ended, port, &app.healthcheck_endpoint, args.timeout);
    let url = format!("http://localhost:{port}/");
    let exit = match healthy {
        Err(error) => Err(error),
        Ok(()) if args.no_tests => {
            out!("{url}")?;
            say!("Ctrl-C ends it.");
            let _ = log.join();
            return Err(Failure::failed("the application ended").into());
        }
        Ok(()) => args.test(project, app, &url),
    };
    drop(container);
    let _ = log.join();
    exit
}

/// Says what comes, a line at a time, set apart from our own words.
#[derive(Default)]
struct Prefixed {
    open: Vec<u8>,
}

/// Longer lines are broken.
const LONGEST_LINE: usize = 8192;

impl Write for Prefixed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for byte in bytes {
            match byte {
                b'\n' => self.flush()?,
                _ if self.open.len() >= LONGEST_LINE => self.flush()?,
                _ => self.open.push(*byte),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if !self.open.is_empty() {
            say!("  | {}", output::printable(&String::from_utf8_lossy(&self.open), " "));
            self.open.clear();
        }
        Ok(())
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize().with_context(|| format!("cannot find {}", path.display()))
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr())?.port())
}

/// Asks until the health check answers with success, the application ends (`ended` says how), or time is up.
fn wait_for_health(
    ended: &mut dyn FnMut() -> anyhow::Result<Option<String>>,
    port: u16,
    path: &str,
    seconds: u64,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(how) = ended()? {
            return Err(Failure::failed(format!("the application ended {how} before it answered"))
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
                "the application is not healthy after {seconds} seconds: {found}"
            ))
            .hint("check healthcheck_endpoint in mse.toml, or give it more time with --timeout")
            .into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
