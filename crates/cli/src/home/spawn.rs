//! `mse home spawn`: start a node of a package, verify it against the package's own fingerprint, and write what the
//! code provider needs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use attestation::Arguments;
use clap::ValueEnum;
use client::live::{self, Live};
use client::records::{Origin, Record};
use gramine::sigstruct::SignerKey;
use jiff::Timestamp;
use package::Package;
use runtime::{NodeName, NodeSpec, NodeSummary, Runtime};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::collateral::CollateralArgs;
use crate::exit::{Advice, Exit, Failure};
use crate::files::{self, PUBLIC, SECRET};
use crate::home::{evidence, nodes};
use crate::judging::{self, Rules, Trust};
use crate::output::{self, Format, say, warn};
use crate::{interrupt, places};

/// Start a node of a package. It waits for its secrets; the evidence for the code provider is written at once.
#[derive(clap::Args)]
pub struct Args {
    /// The name by which users will call the application: the certificate is for it.
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    host: String,
    /// The port.
    #[arg(long)]
    port: u16,
    /// The address to listen on.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    bind: IpAddr,
    /// The enclave size in MB: a power of two from 1024 on.
    #[arg(long, value_name = "MB", default_value_t = 4096)]
    size: u64,
    /// The code provider's package.
    #[arg(long, value_name = "FILE")]
    package: PathBuf,
    /// The directory for evidence.json, args.toml, mse.toml and tests/, made if missing.
    #[arg(long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Days until the certificate expires.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// The certificate's subject (RFC 4514); CN=<host> without it.
    #[arg(long, value_name = "DN")]
    subject: Option<String>,
    #[command(flatten)]
    collateral: CollateralArgs,
    /// Seconds to wait for the node.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
    /// What makes quotes and sealing keys; SGX where this machine has it and the package is a container image, else the
    /// simulator.
    #[arg(long, value_enum)]
    platform: Option<PlatformChoice>,
    /// What starts the node; what the package's image was built for without it.
    #[arg(long, value_enum)]
    runtime: Option<RuntimeChoice>,
    /// The RSA-3072 key (PEM) that signs the enclave; made on first use without it.
    #[arg(long, value_name = "PEM")]
    signer_key: Option<PathBuf>,
    /// The policy under which the operator verifies its own node: `strict`, or a TOML file.
    #[arg(long, value_name = "strict|FILE", default_value = "strict")]
    policy: String,
    /// Start a debug enclave, whose memory the operator can read. Every policy refuses one, so nobody will give it
    /// secrets: it is for finding out why a node does not start.
    #[arg(long)]
    debug_enclave: bool,
    /// The node's name on this machine.
    name: NodeName,
}

/// What makes quotes and sealing keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PlatformChoice {
    /// The processor.
    Sgx,
    /// Without hardware: complete, and proving nothing.
    Simulated,
}

/// What the operator chose, in the output directory.
const ARGUMENTS: &str = "args.toml";

/// What starts the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RuntimeChoice {
    /// A container of the Docker engine.
    Docker,
    /// A process of this machine, simulation only.
    Process,
}

/// Spawns; whatever fails, nothing is left behind.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    package::fingerprint::check_size(args.size).map_err(Failure::usage)?;
    check_output(&args.output)?;
    let package = Package::open(&args.package)?;
    check_room(args, &package)?;
    let kind = runtime_kind(args, &package)?;
    let platform = platform_choice(args, kind)?;
    let runtime = nodes::runtime()?;
    let signer = signer_key(args.signer_key.as_deref())?;
    let app_id = Uuid::new_v4();
    let subject = args.subject.clone().unwrap_or_else(|| format!("CN={}", args.host));
    let simulator = match platform {
        PlatformChoice::Sgx => None,
        PlatformChoice::Simulated => {
            let simulator = places::simulator()?;
            platform::simulated::Installation::open_or_create(&simulator, Timestamp::now())?;
            Some(simulator)
        }
    };

    let spec = NodeSpec {
        name: &args.name,
        package: &package,
        size_mb: args.size,
        host: &args.host,
        other_hosts: &[],
        listen: SocketAddr::new(args.bind, args.port),
        days: args.days,
        subject: &subject,
        app_id,
        signer: &signer,
        simulator: simulator.as_deref(),
        debug: args.debug_enclave,
        now: Timestamp::now(),
    };
    let bar = output::progress();
    bar.set_message("starting the node");
    let name = args.name.clone();
    let undo = move || undo(&name, app_id);
    let guard = interrupt::on_interrupt(undo.clone());
    let kind = match kind {
        RuntimeChoice::Docker => runtime::Kind::Docker,
        RuntimeChoice::Process => runtime::Kind::Process,
    };
    let result = runtime
        .spawn_with(kind, &spec)
        .map_err(anyhow::Error::from)
        .and_then(|summary| introduce(args, &package, &runtime, &summary, &subject, platform));
    bar.finish_and_clear();
    drop(guard);
    if result.is_err() {
        undo();
    }
    result?;
    if args.debug_enclave {
        warn(
            "a DEBUG enclave: its memory can be read, every policy refuses it, and it will never get secrets",
        );
        return Ok(Exit::Done);
    }
    say!("{} waits for its secrets on port {}.", args.name, args.port);
    say!("Give {} to the code provider.", args.output.join("evidence.json").display());
    Ok(Exit::Done)
}

