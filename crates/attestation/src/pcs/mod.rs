//! A client for collateral: Intel's Provisioning Certification Service (PCS) and its caches (PCCS), API version 4.
//!
//! Four documents make up the collateral of a quote: TCB info, QE identity, and the CRLs of the PCK's CA and of the root.
//! The paths below `/sgx/certification/v4` are the same on both kinds of server; they differ in how CRLs are written (DER,
//! hex, base64 or PEM), and only a PCCS serves the root's CRL, which Intel publishes elsewhere: under `rootcacrl` (version 3.0 of
//! the PCCS API) or under `crl?uri=` (3.1). Format: Intel "PCS API v4" and "PCCS design guide".
//!
//! Nothing that is served or cached is trusted: it is brought into the form of [`Collateral`] and judged later like any
//! other. So plain HTTP is as good as HTTPS here, except that someone on the way learns what is asked for.
//!
//! The cache is a directory of the caller's. An entry is used without asking again while neither its own next update nor
//! [`Options::max_age`] has passed, and, where the server is out of reach, up to its next update.

mod answer;
mod cache;
mod numbers;
mod reason;
mod tls;

pub use numbers::EvaluationNumber;
pub use tls::PinnedCertificate;

use crate::certificate::{Certificate, chain_from_pem};
use crate::pck::{SGX_EXTENSION, SgxExtension};
use crate::{Collateral, Error, Quote};
use answer::{Answer, Part};
use cache::Cache;
use jiff::{SignedDuration, Timestamp};
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;
use url::{Host, Url};

/// Intel's own service.
pub const INTEL_PCS: &str = "https://api.trustedservices.intel.com";
/// Where Intel publishes the CRL of its root, which its PCS does not serve.
pub const INTEL_ROOT_CRL: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";
/// The longest answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 2 * 1024 * 1024;
const API_PATH: &str = "/sgx/certification/v4";
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Parsers that fuzzing reaches in no other way.
#[doc(hidden)]
pub mod fuzzing {
    use super::{Answer, Document};

    /// Reads an answer, and the header with its issuer chain, as every document; says whether it is one.
    pub fn answer(body: &[u8], chain: &[u8]) -> bool {
        let answer = Answer { body: body.to_vec(), chain: chain.to_vec() };
        let documents = [Document::TcbInfo, Document::QeIdentity, Document::PckCrl, Document::RootCrl];
        documents.map(|document| answer.read(document).is_ok()).contains(&true)
    }
}

/// Which of the two CAs certified a PCK, as requests name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PckCa {
    /// For machines that registered as a platform (several packages): the servers of today.
    #[default]
    Platform,
    /// For single processors.
    Processor,
}

impl PckCa {
    /// The name in requests: `platform` or `processor`.
    pub fn as_str(self) -> &'static str {
        match self {
            PckCa::Platform => "platform",
            PckCa::Processor => "processor",
        }
    }
}

/// Which TCB recovery the answer shall know of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Update {
    /// The one that platforms are expected to have applied.
    #[default]
    Standard,
    /// The newest one, from the day it is published.
    Early,
}

/// Which TLS certificate a server may show. What it serves is not trusted either way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServerTrust {
    /// One that the system's authorities vouch for.
    #[default]
    System,
    /// This one, whatever its X.509 version, names and dates are.
    Certificate(PinnedCertificate),
    /// Any.
    Any,
}

/// How to fetch.
#[derive(Clone, Debug)]
pub struct Options {
    /// For one attempt at one document, from name resolution to the last byte.
    pub timeout: Duration,
    /// How often a document is asked for before the server counts as out of reach.
    pub attempts: u32,
    /// Pause before the second attempt; doubled before each further one.
    pub back_off: Duration,
    /// Which TCB recovery to ask for.
    pub update: Update,
    /// Where answers are kept; nowhere if absent. Made when missing.
    pub cache: Option<PathBuf>,
    /// How old a kept answer may be before the server is asked again.
    pub max_age: SignedDuration,
    /// Where the root's CRL is fetched from; [`INTEL_ROOT_CRL`] for Intel's PCS, the server itself for any other.
    pub root_crl_url: Option<String>,
    /// Which TLS certificate is taken.
    pub trust: ServerTrust,
}

