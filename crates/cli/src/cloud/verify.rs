//! `mse cloud verify`: is the app behind this domain a genuine enclave that runs what it should?

use std::net::IpAddr;
use std::path::PathBuf;

use attestation::Expected;
use attestation::evidence::Evidence;
use attestation::judgement::Verified;
use attestation::ratls::RatlsCertificate;
use client::backend::{Context, Login, TlsMode, Verification};
use client::live::ChannelKind;
use client::records::{Origin, Record, Store};
use client::target::Target;
use jiff::Timestamp;
use package::{Package, code_archive};

use crate::cloud::deploy::verification;
use crate::cloud::session;
use crate::collateral::CollateralArgs;
use crate::exit::{Advice, Exit, Failure};
use crate::files::{self, PUBLIC};
use crate::home::nodes;
use crate::judging::{self, Rules, Trust};
use crate::live;
use crate::output::{self, CARE, Format, Styled, out, say, warn};

/// Ask the app itself, over a fresh nonce, and judge its evidence. Writes the certificate to trust, only on success.
#[derive(clap::Args)]
pub struct Args {
    /// The app: its domain, with its port or without; or the name of one that was deployed from here.
    domain: String,
    /// The fingerprint that the app's owner published.
    #[arg(long, value_name = "HEX", value_parser = judging::hex_array::<32>)]
    fingerprint: Option<[u8; 32]>,
    /// The package: the fingerprint is computed from it.
    #[arg(long, value_name = "FILE", conflicts_with = "fingerprint")]
    package: Option<PathBuf>,
    /// The deployment's context, which its owner exported; the one of this home without it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fingerprint", "package"])]
    context: Option<PathBuf>,
    /// The application's code, to be compared with what was deployed.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["fingerprint", "package"])]
    code: Option<PathBuf>,
    /// The IP address of the backend's router, instead of what the domain resolves to.
    #[arg(long, value_name = "IP")]
    resolve: Option<IpAddr>,
    /// The directory for `ratls.pem`, made if missing.
    #[arg(long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    #[command(flatten)]
    trust: Trust,
    /// The policy: `strict`, or a TOML file.
    #[arg(long, value_name = "strict|FILE", default_value = "strict")]
    policy: String,
    #[command(flatten)]
    collateral: CollateralArgs,
    /// Fetch collateral from the service that the backend names. Without this only that of simulated enclaves is.
    #[arg(long, conflicts_with_all = ["pccs", "collateral"])]
    pccs_of_backend: bool,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What the caller knows of the app beforehand.
struct Known {
    target: Target,
    context: Option<Context>,
    expected: Expected,
    /// Whether the code of the caller's own was, or will be, compared.
    code_compared: bool,
    signer_confirmed: Option<bool>,
    simulated_root: Option<String>,
    pccs: Option<String>,
}

/// Judges; on success, and only then, writes the certificate and the record.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let known = known(args)?;
    let terms = live::Terms {
        anchors: verification::anchors(&args.trust, known.simulated_root.as_deref())?,
        policy: Rules { policy: args.policy.clone(), at: None }.policy()?,
        expected: known.expected.clone(),
        collateral: verification::collateral(&args.collateral, args.pccs_of_backend, known.pccs.as_deref())?,
        pccs_for_simulated: known.pccs.clone().filter(|_| args.trust.allow_simulated),
    };
    let records = nodes::records()?;
    let asked = live::verify(&known.target, &terms, &records);
    let verified = match asked.map_err(|error| users_leg(error, known.context.as_ref()))? {
        live::Outcome::Accepted(verified, ChannelKind::Attested) => verified,
        live::Outcome::Accepted(_, kind @ ChannelKind::OwnerCertificate) => {
            return Err(Failure::refused(format!(
                "the enclave is genuine, and the channel does not end in it for certain: {}",
                live::channel_word(kind)
            ))
            .hint("the app serves a certificate of its owner's: who trusts it trusts the owner, and verifies nothing")
            .into());
        }
        live::Outcome::Refused(judgement) => {
            judging::print(&judgement, args.format)?;
            return Err(judging::refusal(&judgement).into());
        }
    };
    let record = Record::of(&verified, Origin::Verify)?;
    if let Some(context) = &known.context
        && record.app_id() != *context.id.as_bytes()
    {
        return Err(Failure::refused(format!(
            "this is another app: expected {}, found {}",
            context.id,
            uuid::Uuid::from_bytes(record.app_id())
        ))
        .into());
    }
    let certificate = RatlsCertificate::parse(&verified.evidence().certificate)?;
    let path = args.output.join("ratls.pem");
    files::write(&path, certificate.to_pem().as_bytes(), PUBLIC)?;
    records.save(&record)?;
    remember(&known, &verified, &records)?;
    match args.format {
        Format::Json => {
            output::json(&judging::report(verified.judgement())?)?;
            if known.signer_confirmed == Some(false) {
                warn("the operator's signer is that of the first use, unconfirmed");
            }
        }
        Format::Human => {
            judging::print(verified.judgement(), args.format)?;
            out!("Fingerprint: {}", hex::encode(verified.mrenclave()))?;
            out!("App id: {}", uuid::Uuid::from_bytes(record.app_id()))?;
            out!("TLS mode: {}", record.tls_mode())?;
            if let (Some(signer), Some(confirmed)) = (known.expected.mrsigner, known.signer_confirmed) {
                session::describe_signer(signer, confirmed)?;
            }
            out!("Channel: {}", live::channel_word(ChannelKind::Attested))?;
        }
    }
    if !known.code_compared {
        warn(format_args!(
            "{}: the fingerprint is believed as it was given; compare the code with --package, or with --context and --code",
            Styled(CARE, "THE CODE WAS NOT COMPARED")
        ));
    } else if let (Some(file), None, None) = (&args.context, args.fingerprint, &args.package) {
        // Nobody but who has the package can compute the one from the other.
        warn(format_args!(
            "the code is the one that {} names; that it gives this fingerprint is the word of whoever made that file",
            file.display()
        ));
    }
    say!("Wrote {}", path.display());
    Ok(Exit::Done)
}