/// Refuses an enclave that is too small for what the package brings.
fn check_room(args: &Args, package: &Package) -> anyhow::Result<()> {
    let smallest = package.smallest_size();
    if args.size >= smallest {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "an enclave of {} MB is too small for this package, which needs {smallest} MB",
        args.size
    ))
    .hint(format!("use --size {smallest}, or more if the application needs memory of its own"))
    .into())
}

/// What starts the node: what the package's image was built for, unless the caller says.
fn runtime_kind(args: &Args, package: &Package) -> anyhow::Result<RuntimeChoice> {
    let native = package.interpreter().is_some();
    match (args.runtime, native) {
        (None | Some(RuntimeChoice::Process), true) => Ok(RuntimeChoice::Process),
        (None | Some(RuntimeChoice::Docker), false) => Ok(RuntimeChoice::Docker),
        (Some(RuntimeChoice::Docker), true) => Err(Failure::usage(
            "this package was built natively: its image has no interpreter to start in a container",
        )
        .hint("build it with `mse home package --builder docker`, or spawn it with --runtime process")
        .into()),
        (Some(RuntimeChoice::Process), false) => {
            Err(Failure::usage("this package holds a container image, which does not run as a process")
                .hint("spawn it with --runtime docker")
                .into())
        }
    }
}

/// What makes quotes: the processor where it can and the node runs in a container, unless the caller says.
fn platform_choice(args: &Args, kind: RuntimeChoice) -> anyhow::Result<PlatformChoice> {
    let available = platform::machine::sgx_devices().is_some();
    match (args.platform, kind) {
        (Some(PlatformChoice::Simulated), _) | (None, RuntimeChoice::Process) => {
            Ok(PlatformChoice::Simulated)
        }
        (None, RuntimeChoice::Docker) if !available => Ok(PlatformChoice::Simulated),
        (Some(PlatformChoice::Sgx), RuntimeChoice::Process) => {
            Err(Failure::usage("processes are simulated enclaves; a real one runs in a container")
                .hint("build the package with `mse home package --builder docker`")
                .into())
        }
        (Some(PlatformChoice::Sgx), RuntimeChoice::Docker) if !available => {
            Err(Failure::failed("this machine has no SGX devices")
                .hint("`mse doctor` tells what is missing; --platform simulated does without them")
                .into())
        }
        (_, RuntimeChoice::Docker) => Ok(PlatformChoice::Sgx),
    }
}

/// Removes the node that this command made, and what was recorded of it. A node of the same name that was there before
/// has another id and stays.
fn undo(name: &NodeName, app_id: Uuid) {
    let Ok(runtime) = nodes::runtime() else { return };
    if runtime.summary(name).is_ok_and(|node| node.app_id == app_id) {
        let _ = runtime.stop(name);
        let _ = runtime.remove(name);
        let _ = nodes::records().and_then(|records| Ok(records.forget_node(name.as_str())?));
    }
}

/// Refuses a directory whose `mse.toml` or `tests/` are somebody's project, not what an earlier spawn wrote.
fn check_output(output: &Path) -> anyhow::Result<()> {
    let is_there = |name: &str| output.join(name).symlink_metadata().is_ok();
    match ["mse.toml", "tests"].into_iter().find(|name| is_there(name)) {
        Some(name) if !is_there(ARGUMENTS) => Err(Failure::usage(format!(
            "{} would be replaced, and no spawn wrote it",
            output.join(name).display()
        ))
        .hint("name a directory of its own with --output")
        .into()),
        _ => Ok(()),
    }
}

