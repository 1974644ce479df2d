//! Certificate chains: the four that a judgement rests on, each with its roles.
//!
//! Trusts only the reference root that [`crate::verify`] chose among the pinned anchors. A chain is judged as carried:
//! exact number, leaf first, every certificate in its role. Format: RFC 5280; roles and names: Intel "SGX PCK Certificate
//! and CRL Profile Specification".

use std::rc::Rc;

use jiff::Timestamp;
use x509_cert::ext::pkix::KeyUsage;

use crate::certificate::{self, Certificate};
use crate::checks::Id;
use crate::error::Error;
use crate::judgement::Fault;
use crate::pck::{SGX_EXTENSION, SIMULATION_MARKER};
use crate::recorder::Recorder;
use crate::signature::Point;
use crate::trust::{AnchorKind, is_intel_root};

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Top of every chain; issues CAs, TCB signers and the root CA CRL.
    Root,
    /// Platform or Processor CA; issues PCK certificates and their CRL.
    PckCa,
    /// One processor's certificate.
    Pck,
    /// Signs TCB info and QE identity.
    TcbSigning,
}

impl Role {
    /// The common names this role may have, after the prefix of who runs the hierarchy.
    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Root => &[" SGX Root CA"],
            Self::PckCa => &[" SGX PCK Platform CA", " SGX PCK Processor CA"],
            Self::Pck => &[" SGX PCK Certificate"],
            Self::TcbSigning => &[" SGX TCB Signing"],
        }
    }

    const fn is_ca(self) -> bool {
        matches!(self, Self::Root | Self::PckCa)
    }
}

/// What a key has to be allowed to do.
#[derive(Clone, Copy, Debug)]
struct Usage {
    sign: bool,
    certify: bool,
    revoke: bool,
}

const SIGN: Usage = Usage { sign: true, certify: false, revoke: false };
const CERTIFY: Usage = Usage { sign: false, certify: true, revoke: false };
const REVOKE: Usage = Usage { sign: false, certify: false, revoke: true };
/// Nothing that an earlier chain has not asked already.
const KNOWN: Usage = Usage { sign: false, certify: false, revoke: false };

impl Usage {
    fn allowed_by(self, key_usage: &KeyUsage) -> bool {
        (!self.sign || key_usage.digital_signature())
            && (!self.certify || key_usage.key_cert_sign())
            && (!self.revoke || key_usage.crl_sign())
    }
}

/// One of the four chains: its roles, leaf first, and the names of its checks.
#[derive(Debug)]
pub(crate) struct Shape {
    roles: &'static [(Role, Usage)],
    fault: Fault,
    format: Id,
    length: Id,
    order: Id,
    root: Id,
    names: Id,
    keys: Id,
    signatures: Id,
    validity: Id,
    constraints: Id,
    key_usage: Id,
    extensions: Id,
}

/// The chain in the quote.
pub(crate) const PCK: Shape = Shape {
    roles: &[(Role::Pck, SIGN), (Role::PckCa, CERTIFY), (Role::Root, CERTIFY)],
    fault: Fault::Evidence,
    format: Id::PckFormat,
    length: Id::PckLength,
    order: Id::PckOrder,
    root: Id::PckRoot,
    names: Id::PckNames,
    keys: Id::PckKeys,
    signatures: Id::PckSignatures,
    validity: Id::PckValidity,
    constraints: Id::PckConstraints,
    key_usage: Id::PckKeyUsage,
    extensions: Id::PckExtensions,
};

/// The chain of the PCK CRL's issuer.
pub(crate) const CRL_ISSUER: Shape = Shape {
    roles: &[(Role::PckCa, REVOKE), (Role::Root, REVOKE)],
    fault: Fault::Collateral,
    format: Id::CrlChainFormat,
    length: Id::CrlChainLength,
    order: Id::CrlChainOrder,
    root: Id::CrlChainRoot,
    names: Id::CrlChainNames,
    keys: Id::CrlChainKeys,
    signatures: Id::CrlChainSignatures,
    validity: Id::CrlChainValidity,
    constraints: Id::CrlChainConstraints,
    key_usage: Id::CrlChainKeyUsage,
    extensions: Id::CrlChainExtensions,
};

/// The chain of the TCB info's signer.
pub(crate) const TCB_INFO: Shape = Shape {
    roles: &[(Role::TcbSigning, SIGN), (Role::Root, KNOWN)],
    fault: Fault::Collateral,
    format: Id::TcbChainFormat,
    length: Id::TcbChainLength,
    order: Id::TcbChainOrder,
    root: Id::TcbChainRoot,
    names: Id::TcbChainNames,
    keys: Id::TcbChainKeys,
    signatures: Id::TcbChainSignatures,
    validity: Id::TcbChainValidity,
    constraints: Id::TcbChainConstraints,
    key_usage: Id::TcbChainKeyUsage,
    extensions: Id::TcbChainExtensions,
};

