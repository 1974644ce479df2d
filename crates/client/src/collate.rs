//! Where collateral comes from: a file, the evidence itself, a PCCS that somebody named, the simulator, the machine's
//! configuration, or Intel.
//!
//! None of these is trusted: collateral is signed, and verification judges it. So the choice is one of convenience
//! and privacy (Intel's service learns which platforms are asked about), and any order is safe. Whoever supplies it chooses
//! among the sets that are current, the mildest included: see [`crate::evaluation`].

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use attestation::certificate::{Certificate, chain_from_pem};
use attestation::collateral::{Collateral, MAX_LEN};
use attestation::pck::SIMULATION_MARKER;
use attestation::pcs::{self, EvaluationNumber, INTEL_PCS, ServerTrust, Update};
use attestation::quote::Quote;
use jiff::Timestamp;
use platform::pcs_endpoint;
use platform::simulated::Installation;

use crate::error::Error;
use crate::qcnl::{self, Qcnl};

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
    /// The configuration file of Intel's quote provider library, usually [`qcnl::place`].
    pub qcnl: Option<&'a Path>,
    /// Which TLS certificate a PCCS may show, where the caller says so.
    pub trust: Option<&'a ServerTrust>,
    /// Which TCB recovery a service is asked for, where the caller says so.
    pub update: Option<Update>,
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
        /// Which TLS certificate it may show, as the caller or the machine's configuration says. What it serves is judged
        /// either way.
        trust: ServerTrust,
        /// The TCB recovery to ask for.
        update: Update,
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
            return self.service(url, None, None);
        }
        if let Some(installation) = self.simulator {
            return Ok(Source::Simulator(installation.to_owned()));
        }
        if let Some(path) = self.qcnl
            && let Some(configured) = qcnl::read(path)?
        {
            return self.configured(&configured).map_err(|error| Error::Qcnl {
                path: path.to_owned(),
                reason: match error {
                    Error::Collateral { reason, .. } => reason,
                    other => other.to_string(),
                },
            });
        }
        if self.intel {
            return Sources { trust: None, ..*self }.service(INTEL_PCS, None, None);
        }
        Err(Error::NoCollateralSource { qcnl: self.qcnl.map_or_else(qcnl::place, Path::to_owned) })
    }

    /// The service of a configuration file.
    fn configured(&self, qcnl: &Qcnl) -> Result<Source, Error> {
        let url = qcnl.service().ok_or_else(|| Error::Collateral {
            origin: String::new(),
            reason: "it has neither pccs_url nor collateral_service".to_owned(),
        })?;
        let any = (qcnl.use_secure_cert == Some(false)).then_some(ServerTrust::Any);
        self.service(url, any, qcnl.tcb_update)
    }

    /// A service, if its address is one. What the caller says goes before what is configured.
    fn service(
        &self,
        url: &str,
        trust: Option<ServerTrust>,
        update: Option<Update>,
    ) -> Result<Source, Error> {
        match pcs::Client::new(url, pcs::Options::default()) {
            Ok(_) => Ok(Source::Service {
                url: url.to_owned(),
                trust: self.trust.cloned().or(trust).unwrap_or_default(),
                update: self.update.or(update).unwrap_or_default(),
            }),
            Err(error) => Err(Error::Collateral { origin: url.to_owned(), reason: error.to_string() }),
        }
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
        match self {
            Source::File(path) => read_collateral(path),
            Source::Evidence(collateral) => Ok((**collateral).clone()),
            Source::Service { url, trust, update } => {
                let options = pcs::Options {
                    update: *update,
                    cache: cache.map(Path::to_owned),
                    trust: trust.clone(),
                    ..pcs::Options::default()
                };
                ask_service(url, options, quote, now)
            }
            Source::Simulator(installation) => ask_simulator(installation, quote, now),
        }
    }

    /// The newest set of TCB info and QE identity that a service says is current; `None` where it does not say, or where
    /// the source is none. Nothing may be accepted on its word.
    pub fn newest_set(&self) -> Option<EvaluationNumber> {
        let Source::Service { url, trust, .. } = self else { return None };
        let options = pcs::Options {
            timeout: std::time::Duration::from_secs(5),
            attempts: 1,
            trust: trust.clone(),
            ..pcs::Options::default()
        };
        let numbers = pcs::Client::new(url, options).ok()?.evaluation_numbers().ok()?;
        numbers.into_iter().max_by_key(|set| set.number)
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
        let chain = chain_from_pem(quote.pck_chain().ok()?).ok()?;
        Certificate::parse(chain.first()?).ok()
    };
    leaf().is_some_and(|pck| pck.extension(&SIMULATION_MARKER).is_some())
}

