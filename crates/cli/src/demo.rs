//! `mse demo`: the whole story in a temporary directory, told step by step.
//!
//! Every step is a command that the reader could type. The code provider and the operator have a home each and
//! exchange only the files that the commands name.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::exit::{Exit, Failure};
use crate::interrupt::{self, Group, Scratch};
use crate::output::{CARE, GOOD, Styled, out};
use crate::{places, plain_http};

/// Show all of it on this machine: package, spawn, verify, seal, run, test, call, and a tampered package refused.
#[derive(clap::Args)]
pub struct Args {
    /// Leave the directory and the running nodes.
    #[arg(long)]
    keep: bool,
}

/// The names of the nodes in the story: the honest one, and the one of the tampered package.
const NODES: [&str; 2] = ["app_name", "tampered_app"];

/// Who types a command.
#[derive(Clone, Copy)]
enum Person {
    CodeProvider,
    Operator,
    User,
}

impl Person {
    fn name(self) -> &'static str {
        match self {
            Person::CodeProvider => "code provider",
            Person::Operator => "SGX operator",
            Person::User => "app user",
        }
    }

    /// The user has what the code provider published, and in this story sits at the same desk.
    fn home(self) -> &'static str {
        match self {
            Person::CodeProvider | Person::User => "home-of-code-provider",
            Person::Operator => "home-of-operator",
        }
    }
}

/// Tells the story; stops and removes what it started.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let scratch = Scratch::new().context("cannot make a temporary directory")?;
    let story = Story { folder: scratch.path().to_owned(), cache: places::cache()? };
    let cleaner = Story { folder: story.folder.clone(), cache: story.cache.clone() };
    // Registered after the directory, so undone before it: the node's state lies in there.
    let guard = interrupt::on_interrupt(move || cleaner.stop_nodes());
    let told = story.tell();
    if args.keep {
        drop(guard);
        let folder = scratch.keep();
        let home = folder.join(Person::Operator.home());
        out!("Everything is left in {}; what was spawned runs on. To end it:", folder.display())?;
        for name in NODES {
            out!("  XDG_STATE_HOME={}/state mse home stop --remove {name}", home.display())?;
        }
        told?;
        return Ok(Exit::Done);
    }
    story.stop_nodes();
    drop(guard);
    told?;
    Ok(Exit::Done)
}

struct Story {
    folder: PathBuf,
    cache: PathBuf,
}

impl Story {
    fn tell(&self) -> anyhow::Result<()> {
        use Person::{CodeProvider, Operator, User};
        let port = free_port()?;
        out!("A Python team's web service, on a machine that nobody has to trust.")?;
        out!(
            "This machine's CPU takes no part in it: the platform is {} and proves nothing.",
            Styled(CARE, "SIMULATED")
        )?;

        self.step(CodeProvider, "A project to start from.", "home scaffold example")?;
        self.step(
            CodeProvider,
            "The application and its tests, here, without an enclave.",
            "home localtest --project example --builder native",
        )?;
        self.step(
            CodeProvider,
            "A package for the operator. The code in it is encrypted; its fingerprint is public.",
            "home package --project example --builder native --encrypt --output code_provider/",
        )?;
        let package = self.only("code_provider", ".tar")?;
        let key = self.only("code_provider", ".key")?;

        self.step(
            Operator,
            "The operator starts the package. It cannot read the code; the node waits for secrets.",
            &format!("home spawn --host myapp.fr --port {port} --size 4096 --package {package} --output sgx_operator/ app_name"),
        )?;
        self.step(
            Operator,
            "Fresh evidence for the code provider.",
            "home evidence --output sgx_operator/ app_name",
        )?;
        self.step(
            Operator,
            "No hardware, so no Intel: the root of this operator's simulated platform.",
            "simulator root --output sgx_operator/simulated-root.pem",
        )?;

        let evidence =
            "--evidence sgx_operator/evidence.json --simulated-root sgx_operator/simulated-root.pem";
        self.step(
            CodeProvider,
            "Offline: is it genuine, and is it exactly my package?",
            &format!("home verify --package {package} {evidence} --output verified/"),
        )?;
        self.step(
            CodeProvider,
            "Secrets and the code key, sealed for this one enclave (post-quantum hybrid).",
            &format!("home seal --secrets example/secrets_to_seal.json --code-key {key} --cert verified/ratls.pem --output code_provider/"),
        )?;
        self.step(
            Operator,
            "The sealed file goes in; the application comes up.",
            "home run --sealed-secrets code_provider/secrets_to_seal.json.sealed --secrets example/secrets.json app_name",
        )?;
        self.step(
            Operator,
            "The code provider's tests, against the enclave.",
            "home test --test sgx_operator/tests/ --config sgx_operator/mse.toml app_name",
        )?;

        self.call(port)?;
        self.step(
            User,
            "The result opens under the key in secrets.json.",
            "home decrypt --aes 00112233445566778899aabbccddeeff --output - result.enc",
        )?;
        out!("")?;
        let secrets = fs::read_to_string(self.folder.join("example/secrets_to_seal.json"))?;
        let secrets: serde_json::Value = serde_json::from_str(&secrets)?;
        let key = secrets["result_consumer_key"].as_str().context("the scaffold's key is missing")?;
        crate::files::write(&self.folder.join("key.txt"), key.as_bytes(), crate::files::SECRET)?;
        self.step(
            User,
            "The other opens under the key that was sealed.",
            "home decrypt --key key.txt --output - result2.enc",
        )?;
        out!("")?;

        self.step(Operator, "A restart needs no owner.", "home restart app_name")?;
        self.step(Operator, "", "home list")?;

        self.tamper(&package)?;
        let port = free_port()?;
        self.step(
            Operator,
            "A dishonest operator changes the package, and spawns that.",
            &format!("home spawn --host myapp.fr --port {port} --size 4096 --package tampered/package.tar --output tampered/ tampered_app"),
        )?;
        self.step_ending(
            CodeProvider,
            "Its evidence is genuine, and refused: it is not the code provider's package.",
            &format!("home verify --package {package} --evidence tampered/evidence.json --simulated-root sgx_operator/simulated-root.pem --output never/"),
            Exit::Refused,
        )?;
        out!("\n{} Nothing was sealed to the tampered enclave.", Styled(GOOD, "Done."))?;
        Ok(())
    }