impl Default for Options {
    /// 10 seconds, 3 attempts, half a second of pause, standard update, no cache, one day of age.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            attempts: 3,
            back_off: Duration::from_millis(500),
            update: Update::Standard,
            cache: None,
            max_age: SignedDuration::from_hours(24),
            root_crl_url: None,
            trust: ServerTrust::System,
        }
    }
}

/// One of the four documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Document {
    TcbInfo,
    QeIdentity,
    PckCrl,
    RootCrl,
}

impl Document {
    /// Its name in messages.
    fn name(self) -> &'static str {
        match self {
            Document::TcbInfo => "TCB info",
            Document::QeIdentity => "QE identity",
            Document::PckCrl => "PCK CRL",
            Document::RootCrl => "root CA CRL",
        }
    }

    /// The headers that can carry its issuer chain, url-encoded PEM.
    fn chain_headers(self) -> &'static [&'static str] {
        match self {
            Document::TcbInfo => &["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"],
            Document::QeIdentity => &["SGX-Enclave-Identity-Issuer-Chain", "Enclave-Identity-Issuer-Chain"],
            Document::PckCrl => &["SGX-PCK-CRL-Issuer-Chain", "PCK-CRL-Issuer-Chain"],
            Document::RootCrl => &[],
        }
    }
}

/// Collateral as it was fetched.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The collateral, not judged.
    pub collateral: Collateral,
    /// Documents that came from the cache since the server was out of reach, and why.
    pub kept: Vec<String>,
}

/// A client of one PCCS or PCS.
#[derive(Clone, Debug)]
pub struct Client {
    agent: ureq::Agent,
    base: Url,
    root_crl: Option<Url>,
    options: Options,
    cache: Option<Cache>,
}

impl Client {
    /// A client of the server at `url`: `https://host[:port][/prefix]`, with or without the path `/sgx/certification/v4`
    /// (or an older version, as configuration files of older machines have it) at its end.
    ///
    /// # Errors
    /// [`Error::Fetch`] for an address that is not http or https, that carries a password or a query, or that is the address of
    /// one document.
    pub fn new(url: &str, options: Options) -> Result<Self, Error> {
        let base = service_address(url)?;
        let intel = Url::parse(INTEL_PCS).is_ok_and(|intel| intel.host() == base.host());
        let root_crl = match (&options.root_crl_url, intel) {
            (Some(url), _) => Some(plain_address(url, "root CA CRL")?),
            (None, true) => Some(plain_address(INTEL_ROOT_CRL, "root CA CRL")?),
            (None, false) => None,
        };
        let tls = ureq::tls::TlsConfig::builder()
            .root_certs(ureq::tls::RootCerts::PlatformVerifier)
            .disable_verification(options.trust == ServerTrust::Any)
            .build();
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_response_header_size(MAX_HEADER_BYTES)
            .timeout_global(Some(options.timeout))
            .user_agent("mse")
            .tls_config(tls);
        if is_loopback(&base) {
            config = config.proxy(None);
        }
        let cache = options.cache.clone().map(Cache::new);
        let agent = match &options.trust {
            ServerTrust::Certificate(pin) => {
                tls::agent(config.build(), pin).map_err(|error| Error::Fetch {
                    what: "collateral",
                    url: base.to_string(),
                    expected: "a TLS client".to_owned(),
                    found: error.to_string(),
                })?
            }
            ServerTrust::System | ServerTrust::Any => config.build().new_agent(),
        };
        Ok(Self { agent, base, root_crl, options, cache })
    }