/// The chain of the QE identity's signer.
pub(crate) const QE_IDENTITY: Shape = Shape {
    roles: &[(Role::TcbSigning, SIGN), (Role::Root, KNOWN)],
    fault: Fault::Collateral,
    format: Id::QeChainFormat,
    length: Id::QeChainLength,
    order: Id::QeChainOrder,
    root: Id::QeChainRoot,
    names: Id::QeChainNames,
    keys: Id::QeChainKeys,
    signatures: Id::QeChainSignatures,
    validity: Id::QeChainValidity,
    constraints: Id::QeChainConstraints,
    key_usage: Id::QeChainKeyUsage,
    extensions: Id::QeChainExtensions,
};

impl Shape {
    /// Every check but format and length, in order.
    const fn later(&self) -> [Id; 9] {
        [
            self.order,
            self.root,
            self.names,
            self.keys,
            self.signatures,
            self.validity,
            self.constraints,
            self.key_usage,
            self.extensions,
        ]
    }

    /// Records that the chain could not be judged at all.
    pub(crate) fn skip(&self, recorder: &mut Recorder, why: &str) {
        recorder.skip_all(&[self.format, self.length], why);
        recorder.skip_all(&self.later(), why);
    }
}

/// What is known of certificates from the chains before: the same root, CA and signer stand in several.
///
/// A certificate is judged once in each role, in the first chain that has it there, so that one defect is one failure.
#[derive(Debug, Default)]
pub(crate) struct Store {
    certificates: Vec<Rc<Certificate>>,
    judged: Vec<(Rc<Certificate>, Role)>,
    /// Pairs whose signature was verified, with whatever result.
    links: Vec<(Rc<Certificate>, Point)>,
}

impl Store {
    fn read(&mut self, der: &[u8]) -> Result<Rc<Certificate>, Error> {
        if let Some(known) = self.certificates.iter().find(|known| known.der == der) {
            return Ok(Rc::clone(known));
        }
        let certificate = Rc::new(Certificate::parse(der)?);
        self.certificates.push(Rc::clone(&certificate));
        Ok(certificate)
    }

    /// Whether an earlier chain had this certificate in this role.
    fn is_judged(&self, certificate: &Certificate, role: Role) -> bool {
        self.judged.iter().any(|(known, as_role)| *as_role == role && known.der == certificate.der)
    }

    /// Whether `key` did not sign `certificate`, and no earlier chain has said so already.
    fn is_news_that_unsigned(&mut self, certificate: &Rc<Certificate>, key: &Point) -> bool {
        if self.links.iter().any(|(known, by)| known.der == certificate.der && by == key) {
            return false;
        }
        self.links.push((Rc::clone(certificate), *key));
        !certificate.is_signed_by(key)
    }
}

/// A chain of the right length, each certificate read. Nothing else is known of it.
#[derive(Debug)]
pub(crate) struct Chain(Vec<Rc<Certificate>>);

impl Chain {
    /// Reads `pem` and checks the number of certificates. Nothing where either fails; the later checks are then skipped.
    pub(crate) fn read(
        shape: &Shape,
        pem: &[u8],
        store: &mut Store,
        recorder: &mut Recorder,
    ) -> Option<Self> {
        let read = certificate::chain_from_pem(pem)
            .and_then(|ders| ders.iter().map(|der| store.read(der)).collect::<Result<Vec<_>, _>>());
        let unreadable = "the chain could not be read";
        let certificates = match read {
            Ok(certificates) => certificates,
            Err(error) => {
                let (expected, found) = error.halves();
                recorder.fail(shape.format, shape.fault, expected, found);
                recorder.skip(shape.length, unreadable);
                recorder.skip_all(&shape.later(), unreadable);
                return None;
            }
        };
        recorder.pass(shape.format, "well-formed");
        let (wanted, found) = (shape.roles.len(), certificates.len());
        let expected = format!("{wanted} certificates");
        if !recorder.check(shape.length, wanted == found, shape.fault, expected, format!("{found}")) {
            recorder.skip_all(&shape.later(), unreadable);
            return None;
        }
        Some(Self(certificates))
    }

    /// The first certificate.
    pub(crate) fn leaf(&self) -> &Certificate {
        &self.0[0]
    }