fn ask_service(url: &str, options: pcs::Options, quote: &[u8], now: Timestamp) -> Result<Collateral, Error> {
    // What is wrong with the quote is no fault of the service, which is not asked then.
    let about_the_quote = |error: attestation::Error| Error::NoPlatform(error.to_string());
    let quote = Quote::parse(quote).map_err(about_the_quote)?;
    let (fmspc, ca) = pcs::platform_of(&quote).map_err(about_the_quote)?;
    let fetched = pcs::Client::new(url, options).and_then(|client| client.fetch(fmspc, ca, now));
    fetched.map(|fetched| fetched.collateral).map_err(|error| {
        let (origin, reason) = (url.to_owned(), error.to_string());
        match error {
            attestation::Error::Fetch { .. } => Error::Collateral { origin, reason },
            attestation::Error::ServerCertificate { .. } => Error::UntrustedService { origin, reason },
            // It answered, and with something else.
            _ => Error::CollateralFile { origin, reason },
        }
    })
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
    let wrong = |reason: String| Error::CollateralFile { origin: path.display().to_string(), reason };
    // Opening a FIFO would wait for somebody who writes.
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(wrong("expected a regular file".to_owned()));
    }
    let mut json = Vec::new();
    let opened = File::open(path).map_err(|source| Error::file("open", path, source))?;
    opened.take(MAX_LEN as u64 + 1).read_to_end(&mut json).map_err(file)?;
    Collateral::from_json(&json).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{BufRead, BufReader, Write};

    use super::*;

    /// The service that a configuration file of this text names.
    fn configured(text: &str, sources: Sources<'_>) -> Result<(String, ServerTrust, Update), Error> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("qcnl.conf");
        std::fs::write(&path, text).unwrap();
        match (Sources { qcnl: Some(&path), ..sources }).choose()? {
            Source::Service { url, trust, update } => Ok((url, trust, update)),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_configuration_names_service_certificate_and_recovery_and_the_caller_overrules_it() {
        let text =
            r#"{"pccs_url": "https://a.example", "use_secure_cert": false, "tcb_update_type": "Early"}"#;
        let found = configured(text, Sources::default()).unwrap();
        assert_eq!(found, ("https://a.example".to_owned(), ServerTrust::Any, Update::Early));
        let sources = Sources {
            trust: Some(&ServerTrust::System),
            update: Some(Update::Standard),
            ..Sources::default()
        };
        let found = configured(text, sources).unwrap();
        assert_eq!(found, ("https://a.example".to_owned(), ServerTrust::System, Update::Standard));
        // What the file says is said of its own service.
        let sources = Sources { pccs: Some("https://b.example"), ..Sources::default() };
        let found = configured(text, sources).unwrap();
        assert_eq!(found, ("https://b.example".to_owned(), ServerTrust::System, Update::Standard));
    }

    #[test]
    fn intels_own_service_needs_no_leave_for_its_certificate() {
        let source = Sources { trust: Some(&ServerTrust::Any), intel: true, ..Sources::default() };
        assert!(matches!(source.choose().unwrap(), Source::Service { trust: ServerTrust::System, .. }));
    }

    #[test]
    fn a_configuration_without_a_service_says_so() {
        for (text, reason) in [
            ("", "neither"),
            ("{}", "neither"),
            ("# PCCS_URL=https://localhost", "neither"),
            ("{\"pccs_url\": 7}", "neither"),
            ("{\"pccs_url\": \"ftp://localhost\"}", "https://"),
            ("PCCS_URL=here", "an address"),
            ("{\"pccs_url\": \"https://a\"", "not JSON"),
        ] {
            let found = configured(text, Sources { intel: true, ..Sources::default() }).unwrap_err();
            assert!(
                matches!(&found, Error::Qcnl { .. }) && found.to_string().contains(reason),
                "{text}: {found}"
            );
        }
    }

    #[test]
    fn the_newest_set_that_a_service_lists_is_known() {
        let set = |number: u32| {
            format!(
                r#"{{"tcbEvaluationDataNumber":{number},"tcbRecoveryEventDate":"2025-05-13T00:00:00Z","tcbDate":"2025-05-14T00:00:00Z"}}"#
            )
        };
        let list = format!(
            r#"{{"tcbEvaluationDataNumbers":{{"id":"SGX","tcbEvalNumbers":[{},{}]}},"signature":""}}"#,
            set(18),
            set(19)
        );
        for (body, expected) in [(list.as_str(), Some(19)), ("{}", None)] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/prefix", listener.local_addr().unwrap());
            let body = body.to_owned();
            let asked = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
                line
            });
            let source = Sources { pccs: Some(&url), ..Sources::default() }.choose().unwrap();
            assert_eq!(source.newest_set().map(|set| set.number), expected);
            let line = asked.join().unwrap();
            assert!(line.starts_with("GET /prefix/sgx/certification/v4/tcbevaluationdatanumbers "), "{line}");
        }
        assert_eq!(Source::File("collateral.json".into()).newest_set(), None);
    }

    #[test]
    fn only_a_regular_file_is_collateral() {
        let directory = tempfile::tempdir().unwrap();
        for path in [directory.path(), Path::new("/dev/zero")] {
            let error = read_collateral(path).unwrap_err();
            assert!(matches!(&error, Error::CollateralFile { .. }), "{error}");
        }
        assert!(matches!(read_collateral(&directory.path().join("none")), Err(Error::File { .. })));
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
            ..Sources::default()
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
}
