//! Where collateral comes from: a file, the evidence itself, a PCCS that somebody named, the simulator, or Intel.
//!
//! None of these is trusted: collateral is signed, and verification judges it. So the choice is one of convenience
//! and privacy (Intel's service learns which platforms are asked about), and any order is safe.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use attestation::certificate::{Certificate, chain_from_pem};
use attestation::collateral::{Collateral, MAX_LEN};
use attestation::pck::SIMULATION_MARKER;
use attestation::pcs::{self, INTEL_PCS, Update};
use attestation::quote::Quote;
use jiff::Timestamp;
use platform::pcs_endpoint;
use platform::simulated::Installation;
use serde::Deserialize;

use crate::error::Error;

/// Configuration of Intel's quote provider library, which names the machine's PCCS.
pub const QCNL: &str = "/etc/sgx_default_qcnl.conf";
/// No configuration file is longer, in bytes.
const LONGEST_QCNL: u64 = 64 * 1024;

/// What the caller has to offer; [`Sources::choose`] takes the first, in this order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// `--collateral`: a file with the JSON object.
    pub file: Option<&'a Path>,
    /// The collateral inside `--evidence`.
    pub evidence: Option<&'a Collateral>,
    /// `--pccs`: the URL of a PCCS.
    pub pccs: Option<&'a str>,
    /// The simulator's installation, where the quote is a simulated one.
    pub simulator: Option<&'a Path>,
    /// The configuration file of Intel's quote provider library, usually [`QCNL`].
    pub qcnl: Option<&'a Path>,
    /// Whether Intel's own service may be asked.
    pub intel: bool,
}

/// One source of collateral.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// What was in the evidence.
    Evidence(Box<Collateral>),
    /// A PCCS, or Intel's PCS.
    Service {
        /// Its base URL.
        url: String,
        /// Whether to take any TLS certificate of it, as the machine's configuration file may say. What it serves is
        /// judged either way.
        any_tls_certificate: bool,
    },
    /// The simulator's endpoint, served while it is asked.
    Simulator(PathBuf),
}

impl Sources<'_> {
    /// The first source there is; an error names what is missing.
    pub fn choose(&self) -> Result<Source, Error> {
        if let Some(path) = self.file {
            return Ok(Source::File(path.to_owned()));
        }
        if let Some(collateral) = self.evidence {
            return Ok(Source::Evidence(Box::new(collateral.clone())));
        }
        if let Some(url) = self.pccs {
            return service(url, false);
        }
        if let Some(installation) = self.simulator {
            return Ok(Source::Simulator(installation.to_owned()));
        }
        if let Some(path) = self.qcnl
            && let Some(source) = read_qcnl(path)?
        {
            return Ok(source);
        }
        if self.intel {
            return service(INTEL_PCS, false);
        }
        Err(Error::NoCollateralSource { qcnl: self.qcnl.unwrap_or(Path::new(QCNL)).to_owned() })
    }
}

impl Source {
    /// Gets the collateral for a raw quote. `cache` is a directory that may be used again and survives an outage of
    /// the service.
    pub fn collateral(
        &self,
        quote: &[u8],
        now: Timestamp,
        cache: Option<&Path>,
    ) -> Result<Collateral, Error> {
        self.collateral_of(Update::Standard, quote, now, cache)
    }

    /// As [`collateral`](Self::collateral), of this TCB recovery. Only a service is asked for one or the other: a file,
    /// evidence and the simulator have just one.
    pub fn collateral_of(
        &self,
        update: Update,
        quote: &[u8],
        now: Timestamp,
        cache: Option<&Path>,
    ) -> Result<Collateral, Error> {
        match self {
            Source::File(path) => read_collateral(path),
            Source::Evidence(collateral) => Ok((**collateral).clone()),
            Source::Service { url, any_tls_certificate } => {
                let options = pcs::Options {
                    update,
                    cache: cache.map(Path::to_owned),
                    any_tls_certificate: *any_tls_certificate,
                    ..pcs::Options::default()
                };
                ask_service(url, options, quote, now)
            }
            Source::Simulator(installation) => ask_simulator(installation, quote, now),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Evidence(_) => f.write_str("the evidence"),
            Source::Service { url, .. } => write!(f, "{url}"),
            Source::Simulator(_) => f.write_str("the simulator of this installation"),
        }
    }
}

/// Whether a raw quote says of itself that a simulator made it: its PCK certificate carries the marker. Good enough to
/// choose where to ask for collateral, and for nothing else.
pub fn says_simulated(quote: &[u8]) -> bool {
    let leaf = || {
        let quote = Quote::parse(quote).ok()?;
        let chain = &quote.signature.certification_data;
        let chain = chain_from_pem(chain.strip_suffix(&[0]).unwrap_or(chain)).ok()?;
        Certificate::parse(chain.first()?).ok()
    };
    leaf().is_some_and(|pck| pck.extension(&SIMULATION_MARKER).is_some())
}

