//! `mse home verify`: is this enclave genuine, and does it run exactly this package?

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use attestation::judgement::{Judgement, Verified};
use attestation::ratls::RatlsCertificate;
use attestation::{Evidence, Expected, Input};
use client::collate::says_simulated;
use client::live::ChannelKind;
use client::records::{Origin, Record, Store};
use client::target::Target;
use package::Package;
use package::fingerprint::SIZES;

use crate::collateral::CollateralArgs;
use crate::exit::{Exit, Failure};
use crate::files::{self, PUBLIC};
use crate::home::nodes;
use crate::judging::{self, Rules, Trust};
use crate::live;
use crate::output::{self, Format, out, printable, say};

/// Check the operator's evidence against your own package. Writes the certificate to trust, only on success.
#[derive(clap::Args)]
pub struct Args {
    /// Your package: the fingerprint is computed from it.
    #[arg(long, value_name = "FILE", required_unless_present = "fingerprint")]
    package: Option<PathBuf>,
    /// The fingerprint that the code provider published, instead of the package; with --live.
    #[arg(long, value_name = "HEX", value_parser = judging::hex_array::<32>, conflicts_with = "package", requires = "live")]
    fingerprint: Option<[u8; 32]>,
    /// The operator's evidence.
    #[arg(long, value_name = "FILE", default_value = "evidence.json")]
    evidence: PathBuf,
    /// Ask the node itself, over a fresh nonce, instead of reading the operator's file.
    #[arg(long, value_name = "URL", conflicts_with_all = ["evidence", "nonce", "at"])]
    live: Option<String>,
    /// With --live: the IP address of the node, instead of what its name resolves to.
    #[arg(long, value_name = "IP", requires = "live")]
    resolve: Option<IpAddr>,
    /// The directory for `ratls.pem`, made if missing.
    #[arg(long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    rules: Rules,
    // Any of these is used instead of the evidence's own collateral.
    #[command(flatten)]
    collateral: CollateralArgs,
    /// The nonce that you gave to the operator, in hex: evidence over any other is refused.
    #[arg(long, value_name = "HEX", value_parser = judging::hex_bytes)]
    nonce: Option<std::vec::Vec<u8>>,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Judges; on success, and only then, writes the certificate and the record.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let package = args.package.as_deref().map(Package::open).transpose()?;
    let records = nodes::records()?;
    let (judged, channel) = match &args.live {
        Some(url) => ask_the_node(args, url, package.as_ref(), &records)?,
        None => (judge_the_file(args, package.as_ref(), &records)?, None),
    };
    let verified = match judged {
        Ok(verified) => verified,
        Err(judgement) => {
            judging::print(&judgement, args.format)?;
            withdraw(args, &records)?;
            return Err(judging::refusal(&judgement).into());
        }
    };
    let certificate = RatlsCertificate::parse(&verified.evidence().certificate)?;
    let path = args.output.join("ratls.pem");
    files::write(&path, certificate.to_pem().as_bytes(), PUBLIC)?;
    records.save(&Record::of(&verified, Origin::Verify)?)?;
    match args.format {
        Format::Human => {
            judging::print(verified.judgement(), args.format)?;
            describe(&verified, &certificate, package.as_ref())?;
            if let Some(channel) = channel {
                out!("Channel: {}", live::channel_word(channel))?;
            }
        }
        Format::Json => {
            let mut report = judging::report(verified.judgement())?;
            if let Some(channel) = channel {
                report["channel"] = live::channel_word(channel).into();
            }
            output::json(&report)?;
        }
    }
    say!("Wrote {}", path.display());
    Ok(Exit::Done)
}

/// What the same file's enclave was accepted for before no longer counts.
fn withdraw(args: &Args, records: &Store) -> anyhow::Result<()> {
    if args.live.is_some() {
        return Ok(());
    }
    if let Ok(evidence) = Evidence::from_json(&files::read(&args.evidence)?) {
        records.withdraw(&evidence.certificate)?;
    }
    Ok(())
}

type Judged = Result<Box<Verified<Evidence>>, Box<Judgement>>;