    /// The collateral for a quote, by the FMSPC and CA that its PCK certificate names. `at` is the present time, against
    /// which the cache is measured.
    ///
    /// # Errors
    /// [`Error::Malformed`] where the quote has no readable PCK certificate or the server's answer is not collateral;
    /// [`Error::Fetch`] where the server is out of reach (and the cache cannot help) or says no.
    pub fn collateral_for(&self, quote: &Quote, at: Timestamp) -> Result<Collateral, Error> {
        let (fmspc, ca) = platform_of(quote)?;
        Ok(self.fetch(fmspc, ca, at)?.collateral)
    }

    /// The collateral for platforms of one FMSPC whose PCKs `ca` certified, and where it came from.
    ///
    /// # Errors
    /// As [`Self::collateral_for`].
    pub fn fetch(&self, fmspc: [u8; 6], ca: PckCa, at: Timestamp) -> Result<Fetched, Error> {
        let mut kept = Vec::new();
        let mut part = |document| self.part(document, fmspc, ca, at, &mut kept);
        let tcb_info = part(Document::TcbInfo)?;
        let qe_identity = part(Document::QeIdentity)?;
        let pck_crl = part(Document::PckCrl)?;
        let root_crl = part(Document::RootCrl)?;
        let collateral = Collateral {
            pck_crl_issuer_chain: pck_crl.chain,
            root_ca_crl: root_crl.text,
            pck_crl: pck_crl.text,
            tcb_info_issuer_chain: tcb_info.chain,
            tcb_info: tcb_info.text,
            tcb_info_signature: tcb_info.signature,
            qe_identity_issuer_chain: qe_identity.chain,
            qe_identity: qe_identity.text,
            qe_identity_signature: qe_identity.signature,
        };
        Ok(Fetched { collateral, kept })
    }

    /// One document: kept and fresh, else fetched, else kept and not yet past its next update.
    fn part(
        &self,
        document: Document,
        fmspc: [u8; 6],
        ca: PckCa,
        at: Timestamp,
        kept: &mut Vec<String>,
    ) -> Result<Part, Error> {
        let url = self.address(document, fmspc, ca);
        let entry = self.cache.as_ref().and_then(|cache| cache.load(document, &url));
        if let Some(entry) = &entry
            && entry.fetched_at <= at
            && at < entry.part.next_update
            && at.duration_since(entry.fetched_at) < self.options.max_age
        {
            return Ok(entry.part.clone());
        }
        let refusal = match self.fetch_document(document, &url) {
            Ok(answer) => {
                let part = answer.read(document)?;
                if let Some(cache) = &self.cache {
                    cache.store(&url, &answer, at);
                }
                return Ok(part);
            }
            Err(Failure::Refused(error)) => return Err(error),
            Err(Failure::OutOfReach(error)) => error,
        };
        match entry.filter(|entry| at < entry.part.next_update) {
            Some(entry) => {
                kept.push(format!("{} of {}: {refusal}", document.name(), entry.fetched_at));
                Ok(entry.part)
            }
            None => Err(refusal),
        }
    }

    /// Where a document is.
    fn address(&self, document: Document, fmspc: [u8; 6], ca: PckCa) -> Url {
        if let (Document::RootCrl, Some(url)) = (document, &self.root_crl) {
            return url.clone();
        }
        let mut url = self.base.clone();
        let path = match document {
            Document::TcbInfo => "tcb",
            Document::QeIdentity => "qe/identity",
            Document::PckCrl => "pckcrl",
            Document::RootCrl => "rootcacrl",
        };
        url.set_path(&format!("{}/{path}", url.path()));
        if document == Document::TcbInfo {
            url.query_pairs_mut().append_pair("fmspc", &hex::encode_upper(fmspc));
        }
        if document == Document::PckCrl {
            url.query_pairs_mut().append_pair("ca", ca.as_str()).append_pair("encoding", "der");
        }
        // `standard` is the default of every server; older ones know no other.
        if matches!(document, Document::TcbInfo | Document::QeIdentity)
            && self.options.update == Update::Early
        {
            url.query_pairs_mut().append_pair("update", "early");
        }
        url
    }

