//! The configuration file of Intel's quote provider library, which names a machine's PCCS.
//!
//! Trusts the file as far as an address can be trusted: what is served there is judged. Two formats: JSON with comments,
//! read by Intel's library with RapidJSON, and, before version 1.13 of DCAP, lines of `KEY=value`. Read as Intel's reader does
//! (`qcnl_config.cpp`): names count in lower case for JSON and in capitals for lines, of a doubled JSON name the first counts
//! and of a doubled line the last, a value of the wrong type is passed over, and so is everything else in the file. Beyond
//! Intel's, a byte order mark and comments with `#` are read in JSON. Retries, local addresses and cache times are the
//! library's own affair.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use attestation::pcs::Update;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::error::Error;

/// Where the file is, unless [`VARIABLE`] says otherwise.
pub const DEFAULT: &str = "/etc/sgx_default_qcnl.conf";
/// The environment variable that names another file, for Intel's library as for this reader.
pub const VARIABLE: &str = "QCNL_CONF_PATH";
/// No configuration file is longer, in bytes.
pub const MAX_LEN: usize = 65_536;

/// What matters here of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Qcnl {
    /// `pccs_url`: the PCCS, for PCK certificates and for all that has no service of its own.
    pub pccs_url: Option<String>,
    /// `collateral_service`: goes before `pccs_url` where collateral is concerned.
    pub collateral_service: Option<String>,
    /// `use_secure_cert`: where false, any TLS certificate is taken.
    pub use_secure_cert: Option<bool>,
    /// `tcb_update_type`.
    pub tcb_update: Option<Update>,
}

impl Qcnl {
    /// Reads the content of a file. The cost is linear in its length.
    ///
    /// # Errors
    /// What is wrong with it, in words: longer than [`MAX_LEN`], not in UTF-8, JSON that is none, a `tcb_update_type` that is
    /// neither `early` nor `standard`.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MAX_LEN {
            return Err(format!("it is longer than {MAX_LEN} bytes"));
        }
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            return Err("it is in UTF-16: save it in UTF-8".to_owned());
        }
        // A comment may be in whatever encoding; an address is ASCII.
        let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
        let bare = without_comments(&text);
        if !bare.trim_start().starts_with('{') {
            return from_lines(&text);
        }
        let json: Json = serde_json::from_str(&bare).map_err(|error| format!("it is not JSON: {error}"))?;
        json.read()
    }

    /// The address that collateral comes from.
    pub fn service(&self) -> Option<&str> {
        let named = |url: &'_ &String| !url.is_empty();
        let service = self.collateral_service.as_ref().filter(named);
        service.or(self.pccs_url.as_ref().filter(named)).map(String::as_str)
    }
}

/// Where this process looks for the file: where [`VARIABLE`] says, else at [`DEFAULT`].
pub fn place() -> PathBuf {
    let named = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
    named.map_or_else(|| DEFAULT.into(), PathBuf::from)
}

/// Reads a file; `None` where there is none.
///
/// # Errors
/// [`Error::File`] and [`Error::Qcnl`].
pub fn read(path: &Path) -> Result<Option<Qcnl>, Error> {
    let wrong = |reason: String| Error::Qcnl { path: path.to_owned(), reason };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::file("open", path, source)),
        // Opening a FIFO would wait for somebody who writes.
        Ok(metadata) if !metadata.is_file() => return Err(wrong("it is no regular file".to_owned())),
        Ok(_) => {}
    }
    let file = File::open(path).map_err(|source| Error::file("open", path, source))?;
    let mut bytes = Vec::new();
    file.take(MAX_LEN as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::file("read", path, source))?;
    Qcnl::parse(&bytes).map(Some).map_err(wrong)
}

/// The first value of each name that matters.
#[derive(Default)]
struct Json([Option<Value>; 4]);