    /// The certificate above the leaf.
    pub(crate) fn issuer(&self) -> &Certificate {
        &self.0[1]
    }

    /// The last certificate.
    pub(crate) fn root(&self) -> &Certificate {
        &self.0[self.0.len() - 1]
    }

    /// All of them, leaf first.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.0.iter().map(Rc::as_ref)
    }

    /// Makes every check but format, length and root. Nothing comes back where it cannot be told which certificate
    /// plays which role; the root is skipped then.
    pub(crate) fn check(
        self,
        shape: &Shape,
        prefix: &str,
        at: Timestamp,
        store: &mut Store,
        recorder: &mut Recorder,
    ) -> Option<Self> {
        let places =
            self.0.iter().zip(shape.roles).enumerate().map(|(index, (certificate, (role, usage)))| Place {
                index,
                certificate,
                role: *role,
                usage: *usage,
                fresh: !store.is_judged(certificate, *role),
            });
        let places: Vec<Place<'_>> = places.collect();
        let mut record = |id, expected: String, objection: Option<String>| match objection {
            None => recorder.pass(id, "so, or judged in an earlier chain"),
            Some(found) => recorder.fail(id, shape.fault, expected, found),
        };

        let misplaced = objection(&places, |place| wrong_name(place, prefix));
        let unordered = self.unordered(&places);
        let lost = unordered.is_some() && misplaced.is_some();
        record(shape.order, "each certificate's issuer is the next one's subject".to_owned(), unordered);
        if lost {
            let skipped: Vec<Id> = shape.later().into_iter().filter(|id| *id != shape.order).collect();
            recorder.skip_all(&skipped, "it cannot be told which certificate plays which role");
            return None;
        }
        record(shape.names, format!("\"{prefix}{}\" and so on", shape.roles[0].0.names()[0]), misplaced);
        record(shape.keys, "ECDSA P-256 keys".to_owned(), objection(&places, foreign_key));
        let unsigned = self.unsigned(store);
        record(shape.signatures, "each signed by the next, ECDSA with SHA-256".to_owned(), unsigned);
        let expired = objection(&places, |place| outside_validity(place, at));
        record(shape.validity, format!("certificates valid at {at}"), expired);
        let constrained = objection(&places, wrong_constraints);
        record(shape.constraints, "cA for CAs alone, path lengths that hold".to_owned(), constrained);
        record(shape.key_usage, "key usages that allow the use".to_owned(), wrong_usage(&places));
        let objectionable = objection(&places, |place| {
            place.certificate.objectionable_extension(&[SGX_EXTENSION, SIMULATION_MARKER])
        });
        record(shape.extensions, "none twice, none critical and unknown".to_owned(), objectionable);

        store
            .judged
            .extend(self.0.iter().zip(shape.roles).map(|(known, (role, _))| (Rc::clone(known), *role)));
        Some(self)
    }

    /// Records whether the root is the one that the judgement rests on, or another pinned certificate of Intel's root.
    pub(crate) fn check_root(&self, shape: &Shape, reference: &Certificate, recorder: &mut Recorder) {
        let root = self.root();
        let expected = format!("the PCK chain's root, SHA-256 {}", hex::encode(reference.sha256()));
        let found = hex::encode(root.sha256());
        let intels = is_intel_root(&root.sha256()) && is_intel_root(&reference.sha256());
        recorder.check(shape.root, intels || root.der == reference.der, shape.fault, expected, found);
    }

    /// Where a certificate does not name the next as its issuer, or the root another than itself.
    fn unordered(&self, places: &[Place<'_>]) -> Option<String> {
        objection(places, |place| {
            let issuer = self.0.get(place.index + 1).map_or(place.certificate, Rc::as_ref);
            let (named, next) = (place.certificate.issuer(), issuer.subject());
            (named != next).then(|| format!("issued by {named}, followed by {next}"))
        })
    }

    /// Where the next certificate's key did not sign this one. The root is pinned, so that its own signature says
    /// nothing.
    fn unsigned(&self, store: &mut Store) -> Option<String> {
        self.0.windows(2).find_map(|pair| {
            // An issuer without a usable key fails the check of keys.
            let unsigned = pair[1].key().is_some_and(|key| store.is_news_that_unsigned(&pair[0], &key));
            unsigned.then(|| format!("{}: not signed by {}", title(&pair[0]), title(&pair[1])))
        })
    }
}

/// One certificate in its place in a chain.
struct Place<'a> {
    index: usize,
    certificate: &'a Certificate,
    role: Role,
    usage: Usage,
    /// Whether no earlier chain had it in this role.
    fresh: bool,
}