fn ask_service(url: &str, options: pcs::Options, quote: &[u8], now: Timestamp) -> Result<Collateral, Error> {
    let failed = |error: attestation::Error| {
        let (origin, reason) = (url.to_owned(), error.to_string());
        match error {
            attestation::Error::Fetch { .. } => Error::Collateral { origin, reason },
            // It answered, and with something else.
            _ => Error::CollateralFile { origin, reason },
        }
    };
    let quote = Quote::parse(quote).map_err(failed)?;
    pcs::Client::new(url, options).and_then(|client| client.collateral_for(&quote, now)).map_err(failed)
}

/// Asks the simulator the way Intel's service is asked, so that the same code is at work.
fn ask_simulator(installation: &Path, quote: &[u8], now: Timestamp) -> Result<Collateral, Error> {
    let failed = |error: platform::Error| Error::Simulator(error.to_string());
    let installation = Installation::open(installation).map_err(failed)?;
    let endpoint = pcs_endpoint::serve(installation, pcs_endpoint::LOOPBACK).map_err(failed)?;
    ask_service(endpoint.url(), pcs::Options::default(), quote, now)
}

fn read_collateral(path: &Path) -> Result<Collateral, Error> {
    let file = |source| Error::file("read", path, source);
    let mut json = Vec::new();
    let opened = File::open(path).map_err(|source| Error::file("open", path, source))?;
    opened.take(MAX_LEN as u64 + 1).read_to_end(&mut json).map_err(file)?;
    Collateral::from_json(&json).map_err(|error| Error::CollateralFile {
        origin: path.display().to_string(),
        reason: error.to_string(),
    })
}

/// A service, if its address is one.
fn service(url: &str, any_tls_certificate: bool) -> Result<Source, Error> {
    match pcs::Client::new(url, pcs::Options::default()) {
        Ok(_) => Ok(Source::Service { url: url.to_owned(), any_tls_certificate }),
        Err(error) => Err(Error::Collateral { origin: url.to_owned(), reason: error.to_string() }),
    }
}

/// What matters here of the file; there is much more in it.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
struct Qcnl {
    pccs_url: Option<String>,
    collateral_service: Option<String>,
    use_secure_cert: Option<bool>,
}

/// The service named in a configuration file of Intel's quote provider library; `None` where there is no such file.
fn read_qcnl(path: &Path) -> Result<Option<Source>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::file("open", path, source)),
    };
    let mut text = String::new();
    file.take(LONGEST_QCNL).read_to_string(&mut text).map_err(|source| Error::file("read", path, source))?;
    qcnl_service(&text).map(Some).map_err(|reason| Error::Qcnl { path: path.to_owned(), reason })
}

/// A `collateral_service` goes before `pccs_url`, which then serves PCK certificates only.
fn qcnl_service(text: &str) -> Result<Source, String> {
    let qcnl = parse_qcnl(text)?;
    let named = qcnl.collateral_service.filter(|url| !url.is_empty()).or(qcnl.pccs_url);
    let url = named.ok_or("it has neither pccs_url nor collateral_service")?;
    service(&url, qcnl.use_secure_cert == Some(false)).map_err(|error| error.to_string())
}

/// Both forms there are: JSON with comments, and (before version 1.13 of the library) lines of `KEY=value`.
fn parse_qcnl(text: &str) -> Result<Qcnl, String> {
    let bare = without_comments(text);
    if bare.trim_start().starts_with('{') {
        return serde_json::from_str(&bare).map_err(|error| format!("it is not JSON: {error}"));
    }
    let mut qcnl = Qcnl::default();
    for (key, value) in bare.lines().filter_map(|line| line.split_once('=')) {
        let value = value.trim();
        match key.trim().to_ascii_uppercase().as_str() {
            "PCCS_URL" => qcnl.pccs_url = Some(value.to_owned()),
            "USE_SECURE_CERT" => qcnl.use_secure_cert = Some(!value.eq_ignore_ascii_case("false")),
            _ => {}
        }
    }
    Ok(qcnl)
}