    /// Asks; for the root's CRL also as version 3.1 of the PCCS API has it, where a PCCS does not know the older way.
    fn fetch_document(&self, document: Document, url: &Url) -> Result<Answer, Failure> {
        let asked = self.ask_patiently(document, url);
        if document != Document::RootCrl
            || self.root_crl.is_some()
            || !matches!(asked, Err(Failure::Refused(_)))
        {
            return asked;
        }
        let mut other = self.base.clone();
        other.set_path(&format!("{}/crl", other.path()));
        other.query_pairs_mut().append_pair("uri", INTEL_ROOT_CRL);
        // Where both say no, the first answer is that of the usual way.
        self.ask_patiently(document, &other).or(asked)
    }

    /// Asks up to [`Options::attempts`] times.
    fn ask_patiently(&self, document: Document, url: &Url) -> Result<Answer, Failure> {
        let mut pause = self.options.back_off;
        let mut attempt = 1;
        loop {
            match self.ask(document, url) {
                Err(Failure::OutOfReach(_)) if attempt < self.options.attempts => {}
                done => return done,
            }
            attempt += 1;
            std::thread::sleep(pause);
            pause = pause.saturating_mul(2);
        }
    }

    /// Asks once.
    fn ask(&self, document: Document, url: &Url) -> Result<Answer, Failure> {
        let (body, headers) = self.get(document.name(), url)?;
        let header = |name: &&str| headers.get(*name).map(|value| value.as_bytes().to_vec());
        let chain = document.chain_headers().iter().find_map(header);
        Ok(Answer { body, chain: chain.unwrap_or_default() })
    }

    /// One request: the body, unpacked, and the headers of an answer with status 200.
    fn get(&self, what: &'static str, url: &Url) -> Result<(Vec<u8>, ureq::http::HeaderMap), Failure> {
        let failed = |expected: &str, found: String| Error::Fetch {
            what,
            url: url.to_string(),
            expected: expected.to_owned(),
            found,
        };
        let out_of_reach = |error: ureq::Error| match bad_certificate(&error) {
            Some(found) => Failure::Refused(Error::ServerCertificate {
                what,
                url: url.to_string(),
                expected: self.options.trust.expected().to_owned(),
                found,
            }),
            None => Failure::OutOfReach(failed("an answer", error.to_string())),
        };
        let response = self.agent.get(url.as_str()).call().map_err(out_of_reach)?;
        let (head, mut body) = response.into_parts();
        let status = head.status.as_u16();
        if status != 200 {
            // A reason that cannot be read is no reason.
            let mut said = Vec::new();
            let _ = body.as_reader().take(reason::READ).read_to_end(&mut said);
            let encoding = head.headers.get("content-encoding").map(|value| value.as_bytes());
            let said = answer::unpack(said, encoding).unwrap_or_default();
            let refusal = failed("status 200", reason::of(head.status, &head.headers, &said));
            return Err(match head.status.is_server_error() || status == 429 {
                true => Failure::OutOfReach(refusal),
                false => Failure::Refused(refusal),
            });
        }
        let body = match body.with_config().limit(MAX_ANSWER_BYTES as u64).read_to_vec() {
            Ok(body) => body,
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                let refusal = failed(&format!("at most {MAX_ANSWER_BYTES} bytes"), "more".to_owned());
                return Err(Failure::Refused(refusal));
            }
            Err(error) => return Err(out_of_reach(error)),
        };
        let encoding = head.headers.get("content-encoding").map(|value| value.as_bytes());
        let body = answer::unpack(body, encoding)
            .map_err(|(expected, found)| Failure::Refused(failed(&expected, found)))?;
        Ok((body, head.headers))
    }
}

