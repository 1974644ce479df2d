//! The owner's own certificate, looked at before anything is sent: what would fail in front of the users fails here.
//!
//! Who issued it is the owner's affair; here it is asked whether key and certificate belong together, whether the
//! certificate is for the name (RFC 9525, section 6), and whether it outlives the application.

use attestation::certificate::Certificate;
use jiff::Timestamp;
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::error::Error;

/// The longest chain that a node takes.
const LONGEST_CHAIN: usize = 16;

/// Refuses a certificate chain and key (PEM) that cannot serve `domain` from `now` until `until`.
pub fn check(
    chain: &str,
    key: &str,
    domain: &str,
    now: Timestamp,
    until: Option<Timestamp>,
) -> Result<(), Error> {
    let refuse = |expected: &'static str, found: String| Err(Error::OwnersCertificate { expected, found });
    let parsed: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(chain.as_bytes()).take(LONGEST_CHAIN + 1).collect();
    let chain: Vec<CertificateDer<'static>> = match parsed {
        Ok(chain) if (1..=LONGEST_CHAIN).contains(&chain.len()) => chain,
        Ok(chain) => return refuse("1 to 16 certificates (PEM)", format!("{}", chain.len())),
        Err(error) => return refuse("1 to 16 certificates (PEM)", error.to_string()),
    };
    let key = match PrivateKeyDer::from_pem_slice(key.as_bytes()) {
        Ok(key) => key,
        Err(error) => return refuse("one private key (PEM)", error.to_string()),
    };
    let leaf = chain[0].clone();
    if let Err(error) = CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()) {
        return match error {
            rustls::Error::InconsistentKeys(_) => {
                refuse("the private key of this certificate", "that of another".to_owned())
            }
            other => refuse("a certificate and a key that TLS can use", other.to_string()),
        };
    }
    let name = ServerName::try_from(domain)
        .map_err(|_| Error::OwnersCertificate { expected: "a domain name", found: format!("{domain:?}") })?;
    let covers = ParsedCertificate::try_from(&leaf).and_then(|leaf| verify_server_name(&leaf, &name));
    if covers.is_err() {
        return refuse("a certificate for the domain name", format!("one that is not for {domain}"));
    }
    let Ok(leaf) = Certificate::parse(&leaf) else {
        return refuse("an X.509 certificate", "another form".to_owned());
    };
    let (from, end) = leaf.validity();
    if now < from || now > end {
        return refuse("a certificate that is valid now", format!("one from {from} to {end}"));
    }
    match until {
        Some(until) if end < until => refuse(
            "a certificate that outlives the application",
            format!("one until {end}, where the application ends at {until}"),
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// For app.example and *.apps.example, during 2026.
    fn made() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names = vec!["app.example".to_owned(), "*.apps.example".to_owned()];
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2026, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2027, 1, 1);
        (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn refusal(outcome: Result<(), Error>) -> (&'static str, String) {
        match outcome {
            Err(Error::OwnersCertificate { expected, found }) => (expected, found),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_can_serve_the_name_for_long_enough_is_accepted() {
        let (chain, key) = made();
        let (now, until) = (at("2026-06-01T00:00:00Z"), at("2026-12-31T00:00:00Z"));
        check(&chain, &key, "app.example", now, Some(until)).unwrap();
        check(&chain, &key, "one.apps.example", now, None).unwrap();
        let longer = format!("{chain}{}", made().0);
        check(&longer, &key, "app.example", now, Some(until)).unwrap();
    }

    #[test]
    fn what_cannot_is_refused_with_the_reason() {
        let ((chain, key), (_, other)) = (made(), made());
        let now = at("2026-06-01T00:00:00Z");
        let with = |chain: &str, key: &str, domain| refusal(check(chain, key, domain, now, None));
        assert_eq!(with(&chain, &other, "app.example").1, "that of another");
        for domain in ["other.example", "a.b.apps.example", "apps.example", "127.0.0.1"] {
            assert_eq!(with(&chain, &key, domain).0, "a certificate for the domain name", "{domain}");
        }
        assert_eq!(with("", &key, "app.example").0, "1 to 16 certificates (PEM)");
        assert_eq!(with(&chain.repeat(17), &key, "app.example").0, "1 to 16 certificates (PEM)");
        assert_eq!(with(&chain, &chain, "app.example").0, "one private key (PEM)");
        for moment in ["2025-12-31T00:00:00Z", "2027-01-02T00:00:00Z"] {
            let (expected, _) = refusal(check(&chain, &key, "app.example", at(moment), None));
            assert_eq!(expected, "a certificate that is valid now");
        }
        let until = Some(at("2027-06-01T00:00:00Z"));
        let (expected, _) = refusal(check(&chain, &key, "app.example", now, until));
        assert_eq!(expected, "a certificate that outlives the application");
    }
}
