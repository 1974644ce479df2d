//! The configuration protocol, from outside: `POST /` with everything a node needs to start its application.
//!
//! JSON `{uuid, app_secrets?, app_sealed_secrets?, code_secret_key?, ssl_private_key?, ssl_certificate?}`,
//! sealed secrets in base64url without padding, the code key in hex. The node checks all of it before it
//! changes anything, and answers 200 or 4xx with `application/problem+json` (RFC 9457). Sent only over a
//! channel to the key of a verified enclave, and only to a node that says it waits: what was configured before
//! is an application, which has no business with the keys.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{Method, header};
use hyper::body::Bytes;
use secrets::code::CodeKey;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::channel::Channel;
use crate::error::Error;
use crate::exchange::{Answer, Question, ask};
use crate::health;
use crate::records::Record;
use crate::target::Target;

/// The longest body that a node reads: 10 MiB.
pub const LONGEST_CONFIGURATION: usize = 10 * 1024 * 1024;

/// A node may take this long: it decrypts and unpacks the code before it answers.
const APPLYING: Duration = Duration::from_secs(120);
const LONGEST_ANSWER: usize = 64 * 1024;

/// What is sent to a waiting node. Nothing is required: code in clear without secrets needs none of it.
#[derive(Default)]
pub struct Configuration {
    /// `secrets.json`: a JSON object, which the operator may know.
    pub secrets: Option<Zeroizing<Vec<u8>>>,
    /// A file made by `seal`, which only this enclave can open.
    pub sealed_secrets: Option<Vec<u8>>,
    /// The code key in clear, for an operator who owns the code too.
    pub code_key: Option<CodeKey>,
    /// The owner's private key (PKCS #8 PEM), for applications in owner-certificate mode.
    pub private_key: Option<Zeroizing<String>>,
    /// The owner's certificate chain (PEM).
    pub certificate: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    uuid: uuid::Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_secrets: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_sealed_secrets: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code_secret_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssl_private_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssl_certificate: Option<&'a str>,
}

/// The part of a problem document that says why.
#[derive(Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

/// Configures the node of this record. On [`Error::Refused`] the node has changed nothing and still waits.
pub fn configure(record: &Record, target: &Target, configuration: &Configuration) -> Result<(), Error> {
    let body = body(record, configuration)?;
    let channel = Channel::to_enclave(record, target);
    require_waiting(record, &channel)?;
    let question = Question {
        method: Method::POST,
        path: "/",
        body: Some(("application/json", Bytes::from_owner(body))),
        what: "answer the configuration",
        limit: APPLYING,
        longest: Some(LONGEST_ANSWER),
    };
    let answer = ask(&channel, question)?;
    match answer.status.as_u16() {
        200 => Ok(()),
        status @ 400..=599 => Err(Error::Refused {
            target: target.to_string(),
            asked: "the configuration",
            status,
            reason: reason(&answer),
        }),
        status => Err(Error::UnexpectedAnswer {
            target: target.to_string(),
            expected: "200 or a 4xx with its reason",
            found: format!("HTTP {status}"),
        }),
    }
}

/// Refuses a node that has its configuration already, before anything is sent to it.
fn require_waiting(record: &Record, channel: &Channel) -> Result<(), Error> {
    let configured = || Error::Configured { target: channel.target().to_string() };
    match health::waits_for_configuration(channel) {
        Ok(true) => Ok(()),
        Ok(false) => Err(configured()),
        // What the owner's certificate answers for is the application.
        Err(Error::WrongKey { found, .. })
            if record.served_spki().map(hex::encode) == Some(found.clone()) =>
        {
            Err(configured())
        }
        Err(error) => Err(error),
    }
}