impl ServerTrust {
    /// Which certificate would do, in words.
    fn expected(&self) -> &'static str {
        match self {
            ServerTrust::System => "a TLS certificate that an authority of this system vouches for",
            ServerTrust::Certificate(_) => "the TLS certificate that was named",
            ServerTrust::Any => "a TLS certificate whose key signs the handshake",
        }
    }
}

/// What is wrong with the server's certificate, if that is the error.
fn bad_certificate(error: &ureq::Error) -> Option<String> {
    let found = match error {
        ureq::Error::Rustls(found) => found,
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref::<rustls::Error>()?,
        _ => return None,
    };
    match found {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(reason)) => {
            Some(reason.0.to_string())
        }
        rustls::Error::InvalidCertificate(reason) => Some(reason.to_string()),
        _ => None,
    }
}

/// Why a document was not fetched.
enum Failure {
    /// No answer, or one that says to come again: asking later can help, and so can the cache.
    OutOfReach(Error),
    /// An answer that will stay the same.
    Refused(Error),
}

/// FMSPC and CA of the machine that made a quote, as its own PCK certificate says: nothing of that is verified here.
///
/// # Errors
/// [`Error::NoPckCertificate`] where the quote carries no PCK certificate chain, [`Error::Malformed`] where it cannot be
/// read.
pub fn platform_of(quote: &Quote) -> Result<([u8; 6], PckCa), Error> {
    let wrong =
        |expected: &str, found: &str| Error::malformed("PCK certificate in the quote", expected, found);
    let chain = chain_from_pem(quote.pck_chain()?)?;
    let leaf = chain.first().ok_or_else(|| wrong("a certificate", "none"))?;
    let pck = Certificate::parse(leaf)?;
    let extension = pck.extension(&SGX_EXTENSION).ok_or_else(|| wrong("the SGX extension", "none"))?;
    let issuer = crate::certificate::common_name(pck.issuer()).unwrap_or_default();
    let ca = match issuer.as_str() {
        name if name.ends_with("PCK Platform CA") => PckCa::Platform,
        name if name.ends_with("PCK Processor CA") => PckCa::Processor,
        name => return Err(wrong("the issuer PCK Platform CA or PCK Processor CA", name)),
    };
    Ok((SgxExtension::parse(extension)?.fmspc, ca))
}

/// The address under which the four documents lie: below a prefix, where a proxy puts a PCCS there. The older versions of the
/// API, which configuration files of older machines name, are served at the same place.
fn service_address(text: &str) -> Result<Url, Error> {
    let mut url = plain_address(text, "collateral")?;
    let path = url.path().trim_end_matches('/').to_owned();
    let versions = [API_PATH, "/sgx/certification/v3", "/sgx/certification/v2", "/sgx/certification/v1"];
    let prefix = versions.iter().find_map(|version| path.strip_suffix(version)).unwrap_or(&path);
    if prefix.contains("/certification/") || prefix.ends_with("/certification") {
        let expected = format!("an address that ends in {API_PATH}, or before it");
        return Err(wrong_address("collateral", text, &expected));
    }
    url.set_path(&format!("{}{API_PATH}", prefix.trim_end_matches('/')));
    Ok(url)
}

/// An http(s) address without password, query and fragment.
fn plain_address(text: &str, what: &'static str) -> Result<Url, Error> {
    let url =
        Url::parse(text).map_err(|error| wrong_address(what, text, &format!("an address ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(wrong_address(what, text, "an address that starts with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong_address(what, "(not shown)", "an address without user name and password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong_address(what, text, "an address without query and fragment"));
    }
    Ok(url)
}

fn wrong_address(what: &'static str, url: &str, expected: &str) -> Error {
    Error::Fetch { what, url: url.to_owned(), expected: expected.to_owned(), found: "another address".into() }
}

/// A server on this machine is never asked through a proxy.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests;