/// Waits for the configuration server, verifies it, writes the record and the files.
fn introduce(
    args: &Args,
    package: &Package,
    runtime: &impl Runtime,
    summary: &NodeSummary,
    subject: &str,
    platform: PlatformChoice,
) -> anyhow::Result<()> {
    let simulated = platform == PlatformChoice::Simulated;
    let target = nodes::target(summary)?;
    let nonce = live::fresh_nonce()?;
    let live = wait_for_node(args, runtime, || live::request(&target, &nonce, Duration::from_secs(30)))?;
    let collateral = args.collateral.choice()?.fetch(live.quote(), simulated)?;
    let arguments = Arguments {
        host: args.host.clone(),
        port: args.port,
        size_mb: args.size,
        days: args.days,
        subject: subject.to_owned(),
        app_id: summary.app_id.to_string(),
        platform: if simulated { "simulated" } else { "sgx" }.to_owned(),
        runtime: summary.runtime.to_owned(),
    };
    let found = live.with(collateral, arguments);

    if args.debug_enclave {
        // Nothing to verify: it is refused whatever else it is, and so is no record of it kept.
        return write_output(&args.output, package, &found);
    }
    let trust = Trust { allow_simulated: simulated, simulated_root: None };
    let rules = Rules { policy: args.policy.clone(), at: None };
    let expected = attestation::Expected {
        mrenclave: vec![*package.fingerprint(args.size)?.as_bytes()],
        nonce: Some(nonce.to_vec()),
        ..attestation::Expected::default()
    };
    let verified = attestation::admit(found, &trust.anchors()?, &rules.policy()?, &expected, rules.at())
        .map_err(|refused| {
            let _ = judging::print(&refused.judgement, Format::Human);
            judging::refusal(&refused.judgement)
        })?;
    live.channel(&verified)?;
    let record = Record::of(&verified, Origin::SpawnedHere)?.named(args.name.as_str());
    nodes::announce(&record);

    write_output(&args.output, package, verified.evidence())?;
    nodes::records()?.save(&record)?;
    Ok(())
}

/// Asks until the node answers, ends or takes too long.
fn wait_for_node(
    args: &Args,
    runtime: &impl Runtime,
    mut ask: impl FnMut() -> Result<Live, client::Error>,
) -> anyhow::Result<Live> {
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    loop {
        let error = match ask() {
            Ok(live) => return Ok(live),
            Err(error) => error,
        };
        if !runtime.status(&args.name)?.is_alive() {
            let mut log = Vec::new();
            runtime.logs(&args.name, false, &mut log)?;
            let log = String::from_utf8_lossy(&log);
            let last: Vec<&str> = log.lines().rev().take(5).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            return Err(
                Failure::failed(format!("the node ended before it answered:\n{}", last.join("\n"))).into()
            );
        }
        if Instant::now() >= deadline {
            return Err(error)
                .context(format!("the node did not answer within {} seconds", args.timeout))
                .hint("give it more time with --timeout");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What the code provider and `mse home test` need.
fn write_output(output: &Path, package: &Package, evidence: &attestation::Evidence) -> anyhow::Result<()> {
    std::fs::create_dir_all(output).with_context(|| format!("cannot make {}", output.display()))?;
    evidence::write(output, evidence)?;
    files::write(&output.join(ARGUMENTS), evidence.arguments.to_toml().as_bytes(), PUBLIC)?;
    files::write(&output.join("mse.toml"), package.config_toml().as_bytes(), PUBLIC)?;
    let tests = output.join("tests");
    let draft = interrupt::Scratch::inside(output, ".mse-tests-")?;
    package.extract_tests(&draft.path().join("tests"))?;
    if tests.symlink_metadata().is_ok() {
        // The tests of an earlier spawn into the same directory.
        std::fs::rename(&tests, draft.path().join("earlier"))
            .with_context(|| format!("cannot replace {}", tests.display()))?;
    }
    std::fs::rename(draft.path().join("tests"), &tests)
        .with_context(|| format!("cannot write {}", tests.display()))?;
    Ok(())
}

/// The operator's signer key, made on first use.
fn signer_key(named: Option<&Path>) -> anyhow::Result<SignerKey> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => {
            let path = places::signer_key()?;
            if !path.exists() {
                say!("Making a signer key: {}", path.display());
                files::write(&path, SignerKey::generate()?.to_pem()?.as_bytes(), SECRET)?;
            }
            path
        }
    };
    let text = Zeroizing::new(files::read_text(&path)?);
    SignerKey::from_pem(&text)
        .hint(format!("{} must hold an RSA-3072 key with exponent 3 (PEM)", path.display()))
}
