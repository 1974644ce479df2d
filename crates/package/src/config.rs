//! `mse.toml`, and the node configuration that follows from it.
//!
//! `mse.toml` is written by the code provider and travels in the package; [`NodeConfig`] is the part
//! of it that shapes the node's behaviour. It is rendered as canonical JSON into the manifest's
//! `loader.env.MSE_NODE_CONFIG` and so measured: an operator who changes it changes the fingerprint.

use serde::{Deserialize, Serialize};

use crate::enclave::is_below;
use crate::text::{printable, toml_reason};
use crate::{Error, Result, text};

const FILE: &str = "mse.toml";

/// Largest `mse.toml` that is read, in bytes.
pub const LIMIT: usize = 64 * 1024;

/// The content of `mse.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppConfig {
    /// The application's name: 1 to 64 letters, digits, `-` and `_`, the first a letter or digit.
    pub name: String,
    /// What is served: `module:variable`, both possibly dotted, or `module:factory()`. See [`Application`].
    pub python_application: String,
    /// The path that answers 200 once the application is up, from `/` on.
    pub healthcheck_endpoint: String,
    /// The shell command that runs the project's tests.
    pub tests_cmd: String,
    /// What the tests need installed, as pip requirement specifiers.
    #[serde(default)]
    pub tests_requirements: Vec<String>,
    /// `"required"`: a node refuses a configuration that brings no sealed secrets.
    #[serde(default)]
    pub sealed_secrets: SealedSecrets,
    /// Whose TLS certificate the started application shows.
    #[serde(default)]
    pub tls_mode: TlsMode,
    /// How the image is made.
    #[serde(default)]
    pub image: ImageConfig,
    /// Not read by `mse home`: see [`crate::cloud_config`].
    #[serde(default)]
    pub cloud: toml::Table,
}

/// The `[image]` table of `mse.toml`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// The requirements file, relative to the project (default: `requirements.txt` if there is one).
    pub requirements: Option<String>,
    /// Files and directories of the image that the enclave may read besides Python and its packages, as absolute paths:
    /// a model, data, templates. What is in such a directory is measured whole, but for bytecode.
    #[serde(default)]
    pub measured: Vec<String>,
    /// Files and directories that the enclave may not read, as absolute paths, though they would be measured. They
    /// shorten Gramine's start; `measured` does not bring them back.
    #[serde(default)]
    pub unmeasured: Vec<String>,
}

/// Whether a configuration must bring sealed secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SealedSecrets {
    /// It may.
    #[default]
    Optional,
    /// It must.
    Required,
}

/// Whose TLS certificate the started application shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// The enclave's own RA-TLS certificate.
    #[default]
    RaTls,
    /// A certificate whose key the application's owner sends, sealed or in the configuration.
    OwnerCertificate,
    /// The enclave's RA-TLS certificate inside, behind a certificate of the operator's outside.
    OperatorCertificate,
}

/// How the code archive travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodeForm {
    /// `app.tar`, readable by the operator.
    Plain,
    /// `app.tar.enc`, readable inside the enclave once it has been given the code key.
    Encrypted,
}

impl AppConfig {
    /// Reads and validates the text of an `mse.toml`.
    pub fn from_toml(text: &str) -> Result<Self> {
        if text.len() > LIMIT {
            return Err(Error::Limit { what: FILE.into(), limit: format!("{LIMIT} bytes") });
        }
        let config: AppConfig = toml::from_str(text)
            .map_err(|e| Error::Toml { file: FILE.into(), reason: toml_reason(text, &e) })?;
        config.validate()?;
        Ok(config)
    }

    /// Reads and validates the `mse.toml` at `path`, whatever it is called; returns its text as well, in UTF-8.
    /// Errors name that path.
    pub fn read(path: &std::path::Path) -> Result<(String, Self)> {
        let text = text::read(path, LIMIT as u64)?;
        let config = Self::from_toml(&text).map_err(|e| e.in_file(path))?;
        Ok((text, config))
    }

    /// The part of this configuration that the node is measured with.
    pub fn node_config(&self, code: CodeForm) -> NodeConfig {
        NodeConfig {
            application: self.python_application.clone(),
            code,
            healthcheck: self.healthcheck_endpoint.clone(),
            sealed_secrets_required: self.sealed_secrets == SealedSecrets::Required,
            tls_mode: self.tls_mode,
        }
    }

