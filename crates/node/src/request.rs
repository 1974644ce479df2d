//! The body of a configuration: JSON `{uuid, app_secrets?, app_sealed_secrets? (base64url), code_secret_key? (hex),
//! ssl_private_key? (PEM), ssl_certificate? (PEM)}`: `docs/reference/protocol.md`.
//!
//! Whoever connects writes it. Reading it reveals nothing of this instance: the only answer to a bad one is where it
//! stops being such JSON, never what stands there.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrets::code::CodeKey;
use serde::Deserialize;
use serde_json::value::RawValue;
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::Refusal;

/// Largest body, in bytes.
pub const LIMIT: usize = 10 * 1024 * 1024;

/// base64url (RFC 4648, 5), with or without padding.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    uuid: Option<String>,
    app_secrets: Option<Box<RawValue>>,
    app_sealed_secrets: Option<String>,
    code_secret_key: Option<String>,
    ssl_private_key: Option<String>,
    ssl_certificate: Option<String>,
}

/// A configuration as asked for; nothing of it has been judged.
pub(crate) struct Request {
    uuid: Option<String>,
    secrets: Option<Zeroizing<String>>,
    sealed: Option<String>,
    code_key: Option<Zeroizing<String>>,
    pub(crate) ssl_private_key: Option<Zeroizing<String>>,
    pub(crate) ssl_certificate: Option<String>,
}

impl Request {
    /// Reads the JSON.
    pub(crate) fn parse(body: &[u8]) -> Result<Request, Refusal> {
        let json: Json = serde_json::from_slice(body)
            .map_err(|e| Refusal::Malformed { line: e.line(), column: e.column() })?;
        Ok(Request {
            uuid: json.uuid,
            secrets: json.app_secrets.map(|raw| Zeroizing::new(Box::<str>::from(raw).into())),
            sealed: json.app_sealed_secrets,
            code_key: json.code_secret_key.map(Zeroizing::new),
            ssl_private_key: json.ssl_private_key.map(Zeroizing::new),
            ssl_certificate: json.ssl_certificate,
        })
    }

    /// Refuses a missing, malformed or wrong id, all alike and in constant time.
    pub(crate) fn check_id(&self, app_id: Uuid) -> Result<(), Refusal> {
        let found = self.uuid.as_deref().and_then(|text| Uuid::try_parse(text).ok()).unwrap_or_default();
        match bool::from(found.as_bytes().ct_eq(app_id.as_bytes())) {
            true => Ok(()),
            false => Err(Refusal::Id),
        }
    }

    /// The text of `secrets.json`, exactly as written in the request.
    pub(crate) fn secrets(&self) -> Result<Option<Zeroizing<Vec<u8>>>, Refusal> {
        let Some(text) = &self.secrets else { return Ok(None) };
        match text.starts_with('{') {
            true => Ok(Some(Zeroizing::new(text.as_bytes().to_vec()))),
            false => Err(Refusal::SecretsForm("app_secrets")),
        }
    }

    /// The sealed file.
    pub(crate) fn sealed(&self) -> Result<Option<Vec<u8>>, Refusal> {
        let decode = |text: &String| BASE64URL.decode(text).map_err(|_| Refusal::SealedSecretsForm);
        self.sealed.as_ref().map(decode).transpose()
    }

    /// The code key in clear.
    pub(crate) fn code_key(&self) -> Result<Option<CodeKey>, Refusal> {
        let read = |hex: &Zeroizing<String>| CodeKey::from_hex(hex).map_err(|_| Refusal::CodeKeyForm);
        self.code_key.as_ref().map(read).transpose()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(0x1234);

    fn refusal(body: &str) -> Refusal {
        Request::parse(body.as_bytes()).err().unwrap()
    }

    #[test]
    fn a_missing_malformed_and_wrong_id_are_refused_alike() {
        for body in ["{}", r#"{"uuid":null}"#, r#"{"uuid":"x"}"#, r#"{"uuid":""}"#] {
            assert_eq!(Request::parse(body.as_bytes()).unwrap().check_id(ID), Err(Refusal::Id), "{body}");
        }
        let other = format!(r#"{{"uuid":"{}"}}"#, Uuid::from_u128(0x1235));
        assert_eq!(Request::parse(other.as_bytes()).unwrap().check_id(ID), Err(Refusal::Id));
        let right = format!(r#"{{"uuid":"{ID}"}}"#);
        assert_eq!(Request::parse(right.as_bytes()).unwrap().check_id(ID), Ok(()));
        let simple = format!(r#"{{"uuid":"{}"}}"#, ID.simple());
        assert_eq!(Request::parse(simple.as_bytes()).unwrap().check_id(ID), Ok(()));
    }

    #[test]
    fn other_json_is_refused_by_place_and_never_quoted() {
        for body in ["", "[]", "{", r#"{"uuid":1}"#, r#"{"hunter2":1}"#, r#"{"uuid":"a","uuid":"b"}"#, "{} x"]
        {
            let refusal = refusal(body);
            assert!(matches!(refusal, Refusal::Malformed { .. }), "{body}");
            assert!(!refusal.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn secrets_are_kept_as_written_and_must_be_an_object() {
        let text = r#"{ "b": 1.50,  "a": "é" }"#;
        let request = Request::parse(format!(r#"{{"app_secrets": {text} }}"#).as_bytes()).unwrap();
        assert_eq!(request.secrets().unwrap().unwrap().as_slice(), text.as_bytes());
        for other in ["1", "[]", r#""{}""#, "true"] {
            let request = Request::parse(format!(r#"{{"app_secrets":{other}}}"#).as_bytes()).unwrap();
            assert_eq!(request.secrets(), Err(Refusal::SecretsForm("app_secrets")), "{other}");
        }
        assert_eq!(Request::parse(br#"{"app_secrets":null}"#).unwrap().secrets(), Ok(None));
    }

    #[test]
    fn sealed_secrets_come_in_base64url_with_or_without_padding() {
        for (text, bytes) in [("-_8", vec![0xfb, 0xff]), ("-_8=", vec![0xfb, 0xff]), ("", vec![])] {
            let request = Request::parse(format!(r#"{{"app_sealed_secrets":"{text}"}}"#).as_bytes()).unwrap();
            assert_eq!(request.sealed().unwrap().unwrap(), bytes);
        }
        let request = Request::parse(br#"{"app_sealed_secrets":"+/8="}"#).unwrap();
        assert_eq!(request.sealed(), Err(Refusal::SealedSecretsForm));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in proptest::collection::vec(0u8.., 0..400)) {
            if let Ok(request) = Request::parse(&body) {
                let _ = (request.check_id(ID), request.secrets(), request.sealed());
            }
        }

        #[test]
        fn any_values_are_read_or_refused(
            uuid in ".{0,40}", secrets in "[ -~]{0,40}", sealed in ".{0,40}", key in "[ -~]{0,70}"
        ) {
            let body = serde_json::json!({
                "uuid": uuid, "app_secrets": secrets, "app_sealed_secrets": sealed, "code_secret_key": key
            });
            let request = Request::parse(body.to_string().as_bytes()).unwrap();
            proptest::prop_assert_eq!(request.check_id(ID), Err(Refusal::Id));
            let _ = (request.secrets(), request.sealed());
        }
    }
}
