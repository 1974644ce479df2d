//! Is it genuine? Everything that can be judged from the bytes, the pinned anchors and a time: structure, chains,
//! revocation, signatures, the quoting enclave and the TCB level. What the caller wants of a genuine quote is
//! [`crate::validate`]'s question.
//!
//! Trusts the anchors and the time, nothing else. Every check is recorded; one that rests on a failed one is skipped, and
//! a skipped one is never acceptance. Formats: Intel "SGX ECDSA QuoteLibReference DCAP API" and PCS API v4.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::certificate::{self, Certificate};
use crate::chain::{self, Chain, Store};
use crate::checks::Id;
use crate::collateral::{self, Collateral};
use crate::crl::Crl;
use crate::error::{Error, NO_PCK_CERTIFICATE};
use crate::judgement::{Anchor, Fault, Platform};
use crate::pck::{SGX_EXTENSION, SIMULATION_MARKER, SgxExtension};
use crate::qe::{QeIdentity, QeLevel};
use crate::quote::{self, After, Header, Quote};
use crate::recorder::Recorder;
use crate::report::{
    Attributes, FLAG_DEBUG, FLAG_EINITTOKEN_KEY, FLAG_INIT, FLAG_MODE64BIT, FLAG_PROVISION_KEY,
};
use crate::signature::{self, Point};
use crate::tcb::{self, TcbInfo, TcbLevel, TcbStatus};
use crate::trust::{AnchorKind, TrustAnchors, has_intels_key, sha256};

/// XFRM bits that every 64-bit enclave has: x87 and SSE state.
const XFRM_REQUIRED: u64 = 0b11;
/// XFRM bits that are known: x87, SSE, AVX, MPX, AVX-512, PKRU, CET, AMX.
const XFRM_KNOWN: u64 = 0x6_1aff;
/// Attribute flags that are known and harmless, or have a check of their own: INIT, DEBUG, MODE64BIT, PROVISION_KEY,
/// EINITTOKEN_KEY, CET, KSS and AEX_NOTIFY.
const FLAGS_KNOWN: u64 = 0x4f7;

/// What verification learnt on its way. Each part is there only where what it rests on held; a judgement that is not
/// accepted may still have some.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) quote: Option<Quote>,
    pub(crate) pck: Option<SgxExtension>,
    pub(crate) anchor: Option<Anchor>,
    pub(crate) platform: Option<Platform>,
    pub(crate) tcb_info: Option<TcbInfo>,
    pub(crate) tcb_level: Option<TcbLevel>,
    pub(crate) qe_identity: Option<QeIdentity>,
    pub(crate) qe_level: Option<QeLevel>,
    /// First expiry among all that was relied on.
    pub(crate) valid_until: Option<Timestamp>,
    /// First end of anything that the policy tolerates for a time.
    pub(crate) tolerated_until: Option<Timestamp>,
    /// Oldest signed issue time among TCB info, QE identity and CRLs.
    pub(crate) oldest_issue: Option<Timestamp>,
}

impl Facts {
    /// The worst status of platform and QE.
    pub(crate) fn status(&self) -> Option<TcbStatus> {
        Some(self.tcb_level.as_ref()?.tcb_status.worst(self.qe_level.as_ref()?.tcb_status))
    }

    /// Advisories that apply to platform or QE, sorted.
    pub(crate) fn advisories(&self) -> BTreeSet<&str> {
        let platform = self.tcb_level.iter().flat_map(|level| &level.advisory_ids);
        let qe = self.qe_level.iter().flat_map(|level| &level.advisory_ids);
        platform.chain(qe).map(String::as_str).collect()
    }

    /// Notes that something relied on ends at `until`.
    pub(crate) fn expires(&mut self, until: Timestamp) {
        self.valid_until = Some(self.valid_until.map_or(until, |earlier| earlier.min(until)));
    }

    fn issued(&mut self, when: Timestamp) {
        self.oldest_issue = Some(self.oldest_issue.map_or(when, |earlier| earlier.min(when)));
    }
}