/// Offline, from the operator's file.
fn judge_the_file(args: &Args, package: Option<&Package>, records: &Store) -> anyhow::Result<Judged> {
    let package = package.ok_or_else(|| Failure::usage("name your package with --package"))?;
    let (anchors, policy, at) = (args.trust.anchors()?, args.rules.policy()?, args.rules.at());
    let bytes = files::read(&args.evidence)?;
    let Ok(mut evidence) = Evidence::from_json(&bytes) else {
        // Bytes that are not evidence are refused like evidence that is wrong, with a report that says where.
        let (input, expected) = (Input::Evidence(&bytes), Expected::default());
        let judgement = attestation::judge_bytes(input, None, &anchors, &policy, &expected, at);
        return Ok(Err(Box::new(judgement)));
    };
    let choice = args.collateral.choice()?;
    if choice.overrules_evidence() {
        let simulated = args.trust.allow_simulated && says_simulated(&evidence.quote);
        evidence.collateral = choice.fetch(&evidence.quote, simulated)?;
    }
    let expected = Expected {
        mrenclave_by_size: fingerprint(package, evidence.arguments.size_mb)?,
        nonce: args.nonce.clone(),
        nonce_issued_at: args
            .nonce
            .as_ref()
            .map(|nonce| records.nonce_issued_at(nonce))
            .transpose()?
            .flatten(),
        ..Expected::default()
    };
    Ok(attestation::admit(evidence, &anchors, &policy, &expected, at)
        .map(Box::new)
        .map_err(|refused| Box::new(refused.judgement)))
}

/// Over a nonce of one's own, from the node at `url`.
fn ask_the_node(
    args: &Args,
    url: &str,
    package: Option<&Package>,
    records: &Store,
) -> anyhow::Result<(Judged, Option<ChannelKind>)> {
    let mut target = Target::from_url(url).map_err(Failure::usage)?;
    if let Some(address) = args.resolve {
        target = target.resolve_to(address);
    }
    let by_size = match package {
        Some(package) => package.fingerprints()?,
        None => Vec::new(),
    };
    let terms = live::Terms {
        anchors: args.trust.anchors()?,
        policy: args.rules.policy()?,
        expected: Expected {
            mrenclave: args.fingerprint.into_iter().collect(),
            mrenclave_by_size: by_size.into_iter().map(|(size, value)| (size, *value.as_bytes())).collect(),
            ..Expected::default()
        },
        collateral: args.collateral.choice()?,
        pccs_for_simulated: None,
    };
    Ok(match live::verify(&target, &terms, records)? {
        live::Outcome::Accepted(verified, channel) => (Ok(verified), Some(channel)),
        live::Outcome::Refused(judgement) => (Err(judgement), None),
    })
}

/// The package's fingerprint at the size that the evidence names, which must be one that enclaves are made in. The
/// evidence selects; the value is the package's own. With another size there is none, and without one nothing is admitted.
fn fingerprint(package: &Package, size_mb: u64) -> anyhow::Result<BTreeMap<u64, [u8; 32]>> {
    if !SIZES.contains(&size_mb) {
        return Ok(BTreeMap::new());
    }
    Ok(BTreeMap::from([(size_mb, *package.fingerprint(size_mb)?.as_bytes())]))
}

/// What the operator chose: it cannot change what code runs, and the owner should see it.
fn describe(
    verified: &Verified<Evidence>,
    certificate: &RatlsCertificate,
    package: Option<&Package>,
) -> anyhow::Result<()> {
    out!("Fingerprint: {}", hex::encode(verified.mrenclave()))?;
    if let Some(size) = verified.size_mb() {
        out!("Enclave size: {size} MB")?;
    }
    out!("Host (the operator's choice): {}", printable(&certificate.hosts.join(", "), ""))?;
    out!("Certificate: from {} to {}", certificate.not_before, certificate.not_after)?;
    if let Some(app) = verified.app() {
        out!("App id: {}", uuid::Uuid::from_bytes(app.app_id))?;
        out!("TLS mode: {}", app.tls_mode.as_str())?;
    }
    if package.is_some_and(|package| package.interpreter().is_some()) {
        out!("Interpreter: the host's, not measured (simulation)")?;
    }
    Ok(())
}