    fn validate(&self) -> Result<()> {
        let refuse = |field, expected, found: &str| {
            let found = format!("\"{}\"", printable(found, 200));
            Err(Error::Field { file: FILE.into(), field, expected, found })
        };
        if !is_name(&self.name) {
            return refuse("name", NAME_RULE, &self.name);
        }
        if Application::parse(&self.python_application).is_none() {
            return refuse("python_application", APPLICATION_RULE, &self.python_application);
        }
        if !is_endpoint(&self.healthcheck_endpoint) {
            return refuse("healthcheck_endpoint", ENDPOINT_RULE, &self.healthcheck_endpoint);
        }
        if self.tests_cmd.trim().is_empty() || self.tests_cmd.contains(['\0', '\n']) {
            return refuse("tests_cmd", "a shell command of one line", &self.tests_cmd);
        }
        for requirement in &self.tests_requirements {
            // A leading `-` would be read by pip as an option.
            if !requirement.starts_with(|c: char| c.is_ascii_alphanumeric())
                || requirement.chars().any(char::is_control)
            {
                return refuse("tests_requirements", "a list of pip requirements", requirement);
            }
        }
        if let Some(path) = &self.image.requirements {
            let plain =
                std::path::Path::new(path).components().all(|c| matches!(c, std::path::Component::Normal(_)));
            if path.is_empty() || !plain {
                return refuse("image.requirements", "a path inside the project", path);
            }
        }
        if self.image.measured.len() + self.image.unmeasured.len() > ROOTS_LIMIT {
            let found = (self.image.measured.len() + self.image.unmeasured.len()).to_string();
            return refuse("image.measured", "at most 256 paths, with image.unmeasured", &found);
        }
        for root in &self.image.measured {
            let root_is_taken = TAKEN.iter().any(|taken| is_below(root, taken));
            if !is_absolute(root) || root_is_taken {
                return refuse("image.measured", MEASURED_RULE, root);
            }
        }
        for root in &self.image.unmeasured {
            let own = is_below(root, "/opt/mse") || is_below("/opt/mse", root);
            if !is_absolute(root) || own {
                return refuse("image.unmeasured", UNMEASURED_RULE, root);
            }
        }
        Ok(())
    }
}

/// Most paths in `image.measured` and `image.unmeasured` together.
const ROOTS_LIMIT: usize = 256;

/// Where the enclave has something else than the image.
const TAKEN: [&str; 12] = [
    "/dev",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/key",
    "/mse",
    "/mse-app",
    "/opt/mse/packages",
    "/proc",
    "/root",
    "/sys",
    "/tmp",
];

/// Whether `path` is absolute, not the root, and written in the one way there is.
fn is_absolute(path: &str) -> bool {
    let plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(char::is_control);
    path.len() <= 4096 && path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain))
}

const MEASURED_RULE: &str =
    "absolute paths without `.`, `..` or a `/` at the end, of what the enclave sees of the image";
const UNMEASURED_RULE: &str = "absolute paths without `.`, `..` or a `/` at the end, and outside /opt/mse";
const NAME_RULE: &str = "1 to 64 letters, digits, `-` and `_`, beginning with a letter or digit";
const APPLICATION_RULE: &str =
    "`module:variable`, such as `app:app`, or `module:factory()`, such as `app:create_app()`";
const ENDPOINT_RULE: &str = "a path that begins with `/`, such as `/health`";

/// Whether `name` may name an application (and so a package file): see [`AppConfig::name`].
pub fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// What `python_application` names, in its parts.
///
/// ```text
/// application = module ":" attribute [ "()" ]
/// module      = identifier *( "." identifier )
/// attribute   = identifier *( "." identifier )
/// ```
///
/// At most 256 bytes. Identifiers are letters, digits and `_`, and begin with no digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Application<'a> {
    /// The module, with its packages: `inner.web`.
    pub module: &'a str,
    /// The attribute of the module, possibly one of an object in it: `site.app`.
    pub attribute: &'a str,
    /// Whether the attribute is a factory: called without arguments, it returns the application.
    pub factory: bool,
}

impl<'a> Application<'a> {
    /// Reads the text of `python_application`; `None` where it is not of that form.
    pub fn parse(text: &'a str) -> Option<Self> {
        let identifier = |part: &str| {
            part.starts_with(|c: char| c.is_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_alphanumeric() || c == '_')
        };
        let (module, rest) = text.split_once(':').filter(|_| text.len() <= 256)?;
        let (attribute, factory) = match rest.strip_suffix("()") {
            Some(attribute) => (attribute, true),
            None => (rest, false),
        };
        let is_one = module.split('.').all(identifier) && attribute.split('.').all(identifier);
        is_one.then_some(Application { module, attribute, factory })
    }
}

fn is_endpoint(path: &str) -> bool {
    // Printable ASCII without a fragment: it is copied into a request line as it stands.
    path.len() <= 1024 && path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}