/// Verifies a quote with its collateral. `quote` and `collateral` may be what went wrong when they were read; nothing at
/// all where something before them failed.
pub(crate) fn verify(
    quote: Option<Result<&[u8], &Error>>,
    collateral: Option<Result<&Collateral, &Error>>,
    anchors: &TrustAnchors,
    at: Timestamp,
    recorder: &mut Recorder,
) -> Facts {
    let mut verifier = Verifier { at, anchors, recorder, store: Store::default(), facts: Facts::default() };
    let quote = verifier.read_quote(quote);
    let collateral = verifier.read_collateral(collateral, quote.is_some());
    let chains = verifier.chains(quote.as_ref(), collateral);
    verifier.pck_certificate(chains.pck.as_ref());
    verifier.revocation(collateral, &chains);
    verifier.tcb_info(collateral, chains.tcb_info.as_ref());
    verifier.qe_identity(collateral, chains.qe_identity.as_ref());
    if let Some(quote) = quote {
        verifier.enclave(&quote);
        verifier.quoting_enclave(&quote, chains.pck.as_ref());
        verifier.facts.quote = Some(quote);
    }
    verifier.platform_level();
    verifier.facts
}

/// The four chains, each as far as its certificates' roles are known.
struct Chains {
    reference: Option<Reference>,
    pck: Option<Chain>,
    crl_issuer: Option<Chain>,
    tcb_info: Option<Chain>,
    qe_identity: Option<Chain>,
}

/// The root that all chains have to end in, and the first word of all names below it.
struct Reference {
    root: Certificate,
    prefix: String,
}

/// One judgement in the making.
struct Verifier<'a> {
    at: Timestamp,
    anchors: &'a TrustAnchors,
    recorder: &'a mut Recorder,
    store: Store,
    facts: Facts,
}

const NO_QUOTE: &str = "there is no readable quote";
const NO_COLLATERAL: &str = "there is no readable collateral";