/// Puts together what is known, from the command line, a context and the login.
fn known(args: &Args) -> anyhow::Result<Known> {
    let contexts = session::contexts()?;
    let login = session::logins()?.load().ok().flatten();
    let (name, port) = split(&args.domain)?;
    let context = match &args.context {
        Some(file) => Some(Context::import(file)?),
        None => {
            let mut own: Vec<Context> = contexts.list()?;
            own.retain(|context| is_of(context, &name));
            if own.len() > 1 {
                return Err(Failure::usage(format!("{} apps are called {name:?}", own.len()))
                    .hint("name the one by its id or domain: `mse cloud context list` shows them")
                    .into());
            }
            own.pop()
        }
    };
    if let (Some(context), Some(_)) = (&context, &args.context)
        && !is_of(context, &name)
    {
        return Err(
            Failure::usage(format!("the context is that of {}, not of {name}", context.domain)).into()
        );
    }
    if args.code.is_some() && context.is_none() {
        return Err(
            Failure::usage("--code is compared with a deployment: name its context with --context").into()
        );
    }
    let login = login.filter(|login| is_at(login, &name));
    let host = context.as_ref().map_or_else(|| name.clone(), |context| host_of(context, &name));
    let port = port
        .or_else(|| context.as_ref().map(|context| context.router_port))
        .or_else(|| login.as_ref().map(|login| login.operator.router_port()))
        .unwrap_or(443);
    let mut target = Target::new(&host, port).map_err(Failure::usage)?;
    if let Some(address) = args.resolve {
        target = target.resolve_to(address);
    }
    let (fingerprints, code_compared) = fingerprints(args, context.as_ref())?;
    let signer = match (&context, &login) {
        (Some(context), _) => Some((context.mrsigner, context.signer_confirmed)),
        (None, Some(login)) => Some((login.operator.mrsigner, login.signer_confirmed)),
        (None, None) => None,
    };
    let from = |context: &Context| (context.simulated_root.clone(), context.pccs.clone());
    let of_login = |login: &Login| (login.operator.simulated_root.clone(), login.operator.pccs.clone());
    let (simulated_root, pccs) =
        context.as_ref().map(from).or_else(|| login.as_ref().map(of_login)).unwrap_or_default();
    Ok(Known {
        target,
        expected: Expected {
            mrsigner: signer.map(|(mrsigner, _)| mrsigner),
            mrenclave: fingerprints,
            ..Expected::default()
        },
        context,
        code_compared,
        signer_confirmed: signer.map(|(_, confirmed)| confirmed),
        simulated_root,
        pccs,
    })
}