/// What the node is told by its manifest: fixed when the package is made, and measured.
///
/// Rendered as one line of JSON with the keys in alphabetical order, so that equal configurations
/// are equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// `module:variable` or `module:factory()`: see [`Application`].
    pub application: String,
    /// Whether the code archive is encrypted.
    pub code: CodeForm,
    /// The health check's path.
    pub healthcheck: String,
    /// Whether a configuration without sealed secrets is refused.
    pub sealed_secrets_required: bool,
    /// Whose certificate the started application shows.
    pub tls_mode: TlsMode,
}

impl NodeConfig {
    /// The canonical JSON text, in one line.
    pub fn to_json(&self) -> String {
        // The fields are declared in alphabetical order, and serde keeps declaration order.
        serde_json::to_string(self).unwrap_or_else(|e| unreachable!("strings and enums: {e}"))
    }

    /// Reads what [`NodeConfig::to_json`] wrote, and nothing else.
    pub fn from_json(text: &str) -> Result<Self> {
        if text.len() > LIMIT {
            let what = "the node configuration".into();
            return Err(Error::Limit { what, limit: format!("{LIMIT} bytes") });
        }
        let config: NodeConfig = serde_json::from_str(text).map_err(|e| Error::NodeConfig(e.to_string()))?;
        if Application::parse(&config.application).is_none() {
            return Err(Error::NodeConfig(format!("`application` must be {APPLICATION_RULE}")));
        }
        if !is_endpoint(&config.healthcheck) {
            return Err(Error::NodeConfig(format!("`healthcheck` must be {ENDPOINT_RULE}")));
        }
        Ok(config)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "example"
        python_application = "app:app"
        healthcheck_endpoint = "/health"
        tests_cmd = "pytest"
        tests_requirements = ["pytest==7.2.0", "cryptography"]
        [cloud]
        location = "fr"
        [cloud.more]
        x = 1
    "#;

    #[test]
    fn a_good_file_reads() {
        let config = AppConfig::from_toml(GOOD).unwrap();
        assert_eq!(config.name, "example");
        assert_eq!(config.tests_requirements.len(), 2);
        assert_eq!(config.sealed_secrets, SealedSecrets::Optional);
        assert_eq!(config.cloud["location"].as_str(), Some("fr"));
    }

    #[test]
    fn each_field_is_validated() {
        let cases = [
            ("name", "\"example\"", "\"../example\""),
            ("name", "\"example\"", "\"\""),
            ("name", "\"example\"", "\"-example\""),
            ("python_application", "app:app", "app"),
            ("python_application", "app:app", "app:"),
            ("python_application", "app:app", "app:a-b"),
            ("python_application", "app:app", "a:b:c"),
            ("python_application", "app:app", ".a:b"),
            ("python_application", "app:app", "a:b(x)"),
            ("python_application", "app:app", "a:b()()"),
            ("python_application", "app:app", "a:b().c"),
            ("python_application", "app:app", "a:()"),
            ("python_application", "app:app", "a():b"),
            ("python_application", "app:app", "a:b ()"),
            ("healthcheck_endpoint", "/health", "health"),
            ("healthcheck_endpoint", "/health", "/he alth"),
            ("tests_cmd", "\"pytest\"", "\" \""),
            ("tests_requirements", "\"cryptography\"", "\"--index-url=evil\""),
            ("image.requirements", "[cloud]", "[image]\nrequirements = \"../r.txt\"\n[cloud]"),
            ("image.requirements", "[cloud]", "[image]\nrequirements = \"/r.txt\"\n[cloud]"),
            ("image.measured", "[cloud]", "[image]\nmeasured = [\"opt/model\"]\n[cloud]"),
            ("image.measured", "[cloud]", "[image]\nmeasured = [\"/\"]\n[cloud]"),
            ("image.measured", "[cloud]", "[image]\nmeasured = [\"/opt/../etc\"]\n[cloud]"),
            ("image.measured", "[cloud]", "[image]\nmeasured = [\"/opt/model/\"]\n[cloud]"),
            ("image.measured", "[cloud]", "[image]\nmeasured = [\"/tmp/model\"]\n[cloud]"),
            ("image.measured", "[cloud]", "[image]\nmeasured = [\"/etc/hosts\"]\n[cloud]"),
            ("image.unmeasured", "[cloud]", "[image]\nunmeasured = [\"/opt\"]\n[cloud]"),
            ("image.unmeasured", "[cloud]", "[image]\nunmeasured = [\"/opt/mse/python/x\"]\n[cloud]"),
            ("image.unmeasured", "[cloud]", "[image]\nunmeasured = [\"usr\"]\n[cloud]"),
        ];
        for (name, from, to) in cases {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD);
            let Err(Error::Field { field, .. }) = AppConfig::from_toml(&text) else {
                panic!("{to} was accepted");
            };
            assert_eq!(field, name, "{to}");
        }
    }