impl Verifier<'_> {
    /// Header, lengths, certification data type. Bytes after the quote are a failure that hides nothing else.
    fn read_quote(&mut self, quote: Option<Result<&[u8], &Error>>) -> Option<Quote> {
        let bytes = match quote {
            None => {
                self.recorder.skip(Id::QuoteFormat, NO_QUOTE);
                return None;
            }
            Some(Err(error)) => {
                let (expected, found) = error.halves();
                self.recorder.fail(Id::QuoteFormat, Fault::Evidence, expected, found);
                return None;
            }
            Some(Ok(bytes)) => bytes,
        };
        self.recorder.pass(Id::QuoteFormat, format!("{} bytes", bytes.len()));
        let Some(header) = bytes.first_chunk() else {
            let expected = format!("at least {} bytes", quote::MIN_LEN);
            self.recorder.fail(Id::QuoteLength, Fault::Evidence, expected, format!("{} bytes", bytes.len()));
            return None;
        };
        if !self.header(&Header::from_array(header)) {
            return None;
        }
        let quote = match Quote::parse_prefix(bytes) {
            Ok((quote, left)) => {
                let (fault, rest) = (Fault::Evidence, After::of(bytes, left));
                let expected = "nothing after the quote";
                self.recorder.check(Id::QuoteLength, left == 0, fault, expected, rest.to_string());
                if let Some(advice) = rest.advice() {
                    self.recorder.advise(Id::QuoteLength, advice);
                }
                quote
            }
            Err(error) => {
                let (expected, found) = error.halves();
                self.recorder.fail(Id::QuoteLength, Fault::Evidence, expected, found);
                return None;
            }
        };
        let kind = quote.signature.certification_data_type;
        let right = kind == quote::CERTIFICATION_PCK_CHAIN;
        let expected = "type 5 (PCK certificate chain)";
        let found = quote::certification_data_name(kind);
        self.recorder.check(Id::QuoteCertificationType, right, Fault::Evidence, expected, found);
        if matches!(kind, 1..=3) {
            self.recorder.advise(Id::QuoteCertificationType, NO_PCK_CERTIFICATE);
        }
        Some(quote)
    }

    /// The header's values. Whether the rest has the layout that this crate reads.
    fn header(&mut self, header: &Header) -> bool {
        let fault = Fault::Evidence;
        let (version, key_type) = (header.version, header.attestation_key_type);
        let readable = version == quote::VERSION && key_type == quote::ATTESTATION_KEY_ECDSA_P256;
        let other = quote::other_quote(header);
        let found = other.clone().unwrap_or_else(|| format!("version {version}"));
        self.recorder.check(Id::QuoteVersion, other.is_none(), fault, "version 3", found);
        if let Some(other) = other {
            let advice = format!("this is {other}; SGX quotes of version 3 are read here, and no others");
            self.recorder.advise(Id::QuoteVersion, advice);
        }
        let right = key_type == quote::ATTESTATION_KEY_ECDSA_P256;
        self.recorder.check(
            Id::QuoteKeyType,
            right,
            fault,
            "type 2 (ECDSA P-256)",
            format!("type {key_type}"),
        );
        let tee = header.tee_type;
        self.recorder.check(
            Id::QuoteTeeType,
            tee == quote::TEE_SGX,
            fault,
            "type 0 (SGX)",
            format!("type {tee:#x}"),
        );
        if readable {
            let vendor = header.qe_vendor_id;
            let (expected, found) = (hex::encode(quote::QE_VENDOR_INTEL), hex::encode(vendor));
            self.recorder.check(Id::QuoteVendor, vendor == quote::QE_VENDOR_INTEL, fault, expected, found);
        }
        readable
    }

    fn read_collateral<'c>(
        &mut self,
        collateral: Option<Result<&'c Collateral, &Error>>,
        has_quote: bool,
    ) -> Option<&'c Collateral> {
        match collateral {
            None if has_quote => {
                let expected = "collateral for the quote";
                self.recorder.fail(Id::CollateralFormat, Fault::Collateral, expected, "none");
                None
            }
            None => {
                self.recorder.skip(Id::CollateralFormat, NO_COLLATERAL);
                None
            }
            Some(Err(error)) => {
                let (expected, found) = error.halves();
                self.recorder.fail(Id::CollateralFormat, Fault::Collateral, expected, found);
                None
            }
            Some(Ok(collateral)) => {
                self.recorder.pass(Id::CollateralFormat, "nine strings");
                Some(collateral)
            }
        }
    }

    /// Reads the four chains, chooses the reference root among the anchors and checks each chain against it.
    fn chains(&mut self, quote: Option<&Quote>, collateral: Option<&Collateral>) -> Chains {
        let pck = quote.and_then(|quote| self.read_pck_chain(quote));
        if quote.is_none() {
            chain::PCK.skip(self.recorder, NO_QUOTE);
        }
        let mut read = |shape: &chain::Shape, pem: Option<&String>| match pem {
            Some(pem) => Chain::read(shape, pem.as_bytes(), &mut self.store, self.recorder),
            None => {
                shape.skip(self.recorder, NO_COLLATERAL);
                None
            }
        };
        let crl_issuer = read(&chain::CRL_ISSUER, collateral.map(|c| &c.pck_crl_issuer_chain));
        let tcb_info = read(&chain::TCB_INFO, collateral.map(|c| &c.tcb_info_issuer_chain));
        let qe_identity = read(&chain::QE_IDENTITY, collateral.map(|c| &c.qe_identity_issuer_chain));

        let all = [&pck, &crl_issuer, &tcb_info, &qe_identity];
        let roots = || all.into_iter().flatten().map(Chain::root);
        let reference =
            roots().find(|root| self.anchors.find(&root.sha256()).is_some()).or_else(|| roots().next());
        let Some(root) = reference.cloned() else {
            return Chains {
                reference: None,
                pck: None,
                crl_issuer: None,
                tcb_info: None,
                qe_identity: None,
            };
        };
        let prefix = chain::name_prefix(self.anchors.find(&root.sha256()), &root);
        let reference = Reference { root, prefix };
        let pck = self.check_chain(&chain::PCK, pck, &reference);
        if let Some(chain) = &pck {
            self.pck_root(chain, &reference.prefix);
        }
        let mut check_below = |shape: &chain::Shape, chain: Option<Chain>| {
            let chain = self.check_chain(shape, chain, &reference)?;
            chain.check_root(shape, &reference.root, self.recorder);
            Some(chain)
        };
        Chains {
            pck,
            crl_issuer: check_below(&chain::CRL_ISSUER, crl_issuer),
            tcb_info: check_below(&chain::TCB_INFO, tcb_info),
            qe_identity: check_below(&chain::QE_IDENTITY, qe_identity),
            reference: Some(reference),
        }
    }

    /// Makes every check of a chain but that of its root.
    fn check_chain(
        &mut self,
        shape: &chain::Shape,
        chain: Option<Chain>,
        reference: &Reference,
    ) -> Option<Chain> {
        let checked = chain?.check(shape, &reference.prefix, self.at, &mut self.store, self.recorder)?;
        for certificate in checked.certificates() {
            self.facts.expires(certificate.validity().1);
        }
        Some(checked)
    }

    /// The PCK chain is the certification data of type 5: PEM, and perhaps one NUL at the end.
    fn read_pck_chain(&mut self, quote: &Quote) -> Option<Chain> {
        let Ok(pem) = quote.pck_chain() else {
            chain::PCK.skip(self.recorder, "the certification data is not a PCK chain");
            return None;
        };
        Chain::read(&chain::PCK, pem, &mut self.store, self.recorder)
    }

    /// Whether the PCK chain's root is a pinned anchor, and what that makes of the platform.
    fn pck_root(&mut self, chain: &Chain, prefix: &str) {
        let sha256 = chain.root().sha256();
        let anchor = self.anchors.find(&sha256);
        let marked = chain.leaf().extension(&SIMULATION_MARKER).is_some();
        let simulated = marked || prefix == "SIMULATED" || anchor == Some(AnchorKind::Simulated);
        let hex = hex::encode(sha256);
        match anchor {
            Some(kind) => self.recorder.pass(Id::PckRoot, format!("{kind}, SHA-256 {hex}")),
            None => {
                let what = match simulated {
                    true => "the root of a simulator",
                    false if has_intels_key(chain.root()) => {
                        "another certificate of Intel's root key than the two that are pinned"
                    }
                    false => "another root",
                };
                let expected = "a root that is pinned here";
                self.recorder.fail(Id::PckRoot, Fault::Evidence, expected, format!("{what}, SHA-256 {hex}"));
            }
        }
        self.facts.anchor = anchor.map(|kind| Anchor { kind, sha256: hex });
        self.facts.platform = match (simulated, anchor) {
            (true, _) => Some(Platform::Simulated),
            (false, Some(_)) => Some(Platform::Sgx),
            (false, None) => None,
        };
    }

    /// The SGX extension of the PCK certificate, and whether it is marked as simulated exactly where it must be.
    fn pck_certificate(&mut self, chain: Option<&Chain>) {
        let Some(chain) = chain else { return };
        let extension = chain
            .leaf()
            .extension(&SGX_EXTENSION)
            .ok_or_else(|| Error::malformed("PCK certificate", "an SGX extension", "none"))
            .and_then(SgxExtension::parse);
        match extension {
            Ok(extension) => {
                self.recorder.pass(Id::PckSgx, format!("FMSPC {}", hex::encode(extension.fmspc)));
                self.facts.pck = Some(extension);
            }
            Err(error) => {
                let (expected, found) = error.halves();
                self.recorder.fail(Id::PckSgx, Fault::Evidence, expected, found);
            }
        }
        let marked = chain.leaf().extension(&SIMULATION_MARKER).is_some();
        let kind = self.facts.anchor.as_ref().map(|anchor| anchor.kind);
        let (right, expected) = is_marked_rightly(kind, marked);
        let found = if marked { "marked as simulated" } else { "not marked" };
        self.recorder.check(Id::PckSimulation, right, Fault::Evidence, expected, found);
    }

    /// Both revocation lists, and every certificate of the chains looked up in the right one.
    fn revocation(&mut self, collateral: Option<&Collateral>, chains: &Chains) {
        let Some(collateral) = collateral else { return };
        let root = chains.reference.as_ref().map(|reference| &reference.root);
        let root_crl = self.crl(&collateral.root_ca_crl, &ROOT_CRL, root, None);
        let crl_issuer = chains.crl_issuer.as_ref().map(Chain::leaf);
        let pck_ca = chains.pck.as_ref().map(Chain::issuer);
        let pck_crl = self.crl(&collateral.pck_crl, &PCK_CRL, crl_issuer, pck_ca);

        self.look_up(Id::RevokedPck, &pck_crl, &[chains.pck.as_ref().map(Chain::leaf)]);
        self.look_up(Id::RevokedPckCa, &root_crl, &[pck_ca, crl_issuer]);
        let signers =
            [chains.tcb_info.as_ref().map(Chain::leaf), chains.qe_identity.as_ref().map(Chain::leaf)];
        self.look_up(Id::RevokedTcbSigning, &root_crl, &signers);
        self.look_up(Id::RevokedRoot, &root_crl, &[root]);
    }

    /// Reads one list and checks issuer, signature and window. What comes back is signed by its issuer.
    ///
    /// `same_as` is the CA of the chain under judgement, whose list this has to be.
    fn crl(
        &mut self,
        text: &str,
        ids: &CrlIds,
        issuer: Option<&Certificate>,
        same_as: Option<&Certificate>,
    ) -> Option<Crl> {
        let fault = Fault::Collateral;
        let read = collateral::crl_der(text).and_then(|der| Crl::parse(&der));
        let crl = match read {
            Ok(crl) => crl,
            Err(error) => {
                let (expected, found) = error.halves();
                self.recorder.fail(ids.format, fault, expected, found);
                return None;
            }
        };
        self.recorder.pass(ids.format, format!("{} entries", crl.len()));
        let Some((issuer, key)) = issuer.and_then(|issuer| Some((issuer, issuer.key()?))) else {
            let why = "its issuer's key is not known";
            self.recorder.skip_all(&[ids.issuer, ids.signature, ids.window], why);
            return None;
        };
        let ca = same_as.unwrap_or(issuer);
        let right = crl.issuer == *ca.subject() && ca.key() == Some(key);
        let found = certificate::common_name(&crl.issuer).unwrap_or_else(|| crl.issuer.to_string());
        let expected = format!("a list of {}", chain::title(ca));
        let issued = self.recorder.check(ids.issuer, right, fault, expected, format!("of {found}"));
        let signed = crl.is_signed_by(&key);
        let found = if signed { "valid" } else { "not valid" };
        self.recorder.check(ids.signature, signed, fault, "a valid signature of its issuer", found);
        if !signed {
            self.recorder.skip(ids.window, "the list is not authentic");
            return None;
        }
        self.window(ids.window, crl.this_update, crl.next_update);
        issued.then_some(crl)
    }

    /// Looks `certificates` (those that are known) up in `crl`.
    fn look_up(&mut self, id: Id, crl: &Option<Crl>, certificates: &[Option<&Certificate>]) {
        let Some(crl) = crl else { return self.recorder.skip(id, "the list cannot be relied on") };
        let mut known = certificates.iter().flatten().peekable();
        if known.peek().is_none() {
            return self.recorder.skip(id, "there is no certificate to look up");
        }
        match known.find(|certificate| crl.revokes(certificate.serial())) {
            None => self.recorder.pass(id, "not listed"),
            Some(revoked) => {
                let found = format!("listed: serial number {}", hex::encode(revoked.serial().as_bytes()));
                self.recorder.fail(id, Fault::Platform, "not on the revocation list", found);
            }
        }
    }

    /// Records whether the judged time lies in a signed window, both ends included; notes issue and expiry.
    fn window(&mut self, id: Id, from: Timestamp, until: Timestamp) {
        let (at, current) = (self.at, from <= self.at && self.at <= until);
        let expected = format!("current at {at}");
        self.recorder.check(id, current, Fault::Collateral, expected, format!("from {from} until {until}"));
        self.facts.issued(from);
        self.facts.expires(until);
    }

    fn tcb_info(&mut self, collateral: Option<&Collateral>, chain: Option<&Chain>) {
        let Some(collateral) = collateral else { return };
        let signed = self.is_signed(
            Id::TcbInfoSignature,
            &collateral.tcb_info,
            &collateral.tcb_info_signature,
            chain.and_then(|chain| chain.leaf().key()),
        );
        let ids = (Id::TcbInfoFormat, Id::TcbInfoVersion, tcb::VERSION);
        let Some(info) = self.read_json(ids, &collateral.tcb_info, TcbInfo::parse) else { return };
        if !signed {
            return;
        }
        let fault = Fault::Collateral;
        self.recorder.check(
            Id::TcbInfoVersion,
            info.version == tcb::VERSION,
            fault,
            "version 3",
            format!("version {}", info.version),
        );
        let mut fits = self.recorder.check(Id::TcbInfoId, info.id == "SGX", fault, "SGX", info.id.clone());
        let found = format!("type {}", info.tcb_type);
        fits &= self.recorder.check(Id::TcbInfoType, info.tcb_type == 0, fault, "type 0", found);
        self.window(Id::TcbInfoWindow, info.issue_date, info.next_update);
        if let Some(pck) = &self.facts.pck {
            let (expected, found) = (hex::encode(pck.fmspc), hex::encode(info.fmspc));
            fits &= self.recorder.check(Id::TcbInfoFmspc, pck.fmspc == info.fmspc, fault, expected, found);
            let (expected, found) = (hex::encode(pck.pce_id), hex::encode(info.pce_id));
            fits &= self.recorder.check(Id::TcbInfoPceId, pck.pce_id == info.pce_id, fault, expected, found);
        }
        self.facts.tcb_info = fits.then_some(info);
    }

    fn qe_identity(&mut self, collateral: Option<&Collateral>, chain: Option<&Chain>) {
        let Some(collateral) = collateral else { return };
        let signed = self.is_signed(
            Id::QeIdentitySignature,
            &collateral.qe_identity,
            &collateral.qe_identity_signature,
            chain.and_then(|chain| chain.leaf().key()),
        );
        let ids = (Id::QeIdentityFormat, Id::QeIdentityVersion, crate::qe::VERSION);
        let Some(identity) = self.read_json(ids, &collateral.qe_identity, QeIdentity::parse) else { return };
        if !signed {
            return;
        }
        let fault = Fault::Collateral;
        let right = identity.version == crate::qe::VERSION;
        let found = format!("version {}", identity.version);
        self.recorder.check(Id::QeIdentityVersion, right, fault, "version 2", found);
        let right = identity.id == crate::qe::ID;
        let fits = self.recorder.check(Id::QeIdentityId, right, fault, crate::qe::ID, identity.id.clone());
        self.window(Id::QeIdentityWindow, identity.issue_date, identity.next_update);
        self.facts.qe_identity = fits.then_some(identity);
    }

    /// Whether `text` is signed by the TCB signer's key, over the very bytes.
    fn is_signed(&mut self, id: Id, text: &str, signature: &str, key: Option<Point>) -> bool {
        let Some(key) = key else {
            self.recorder.skip(id, "its signer's key is not known");
            return false;
        };
        let fault = Fault::Collateral;
        let (signed, found) = match collateral::from_hex("signature", signature) {
            Ok(raw) if raw.len() != 64 => (false, format!("{} bytes, where a signature has 64", raw.len())),
            Ok(raw) if signature::verify_fixed(&key, text.as_bytes(), &raw) => (true, "valid".to_owned()),
            Ok(_) => (false, "not valid".to_owned()),
            Err(error) => (false, error.to_string()),
        };
        self.recorder.check(id, signed, fault, "a valid signature over the text as carried", found)
    }

    /// Reads a signed JSON text. Another version has another form, so that it fails for its version alone.
    fn read_json<T>(
        &mut self,
        (format, version, wanted): (Id, Id, u32),
        text: &str,
        parse: impl Fn(&str) -> Result<T, Error>,
    ) -> Option<T> {
        match parse(text) {
            Ok(parsed) => {
                self.recorder.pass(format, "well-formed");
                Some(parsed)
            }
            Err(error) => {
                let (expected, found) = error.halves();
                match tcb::declared_version(text) {
                    Some(other) if other != wanted => {
                        let (expected, found) = (format!("version {wanted}"), format!("version {other}"));
                        self.recorder.fail(version, Fault::Collateral, expected, found);
                    }
                    _ => self.recorder.fail(format, Fault::Collateral, expected, found),
                }
                None
            }
        }
    }

    /// The enclave's own report: reserved bytes, attributes, signature.
    fn enclave(&mut self, quote: &Quote) {
        let report = &quote.report;
        let zero = report.reserved_is_zero();
        let found = if zero { "zero" } else { "not zero" };
        self.recorder.check(Id::QuoteReserved, zero, Fault::Evidence, "zero", found);
        self.attributes(report.attributes);
        let key = signature::point_of(&quote.signature.attestation_key);
        let signed = signature::verify_fixed(&key, &quote.signed_bytes(), &quote.signature.signature);
        let found = if signed { "valid" } else { "not valid" };
        let expected = "a valid signature of the attestation key over header and report";
        self.recorder.check(Id::QuoteSignature, signed, Fault::Evidence, expected, found);
    }

    fn attributes(&mut self, Attributes { flags, xfrm }: Attributes) {
        let found = format!("flags {flags:#x}");
        let mut check =
            |id, right, expected| self.recorder.check(id, right, Fault::Enclave, expected, found.as_str());
        check(Id::QuoteInit, flags & FLAG_INIT != 0, "INIT set");
        check(Id::QuoteDebug, flags & FLAG_DEBUG == 0, "DEBUG clear");
        let no_keys = flags & FLAG_PROVISION_KEY == 0 && flags & FLAG_EINITTOKEN_KEY == 0;
        check(Id::QuoteProvisioningKey, no_keys, "PROVISION_KEY and EINITTOKEN_KEY clear");
        let plain = flags & FLAG_MODE64BIT != 0 && flags & !FLAGS_KNOWN == 0;
        check(Id::QuoteAttributes, plain, "MODE64BIT set, no unknown flag");
        let right = xfrm & XFRM_REQUIRED == XFRM_REQUIRED && xfrm & !XFRM_KNOWN == 0;
        let expected = format!("bits {XFRM_REQUIRED:#x} set, none outside {XFRM_KNOWN:#x}");
        self.recorder.check(Id::QuoteXfrm, right, Fault::Enclave, expected, format!("{xfrm:#x}"));
    }

    /// The quoting enclave: its report's signature, the key it binds, its identity and level.
    fn quoting_enclave(&mut self, quote: &Quote, chain: Option<&Chain>) {
        let tail = &quote.signature;
        let report = &tail.qe_report;
        if let Some(key) = chain.and_then(|chain| chain.leaf().key()) {
            let signed = signature::verify_fixed(&key, &report.to_bytes(), &tail.qe_report_signature);
            let found = if signed { "valid" } else { "not valid" };
            let expected = "a valid signature of the PCK over the QE report";
            self.recorder.check(Id::QeReportSignature, signed, Fault::Evidence, expected, found);
        }
        let mut bound = Vec::with_capacity(64 + tail.qe_auth_data.len());
        bound.extend_from_slice(&tail.attestation_key);
        bound.extend_from_slice(&tail.qe_auth_data);
        let mut wanted = [0; 64];
        wanted[..32].copy_from_slice(&sha256(&bound));
        let right = report.report_data == wanted;
        let (expected, found) = (hex::encode(wanted), hex::encode(report.report_data));
        self.recorder.check(Id::QeKeyBinding, right, Fault::Evidence, expected, found);
        let zero = report.reserved_is_zero();
        let found = if zero { "zero" } else { "not zero" };
        self.recorder.check(Id::QeReserved, zero, Fault::Evidence, "zero", found);

        let Some(identity) = &self.facts.qe_identity else { return };
        let fault = Fault::Evidence;
        let right = report.mr_signer == identity.mrsigner;
        let (expected, found) = (hex::encode(identity.mrsigner), hex::encode(report.mr_signer));
        self.recorder.check(Id::QeMrsigner, right, fault, expected, found);
        let right = report.isv_prod_id == identity.isvprodid;
        let (expected, found) = (identity.isvprodid.to_string(), report.isv_prod_id.to_string());
        self.recorder.check(Id::QeIsvProdId, right, fault, expected, found);
        let (wanted, mask) = (hex::encode(identity.miscselect), hex::encode(identity.miscselect_mask));
        let found = hex::encode(report.misc_select.to_le_bytes());
        let expected = format!("{wanted} under {mask}");
        self.recorder.check(Id::QeMiscSelect, identity.fits_misc_select(report), fault, expected, found);
        let (wanted, mask) = (hex::encode(identity.attributes), hex::encode(identity.attributes_mask));
        let found = hex::encode(report.attributes.to_bytes());
        let expected = format!("{wanted} under {mask}");
        self.recorder.check(Id::QeAttributes, identity.fits_attributes(report), fault, expected, found);
        match identity.level_of(report) {
            Some(level) => {
                self.recorder.pass(Id::QeLevel, level.tcb_status.as_str());
                self.facts.qe_level = Some(level.clone());
            }
            None => {
                let lowest = identity.tcb_levels.last().map_or(0, |level| level.tcb.isvsvn);
                let (expected, found) =
                    (format!("ISVSVN of at least {lowest}"), format!("ISVSVN {}", report.isv_svn));
                self.recorder.fail(Id::QeLevel, Fault::Platform, expected, found);
            }
        }
    }

    /// The level of the TCB info that the platform reaches.
    fn platform_level(&mut self) {
        let (Some(info), Some(pck)) = (&self.facts.tcb_info, &self.facts.pck) else { return };
        match info.level_of(pck) {
            Some(level) => {
                self.recorder.pass(Id::TcbLevel, level.tcb_status.as_str());
                self.facts.tcb_level = Some(level.clone());
            }
            None => {
                let found = format!("component SVNs {:?}, PCESVN {}", pck.components, pck.pce_svn);
                self.recorder.fail(
                    Id::TcbLevel,
                    Fault::Platform,
                    "a level of the TCB info is reached",
                    found,
                );
            }
        }
    }
}

