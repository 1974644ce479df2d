//! Evidence from the node itself, over a nonce of one's own, tied to the TLS key of the connection it came over.
//!
//! `GET /.well-known/mse/evidence?nonce=HEX`. The connection is made to whoever answers, so nothing is believed
//! before three things hold together: the evidence is verified (by `attestation`), its claims name this nonce, and
//! the key it binds is the key the peer of this connection proved to hold. [`Live::channel`] checks the last two.

use std::time::{Duration, Instant};

use attestation::collateral::Collateral;
use attestation::evidence::{Arguments, Evidence};
use attestation::judgement::Verified;
use attestation::ratls::{
    Claims, LiveEvidence, MAX_LIVE_EVIDENCE_BYTES, NONCE_BYTES, RatlsCertificate, TlsMode,
};
use http::{Method, StatusCode};
use uuid::Uuid;

use crate::channel::{Channel, Peer};
use crate::collate::says_simulated;
use crate::error::Error;
use crate::exchange::{Question, ask};
use crate::target::Target;

/// Between two questions to a node that is busy.
const PAUSE: Duration = Duration::from_millis(250);

/// What a node answered; nothing of it is verified.
#[derive(Clone, Debug)]
pub struct Live {
    target: Target,
    nonce: Vec<u8>,
    peer: Peer,
    evidence: LiveEvidence,
}

/// What the key of the connection is, once the evidence is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// The enclave's own key: the channel ends in the enclave.
    Attested,
    /// A key of the owner's, which the enclave says it serves, and which may exist elsewhere too: `channel: owner
    /// certificate, not attested`.
    OwnerCertificate,
}

/// A fresh nonce of 32 random bytes.
pub fn fresh_nonce() -> Result<[u8; 32], Error> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce)
        .map_err(|error| Error::System { what: "random bytes", reason: error.to_string() })?;
    Ok(nonce)
}

/// Asks a node for evidence over `nonce` (16 to 64 bytes). Quotes take time, and a node makes one at a time.
pub fn request(target: &Target, nonce: &[u8], limit: Duration) -> Result<Live, Error> {
    if !NONCE_BYTES.contains(&nonce.len()) {
        return Err(Error::Configuration(format!(
            "a nonce has 16 to 64 bytes, this one has {}",
            nonce.len()
        )));
    }
    let path = format!("/.well-known/mse/evidence?nonce={}", hex::encode(nonce));
    let question = |limit| Question {
        method: Method::GET,
        path: &path,
        body: None,
        what: "give evidence",
        limit,
        longest: Some(MAX_LIVE_EVIDENCE_BYTES),
    };
    let unexpected = |found: String| Error::UnexpectedAnswer {
        target: target.to_string(),
        expected: "evidence of version 1 in JSON",
        found,
    };
    let started = Instant::now();
    let answer = loop {
        let answer = ask(&Channel::to_anyone(target), question(limit.saturating_sub(started.elapsed())))?;
        match answer.status {
            status if status.is_success() => break answer,
            // The node makes quotes for others, and says to come again.
            StatusCode::TOO_MANY_REQUESTS if started.elapsed() + PAUSE < limit => std::thread::sleep(PAUSE),
            status => return Err(unexpected(format!("HTTP {}", status.as_u16()))),
        }
    };
    let evidence = LiveEvidence::from_json(&answer.body).map_err(|error| unexpected(error.to_string()))?;
    let claims = Claims::decode(&evidence.claims).map_err(|error| unexpected(error.to_string()))?;
    // An early and clear word; what counts is compared again by verification.
    same_nonce(target, nonce, claims.nonce.as_deref())?;
    Ok(Live { target: target.clone(), nonce: nonce.to_owned(), peer: answer.peer, evidence })
}

impl Live {
    /// The nonce that was sent.
    pub fn nonce(&self) -> &[u8] {
        &self.nonce
    }

    /// The quote, to ask for its collateral.
    pub fn quote(&self) -> &[u8] {
        &self.evidence.quote
    }

