//! Evidence asked of the node itself, over a nonce of one's own, tied to the TLS key of that very connection.

use std::time::Duration;

use attestation::judgement::{Judgement, Verified};
use attestation::ratls::{Claims, RatlsCertificate};
use attestation::{Arguments, Evidence, Expected, Policy, TrustAnchors};
use client::collate::{Sources, says_simulated};
use client::live::{self, ChannelKind, Live};
use client::records::Store;
use client::target::Target;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{collateral, places};

/// How long a node may take: a quote is slow on real hardware, and one is made at a time.
const LIMIT: Duration = Duration::from_secs(60);

/// On what terms a live node is judged.
pub struct Terms {
    /// Whom to trust.
    pub anchors: TrustAnchors,
    /// The policy.
    pub policy: Policy,
    /// What to find; the nonce is added here.
    pub expected: Expected,
    /// Where collateral comes from; Intel's service without it.
    pub pccs: Option<String>,
}

/// What came of it.
pub enum Outcome {
    /// Accepted; the channel is what the enclave says it is.
    Accepted(Box<Verified<Evidence>>, ChannelKind),
    /// Refused.
    Refused(Box<Judgement>),
}

/// Asks, judges, and ties the result to the connection.
pub fn verify(target: &Target, terms: &Terms, records: &Store) -> anyhow::Result<Outcome> {
    let nonce = records.issue_nonce(Timestamp::now())?;
    let live = live::request(target, &nonce, LIMIT)?;
    let expected = Expected {
        nonce: Some(nonce.to_vec()),
        nonce_issued_at: records.nonce_issued_at(&nonce)?,
        ..terms.expected.clone()
    };
    let evidence = live.with(collateral(&live, terms)?, arguments(target, &live)?);
    match attestation::admit(evidence, &terms.anchors, &terms.policy, &expected, Timestamp::now()) {
        Err(refused) => Ok(Outcome::Refused(Box::new(refused.judgement))),
        Ok(verified) => {
            let kind = live.channel(&verified)?;
            Ok(Outcome::Accepted(Box::new(verified), kind))
        }
    }
}

/// What the node says of itself, in the form of `args.toml`; the operator's own file is not asked.
fn arguments(target: &Target, live: &Live) -> anyhow::Result<Arguments> {
    let certificate = RatlsCertificate::parse(live.certificate())?;
    let claims = Claims::decode(live.claims())?;
    let lifetime = certificate.not_after.duration_since(certificate.not_before);
    Ok(Arguments {
        host: certificate.hosts.first().cloned().unwrap_or_default(),
        port: target.port(),
        size_mb: 0,
        days: u32::try_from(lifetime.as_hours() / 24).unwrap_or(0),
        subject: certificate.subject,
        app_id: claims.app.map(|app| Uuid::from_bytes(app.app_id).to_string()).unwrap_or_default(),
        platform: if says_simulated(live.quote()) { "simulated" } else { "sgx" }.to_owned(),
        runtime: "not told".to_owned(),
    })
}

fn collateral(live: &Live, terms: &Terms) -> anyhow::Result<attestation::Collateral> {
    let simulator = places::simulator()?;
    let sources = Sources {
        pccs: terms.pccs.as_deref(),
        simulator: says_simulated(live.quote()).then_some(simulator.as_path()),
        intel: true,
        ..Sources::default()
    };
    collateral::fetch(&sources, live.quote())
}

/// What a channel is, in words.
pub fn channel_word(channel: ChannelKind) -> &'static str {
    match channel {
        ChannelKind::Attested => "attested: it ends in this enclave",
        ChannelKind::OwnerCertificate => "owner certificate, not attested",
    }
}
