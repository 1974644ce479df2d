//! `mse doctor`: what this machine has for enclaves, what each missing piece means, and how to get it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use attestation::pcs::{self, PckCa, ServerTrust, Update};
use clap::ValueEnum;
use client::collate::{Source, Sources};
use client::qcnl;
use jiff::Timestamp;
use package::python::Interpreter;
use platform::machine::{
    Account, Aesm, Clock, Cpu, ENCLAVE, Kernel, Machine, Membership, Node, OLDEST, PROVISION, SOCKET,
    memory_backed,
};
use runtime::docker::Engine;
use serde::Serialize;

use crate::collateral::{Choice, ServiceArgs};
use crate::exit::Exit;
use crate::output::{self, BAD, CARE, Format, GOOD, Styled, out, printable};

/// Say what this machine has for enclaves, what each missing piece means, and how to get it.
///
/// Exit code 0 where nodes can run, simulated or in SGX; 1 where they cannot, or not as --require asks.
#[derive(clap::Args)]
pub struct Args {
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    service: ServiceArgs,
    /// What the machine has to be able to do, for exit code 0.
    #[arg(long, value_enum)]
    require: Option<Ability>,
}

/// What a machine can be asked to be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ability {
    /// Simulated nodes.
    Simulated,
    /// Nodes in SGX.
    Sgx,
}

/// How long a service has to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The FMSPC of a common server processor (third-generation Xeon), to ask a PCCS about; any would do.
const COMMON_FMSPC: [u8; 6] = [0x00, 0x60, 0x6a, 0, 0, 0];
/// Enclaves are not made smaller than this, in bytes.
const SMALLEST_ENCLAVE: u64 = 1 << 30;
/// No right clock says an earlier time.
const EARLIEST: &str = "2026-01-01T00:00:00Z";
const MIB: u64 = 1 << 20;

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Missing,
    Warning,
    Unknown,
}