    #[test]
    fn an_application_is_a_variable_or_a_factory() {
        let parsed = |text| Application::parse(text).map(|a| (a.module, a.attribute, a.factory));
        assert_eq!(parsed("app:app"), Some(("app", "app", false)));
        assert_eq!(parsed("inner.web:create_app()"), Some(("inner.web", "create_app", true)));
        assert_eq!(parsed("a:b.c()"), Some(("a", "b.c", true)));
        let config = AppConfig::from_toml(&GOOD.replace("app:app", "app:create_app()")).unwrap();
        let node = config.node_config(CodeForm::Plain);
        assert_eq!(node.application, "app:create_app()");
        assert_eq!(NodeConfig::from_json(&node.to_json()).unwrap(), node);
    }

    #[test]
    fn errors_name_the_file_that_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other.toml");
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            AppConfig::read(&path).unwrap_err().to_string()
        };
        let bad_name = GOOD.replace("\"example\"", "\"a b\"");
        for bytes in
            [bad_name.as_bytes(), b"name = ", b"name = 1\nname = 2\n", b"caf\xe9 = 1", &vec![b'#'; LIMIT + 1]]
        {
            let message = refused(bytes);
            assert!(message.contains("other.toml") && !message.contains("mse.toml"), "{message}");
        }
        assert!(refused(b"a = 1\n b = \n").contains("line 2, column"), "places are told");
        let quoted = refused(b"\"\\u001b[31m\" = 1\n");
        assert!(!quoted.contains('\x1b'), "{quoted}");
    }

    #[test]
    fn any_editor_may_have_written_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mse.toml");
        let crlf = GOOD.replace('\n', "\r\n");
        let utf16: Vec<u8> = crlf.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [
            crlf.clone().into_bytes(),
            [b"\xef\xbb\xbf", crlf.as_bytes()].concat(),
            [&b"\xff\xfe"[..], &utf16].concat(),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let (text, config) = AppConfig::read(&path).unwrap();
            assert_eq!((text.as_str(), config.name.as_str()), (crlf.as_str(), "example"));
        }
    }

    #[test]
    fn deep_and_wide_files_are_refused_or_read() {
        let deep = [
            format!("a = {}", "[".repeat(LIMIT / 2)),
            format!("a = {}", "{a=".repeat(LIMIT / 4)),
            format!("{} = 1", vec!["a"; LIMIT / 3].join(".")),
            format!("[{}]", vec!["a"; LIMIT / 3].join(".")),
        ];
        for text in deep {
            assert!(matches!(AppConfig::from_toml(&text), Err(Error::Toml { .. })));
        }
        // Many names in one table, and many tables.
        let wide: String = (0..5_000).map(|n| format!("k{n} = 1\n")).collect();
        let config = AppConfig::from_toml(&format!("{}\n{wide}", GOOD.trim_end())).unwrap();
        assert_eq!(config.cloud["more"].as_table().unwrap().len(), 5_001);
        let tables: String = (0..3_000).map(|n| format!("[cloud.t.k{n}]\n")).collect();
        AppConfig::from_toml(&format!("{GOOD}\n{tables}")).unwrap();
    }

    #[test]
    fn unknown_and_missing_keys_are_named() {
        let unknown = AppConfig::from_toml(&GOOD.replace("tests_cmd", "test_cmd")).unwrap_err();
        assert!(unknown.to_string().contains("test_cmd"), "{unknown}");
        let missing = AppConfig::from_toml(&GOOD.replace("name = \"example\"", "")).unwrap_err();
        assert!(missing.to_string().contains("name"), "{missing}");
        let huge = format!("{GOOD}\n#{}", "x".repeat(LIMIT));
        assert!(matches!(AppConfig::from_toml(&huge), Err(Error::Limit { .. })));
    }

    #[test]
    fn the_node_configuration_is_canonical() {
        let text = format!("sealed_secrets = \"required\"\ntls_mode = \"owner-certificate\"\n{GOOD}");
        let node = AppConfig::from_toml(&text).unwrap().node_config(CodeForm::Encrypted);
        assert_eq!(
            node.to_json(),
            r#"{"application":"app:app","code":"encrypted","healthcheck":"/health","sealed_secrets_required":true,"tls_mode":"owner-certificate"}"#
        );
        assert_eq!(NodeConfig::from_json(&node.to_json()).unwrap(), node);
        let extra = node.to_json().replace("{\"app", "{\"debug\":true,\"app");
        assert!(NodeConfig::from_json(&extra).is_err());
        let bad = node.to_json().replace("app:app", "app");
        assert!(NodeConfig::from_json(&bad).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,400}") {
            let _ = AppConfig::from_toml(&text);
            let _ = NodeConfig::from_json(&text);
        }
    }
}