    /// The RA-TLS certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.evidence.certificate
    }

    /// The claims, CBOR.
    pub fn claims(&self) -> &[u8] {
        &self.evidence.claims
    }

    /// The peer of the connection that the evidence came over.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What the node says of itself, in the form of `args.toml`: for who verifies the node and has no file of its
    /// operator's. The size of the enclave is not among it.
    pub fn own_arguments(&self) -> Result<Arguments, Error> {
        let unexpected = |error: attestation::Error| Error::UnexpectedAnswer {
            target: self.target.to_string(),
            expected: "an RA-TLS certificate and the claims of a node",
            found: error.to_string(),
        };
        let certificate = RatlsCertificate::parse(&self.evidence.certificate).map_err(unexpected)?;
        let claims = Claims::decode(&self.evidence.claims).map_err(unexpected)?;
        let lifetime = certificate.not_after.duration_since(certificate.not_before);
        Ok(Arguments {
            host: certificate.hosts.first().cloned().unwrap_or_default(),
            port: self.target.port(),
            size_mb: 0,
            days: u32::try_from(lifetime.as_hours() / 24).unwrap_or(0),
            subject: certificate.subject,
            app_id: claims.app.map(|app| Uuid::from_bytes(app.app_id).to_string()).unwrap_or_default(),
            platform: if says_simulated(&self.evidence.quote) { "simulated" } else { "sgx" }.to_owned(),
            runtime: "not told".to_owned(),
        })
    }

    /// The same as an evidence file, to be verified.
    pub fn with(&self, collateral: Collateral, arguments: Arguments) -> Evidence {
        Evidence {
            certificate: self.evidence.certificate.clone(),
            quote: self.evidence.quote.clone(),
            claims: self.evidence.claims.clone(),
            nonce: Some(self.nonce.clone()),
            collateral,
            arguments,
        }
    }

    /// Ties the verified evidence to this connection: it must be this evidence, over this nonce, and bind the key of
    /// this peer. Says what that key is.
    pub fn channel(&self, verified: &Verified<Evidence>) -> Result<ChannelKind, Error> {
        let evidence = verified.evidence();
        let same = evidence.certificate == self.evidence.certificate
            && evidence.quote == self.evidence.quote
            && evidence.claims == self.evidence.claims;
        if !same {
            return Err(Error::NotThisPeer {
                target: self.target.to_string(),
                connection: hex::encode(self.peer.spki_sha256),
                evidence: format!("{} (other evidence was verified)", hex::encode(verified.spki_sha256())),
            });
        }
        let claims = verified.claims();
        same_nonce(&self.target, &self.nonce, claims.nonce.as_deref())?;
        channel_kind(&self.target, &self.peer, verified.spki_sha256(), claims)
    }

    /// The same, refusing a channel that ends in a certificate of the owner's.
    pub fn require_attested(&self, verified: &Verified<Evidence>) -> Result<(), Error> {
        match self.channel(verified)? {
            ChannelKind::Attested => Ok(()),
            ChannelKind::OwnerCertificate => Err(Error::OwnerCertificate { target: self.target.to_string() }),
        }
    }
}

fn same_nonce(target: &Target, sent: &[u8], found: Option<&[u8]>) -> Result<(), Error> {
    if found == Some(sent) {
        return Ok(());
    }
    Err(Error::Nonce {
        target: target.to_string(),
        expected: hex::encode(sent),
        found: found.map_or_else(|| "none".to_owned(), hex::encode),
    })
}

fn channel_kind(
    target: &Target,
    peer: &Peer,
    attested: [u8; 32],
    claims: &Claims,
) -> Result<ChannelKind, Error> {
    if peer.spki_sha256 == attested {
        return Ok(ChannelKind::Attested);
    }
    let app = claims.app.as_ref();
    let served = app.filter(|app| app.tls_mode == TlsMode::OwnerCertificate).and_then(|app| app.served_spki);
    if served == Some(peer.spki_sha256) {
        return Ok(ChannelKind::OwnerCertificate);
    }
    let keys = [Some(attested), served].into_iter().flatten().map(hex::encode).collect::<Vec<_>>();
    Err(Error::NotThisPeer {
        target: target.to_string(),
        connection: hex::encode(peer.spki_sha256),
        evidence: keys.join(" or "),
    })
}

#[cfg(test)]
mod tests;