/// Renders the body in memory that is cleared afterwards.
fn body(record: &Record, configuration: &Configuration) -> Result<Zeroizing<Vec<u8>>, Error> {
    let secrets = match &configuration.secrets {
        Some(bytes) => Some(json_object(bytes)?),
        None => None,
    };
    let sealed = configuration.sealed_secrets.as_ref().map(|bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes));
    let code_key = configuration.code_key.as_ref().map(CodeKey::to_hex);
    let body = Body {
        uuid: uuid::Uuid::from_bytes(record.app_id()),
        app_secrets: secrets,
        app_sealed_secrets: sealed.as_deref(),
        code_secret_key: code_key.as_ref().map(|hex| hex.as_str()),
        ssl_private_key: configuration.private_key.as_ref().map(|pem| pem.as_str()),
        ssl_certificate: configuration.certificate.as_deref(),
    };
    // Room for all of it at once: a vector that grows leaves copies behind. PEM's line ends are escaped.
    let room = 1024
        + configuration.secrets.as_ref().map_or(0, |bytes| bytes.len())
        + sealed.as_ref().map_or(0, String::len)
        + 2 * configuration.private_key.as_ref().map_or(0, |pem| pem.len())
        + 2 * configuration.certificate.as_ref().map_or(0, String::len);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    serde_json::to_writer(&mut *bytes, &body)
        .map_err(|error| Error::Configuration(format!("it cannot be rendered: {error}")))?;
    if bytes.len() > LONGEST_CONFIGURATION {
        return Err(Error::Configuration(format!(
            "it is {} bytes long, and a node reads at most {LONGEST_CONFIGURATION}",
            bytes.len()
        )));
    }
    Ok(bytes)
}

/// Checks the caller's secrets here, where the message can say what is wrong, and sends them as they are.
fn json_object(bytes: &[u8]) -> Result<&RawValue, Error> {
    let value: &RawValue = serde_json::from_slice(bytes).map_err(|error| {
        Error::Configuration(format!(
            "the secrets are not JSON (line {}, column {})",
            error.line(),
            error.column()
        ))
    })?;
    if !value.get().starts_with('{') {
        return Err(Error::Configuration("the secrets must be a JSON object".to_owned()));
    }
    Ok(value)
}

