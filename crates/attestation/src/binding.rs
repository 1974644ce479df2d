//! What ties a quote to a certificate's key, to a nonce and to the rest of an evidence file.
//!
//! Trusts nothing: whether the quote itself is genuine is [`crate::verify`]'s question. Format: see [`crate::ratls`].

use jiff::Timestamp;

use crate::checks::Id;
use crate::evidence::Evidence;
use crate::judgement::Fault;
use crate::quote::Quote;
use crate::ratls::{AppClaims, Binding, Claims, RatlsCertificate, report_data};
use crate::recorder::Recorder;
use crate::trust::sha256;

/// Checks the certificate by itself: its signature and its window.
pub(crate) fn check_certificate(certificate: &RatlsCertificate, at: Timestamp, recorder: &mut Recorder) {
    let signed = certificate.self_signature_is_valid();
    let found = if signed { "valid" } else { "not valid" };
    let expected = "a valid signature of the certificate's own key";
    recorder.check(Id::CertSelfSignature, signed, Fault::Evidence, expected, found);
    let (from, until) = (certificate.not_before, certificate.not_after);
    let found = format!("from {from} until {until}");
    recorder.check(
        Id::CertWindow,
        from <= at && at <= until,
        Fault::Evidence,
        format!("valid at {at}"),
        found,
    );
}

/// Checks that `quote` binds the certificate's key through `claims`; returns the claims where they can be read.
pub(crate) fn check_claims(
    certificate: &RatlsCertificate,
    quote: Option<&Quote>,
    claims: &[u8],
    recorder: &mut Recorder,
) -> Option<Claims> {
    let fault = Fault::Evidence;
    if let Some(quote) = quote {
        let wanted = report_data(claims);
        let (expected, found) = (hex::encode(wanted), hex::encode(quote.report.report_data));
        recorder.check(Id::BindingClaims, quote.report.report_data == wanted, fault, expected, found);
    }
    match Claims::decode(claims) {
        Ok(claims) => {
            recorder.pass(Id::BindingClaimsFormat, "well-formed");
            let right = claims.pubkey_hash == certificate.spki_sha256;
            let (expected, found) = (hex::encode(certificate.spki_sha256), hex::encode(claims.pubkey_hash));
            recorder.check(Id::BindingPublicKey, right, fault, expected, found);
            Some(claims)
        }
        Err(error) => {
            recorder.fail(Id::BindingClaimsFormat, fault, "strict deterministic CBOR", error.to_string());
            None
        }
    }
}

/// Checks that `quote` binds the certificate's key in the legacy way: by the first half of its report data.
pub(crate) fn check_legacy(certificate: &RatlsCertificate, quote: Option<&Quote>, recorder: &mut Recorder) {
    let Some(quote) = quote else { return };
    let found = hex::encode(&quote.report.report_data[..32]);
    let expected = format!("SHA-256 of the key, for instance {}", hex::encode(certificate.spki_sha256));
    recorder.check(Id::BindingPublicKey, binds_legacy(certificate, quote), Fault::Evidence, expected, found);
}

fn binds_legacy(certificate: &RatlsCertificate, quote: &Quote) -> bool {
    let bound = &quote.report.report_data[..32];
    bound == sha256(&certificate.ec_point) || bound == certificate.spki_sha256
}

/// Checks that the quote inside the certificate tells of the same enclave, key and application as the one judged.
///
/// That quote is older than the one judged and is not verified again: everything is taken from the latter. A certificate
/// that says something else is refused all the same, since others will be shown the certificate alone.
pub(crate) fn check_certificate_quote(
    certificate: &RatlsCertificate,
    quote: Option<&Quote>,
    claims: Option<&Claims>,
    recorder: &mut Recorder,
) {
    let (Some(quote), Some(claims)) = (quote, claims) else { return };
    let objection = certificate_quote_objection(certificate, quote, claims);
    let expected = "the same enclave, key and application as the quote that is judged";
    let found = objection.unwrap_or("the same");
    recorder.check(Id::BindingCertificateQuote, objection.is_none(), Fault::Evidence, expected, found);
}

fn certificate_quote_objection(
    certificate: &RatlsCertificate,
    quote: &Quote,
    claims: &Claims,
) -> Option<&'static str> {
    let Ok(inner) = Quote::parse(&certificate.quote) else { return Some("a malformed quote") };
    if inner.report.mr_enclave != quote.report.mr_enclave || inner.report.mr_signer != quote.report.mr_signer
    {
        return Some("another enclave");
    }
    match &certificate.binding {
        Binding::Legacy => (!binds_legacy(certificate, &inner)).then_some("another key"),
        Binding::Interoperable { claims: carried } => {
            if inner.report.report_data != report_data(carried) {
                return Some("claims that its quote does not bind");
            }
            let Ok(inner) = Claims::decode(carried) else { return Some("malformed claims") };
            if inner.pubkey_hash != certificate.spki_sha256 {
                return Some("another key");
            }
            (stable(&inner) != stable(claims)).then_some("another application")
        }
    }
}

/// What a node claims of its application for as long as it lives; the key it serves may be set later.
fn stable(claims: &Claims) -> Option<AppClaims> {
    claims.app.as_ref().map(|app| AppClaims { served_spki: None, ..app.clone() })
}

/// Checks that what the operator wrote down agrees with certificate and claims.
pub(crate) fn check_arguments(
    evidence: &Evidence,
    certificate: &RatlsCertificate,
    claims: Option<&Claims>,
    platform: Option<crate::judgement::Platform>,
    recorder: &mut Recorder,
) {
    let Some(claims) = claims else { return };
    let arguments = &evidence.arguments;
    let app_id = claims.app.as_ref().map(|app| hyphenated(&app.app_id));
    let objection = if !certificate.hosts.contains(&arguments.host) {
        Some(format!("host {}, and a certificate for {:?}", arguments.host, certificate.hosts))
    } else if app_id.as_ref().is_some_and(|claimed| *claimed != arguments.app_id.to_ascii_lowercase()) {
        Some(format!("app id {}, and claims of {}", arguments.app_id, app_id.unwrap_or_default()))
    } else if evidence.nonce.is_some() && evidence.nonce != claims.nonce {
        Some("a nonce that is not the one in the claims".to_owned())
    } else if platform.is_some_and(|platform| platform.to_string() != arguments.platform) {
        Some(format!("platform {}, and a quote of another", arguments.platform))
    } else {
        None
    };
    let expected = "host, app id, nonce and platform as in certificate, claims and quote";
    match objection {
        None => recorder.pass(Id::BindingArguments, "they agree"),
        Some(found) => recorder.fail(Id::BindingArguments, Fault::Evidence, expected, found),
    }
}

/// A UUID in its usual text form (RFC 9562): 8-4-4-4-12 lower-case hex digits.
fn hyphenated(id: &[u8; 16]) -> String {
    let digits = hex::encode(id);
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}
