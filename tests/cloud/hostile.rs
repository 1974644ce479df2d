//! Whoever stands between an owner and the public port: it leads connections elsewhere, or ends their TLS itself.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

/// Ends the caller's TLS under a certificate of its own, and leads whatever it hears to the app of this name.
pub fn lead_all_to(name: &str, router: u16, at: &str) {
    serve(router, at, Some(name.to_owned()));
}

/// Ends the caller's TLS under a certificate of its own, and leads it on under the same name.
pub fn stand_between(router: u16, at: &str) {
    serve(router, at, None);
}

/// Passes every byte on to a node of the operator's choice, unseen by the router.
pub fn pass_all_to(node: u16, router: u16, at: &str) {
    listen(router, at, move |mut caller| async move {
        let mut node = TcpStream::connect(("127.0.0.1", node)).await.ok()?;
        copy_bidirectional(&mut caller, &mut node).await.ok().map(drop)
    });
}

fn serve(router: u16, at: &str, name: Option<String>) {
    listen(router, at, move |caller| relay(caller, router, name.clone()));
}

fn listen<F>(router: u16, at: &str, meet: impl Fn(TcpStream) -> F + Send + 'static)
where
    F: Future<Output = Option<()>> + Send + 'static,
{
    let listener = std::net::TcpListener::bind((at, router)).unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                // Whatever becomes of one connection, the next is taken.
                tokio::spawn(meet(stream));
            }
        });
    });
}

async fn relay(stream: TcpStream, router: u16, name: Option<String>) -> Option<()> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let start = LazyConfigAcceptor::new(Default::default(), stream).await.ok()?;
    let asked = start.client_hello().server_name()?.to_owned();

    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec![asked.clone()]).unwrap().self_signed(&key).unwrap();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], private)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut caller = start.into_stream(Arc::new(config)).await.ok()?;

    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let server_name = ServerName::try_from(name.unwrap_or(asked)).ok()?;
    let node = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], router))).await.ok()?;
    let mut node = TlsConnector::from(Arc::new(config)).connect(server_name, node).await.ok()?;
    copy_bidirectional(&mut caller, &mut node).await.ok()?;
    Some(())
}

/// Takes any certificate.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
