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
use crate::trust::AnchorKind;

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
const CERTIFY_AND_REVOKE: Usage = Usage { sign: false, certify: true, revoke: true };

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
    roles: &[(Role::PckCa, REVOKE), (Role::Root, CERTIFY_AND_REVOKE)],
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
    roles: &[(Role::TcbSigning, SIGN), (Role::Root, CERTIFY)],
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
    roles: &[(Role::TcbSigning, SIGN), (Role::Root, CERTIFY)],
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

/// Certificates already read and signatures already verified: the same root and signer stand in several chains.
#[derive(Debug, Default)]
pub(crate) struct Store {
    certificates: Vec<Rc<Certificate>>,
    signed: Vec<(Rc<Certificate>, Point)>,
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

    fn is_signed_by(&mut self, certificate: &Rc<Certificate>, key: &Point) -> bool {
        if self.signed.iter().any(|(known, by)| known.der == certificate.der && by == key) {
            return true;
        }
        let signed = certificate.is_signed_by(key);
        if signed {
            self.signed.push((Rc::clone(certificate), *key));
        }
        signed
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
    /// plays which role.
    pub(crate) fn check(
        self,
        shape: &Shape,
        prefix: &str,
        at: Timestamp,
        store: &mut Store,
        recorder: &mut Recorder,
    ) -> Option<Self> {
        let misplaced = self.find(shape, |role, certificate| wrong_name(role, certificate, prefix));
        let unordered = self.unordered();
        let ordered = unordered.is_none();
        record(
            shape,
            shape.order,
            "each certificate's issuer is the next one's subject",
            unordered,
            recorder,
        );
        if !ordered && misplaced.is_some() {
            let why = "it cannot be told which certificate plays which role";
            let made = [shape.order, shape.root];
            let skipped: Vec<Id> = shape.later().into_iter().filter(|id| !made.contains(id)).collect();
            recorder.skip_all(&skipped, why);
            return None;
        }
        let names = format!("the names of the roles, as \"{prefix}{}\"", shape.roles[0].0.names()[0]);
        record(shape, shape.names, names, misplaced, recorder);

        let foreign =
            self.find(shape, |_, certificate| certificate.key().is_none().then(|| "another key".to_owned()));
        record(shape, shape.keys, "ECDSA P-256 keys", foreign, recorder);

        let unsigned = self.unsigned(store);
        record(
            shape,
            shape.signatures,
            "each certificate signed by the next, ECDSA with SHA-256",
            unsigned,
            recorder,
        );

        let expired = self.find(shape, |_, certificate| {
            let (from, until) = certificate.validity();
            (at < from || at > until).then(|| format!("valid from {from} to {until}"))
        });
        record(shape, shape.validity, format!("certificates valid at {at}"), expired, recorder);

        let constrained = self.wrong_constraints(shape);
        record(shape, shape.constraints, "cA for CAs alone, path lengths that hold", constrained, recorder);

        let misused = self.wrong_usage(shape);
        record(shape, shape.key_usage, "key usages that allow the use", misused, recorder);

        let objectionable = self.find(shape, |_, certificate| {
            certificate.objectionable_extension(&[SGX_EXTENSION, SIMULATION_MARKER])
        });
        record(
            shape,
            shape.extensions,
            "no extension twice, none critical and unknown",
            objectionable,
            recorder,
        );
        Some(self)
    }

    /// Records whether the root is the one that the judgement rests on.
    pub(crate) fn check_root(&self, shape: &Shape, reference: &Certificate, recorder: &mut Recorder) {
        let root = self.root();
        let expected = format!("the PCK chain's root, SHA-256 {}", hex::encode(reference.sha256()));
        let found = hex::encode(root.sha256());
        recorder.check(shape.root, root.der == reference.der, shape.fault, expected, found);
    }

    /// The first certificate of which `objection` has something to say.
    fn find(
        &self,
        shape: &Shape,
        objection: impl Fn(Role, &Certificate) -> Option<String>,
    ) -> Option<String> {
        self.0.iter().zip(shape.roles).find_map(|(certificate, (role, _))| {
            objection(*role, certificate).map(|what| format!("{}: {what}", title(certificate)))
        })
    }

    /// Where a certificate does not name the next as its issuer, or the root another than itself.
    fn unordered(&self) -> Option<String> {
        let issuers = self.0.iter().skip(1).chain(self.0.last());
        self.0.iter().zip(issuers).find_map(|(certificate, issuer)| {
            (certificate.issuer() != issuer.subject()).then(|| {
                format!(
                    "{}: issued by {}, not {}",
                    title(certificate),
                    certificate.issuer(),
                    issuer.subject()
                )
            })
        })
    }

    /// Where the next certificate's key did not sign this one. The root is pinned, so that its own signature says
    /// nothing.
    fn unsigned(&self, store: &mut Store) -> Option<String> {
        self.0.windows(2).find_map(|pair| {
            let signed = pair[1].key().is_some_and(|key| store.is_signed_by(&pair[0], &key));
            (!signed).then(|| format!("{}: not signed by {}", title(&pair[0]), title(&pair[1])))
        })
    }

    fn wrong_constraints(&self, shape: &Shape) -> Option<String> {
        self.0.iter().zip(shape.roles).enumerate().find_map(|(index, (certificate, (role, _)))| {
            let constraints = certificate.basic_constraints.as_ref();
            let is_ca = constraints.is_some_and(|constraints| constraints.ca);
            // RFC 5280, 4.2.1.9: how many CAs may stand between this one and the last certificate.
            let between = index.saturating_sub(1);
            let limit = constraints.and_then(|constraints| constraints.path_len_constraint);
            if is_ca != role.is_ca() {
                Some(format!("{}: cA is {is_ca}", title(certificate)))
            } else if limit.is_some_and(|limit| between > usize::from(limit)) {
                Some(format!("{}: {between} CAs below, more than its path length", title(certificate)))
            } else {
                None
            }
        })
    }

    fn wrong_usage(&self, shape: &Shape) -> Option<String> {
        self.0.iter().zip(shape.roles).find_map(|(certificate, (_, usage))| {
            let allowed = certificate.key_usage.as_ref().is_some_and(|key_usage| usage.allowed_by(key_usage));
            (!allowed).then(|| format!("{}: its key usage does not allow it", title(certificate)))
        })
    }
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

/// The name that a certificate has instead of one of its role's.
fn wrong_name(role: Role, certificate: &Certificate, prefix: &str) -> Option<String> {
    let Some(name) = certificate.common_name() else { return Some("not one common name".to_owned()) };
    let right = name.strip_prefix(prefix).is_some_and(|rest| role.names().contains(&rest));
    (!right).then(|| "not the name of its role".to_owned())
}

/// How a certificate is called in messages.
fn title(certificate: &Certificate) -> String {
    certificate.common_name().unwrap_or_else(|| certificate.subject().to_string())
}

/// Records one check of a chain: `objection` is what was found wrong.
fn record(
    shape: &Shape,
    id: Id,
    expected: impl Into<String>,
    objection: Option<String>,
    recorder: &mut Recorder,
) {
    match objection {
        None => recorder.pass(id, "so"),
        Some(found) => recorder.fail(id, shape.fault, expected, found),
    }
}