/// Replaces `// ...` (not within a URL), `# ...` and `/* ... */` outside of quotes by blanks.
fn without_comments(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let (mut quoted, mut before) = (false, '\n');
    while let Some(c) = rest.next() {
        let next = rest.peek().copied();
        if quoted {
            bare.push(c);
            if c == '\\' {
                bare.extend(rest.next());
            } else if c == '"' {
                quoted = false;
            }
        } else if c == '#' || (c == '/' && next == Some('/') && before != ':') {
            while rest.next_if(|&c| c != '\n').is_some() {}
        } else if c == '/' && next == Some('*') {
            let mut last = ' ';
            for c in rest.by_ref().skip(1) {
                if last == '*' && c == '/' {
                    break;
                }
                last = c;
            }
            bare.push(' ');
        } else {
            quoted = c == '"';
            bare.push(c);
        }
        before = c;
    }
    bare
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(text: &str) -> (String, bool) {
        match qcnl_service(text).unwrap() {
            Source::Service { url, any_tls_certificate } => (url, any_tls_certificate),
            other => panic!("{other}"),
        }
    }

    const SHIPPED: &str = r#"{
  // *** ATTENTION : This file is in JSON format so the keys are case sensitive. Don't change them.

  //PCCS server address
  "pccs_url": "https://localhost:8081/sgx/certification/v4/"

  // To accept insecure HTTPS certificate, set this option to false
  ,"use_secure_cert": true

  // You can use the Intel PCS or another PCCS to get quote verification collateral.
  //,"collateral_service": "https://pcs.example/sgx/certification/v4/"

  /* "pccs_api_version": "3.1" */
  ,"retry_times": 6 # a comment of another kind
}
"#;

    #[test]
    fn the_shipped_configuration_with_its_comments_is_understood() {
        assert_eq!(named(SHIPPED), ("https://localhost:8081/sgx/certification/v4/".to_owned(), false));
        let another = SHIPPED.replace("  //,\"collateral", "  ,\"collateral");
        assert_eq!(named(&another).0, "https://pcs.example/sgx/certification/v4/");
        let insecure = SHIPPED.replace("cert\": true", "cert\": false");
        assert!(named(&insecure).1);
    }

    #[test]
    fn the_older_form_is_understood() {
        let old = "# PCCS server address\nPCCS_URL=https://localhost:8081/sgx/certification/v3/\n\nUSE_SECURE_CERT=FALSE\n";
        assert_eq!(named(old), ("https://localhost:8081/sgx/certification/v3/".to_owned(), true));
        assert!(!named(&old.replace("FALSE", "TRUE")).1);
    }

    #[test]
    fn a_configuration_without_a_service_says_so() {
        for (text, reason) in [
            ("", "neither"),
            ("{}", "neither"),
            ("# PCCS_URL=https://localhost", "neither"),
            ("{\"pccs_url\": 7}", "not JSON"),
            ("{\"pccs_url\": \"ftp://localhost\"}", "https://"),
            ("PCCS_URL=here", "an address"),
            ("{\"pccs_url\": \"https://a\"", "not JSON"),
        ] {
            let found = qcnl_service(text).unwrap_err();
            assert!(found.contains(reason), "{text}: {found}");
        }
    }

    #[test]
    fn comment_signs_in_values_are_no_comments() {
        let text = r##"{"note": "# // /* \" //", "pccs_url": "https://a.example"}"##;
        assert_eq!(named(text).0, "https://a.example");
    }

    #[test]
    fn a_quote_that_cannot_be_read_is_not_taken_for_a_simulated_one() {
        assert!(!says_simulated(b""));
        assert!(!says_simulated(&[0; 5000]));
    }

    #[test]
    fn the_first_source_offered_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let qcnl = directory.path().join("qcnl.conf");
        let offered = Sources {
            file: Some(Path::new("collateral.json")),
            evidence: None,
            pccs: Some("https://pccs.example/sgx/certification/v4/"),
            simulator: Some(Path::new("/simulator")),
            qcnl: Some(&qcnl),
            intel: false,
        };
        assert_eq!(offered.choose().unwrap(), Source::File("collateral.json".into()));
        let offered = Sources { file: None, ..offered };
        assert_eq!(offered.choose().unwrap().to_string(), "https://pccs.example/sgx/certification/v4/");
        let offered = Sources { pccs: None, ..offered };
        assert_eq!(offered.choose().unwrap(), Source::Simulator("/simulator".into()));
        let offered = Sources { simulator: None, ..offered };
        let message = offered.choose().unwrap_err().to_string();
        assert!(message.contains("--pccs") && message.contains("qcnl.conf"), "{message}");
        std::fs::write(&qcnl, "{\"pccs_url\": \"https://machine.example\"}").unwrap();
        assert_eq!(offered.choose().unwrap().to_string(), "https://machine.example");
        assert_eq!(Sources { qcnl: None, intel: true, ..offered }.choose().unwrap().to_string(), INTEL_PCS);
        std::fs::write(&qcnl, "nonsense").unwrap();
        assert!(matches!(Sources { intel: true, ..offered }.choose(), Err(Error::Qcnl { .. })));
        assert!(Sources { pccs: Some("here"), ..Sources::default() }.choose().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ -~\n\"{}/*#:=]{0,200}") {
            let _ = qcnl_service(&text);
        }
    }
}