impl State {
    fn word(self) -> Styled<'static> {
        match self {
            State::Ok => Styled(GOOD, "ok     "),
            State::Missing => Styled(BAD, "missing"),
            State::Warning => Styled(CARE, "warning"),
            State::Unknown => Styled(CARE, "unknown"),
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Check {
    id: &'static str,
    state: State,
    /// What was found.
    found: String,
    /// What it is for, or what its absence means.
    meaning: &'static str,
    /// How to get it; empty where nothing is to be done.
    remedy: String,
}

impl Check {
    fn new(id: &'static str, state: State, found: impl fmt::Display, meaning: &'static str) -> Self {
        Self { id, state, found: found.to_string(), meaning, remedy: String::new() }
    }

    fn remedy(self, remedy: impl fmt::Display) -> Self {
        Self { remedy: remedy.to_string(), ..self }
    }
}

/// What the machine can do.
#[derive(Debug, Serialize)]
struct Verdict {
    possible: bool,
    /// The runtimes that can do it.
    runtimes: Vec<&'static str>,
    /// The checks that stand against it.
    because: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Report {
    checks: Vec<Check>,
    simulated: Verdict,
    sgx: Verdict,
}

/// What an enclave of the docker runtime cannot do without.
const SGX_NEEDS: [&str; 9] =
    ["cpu", "epc", "kernel", "enclave-device", "provision-device", "aesm", "pccs", "pccs-answers", "docker"];
const PROCESS_NEEDS: [&str; 2] = ["python", "memory"];

/// Looks, and reports.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let report = Report::of(checks(&args.service.choice()?));
    match args.format {
        Format::Json => output::json(&report)?,
        Format::Human => report.print()?,
    }
    let able = match args.require {
        None => report.simulated.possible || report.sgx.possible,
        Some(Ability::Simulated) => report.simulated.possible,
        Some(Ability::Sgx) => report.sgx.possible,
    };
    Ok(if able { Exit::Done } else { Exit::Failed })
}

fn checks(choice: &Choice) -> Vec<Check> {
    let machine = Machine::look(Path::new("/"), Cpu::here(), &Account::current());
    let (pccs, source) = pccs(choice);
    let docker = docker();
    let groups = groups(&machine, docker.state);
    vec![
        cpu(machine.cpu.as_ref()),
        epc(machine.cpu.as_ref()),
        kernel(&machine.kernel, machine.cpu.as_ref(), &machine.legacy),
        device("enclave-device", ENCLAVE, &machine.enclave, machine.device_groups[0].as_deref()),
        device("provision-device", PROVISION, &machine.provision, machine.device_groups[1].as_deref()),
        aesm(&machine.aesm),
        pccs,
        pccs_answers(source.as_ref()),
        docker,
        groups,
        python(),
        memory(),
        clock(machine.clock, Timestamp::now()),
    ]
}

fn cpu(cpu: Option<&Cpu>) -> Check {
    const ID: &str = "cpu";
    const MEANING: &str = "enclaves need a processor with SGX and flexible launch control";
    const REMEDY: &str = "use a machine with a Xeon that has SGX (Xeon E, D, or Scalable from the third generation \
                          on), or a virtual machine of such a one that passes SGX on";
    let Some(cpu) = cpu else {
        return Check::new(ID, State::Missing, "not an x86-64 processor", MEANING).remedy(REMEDY);
    };
    let model = if cpu.model.is_empty() { &cpu.vendor } else { &cpu.model };
    let place = if cpu.virtual_machine { ", in a virtual machine" } else { "" };
    if !cpu.sgx {
        return Check::new(ID, State::Missing, format!("{model}{place}: no SGX"), MEANING).remedy(REMEDY);
    }
    if !cpu.flc {
        return Check::new(
            ID,
            State::Missing,
            format!("{model}{place}: SGX without flexible launch control"),
            "only enclaves that Intel signed would start here, and none can make a DCAP quote",
        )
        .remedy(format!("allow flexible launch control in the BIOS if it has the setting; else {REMEDY}"));
    }
    let level = match (cpu.sgx1, cpu.sgx2) {
        (_, true) => "SGX2 (EDMM)",
        (true, false) => "SGX1",
        (false, false) => "SGX, not enabled by the BIOS",
    };
    Check::new(ID, State::Ok, format!("{model}{place}: {level}, flexible launch control"), MEANING)
}

fn epc(cpu: Option<&Cpu>) -> Check {
    const ID: &str = "epc";
    const BIOS: &str = "enable SGX in the BIOS and choose a larger PRMRR size; memory encryption (TME) has to be \
                        enabled, and the memory modules fitted evenly";
    let size = cpu.map_or(0, |cpu| cpu.epc);
    let found = format!("{} MiB of enclave memory", size / MIB);
    match size {
        0 => Check::new(ID, State::Missing, found, "no enclave has anywhere to live").remedy(BIOS),
        1..SMALLEST_ENCLAVE => Check::new(
            ID,
            State::Warning,
            found,
            "the smallest enclave has 1024 MB: it runs, and the kernel moves its pages in and out, slowly",
        )
        .remedy(BIOS),
        _ => Check::new(ID, State::Ok, found, "what all enclaves of this machine share without being slowed"),
    }
}

fn kernel(kernel: &Kernel, cpu: Option<&Cpu>, legacy: &[&str]) -> Check {
    const ID: &str = "kernel";
    const MEANING: &str = "Linux has the SGX driver from 5.11 on";
    let name = if kernel.release.is_empty() { "an unknown kernel" } else { &kernel.release };
    if kernel.is_too_old() {
        let remedy = format!("install a kernel of {}.{} or later, and start it", OLDEST.0, OLDEST.1);
        return Check::new(ID, State::Missing, name, MEANING).remedy(remedy);
    }
    if let Some(old) = kernel.legacy_module.or(legacy.iter().copied().find(|path| *path == "/dev/isgx")) {
        return Check::new(
            ID,
            State::Warning,
            format!("{name}, and an old driver: {old}"),
            "a driver from before Linux 5.11 stands in the way of the kernel's own",
        )
        .remedy("remove Intel's out-of-tree driver, and restart the machine");
    }
    if !cpu.is_some_and(|cpu| cpu.sgx) {
        let state = if kernel.version().is_some() { State::Ok } else { State::Unknown };
        return Check::new(ID, state, name, MEANING);
    }
    match (kernel.sgx, kernel.flc) {
        (Some(false), _) => Check::new(
            ID,
            State::Missing,
            format!("{name}, which leaves SGX off"),
            "the processor has SGX, but the BIOS left it off or the kernel was built without its driver",
        )
        .remedy("set SGX to Enabled (not Software Controlled) in the BIOS; if it is, use a kernel with CONFIG_X86_SGX"),
        (_, Some(false)) => Check::new(
            ID,
            State::Missing,
            format!("{name}, without launch control"),
            "the BIOS locked the launch control to a fixed key, so the kernel starts no enclaves",
        )
        .remedy("set launch control to Unlocked (flexible, writable by the OS) in the BIOS"),
        (Some(true), _) => Check::new(ID, State::Ok, format!("{name}, SGX in use"), MEANING),
        (None, _) => Check::new(ID, State::Unknown, format!("{name}; /proc/cpuinfo says nothing"), MEANING),
    }
}

fn device(id: &'static str, path: &str, node: &Node, group: Option<&str>) -> Check {
    let meaning = match path {
        ENCLAVE => "the driver's door for building enclaves",
        _ => "the driver's door to the provisioning key, without which there are no quotes",
    };
    match node {
        Node::Missing => Check::new(id, State::Missing, format!("{path} is not there"), meaning)
            .remedy("first see to the processor, the BIOS and the kernel; then the kernel makes it at start"),
        Node::Device { opens: Ok(()), .. } => Check::new(id, State::Ok, path, meaning),
        Node::Device { opens: Err(reason), .. } => {
            let group = group.unwrap_or("root");
            Check::new(
                id,
                State::Warning,
                format!("{path} does not open for this user: {reason}"),
                "the docker runtime opens it through the engine all the same; tools of this user's own cannot",
            )
            .remedy(format!("if you need it: become a member of the group {group}, and log in anew"))
        }
        Node::NotADevice(reason) => Check::new(id, State::Missing, format!("{path}: {reason}"), meaning)
            .remedy("remove what lies there, and restart the machine"),
        _ => Check::new(id, State::Unknown, path, meaning),
    }
}

fn aesm(aesm: &Aesm) -> Check {
    const ID: &str = "aesm";
    const MEANING: &str = "Intel's service that turns an enclave's report into a quote";
    match aesm {
        Aesm::Answers => Check::new(ID, State::Ok, format!("{SOCKET} accepts connections"), MEANING),
        Aesm::Missing => Check::new(ID, State::Missing, format!("{SOCKET} is not there"), MEANING)
            .remedy("install Intel's packages sgx-aesm-service and libsgx-aesm-quote-ex-plugin, then `systemctl start aesmd`"),
        Aesm::NotASocket(reason) => Check::new(ID, State::Missing, format!("{SOCKET}: {reason}"), MEANING)
            .remedy("`systemctl restart aesmd`; it makes its socket anew"),
        Aesm::Silent(reason) => {
            Check::new(ID, State::Missing, format!("nobody lets us in at {SOCKET}: {reason}"), MEANING)
                .remedy("`systemctl restart aesmd`, and `journalctl -u aesmd` for its reasons")
        }
        _ => Check::new(ID, State::Unknown, SOCKET, MEANING),
    }
}

fn pccs(choice: &Choice) -> (Check, Option<Source>) {
    const ID: &str = "pccs";
    const MEANING: &str = "the service that gives this machine's certificates and Intel's collateral";
    let place = qcnl::place();
    let sources = Sources {
        pccs: choice.pccs.as_deref(),
        qcnl: Some(&place),
        trust: choice.trust.as_ref(),
        update: choice.update,
        ..Sources::default()
    };
    let origin = if choice.pccs.is_some() { "--pccs".to_owned() } else { place.display().to_string() };
    match sources.choose() {
        Ok(source) => {
            let mut found = source.to_string();
            if let Source::Service { trust, update, .. } = &source {
                found += match trust {
                    ServerTrust::Any => ", with any TLS certificate",
                    ServerTrust::Certificate(_) => ", with the TLS certificate that was named",
                    ServerTrust::System => "",
                };
                found += if *update == Update::Early { ", TCB update early" } else { "" };
            }
            (Check::new(ID, State::Ok, format!("{found}, from {origin}"), MEANING), Some(source))
        }
        Err(client::Error::NoCollateralSource { .. }) => {
            let check = Check::new(ID, State::Missing, format!("there is no {origin}"), MEANING).remedy(
                "install Intel's package libsgx-dcap-default-qpl, and name a PCCS in that file as pccs_url",
            );
            (check, None)
        }
        Err(error) => {
            let check = Check::new(ID, State::Missing, error, MEANING).remedy(
                "write an address into it: \"pccs_url\": \"https://localhost:8081/sgx/certification/v4/\"",
            );
            (check, None)
        }
    }
}

fn pccs_answers(source: Option<&Source>) -> Check {
    const ID: &str = "pccs-answers";
    const MEANING: &str = "without its answers no quote can be made complete, and no node verified";
    let Some(Source::Service { url, trust, update }) = source else {
        return Check::new(ID, State::Unknown, "no PCCS to ask", MEANING).remedy("configure one first");
    };
    let options = pcs::Options {
        timeout: PATIENCE,
        attempts: 1,
        trust: trust.clone(),
        update: *update,
        ..pcs::Options::default()
    };
    let fetched = pcs::Client::new(url, options)
        .and_then(|client| client.fetch(COMMON_FMSPC, PckCa::Platform, Timestamp::now()));
    match fetched {
        Ok(_) => Check::new(ID, State::Ok, "serves collateral", MEANING),
        // Which platforms it knows is its own affair; a server of another kind would answer the same.
        Err(attestation::Error::Fetch { found, .. }) if found.starts_with("status 4") => Check::new(
            ID,
            State::Warning,
            format!("answers, and has nothing about a common Xeon ({found})"),
            "a PCCS that knows only its own machines answers so; any other server does too",
        )
        .remedy("make sure that the address is that of a PCCS; a first quote shows whether it knows this machine"),
        Err(error @ attestation::Error::ServerCertificate { .. }) => Check::new(ID, State::Missing, error, MEANING)
            .remedy(
                "if it is the PCCS's own certificate: \"use_secure_cert\": false in the configuration (here: --pccs-cert FILE or --pccs-insecure)",
            ),
        Err(error @ attestation::Error::Fetch { .. }) => {
            Check::new(ID, State::Missing, error, MEANING).remedy(
                "start the PCCS (`systemctl start pccs`) and look at its log; does it have an API key, and a way to Intel?",
            )
        }
        Err(error) => Check::new(ID, State::Warning, error, "something answers there that is no PCCS")
            .remedy("correct the address"),
    }
}

fn docker() -> Check {
    const ID: &str = "docker";
    const MEANING: &str = "runs nodes in containers; nodes in SGX run only so";
    let asked = Engine::connect().and_then(|engine| {
        let engine = engine.with_patience(PATIENCE);
        engine.version().map(|version| (engine.address(), version))
    });
    match asked {
        Ok((address, version)) => {
            let found = format!("{} (API {}) at {address}", version.version, version.api_version);
            Check::new(ID, State::Ok, found, MEANING)
        }
        Err(error) => Check::new(ID, State::Missing, error, MEANING)
            .remedy("install Docker 20.10 or later, `systemctl start docker`, and see `groups` below"),
    }
}

fn groups(machine: &Machine, docker: State) -> Check {
    const ID: &str = "groups";
    const MEANING: &str =
        "members of docker reach the engine (and can become root by it); sgx and sgx_prv open the devices";
    if machine.user == 0 {
        return Check::new(ID, State::Ok, "root needs none", MEANING);
    }
    let words = machine.groups.iter().map(|(name, membership)| {
        let word = match membership {
            Membership::Member => "yes",
            Membership::AfterLogin => "from the next log-in on",
            Membership::NotMember => "no",
            Membership::NoSuchGroup => "no such group",
            _ => "unknown",
        };
        format!("{name}: {word}")
    });
    let found = words.collect::<Vec<_>>().join(", ");
    let engine = machine.groups.iter().find(|(name, _)| *name == "docker").map(|(_, membership)| *membership);
    let user = machine.user_name.as_deref().unwrap_or("USER");
    match engine {
        _ if docker == State::Ok => Check::new(ID, State::Ok, found, MEANING),
        Some(Membership::Member) => Check::new(ID, State::Ok, found, MEANING),
        Some(Membership::AfterLogin) => {
            Check::new(ID, State::Warning, found, MEANING).remedy("log in anew, so that it counts")
        }
        Some(Membership::NoSuchGroup) => Check::new(ID, State::Warning, found, MEANING)
            .remedy("the engine's package makes it: install Docker"),
        _ => Check::new(ID, State::Warning, found, MEANING)
            .remedy(format!("`sudo usermod -aG docker {user}`, and log in anew")),
    }
}

fn python() -> Check {
    const ID: &str = "python";
    const MEANING: &str = "runs simulated nodes without Docker, and builds packages";
    match Interpreter::discover() {
        Ok(interpreter) => {
            let found = format!("{} ({})", interpreter.path().display(), interpreter.record().target());
            Check::new(ID, State::Ok, found, MEANING)
        }
        Err(error) => Check::new(ID, State::Missing, error, MEANING)
            .remedy("install CPython 3.10 or later with its venv module"),
    }
}

fn memory() -> Check {
    const ID: &str = "memory";
    const MEANING: &str = "decrypted code and secrets of nodes without Docker live there, never on a disk";
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let places: Vec<PathBuf> = runtime.into_iter().chain([PathBuf::from("/dev/shm")]).collect();
    let found = places.iter().find_map(|place| memory_backed(place).map(|free| (place, free)));
    match found {
        Some((place, free)) => {
            let found = format!("{}, {} MiB free", place.display(), free / MIB);
            Check::new(ID, State::Ok, found, MEANING)
        }
        None => {
            let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
            Check::new(ID, State::Missing, format!("no tmpfs at {}", places.join(" or ")), MEANING)
                .remedy("`mount -t tmpfs tmpfs /dev/shm`, or set XDG_RUNTIME_DIR to a directory on one")
        }
    }
}

fn clock(clock: Clock, now: Timestamp) -> Check {
    const ID: &str = "clock";
    const MEANING: &str =
        "certificates and collateral are judged by it, and a node's certificate is dated by it";
    const REMEDY: &str = "let systemd-timesyncd or chrony keep it";
    if EARLIEST.parse().is_ok_and(|earliest: Timestamp| now < earliest) {
        return Check::new(ID, State::Missing, format!("{now:.0}, which is long past"), MEANING)
            .remedy(REMEDY);
    }
    match clock {
        Clock::Synchronised(by) => Check::new(ID, State::Ok, format!("{now:.0}, set by {by}"), MEANING),
        Clock::Kept(by) => Check::new(
            ID,
            State::Unknown,
            format!("{now:.0}; {by} runs, and whether it has set the clock, it alone knows"),
            MEANING,
        )
        .remedy("ask it: `chronyc tracking`, `ntpq -p`"),
        _ => Check::new(ID, State::Unknown, format!("{now:.0}; no time service that is known here"), MEANING)
            .remedy(REMEDY),
    }
}

impl Report {
    fn of(checks: Vec<Check>) -> Report {
        let is = |id: &str, state: State| checks.iter().any(|check| check.id == id && check.state == state);
        let missing = |needs: &[&'static str]| -> Vec<&'static str> {
            needs.iter().copied().filter(|id| !is(id, State::Ok) && !is(id, State::Warning)).collect()
        };
        let process = missing(&PROCESS_NEEDS);
        let mut runtimes = Vec::new();
        if process.is_empty() {
            runtimes.push("process");
        }
        if is("docker", State::Ok) {
            runtimes.push("docker");
        }
        let because = match runtimes.is_empty() {
            true => process.into_iter().chain(["docker"]).collect(),
            false => Vec::new(),
        };
        let simulated = Verdict { possible: because.is_empty(), runtimes, because };
        let because = missing(&SGX_NEEDS);
        let runtimes = if because.is_empty() { vec!["docker"] } else { Vec::new() };
        let sgx = Verdict { possible: because.is_empty(), runtimes, because };
        Report { checks, simulated, sgx }
    }

    fn print(&self) -> anyhow::Result<()> {
        let width = self.checks.iter().map(|check| check.id.len()).max().unwrap_or(0);
        for check in &self.checks {
            out!("{}  {:<width$}  {}", check.state.word(), check.id, printable(&check.found, ""))?;
            if check.state != State::Ok {
                out!("{:9}{:width$}  meaning: {}", "", "", check.meaning)?;
                if !check.remedy.is_empty() {
                    out!("{:9}{:width$}  remedy:  {}", "", "", printable(&check.remedy, ""))?;
                }
            }
        }
        out!("")?;
        match self.simulated.possible {
            true => out!("simulated: yes ({})", self.simulated.runtimes.join(", "))?,
            false => out!("simulated: no, because of {}", self.simulated.because.join(", "))?,
        }
        match self.sgx.possible {
            true => out!("sgx:       yes (docker); a first quote is the proof: spawn a node")?,
            false => out!("sgx:       no, because of {}", self.sgx.because.join(", "))?,
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SERVER: Cpu = Cpu {
        vendor: String::new(),
        model: String::new(),
        virtual_machine: false,
        sgx: true,
        flc: true,
        sgx1: true,
        sgx2: true,
        epc: 64 << 30,
    };

    fn linux(release: &str, sgx: Option<bool>, flc: Option<bool>) -> Kernel {
        Kernel { release: release.to_owned(), sgx, flc, legacy_module: None }
    }

    fn fine(ids: &[&'static str]) -> Vec<Check> {
        ids.iter().map(|id| Check::new(id, State::Ok, "", "")).collect()
    }

    #[test]
    fn the_processor_is_judged_by_what_dcap_needs() {
        assert_eq!(cpu(Some(&SERVER)).state, State::Ok);
        assert_eq!(cpu(None).state, State::Missing);
        assert_eq!(cpu(Some(&Cpu { flc: false, ..SERVER })).state, State::Missing);
        assert_eq!(cpu(Some(&Cpu { sgx: false, ..SERVER })).state, State::Missing);
        assert_eq!(epc(Some(&SERVER)).state, State::Ok);
        assert_eq!(epc(Some(&Cpu { epc: 93 * MIB, ..SERVER })).state, State::Warning);
        assert_eq!(epc(Some(&Cpu { epc: 0, ..SERVER })).state, State::Missing);
    }

    #[test]
    fn sgx_that_the_bios_holds_back_shows_in_the_kernel() {
        let on = linux("6.8.0-41-generic", Some(true), Some(true));
        assert_eq!(kernel(&on, Some(&SERVER), &[]).state, State::Ok);
        let off = linux("6.8.0-41-generic", Some(false), Some(false));
        assert!(kernel(&off, Some(&SERVER), &[]).meaning.contains("BIOS left it off"));
        let locked = linux("6.8.0-41-generic", Some(true), Some(false));
        assert!(kernel(&locked, Some(&SERVER), &[]).meaning.contains("locked"));
        let old = linux("5.10.0-28-amd64", Some(true), Some(true));
        assert_eq!(kernel(&old, Some(&SERVER), &[]).state, State::Missing);
        assert_eq!(kernel(&on, Some(&SERVER), &["/dev/isgx"]).state, State::Warning);
        assert_eq!(kernel(&linux("", None, None), Some(&SERVER), &[]).state, State::Unknown);
    }

    #[test]
    fn a_device_that_only_root_opens_does_not_stand_against_sgx() {
        let closed = Node::Device { opens: Err("Permission denied".into()), group: 107, mode: 0o660 };
        let check = device("provision-device", PROVISION, &closed, Some("sgx_prv"));
        assert_eq!(check.state, State::Warning);
        assert!(check.remedy.contains("sgx_prv"));
        let mut checks = fine(&SGX_NEEDS);
        checks[4] = check;
        assert!(Report::of(checks).sgx.possible);
    }

    #[test]
    fn each_need_that_is_missing_or_unknown_stands_against_sgx() {
        for id in SGX_NEEDS {
            for state in [State::Missing, State::Unknown] {
                let mut checks = fine(&SGX_NEEDS);
                checks.iter_mut().find(|check| check.id == id).unwrap().state = state;
                assert_eq!(Report::of(checks).sgx.because, [id]);
            }
        }
    }

    #[test]
    fn simulation_needs_either_python_and_memory_or_docker() {
        assert_eq!(Report::of(fine(&["python", "memory"])).simulated.runtimes, ["process"]);
        assert_eq!(Report::of(fine(&["python", "docker"])).simulated.runtimes, ["docker"]);
        let neither = Report::of(fine(&["python"])).simulated;
        assert!(!neither.possible);
        assert_eq!(neither.because, ["memory", "docker"]);
    }

    #[test]
    fn a_clock_is_right_only_where_something_says_so() {
        let now = "2026-06-01T12:00:00Z".parse().unwrap();
        assert_eq!(clock(Clock::Synchronised("x"), now).state, State::Ok);
        assert_eq!(clock(Clock::Kept("chronyd"), now).state, State::Unknown);
        assert_eq!(clock(Clock::Unknown, now).state, State::Unknown);
        let past = "1970-01-01T00:10:00Z".parse().unwrap();
        assert_eq!(clock(Clock::Synchronised("x"), past).state, State::Missing);
    }
}
