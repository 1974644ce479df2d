//! Evidence asked of the node itself, over a nonce of one's own, tied to the TLS key of that very connection.

use std::time::Duration;

use attestation::judgement::{Judgement, Verified};
use attestation::{Evidence, Expected, Policy, TrustAnchors};
use client::collate::{Sources, says_simulated};
use client::live::{self, ChannelKind, Live};
use client::records::Store;
use client::target::Target;
use jiff::Timestamp;

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
    let evidence = live.with(collateral(&live, terms)?, live.own_arguments()?);
    match attestation::admit(evidence, &terms.anchors, &terms.policy, &expected, Timestamp::now()) {
        Err(refused) => Ok(Outcome::Refused(Box::new(refused.judgement))),
        Ok(verified) => {
            let kind = live.channel(&verified)?;
            Ok(Outcome::Accepted(Box::new(verified), kind))
        }
    }
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
