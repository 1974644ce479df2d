//! The configuration protocol, from outside: `POST /` with everything a node needs to start its application.
//!
//! JSON `{uuid, app_secrets?, app_sealed_secrets?, code_secret_key?, ssl_private_key?, ssl_certificate?}`,
//! sealed secrets in base64url without padding, the code key in hex. The node checks all of it before it
//! changes anything, and answers 200 or 4xx with `application/problem+json` (RFC 9457). Sent only over a
//! channel to a verified enclave.

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
    let question = Question {
        method: Method::POST,
        path: "/",
        body: Some(("application/json", Bytes::from_owner(body))),
        what: "answer the configuration",
        limit: APPLYING,
        longest: LONGEST_ANSWER,
    };
    let answer = ask(&Channel::attested(record, target), question)?;
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
