//! Where collateral comes from: a file, the evidence itself, a PCCS that somebody named, the simulator, or Intel.
//!
//! None of these is trusted: collateral is signed, and verification judges it. So the choice is one of convenience
//! and privacy (Intel's service learns which platforms are asked about), and any order is safe.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use attestation::collateral::{Collateral, MAX_LEN};
use jiff::Timestamp;
use serde::Deserialize;
use url::Url;

use crate::error::Error;

/// Intel's own service.
pub const INTEL_PCS: &str = "https://api.trustedservices.intel.com/sgx/certification/v4/";
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
    Service(Url),
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
            return service(url)
                .map(Source::Service)
                .map_err(|reason| Error::Target { given: url.to_owned(), reason });
        }
        if let Some(installation) = self.simulator {
            return Ok(Source::Simulator(installation.to_owned()));
        }
        if let Some(path) = self.qcnl
            && let Some(url) = read_qcnl(path)?
        {
            return Ok(Source::Service(url));
        }
        if self.intel {
            return service(INTEL_PCS)
                .map(Source::Service)
                .map_err(|reason| Error::Target { given: INTEL_PCS.to_owned(), reason });
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
        match self {
            Source::File(path) => read_collateral(path),
            Source::Evidence(collateral) => Ok((**collateral).clone()),
            Source::Service(url) => ask_service(url, quote, now, cache),
            Source::Simulator(installation) => ask_simulator(installation, quote, now),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Evidence(_) => f.write_str("the evidence"),
            Source::Service(url) => write!(f, "{url}"),
            Source::Simulator(_) => f.write_str("the simulator of this installation"),
        }
    }
}

fn ask_service(
    _url: &Url,
    _quote: &[u8],
    _now: Timestamp,
    _cache: Option<&Path>,
) -> Result<Collateral, Error> {
    todo!()
}

fn ask_simulator(_installation: &Path, _quote: &[u8], _now: Timestamp) -> Result<Collateral, Error> {
    todo!()
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

/// A base URL of version 4 of the interface, as PCCS and PCS have it.
fn service(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "expected the URL of a PCCS")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("a PCCS has an http or https URL");
    }
    Ok(url)
}

/// The keys of the file that matter here; there are many more.
#[derive(Deserialize)]
struct Qcnl {
    pccs_url: Option<String>,
    collateral_service: Option<String>,
}

/// The service named in a configuration file of Intel's quote provider library; `None` where there is no such file.
fn read_qcnl(path: &Path) -> Result<Option<Url>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::file("open", path, source)),
    };
    let mut text = String::new();
    file.take(LONGEST_QCNL).read_to_string(&mut text).map_err(|source| Error::file("read", path, source))?;
    qcnl_service(&text).map(Some).map_err(|reason| Error::Qcnl { path: path.to_owned(), reason })
}

/// Both forms there are: JSON with comments, and (before version 1.13 of the library) lines of `KEY=value`. A
/// `collateral_service` goes before `pccs_url`, which then serves PCK certificates only.
fn qcnl_service(text: &str) -> Result<Url, String> {
    let bare = without_comments(text);
    let named = if bare.trim_start().starts_with('{') {
        let qcnl: Qcnl = serde_json::from_str(&bare).map_err(|error| format!("it is not JSON: {error}"))?;
        qcnl.collateral_service.filter(|url| !url.is_empty()).or(qcnl.pccs_url)
    } else {
        bare.lines()
            .filter_map(|line| line.split_once('='))
            .find(|(key, _)| key.trim().eq_ignore_ascii_case("PCCS_URL"))
            .map(|(_, url)| url.trim().to_owned())
    };
    let url = named.ok_or("it has neither pccs_url nor collateral_service")?;
    service(&url).map_err(|reason| format!("'{}': {reason}", url.escape_debug()))
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

    #[test]
    fn the_shipped_configuration_with_its_comments_is_understood() {
        let shipped = r#"{
  // *** ATTENTION : This file is in JSON format so the keys are case sensitive. Don't change them.

  //PCCS server address
  "pccs_url": "https://localhost:8081/sgx/certification/v4/"

  // To accept insecure HTTPS certificate, set this option to false
  ,"use_secure_cert": true

  // You can use the Intel PCS or another PCCS to get quote verification collateral.
  //,"collateral_service": "https://api.trustedservices.intel.com/sgx/certification/v4/"

  /* "pccs_api_version": "3.1" */
  ,"retry_times": 6 # a comment of another kind
}
"#;
        assert_eq!(qcnl_service(shipped).unwrap().as_str(), "https://localhost:8081/sgx/certification/v4/");
        let another = shipped.replace("  //,\"collateral", "  ,\"collateral");
        assert_eq!(qcnl_service(&another).unwrap().as_str(), INTEL_PCS);
    }

    #[test]
    fn the_older_form_is_understood() {
        let old = "# PCCS server address\nPCCS_URL=https://localhost:8081/sgx/certification/v3/\n\nUSE_SECURE_CERT=FALSE\n";
        assert_eq!(qcnl_service(old).unwrap().as_str(), "https://localhost:8081/sgx/certification/v3/");
    }

    #[test]
    fn a_configuration_without_a_service_says_so() {
        for (text, reason) in [
            ("", "neither"),
            ("{}", "neither"),
            ("# PCCS_URL=https://localhost", "neither"),
            ("{\"pccs_url\": 7}", "not JSON"),
            ("{\"pccs_url\": \"ftp://localhost\"}", "http or https"),
            ("PCCS_URL=here", "URL of a PCCS"),
            ("{\"pccs_url\": \"https://a\"", "not JSON"),
        ] {
            let found = qcnl_service(text).unwrap_err();
            assert!(found.contains(reason), "{text}: {found}");
        }
    }

    #[test]
    fn comment_signs_in_values_are_no_comments() {
        let text = r##"{"note": "# // /* \" //", "pccs_url": "https://a.example/v4/"}"##;
        assert_eq!(qcnl_service(text).unwrap().as_str(), "https://a.example/v4/");
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
        std::fs::write(&qcnl, "{\"pccs_url\": \"https://machine.example/\"}").unwrap();
        assert_eq!(offered.choose().unwrap().to_string(), "https://machine.example/");
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
