//! `mse connect`: a local plain-HTTP door to a verified application.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use attestation::Expected;
use attestation::ratls::RatlsCertificate;
use client::forwarder::Forwarder;
use client::live::ChannelKind;
use client::records::{Origin, Record};
use client::target::Target;

use crate::collateral::CollateralArgs;
use crate::exit::{Advice, Exit, Failure};
use crate::files;
use crate::home::nodes;
use crate::judging::{self, Rules, Trust};
use crate::live;
use crate::output::{out, say};

/// Open a local door to a verified application, for a browser or any client. Ctrl-C closes it.
#[derive(clap::Args)]
pub struct Args {
    /// The certificate that `verify` wrote: no other peer is spoken to.
    #[arg(long, value_name = "PEM", required_unless_present = "fingerprint")]
    cert: Option<PathBuf>,
    /// The fingerprint that the code provider published: the enclave is verified before the door opens, and again
    /// whenever it shows another key.
    #[arg(long, value_name = "HEX", value_parser = judging::hex_array::<32>, conflicts_with = "cert")]
    fingerprint: Option<[u8; 32]>,
    // With --fingerprint.
    #[command(flatten)]
    collateral: CollateralArgs,
    /// With --fingerprint: the policy, `strict` or a TOML file.
    #[arg(long, value_name = "strict|FILE", default_value = "strict")]
    policy: String,
    #[command(flatten)]
    trust: Trust,
    /// The IP address of the application, instead of what its name resolves to.
    #[arg(long, value_name = "IP")]
    resolve: Option<IpAddr>,
    /// Where the door is.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The application: https://host:port
    url: String,
}

/// Serves until interrupted.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut target = Target::from_url(&args.url).map_err(Failure::usage)?;
    if let Some(address) = args.resolve {
        target = target.resolve_to(address);
    }
    let door = match args.fingerprint {
        Some(fingerprint) => verifying_door(args, &target, fingerprint)?,
        None => recorded_door(args, &target)?,
    };
    out!("http://{}/", door.addr())?;
    say!(
        "Everything sent there goes to the enclave at {}, and to nobody else. Ctrl-C ends it.",
        target.origin()
    );
    door.wait();
    Ok(Exit::Done)
}

/// A door to the enclave of a recorded verification.
fn recorded_door(args: &Args, target: &Target) -> anyhow::Result<Forwarder> {
    if args.collateral.is_given() {
        return Err(Failure::usage(
            "--cert rests on a verification of before: nothing is judged here with collateral",
        )
        .hint("leave the collateral out, or verify anew with --fingerprint")
        .into());
    }
    let path = args.cert.as_deref().ok_or_else(|| Failure::usage("name a certificate or a fingerprint"))?;
    let certificate = RatlsCertificate::from_file(&files::read(path)?)
        .hint("name with --cert the ratls.pem that `mse home verify` wrote")?;
    let record = nodes::records()?.by_certificate(&certificate.der)?.ok_or_else(|| {
        Failure::refused(format!("no verification of {} is recorded here", path.display()))
            .hint("run `mse home verify` first; it writes the certificate and remembers its verification")
    })?;
    if record.served_spki().is_some() {
        // Whoever has the owner's key could be behind such a door.
        return Err(client::Error::OwnerCertificate { target: target.to_string() }.into());
    }
    nodes::announce(&record);
    Forwarder::start(&record, target, args.listen).hint("choose another address with --listen")
}

/// A door that verifies for itself, as often as the peer's key changes.
fn verifying_door(args: &Args, target: &Target, fingerprint: [u8; 32]) -> anyhow::Result<Forwarder> {
    let terms = live::Terms {
        anchors: args.trust.anchors()?,
        policy: Rules { policy: args.policy.clone(), at: None }.policy()?,
        expected: Expected { mrenclave: vec![fingerprint], ..Expected::default() },
        collateral: args.collateral.choice()?,
        pccs_for_simulated: None,
    };
    let (upstream, first) = (target.clone(), Mutex::new(None::<Failure>));
    let first = Arc::new(first);
    let reason = Arc::clone(&first);
    let verify = move || {
        verify(&upstream, &terms).map_err(|failure| {
            let error =
                client::Error::NotVerified { target: upstream.to_string(), reason: failure.to_string() };
            *reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
            error
        })
    };
    Forwarder::start_verifying(Box::new(verify), target, args.listen).map_err(|error| {
        match first.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(failure) => failure.into(),
            None => error.into(),
        }
    })
}

fn verify(target: &Target, terms: &live::Terms) -> Result<Record, Failure> {
    let outcome = nodes::records()
        .and_then(|records| live::verify(target, terms, &records))
        .map_err(|error| Failure::from_error(&error))?;
    match outcome {
        live::Outcome::Refused(judgement) => Err(judging::refusal(&judgement)),
        live::Outcome::Accepted(_, kind @ ChannelKind::OwnerCertificate) => Err(Failure::refused(format!(
            "the enclave is genuine, and the channel does not end in it for certain: {}",
            live::channel_word(kind)
        ))
        .hint("the application serves a certificate of its owner's; trust that certificate, or none")),
        live::Outcome::Accepted(verified, ChannelKind::Attested) => {
            let record = Record::of(&verified, Origin::Verify).map_err(Failure::failed)?;
            judging::note(verified.judgement());
            say!("Verified {target} over a fresh nonce.");
            nodes::announce(&record);
            Ok(record)
        }
    }
}