impl Json {
    const NAMES: [&'static str; 4] = ["pccs_url", "collateral_service", "use_secure_cert", "tcb_update_type"];

    fn read(self) -> Result<Qcnl, String> {
        let [pccs_url, collateral_service, use_secure_cert, tcb_update] = self.0;
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        Ok(Qcnl {
            pccs_url: text(pccs_url),
            collateral_service: text(collateral_service),
            use_secure_cert: use_secure_cert.and_then(|value| value.as_bool()),
            tcb_update: text(tcb_update).map(|text| update(&text)).transpose()?,
        })
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut json = Json::default();
                while let Some(name) = map.next_key::<String>()? {
                    let place = Json::NAMES.iter().position(|known| *known == name);
                    match place.and_then(|place| json.0.get_mut(place)).filter(|first| first.is_none()) {
                        Some(first) => *first = Some(map.next_value()?),
                        None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(json)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

fn from_lines(text: &str) -> Result<Qcnl, String> {
    let mut qcnl = Qcnl::default();
    for line in text.lines() {
        // Intel's reader takes all white space out of a line.
        let line: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        let content = line.split_once('#').map_or(line.as_str(), |(content, _)| content);
        let Some((key, value)) = content.split_once('=') else { continue };
        match key {
            "PCCS_URL" => qcnl.pccs_url = Some(value.to_owned()),
            "COLLATERAL_SERVICE" => qcnl.collateral_service = Some(value.to_owned()),
            "USE_SECURE_CERT" if value.eq_ignore_ascii_case("false") => qcnl.use_secure_cert = Some(false),
            "TCB_UPDATE_TYPE" => qcnl.tcb_update = Some(update(value)?),
            _ => {}
        }
    }
    Ok(qcnl)
}

fn update(text: &str) -> Result<Update, String> {
    match text.to_ascii_lowercase().as_str() {
        "early" => Ok(Update::Early),
        "standard" => Ok(Update::Standard),
        _ => Err("its tcb_update_type is neither early nor standard".to_owned()),
    }
}

/// JSON with `// ...`, `# ...` and `/* ... */` outside of strings replaced by blanks.
fn without_comments(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = rest.next() {
        let next = rest.peek().copied();
        if quoted {
            bare.push(c);
            if c == '\\' {
                bare.extend(rest.next());
            } else if c == '"' {
                quoted = false;
            }
        } else if c == '#' || (c == '/' && next == Some('/')) {
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
    }
    bare
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHIPPED: &str = r#"{
  // *** ATTENTION : This file is in JSON format so the keys are case sensitive. Don't change them.

  //PCCS server address
  "pccs_url": "https://localhost:8081/sgx/certification/v4/"

  // To accept insecure HTTPS certificate, set this option to false
  ,"use_secure_cert": true

  // You can use the Intel PCS or another PCCS to get quote verification collateral.
  //,"collateral_service": "https://pcs.example/sgx/certification/v4/"

  //, "tcb_update_type" : "standard"

  /* "pccs_api_version": "3.1" */
  ,"retry_times": 6 # a comment of another kind

  // Add your customized request options here.
  //, "custom_request_options" : { "get_cert" : { "headers": { "head1": "value1" } } }
}
"#;

    fn parsed(text: &str) -> Qcnl {
        Qcnl::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_shipped_configuration_with_its_comments_is_understood() {
        let found = parsed(SHIPPED);
        assert_eq!(found.service(), Some("https://localhost:8081/sgx/certification/v4/"));
        assert_eq!((found.use_secure_cert, found.tcb_update), (Some(true), None));
        let another = SHIPPED.replace("  //,\"collateral", "  ,\"collateral").replace("//, \"tcb", ", \"tcb");
        let found = parsed(&another);
        assert_eq!(found.service(), Some("https://pcs.example/sgx/certification/v4/"));
        assert_eq!(found.tcb_update, Some(Update::Standard));
        assert_eq!(parsed(&SHIPPED.replace("cert\": true", "cert\": false")).use_secure_cert, Some(false));
    }

    #[test]
    fn what_editors_and_intels_reader_allow_is_allowed() {
        let url = "https://a.example/sgx/certification/v4/";
        for text in [
            format!("\u{feff}{{\"pccs_url\": \"{url}\"}}"),
            format!("{{\"pccs_url\":// where\n \"{url}\"}}"),
            format!("{{\"pccs_url\":/* http:// */\"{url}\"}}"),
            format!("{{\"pccs_url\":# where\n\"{url}\"}}"),
            format!("{{\"pccs_url\": \"{url}\", \"pccs_url\": \"https://b.example\"}}"),
            format!("// first\n/* {{ */ {{\r\n\"pccs_url\":\r\n\"{url}\"\r\n}}\r\n// last"),
            format!("{{\"note\": \"# // /* \\\" //\", \"pccs_url\": \"{url}\"}}"),
            format!(
                "{{\"x\": {{\"pccs_url\": 1, \"pccs_url\": 2}}, \"PCCS_URL\": 3, \"pccs_url\": \"{url}\"}}"
            ),
            format!("PCCS_URL=https://b.example\nPCCS_URL = {url} # where"),
            format!("\u{feff}# PCCS\r\n\r\nPCCS_URL={url}\r\npccs_url=no\r\nUSE_SECURE_CERT=TRUE\r\n"),
        ] {
            assert_eq!(parsed(&text), Qcnl { pccs_url: Some(url.into()), ..Qcnl::default() }, "{text}");
        }
        // The first of a doubled name counts even where its type is wrong.
        assert_eq!(parsed(r#"{"pccs_url": 7, "pccs_url": "https://a.example"}"#), Qcnl::default());
        let latin = b"{\"pccs_url\": \"https://a.example\" // f\xfcr uns\n}";
        assert_eq!(Qcnl::parse(latin).unwrap().service(), Some("https://a.example"));
    }

    #[test]
    fn the_older_form_is_understood() {
        let old = "# PCCS server address\nPCCS_URL=https://localhost:8081/sgx/certification/v3/\n\nUSE_SECURE_CERT=FALSE\n";
        let found = parsed(old);
        assert_eq!(found.service(), Some("https://localhost:8081/sgx/certification/v3/"));
        assert_eq!(found.use_secure_cert, Some(false));
        assert_eq!(parsed(&old.replace("FALSE", "TRUE")).use_secure_cert, None);
        let with_service = format!("{old}COLLATERAL_SERVICE=https://pcs.example//v4/\nRETRY_TIMES=6\n");
        assert_eq!(parsed(&with_service).service(), Some("https://pcs.example//v4/"));
    }

    #[test]
    fn what_intels_reader_refuses_is_refused() {
        for (bytes, reason) in [
            (&b"{\"pccs_url\": \"https://a\""[..], "not JSON"),
            (b"{\"pccs_url\": \"https://a\",}", "not JSON"),
            (b"{\"pccs_url\": \"https://a\"} {}", "not JSON"),
            (b"{\"pccs_url\": 'https://a'}", "not JSON"),
            (b"{ /* \"pccs_url\": \"https://a\"}", "not JSON"),
            (b"{\"tcb_update_type\": \"newest\"}", "neither early nor standard"),
            (b"\xff\xfe{\0}\0", "UTF-16"),
        ] {
            let found = Qcnl::parse(bytes).unwrap_err();
            assert!(found.contains(reason), "{found}");
        }
        assert!(Qcnl::parse(&vec![b' '; MAX_LEN + 1]).unwrap_err().contains("longer"));
        assert_eq!(Qcnl::parse(&vec![b' '; MAX_LEN]).unwrap(), Qcnl::default());
        assert!(Qcnl::parse(&[b'{', b'"'].repeat(MAX_LEN / 2)).is_err());
        assert!(Qcnl::parse(format!("{{\"x\":{}", "[".repeat(60_000)).as_bytes()).is_err(), "deep");
    }

    #[test]
    fn only_a_regular_file_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(read(directory.path()), Err(Error::Qcnl { .. })));
        assert!(matches!(read(Path::new("/dev/zero")), Err(Error::Qcnl { .. })));
        assert!(read(&directory.path().join("none")).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(text in "[ -~\n\"{}/*#:=\u{feff}é]{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Qcnl::parse(text.as_bytes());
            let _ = Qcnl::parse(&bytes);
        }

        #[test]
        fn comments_anywhere_change_nothing(comment in "[ -~]{0,20}", place in 0usize..4) {
            let comment = format!(" //{comment}\n");
            let mut gaps = [""; 4];
            gaps[place] = &comment;
            let [a, b, c, d] = gaps;
            let text = format!("{a}{{{b}\"pccs_url\":{c}\"https://a.example\"{d}}}");
            let found = parsed(&text);
            prop_assert_eq!(found.service(), Some("https://a.example"));
        }
    }
}
