//! Evidence asked of the node itself, over a nonce of one's own, tied to the TLS key of that very connection.

use std::time::Duration;

use attestation::judgement::{Judgement, Verified};
use attestation::{Evidence, Expected, Policy, TrustAnchors};
use client::collate::says_simulated;
use client::live::{self, ChannelKind, Live};
use client::records::Store;
use client::target::Target;
use jiff::Timestamp;

use crate::collateral::Choice;
use crate::exit::Failure;
use crate::places;

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
    /// Where collateral comes from.
    pub collateral: Choice,
    /// Where collateral for simulated quotes is, if not at this installation's simulator. Only where the caller accepts them.
    pub pccs_for_simulated: Option<String>,
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
    if !says_simulated(live.quote()) {
        return terms.collateral.fetch(live.quote(), false);
    }
    let choice = terms.collateral.clone().or_service(terms.pccs_for_simulated.as_deref());
    let named = choice.file.is_some() || choice.pccs.is_some();
    if !named && !places::simulator()?.exists() {
        // Whatever its collateral said, no root of this home's vouches for it.
        return Err(Failure::refused("the enclave is simulated, and so is what vouches for it").hint(
            "only --allow-simulated, or --simulated-root with the root of its installation and --pccs, accepts one",
        )
        .into());
    }
    choice.fetch(live.quote(), true)
}

/// What a channel is, in words.
pub fn channel_word(channel: ChannelKind) -> &'static str {
    match channel {
        ChannelKind::Attested => "attested: it ends in this enclave",
        ChannelKind::OwnerCertificate => "owner certificate, not attested",
    }
}