    /// Runs a command that must succeed.
    fn step(&self, person: Person, story: &str, line: &str) -> anyhow::Result<()> {
        self.step_ending(person, story, line, Exit::Done)
    }

    /// Tells and runs a command that must end as said.
    fn step_ending(&self, person: Person, story: &str, line: &str, exit: Exit) -> anyhow::Result<()> {
        self.announce(person, story, line)?;
        let child = self.command(person, line)?.spawn().context("cannot run mse")?;
        let status = Group::of_mse(child).child().wait().context("cannot wait for mse")?;
        if status.code() != Some(exit as i32) {
            return Err(Failure::failed(format!("the demo ends here: mse {line} ended with {status}")).into());
        }
        Ok(())
    }

    fn announce(&self, person: Person, story: &str, line: &str) -> anyhow::Result<()> {
        if !story.is_empty() {
            out!("\n{} {story}", Styled(GOOD, "#"))?;
        }
        Ok(out!("[{}] $ mse {line}", person.name())?)
    }

    fn command(&self, person: Person, line: &str) -> anyhow::Result<Command> {
        use std::os::unix::process::CommandExt;
        let home = self.folder.join(person.home());
        let mut command = Command::new(std::env::current_exe().context("cannot find mse itself")?);
        command
            .args(line.split_whitespace())
            .current_dir(&self.folder)
            .env("XDG_STATE_HOME", home.join("state"))
            .env("XDG_CONFIG_HOME", home.join("config"))
            // Python packages are the same for everybody.
            .env("XDG_CACHE_HOME", self.cache.parent().unwrap_or(&self.cache))
            .env_remove("MSE_DEFAULT_ENV")
            .stdin(Stdio::null())
            .process_group(0);
        Ok(command)
    }

    /// The user calls the application through the verified door.
    fn call(&self, port: u16) -> anyhow::Result<()> {
        let door = free_port()?;
        let line = format!(
            "connect --cert verified/ratls.pem --resolve 127.0.0.1 --listen 127.0.0.1:{door} https://myapp.fr:{port}"
        );
        self.announce(Person::User, "A door to this enclave and to nothing else, for any browser.", &line)?;
        let mut connection =
            Group::of_mse(self.command(Person::User, &line)?.spawn().context("cannot run mse connect")?);
        for (path, file) in [("/result/secrets", "result.enc"), ("/result/sealed_secrets", "result2.enc")] {
            let deadline = Instant::now() + Duration::from_secs(30);
            let (status, body) = loop {
                match plain_http::get(door, path, Duration::from_secs(30)) {
                    Ok(answer) => break answer,
                    Err(error) if Instant::now() > deadline || connection.child().try_wait()?.is_some() => {
                        return Err(error).context("the door does not open");
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                }
            };
            out!(
                "[{}] GET http://127.0.0.1:{door}{path} -> {status}, {} bytes",
                Person::User.name(),
                body.len()
            )?;
            if status != 200 {
                bail!("the application answered {path} with {status}");
            }
            fs::write(self.folder.join(file), body)?;
        }
        Ok(())
    }

    /// The one file in a folder with this ending, as the shell would expand it.
    fn only(&self, folder: &str, ending: &str) -> anyhow::Result<String> {
        let mut found = fs::read_dir(self.folder.join(folder))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(ending));
        let name = found.next().with_context(|| format!("no *{ending} in {folder}"))?;
        Ok(format!("{folder}/{name}"))
    }

    /// A copy of the package in which another address answers for the application's health.
    fn tamper(&self, package: &str) -> anyhow::Result<()> {
        fs::create_dir(self.folder.join("tampered"))?;
        let mut original = tar::Archive::new(fs::File::open(self.folder.join(package))?);
        let mut copy = tar::Builder::new(fs::File::create(self.folder.join("tampered/package.tar"))?);
        for entry in original.entries()? {
            let mut entry = entry?;
            let mut header = entry.header().clone();
            if entry.path_bytes().as_ref() == b"mse.toml" {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut entry, &mut text)?;
                let text = text.replace("healthcheck_endpoint = \"/health\"", "healthcheck_endpoint = \"/\"");
                header.set_size(text.len() as u64);
                header.set_cksum();
                copy.append(&header, text.as_bytes())?;
            } else {
                copy.append(&header, &mut entry)?;
            }
        }
        Ok(copy.finish()?)
    }

    /// Ends what the story started.
    fn stop_nodes(&self) {
        for name in NODES {
            let Ok(mut command) = self.command(Person::Operator, &format!("home stop --remove {name}"))
            else {
                continue;
            };
            let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

/// A port nobody listens on, below those that the kernel hands to outgoing connections (ip(7): from 32768 on): one of
/// these could take it while a node restarts.
fn free_port() -> anyhow::Result<u16> {
    let start = u16::try_from(std::process::id() % 1000)? * 10;
    (0..1000)
        .map(|step| 20_000 + (start + step) % 6_000)
        .find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok())
        .context("no port between 20000 and 26000 is free")
}