/// The fingerprints to find, and whether they stand for code that the caller has.
fn fingerprints(args: &Args, context: Option<&Context>) -> anyhow::Result<(Vec<[u8; 32]>, bool)> {
    if let Some(fingerprint) = args.fingerprint {
        return Ok((vec![fingerprint], false));
    }
    if let Some(package) = &args.package {
        let all = Package::open(package)?.fingerprints()?;
        return Ok((all.into_iter().map(|(_, value)| *value.as_bytes()).collect(), true));
    }
    let context = context.ok_or_else(|| {
        Failure::usage(format!("nothing is known here of {}", args.domain))
            .hint("name its fingerprint, package or context: --fingerprint, --package, --context")
    })?;
    let fingerprint = context.fingerprint;
    let Some(code) = &args.code else { return Ok((vec![fingerprint], false)) };
    let found = code_archive::sha256(code)?;
    if found != context.code_sha256 {
        return Err(Failure::refused(format!(
            "{} is not the code that was deployed: expected an archive with the SHA-256 {}, found {}",
            code.display(),
            hex::encode(context.code_sha256),
            hex::encode(found)
        ))
        .hint("the same files give the same archive; .mseignore names what is left out")
        .into());
    }
    Ok((vec![fingerprint], true))
}

/// A name and perhaps a port, from a domain, `domain:port` or a URL.
fn split(text: &str) -> anyhow::Result<(String, Option<u16>)> {
    if text.contains("://") {
        let target = Target::from_url(text).map_err(Failure::usage)?;
        return Ok((target.host(), Some(target.port())));
    }
    match text.rsplit_once(':') {
        None => Ok((text.to_owned(), None)),
        Some((name, port)) => {
            let port = port.parse().hint("expected a domain, or domain:port")?;
            Ok((name.to_owned(), Some(port)))
        }
    }
}

fn is_of(context: &Context, name: &str) -> bool {
    [&context.domain, &context.config_domain, &context.name, &context.id.to_string()]
        .contains(&&name.to_owned())
}

/// The name to ask by: the users', unless the owner's was meant.
fn host_of(context: &Context, name: &str) -> String {
    if name == context.config_domain { name.to_owned() } else { context.domain.clone() }
}

fn is_at(login: &Login, name: &str) -> bool {
    name.strip_suffix(&login.operator.domain).is_some_and(|rest| rest.ends_with('.'))
}

/// What it means where another key than the enclave's answers.
fn users_leg(error: anyhow::Error, context: Option<&Context>) -> anyhow::Error {
    if !verification::is_anothers_key(&error) {
        return error;
    }
    let hint = match context.map(|context| context.tls) {
        Some(TlsMode::UntrustedSsl) => {
            "this app was deployed with --untrusted-ssl: users' TLS ends at the operator's router, and cannot be verified"
        }
        _ => verification::SOMEBODY_BETWEEN,
    };
    Failure::from_error(&error).hint(hint).into()
}

/// A later verification of what was deployed from here counts for the deployment: its context says so, and what the
/// owner does next rests on it. One of anything else does not.
fn remember(known: &Known, verified: &Verified<Evidence>, records: &Store) -> anyhow::Result<()> {
    let contexts = session::contexts()?;
    let Some(context) = &known.context else { return Ok(()) };
    let Some(mut own) = contexts.load(context.id)? else { return Ok(()) };
    if verified.mrenclave() != own.fingerprint {
        return Ok(());
    }
    let record = Record::of(verified, Origin::Deployed)?.named(&own.id.to_string());
    records.save(&record)?;
    let skipped = match own.verified {
        Verification::Skipped { at } => Some(at),
        Verification::Verified { skipped, .. } => skipped,
        Verification::NotYet => None,
    };
    own.verified = Verification::Verified { at: Timestamp::now(), simulated: record.is_simulated(), skipped };
    contexts.save(&own)?;
    Ok(())
}