/// Whether a PCK certificate under such an anchor may be marked as simulated, or not be, as it is; and what it should be.
fn is_marked_rightly(anchor: Option<AnchorKind>, marked: bool) -> (bool, &'static str) {
    match anchor {
        Some(AnchorKind::Simulated) => (marked, "the mark of a simulator, under a simulator's root"),
        Some(AnchorKind::Intel) => (!marked, "no mark of a simulator under Intel's root"),
        Some(AnchorKind::Explicit) | None => (true, "the mark of a simulator is optional under this root"),
    }
}

/// The checks of one revocation list.
struct CrlIds {
    format: Id,
    issuer: Id,
    signature: Id,
    window: Id,
}

const ROOT_CRL: CrlIds = CrlIds {
    format: Id::RootCrlFormat,
    issuer: Id::RootCrlIssuer,
    signature: Id::RootCrlSignature,
    window: Id::RootCrlWindow,
};

const PCK_CRL: CrlIds = CrlIds {
    format: Id::PckCrlFormat,
    issuer: Id::PckCrlIssuer,
    signature: Id::PckCrlSignature,
    window: Id::PckCrlWindow,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_of_a_simulator_belongs_under_a_simulators_root() {
        for (anchor, marked, right) in [
            (Some(AnchorKind::Intel), false, true),
            (Some(AnchorKind::Intel), true, false),
            (Some(AnchorKind::Simulated), false, false),
            (Some(AnchorKind::Simulated), true, true),
            (Some(AnchorKind::Explicit), false, true),
            (Some(AnchorKind::Explicit), true, true),
            (None, true, true),
        ] {
            assert_eq!(is_marked_rightly(anchor, marked).0, right, "{anchor:?} {marked}");
        }
    }
}