/// What a refusal says, cleaned of anything a terminal would act on.
fn reason(answer: &Answer) -> String {
    let is_problem = answer
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/problem+json"));
    let problem = if is_problem { serde_json::from_slice::<Problem>(&answer.body).ok() } else { None };
    let text = match problem {
        Some(Problem { title: Some(title), detail: Some(detail) }) => format!("{title}: {detail}"),
        Some(Problem { detail: Some(text), .. } | Problem { title: Some(text), .. }) => text,
        _ => "it gave no reason".to_owned(),
    };
    text.chars().filter(|c| !c.is_control()).take(1000).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use http_body_util::BodyExt;
    use hyper::body::Incoming;

    use super::*;
    use crate::testing::{APP_ID, Identity, Server, ServerBody, body as text, ok};

    /// A node that says it waits, and answers a configuration by `configured`.
    fn waiting<F>(
        identity: &Identity,
        configured: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) -> Server
    where
        F: Future<Output = Response<ServerBody>> + Send + 'static,
    {
        Server::start(identity, move |request| {
            let configured = configured.clone();
            async move {
                match *request.method() {
                    Method::POST => configured(request).await,
                    _ => Response::builder().header("Mse-Status", "Waiting").body(text("")).unwrap(),
                }
            }
        })
    }

    fn full() -> Configuration {
        Configuration {
            secrets: Some(Zeroizing::new(b" {\"key\": \"00\", \"n\": 1.50} ".to_vec())),
            sealed_secrets: Some(vec![0xfb, 0xff, 1]),
            code_key: Some(CodeKey::from_bytes([0xab; 32])),
            private_key: Some(Zeroizing::new("-----BEGIN\nkey".to_owned())),
            certificate: Some("-----BEGIN\ncertificate".to_owned()),
        }
    }

    #[test]
    fn everything_arrives_as_the_protocol_has_it() {
        let identity = Identity::generate();
        let received = Arc::new(Mutex::new(None));
        let slot = received.clone();
        let server = waiting(&identity, move |request| {
            let slot = slot.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                *slot.lock().unwrap() = Some((head, body));
                ok("")
            }
        });
        configure(&identity.record(), &server.target(), &full()).unwrap();
        let (head, body) = received.lock().unwrap().take().unwrap();
        assert_eq!((head.method, head.uri.path()), (Method::POST, "/"));
        assert_eq!(head.headers.get("content-type").unwrap(), "application/json");
        let expected = format!(
            "{{\"uuid\":\"{}\",\"app_secrets\":{{\"key\": \"00\", \"n\": 1.50}},\"app_sealed_secrets\":\"-_8B\",\
             \"code_secret_key\":\"{}\",\"ssl_private_key\":\"-----BEGIN\\nkey\",\
             \"ssl_certificate\":\"-----BEGIN\\ncertificate\"}}",
            uuid::Uuid::from_bytes(APP_ID),
            "ab".repeat(32),
        );
        assert_eq!(String::from_utf8(body.to_vec()).unwrap(), expected);

        configure(&identity.record(), &server.target(), &Configuration::default()).unwrap();
        let (_, body) = received.lock().unwrap().take().unwrap();
        assert_eq!(body, format!("{{\"uuid\":\"{}\"}}", uuid::Uuid::from_bytes(APP_ID)));
    }

    #[test]
    fn a_refusal_is_passed_on_with_its_reason() {
        let identity = Identity::generate();
        let server = waiting(&identity, async |_| {
            let problem = "{\"title\": \"wrong code key\", \"detail\": \"it does not open\\u001b[31m the archive\", \"x\": 1}";
            Response::builder()
                .status(422)
                .header("content-type", "application/problem+json")
                .body(text(problem))
                .unwrap()
        });
        let error = configure(&identity.record(), &server.target(), &full()).unwrap_err();
        let Error::Refused { status, reason, .. } = error else { panic!("{error}") };
        assert_eq!((status, reason.as_str()), (422, "wrong code key: it does not open[31m the archive"));
    }

    #[test]
    fn an_answer_that_is_neither_yes_nor_no_is_not_taken_for_yes() {
        let identity = Identity::generate();
        let server = waiting(&identity, async |_| Response::builder().status(302).body(text("")).unwrap());
        let error = configure(&identity.record(), &server.target(), &full()).unwrap_err();
        assert!(matches!(error, Error::UnexpectedAnswer { .. }), "{error}");
    }

    #[test]
    fn secrets_never_go_to_an_impostor() {
        let called = Arc::new(Mutex::new(false));
        let slot = called.clone();
        let server = Server::start(&Identity::generate(), move |_| {
            *slot.lock().unwrap() = true;
            async { ok("") }
        });
        let error = configure(&Identity::generate().record(), &server.target(), &full()).unwrap_err();
        assert!(matches!(error, Error::WrongKey { .. }), "{error}");
        assert!(!*called.lock().unwrap());
    }

    #[test]
    fn an_application_gets_no_keys_whatever_it_would_answer() {
        let (identity, posts) = (Identity::generate(), Arc::new(Mutex::new(0)));
        let counted = posts.clone();
        let server = Server::start(&identity, move |request| {
            *counted.lock().unwrap() += usize::from(request.method() == Method::POST);
            async { ok("thank you") }
        });
        let error = configure(&identity.record(), &server.target(), &full()).unwrap_err();
        assert!(matches!(error, Error::Configured { .. }), "{error}");
        assert_eq!(*posts.lock().unwrap(), 0);
    }

    #[test]
    fn the_owners_certificate_opens_no_channel_for_keys() {
        let (identity, owner) = (Identity::generate(), Identity::generate());
        let server = waiting(&owner, async |_| ok(""));
        let pem = attestation::ratls::RatlsCertificate::parse(&owner.certificate).unwrap().to_pem();
        let record = identity.record().with_tls_mode(attestation::ratls::TlsMode::OwnerCertificate);
        let record = record.serving(&pem).unwrap();
        let error = configure(&record, &server.target(), &full()).unwrap_err();
        assert!(matches!(error, Error::Configured { .. }), "{error}");
        assert_eq!(server.connections(), 0, "the handshake ends before anything is said");
    }

    #[test]
    fn secrets_that_are_no_object_are_refused_here_and_not_shown() {
        let record = Identity::generate().record();
        for bad in ["hunter2", "\"hunter2\"", "[\"hunter2\"]", "{\"hunter2\"}", "", "{} hunter2"] {
            let secrets = Some(Zeroizing::new(bad.as_bytes().to_vec()));
            let error = body(&record, &Configuration { secrets, ..Configuration::default() }).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_no_node_reads_is_not_sent() {
        let sealed_secrets = Some(vec![0; LONGEST_CONFIGURATION]);
        let error = body(
            &Identity::generate().record(),
            &Configuration { sealed_secrets, ..Configuration::default() },
        );
        assert!(matches!(error, Err(Error::Configuration(_))));
    }
}
