//! A client for collateral: Intel's Provisioning Certification Service (PCS) and its caches (PCCS), API version 4.
//!
//! Four documents make up the collateral of a quote: TCB info, QE identity, and the CRLs of the PCK's CA and of the root.
//! The paths below `/sgx/certification/v4` are the same on both kinds of server; they differ in how CRLs are written (DER,
//! hex or PEM), and only a PCCS serves the root's CRL, which Intel publishes elsewhere. Format: Intel "PCS API v4" and
//! "PCCS design guide".
//!
//! Nothing that is served or cached is trusted: it is brought into the form of [`Collateral`] and judged later like any
//! other. So plain HTTP is as good as HTTPS here, except that someone on the way learns what is asked for.
//!
//! The cache is a directory of the caller's. An entry is used without asking again while neither its own next update nor
//! [`Options::max_age`] has passed, and, where the server is out of reach, up to its next update.

mod answer;
mod cache;

use crate::certificate::{Certificate, chain_from_pem};
use crate::pck::{SGX_EXTENSION, SgxExtension};
use crate::{Collateral, Error, Quote};
use answer::{Answer, Part};
use cache::Cache;
use jiff::{SignedDuration, Timestamp};
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
    /// Take any TLS certificate of the server. Its answers are not trusted either way.
    pub any_tls_certificate: bool,
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
            any_tls_certificate: false,
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
            Document::QeIdentity => &["SGX-Enclave-Identity-Issuer-Chain"],
            Document::PckCrl => &["SGX-PCK-CRL-Issuer-Chain"],
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
    /// A client of the server at `url`: `https://host[:port]`, with or without the path `/sgx/certification/v4`.
    ///
    /// # Errors
    /// [`Error::Fetch`] for an address that is not http or https, or that carries a password, a query or another path.
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
            .disable_verification(options.any_tls_certificate)
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
        Ok(Self { agent: config.build().new_agent(), base, root_crl, options, cache })
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

    /// Asks up to [`Options::attempts`] times.
    fn fetch_document(&self, document: Document, url: &Url) -> Result<Answer, Failure> {
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
        let failed = |expected: &str, found: String| Error::Fetch {
            what: document.name(),
            url: url.to_string(),
            expected: expected.to_owned(),
            found,
        };
        let out_of_reach = |error: ureq::Error| Failure::OutOfReach(failed("an answer", error.to_string()));
        let mut response = self.agent.get(url.as_str()).call().map_err(out_of_reach)?;
        let status = response.status();
        if status.is_server_error() || status.as_u16() == 429 {
            return Err(Failure::OutOfReach(failed("status 200", format!("status {status}"))));
        }
        if status.as_u16() != 200 {
            return Err(Failure::Refused(failed("status 200", format!("status {status}"))));
        }
        let header = |name: &&str| response.headers().get(*name).map(|value| value.as_bytes().to_vec());
        let chain = document.chain_headers().iter().find_map(header);
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES as u64).read_to_vec();
        match body {
            Ok(body) => Ok(Answer { body, chain: chain.unwrap_or_default() }),
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                Err(Failure::Refused(failed(&format!("at most {MAX_ANSWER_BYTES} bytes"), "more".to_owned())))
            }
            Err(error) => Err(out_of_reach(error)),
        }
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
/// [`Error::Malformed`] where the quote carries no PCK certificate that can be read.
pub fn platform_of(quote: &Quote) -> Result<([u8; 6], PckCa), Error> {
    let wrong =
        |expected: &str, found: &str| Error::malformed("PCK certificate in the quote", expected, found);
    let pem = &quote.signature.certification_data;
    let pem = pem.strip_suffix(&[0]).unwrap_or(pem);
    let chain = chain_from_pem(pem)?;
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

/// The address under which the four documents lie.
fn service_address(text: &str) -> Result<Url, Error> {
    let mut url = plain_address(text, "collateral")?;
    match url.path().trim_end_matches('/') {
        // Version 3 of the API, which configuration files of older machines name, serves older documents at the same place.
        "" | API_PATH | "/sgx/certification/v3" => url.set_path(API_PATH),
        _ => return Err(wrong_address("collateral", text, &format!("the path {API_PATH}, or none"))),
    }
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
