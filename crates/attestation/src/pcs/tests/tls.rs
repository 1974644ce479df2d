//! A PCCS with a certificate of its own: version 1, self-signed, as Intel's installer makes it.

use super::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const CERTIFICATE: &[u8] = include_bytes!("pccs-v1.pem");
const KEY: &[u8] = include_bytes!("pccs-v1.key.pem");

/// Serves over TLS, and counts the connections.
fn start(
    versions: &[&'static rustls::SupportedProtocolVersion],
    handler: Box<Handler>,
) -> (String, Arc<Mutex<usize>>) {
    let chain = vec![CertificateDer::from_pem_slice(CERTIFICATE).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = provider.key_provider.load_private_key(key).unwrap();
    // Rustls looks at no certificate that a server names for itself.
    let certified = Arc::new(rustls::sign::CertifiedKey::new(chain, key));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(certified)));
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let count = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            *seen.lock().unwrap() += 1;
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::StreamOwned::new(connection, stream);
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(std::io::Read::read(&mut tls, &mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let Some(target) = head.split(' ').nth(1) else { continue };
            let _ = write_response(&mut tls, &handler(target));
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
    });
    (url, count)
}

#[derive(Debug)]
struct Always(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Always {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn client(url: &str, trust: ServerTrust) -> Client {
    Client::new(url, Options { back_off: Duration::ZERO, trust, ..Options::default() }).unwrap()
}

#[test]
fn a_self_signed_certificate_of_version_1_is_taken_where_it_is_named_or_any_is() {
    let pin = PinnedCertificate::from_bytes(CERTIFICATE).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (quote, collateral) = collateral(PckCa::Platform);
        let (url, count) = start(&[version], serve(&collateral, Style::Hex));
        for trust in [ServerTrust::Certificate(pin.clone()), ServerTrust::Any] {
            let fetched = client(&url, trust).collateral_for(&quote, now()).unwrap();
            assert_eq!(fetched, collateral, "{version:?}");
        }
        *count.lock().unwrap() = 0;
        let error = client(&url, ServerTrust::System).collateral_for(&quote, now()).unwrap_err();
        assert!(matches!(&error, Error::ServerCertificate { what: "TCB info", .. }), "{error}");
        assert_eq!(*count.lock().unwrap(), 1, "another try will not change it");
    }
}

#[test]
fn another_certificate_than_the_named_one_is_refused_and_both_are_told() {
    let (quote, collateral) = collateral(PckCa::Platform);
    let (url, _) = start(rustls::ALL_VERSIONS, serve(&collateral, Style::Hex));
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pin = PinnedCertificate::from_bytes(other.cert.der()).unwrap();
    let error = client(&url, ServerTrust::Certificate(pin)).collateral_for(&quote, now()).unwrap_err();
    let shown = error.to_string();
    assert!(matches!(error, Error::ServerCertificate { .. }), "{shown}");
    assert!(shown.contains("expected the one with SHA-256"), "{shown}");
}

#[test]
fn a_copied_certificate_is_of_no_use_without_its_key() {
    let (quote, _) = collateral(PckCa::Platform);
    let chain = vec![CertificateDer::from_pem_slice(CERTIFICATE).unwrap()];
    let provider = rustls::crypto::ring::default_provider();
    let other = rcgen::KeyPair::generate().unwrap();
    let key = provider
        .key_provider
        .load_private_key(PrivateKeyDer::try_from(other.serialize_der()).unwrap())
        .unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(Arc::new(rustls::sign::CertifiedKey::new(chain, key)))));
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let _ = connection.complete_io(&mut stream);
        }
    });
    let pin = PinnedCertificate::from_bytes(CERTIFICATE).unwrap();
    let error = client(&url, ServerTrust::Certificate(pin)).collateral_for(&quote, now()).unwrap_err();
    assert!(matches!(error, Error::ServerCertificate { .. }), "{error}");
}

#[test]
fn what_is_no_certificate_cannot_be_pinned() {
    let der = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
    assert_eq!(
        PinnedCertificate::from_bytes(&der).unwrap(),
        PinnedCertificate::from_bytes(CERTIFICATE).unwrap()
    );
    for bad in [&b""[..], KEY, b"-----BEGIN CERTIFICATE-----", &der[..der.len() - 1], b"{}"] {
        assert!(PinnedCertificate::from_bytes(bad).is_err());
    }
    assert!(matches!(PinnedCertificate::from_bytes(&vec![b'\n'; 1 << 20]), Err(Error::TooLarge { .. })));
}