/// What `objection` has to say of the first certificate that is not judged already.
fn objection(places: &[Place<'_>], objection: impl Fn(&Place<'_>) -> Option<String>) -> Option<String> {
    let fresh = places.iter().filter(|place| place.fresh);
    fresh.into_iter().find_map(|place| Some(format!("{}: {}", title(place.certificate), objection(place)?)))
}

/// The name that a certificate has instead of one of its role's.
fn wrong_name(place: &Place<'_>, prefix: &str) -> Option<String> {
    let Some(name) = place.certificate.common_name() else { return Some("not one common name".to_owned()) };
    let right = name.strip_prefix(prefix).is_some_and(|rest| place.role.names().contains(&rest));
    (!right).then(|| "not the name of its role".to_owned())
}

fn foreign_key(place: &Place<'_>) -> Option<String> {
    place.certificate.key().is_none().then(|| "another key".to_owned())
}

fn outside_validity(place: &Place<'_>, at: Timestamp) -> Option<String> {
    let (from, until) = place.certificate.validity();
    (at < from || at > until).then(|| format!("valid from {from} to {until}"))
}

fn wrong_constraints(place: &Place<'_>) -> Option<String> {
    let constraints = place.certificate.basic_constraints.as_ref();
    let is_ca = constraints.is_some_and(|constraints| constraints.ca);
    // RFC 5280, 4.2.1.9: how many CAs may stand between this one and the last certificate.
    let between = place.index.saturating_sub(1);
    let limit = constraints.and_then(|constraints| constraints.path_len_constraint);
    if is_ca != place.role.is_ca() {
        Some(format!("cA is {is_ca}"))
    } else if limit.is_some_and(|limit| between > usize::from(limit)) {
        Some(format!("{between} CAs below, more than its path length"))
    } else {
        None
    }
}

/// Only the CRL issuer's chain uses keys otherwise than the chain before, so that it asks again.
fn wrong_usage(places: &[Place<'_>]) -> Option<String> {
    places.iter().filter(|place| place.fresh || place.usage.revoke).find_map(|place| {
        let key_usage = place.certificate.key_usage.as_ref();
        let allowed = key_usage.is_some_and(|key_usage| place.usage.allowed_by(key_usage));
        (!allowed).then(|| format!("{}: {key_usage:?}", title(place.certificate)))
    })
}

/// The prefix that every name in the hierarchy below `root` has: of an anchor of the caller's, the root's own.
pub(crate) fn name_prefix(anchor: Option<AnchorKind>, root: &Certificate) -> String {
    let own = || Some(root.common_name()?.strip_suffix(Role::Root.names()[0])?.to_owned());
    match anchor {
        Some(AnchorKind::Intel) => "Intel".to_owned(),
        Some(AnchorKind::Simulated) => "SIMULATED".to_owned(),
        Some(AnchorKind::Explicit) | None => {
            own().filter(|prefix| !prefix.is_empty()).unwrap_or_else(|| "Intel".to_owned())
        }
    }
}

/// How a certificate is called in messages.
pub(crate) fn title(certificate: &Certificate) -> String {
    certificate.common_name().unwrap_or_else(|| certificate.subject().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::issuer::{Authority, AuthorityPlan, INTEL};

    fn authority() -> Authority {
        let (from, until) =
            ("2026-01-01T00:00:00Z".parse().unwrap(), "2036-01-01T00:00:00Z".parse().unwrap());
        Authority::generate(&AuthorityPlan::new(INTEL, from, until).unwrap()).unwrap()
    }

    #[test]
    fn both_ends_of_a_window_belong_to_it() {
        let root = Certificate::parse(&authority().root.certificate).unwrap();
        let (from, until) = root.validity();
        let place = Place { index: 0, certificate: &root, role: Role::Root, usage: CERTIFY, fresh: true };
        let second = jiff::SignedDuration::from_secs(1);
        for (at, inside) in [(from, true), (until, true), (from - second, false), (until + second, false)] {
            assert_eq!(outside_validity(&place, at).is_none(), inside, "{at}");
        }
    }

    #[test]
    fn a_certificate_is_held_against_every_key_that_should_have_signed_it() {
        let authority = authority();
        let mut store = Store::default();
        let signer = store.read(&authority.tcb_signing.certificate).unwrap();
        let root = store.read(&authority.root.certificate).unwrap().key().unwrap();
        let stranger = signer.key().unwrap();
        assert!(!store.is_news_that_unsigned(&signer, &root));
        assert!(store.is_news_that_unsigned(&signer, &stranger));
        assert!(!store.is_news_that_unsigned(&signer, &stranger), "told already");
    }
}
