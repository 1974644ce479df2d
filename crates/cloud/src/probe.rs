//! What a node's port says: the configuration server waits, or the application passes its health check, or not.
//!
//! Nothing is verified here, and nothing rests on it but the operator's own list: whoever believes a node asks it for
//! evidence. So any certificate will do, and the answer is read with limits.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::Result;
use crate::lifecycle::Answer;

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest body that is read, in bytes.
const BODY: usize = 1024 * 1024;

/// Looks at nodes' ports.
pub trait Probe: Send + Sync {
    /// What the node at `address`, called `host`, says at `path`.
    fn look<'a>(
        &'a self,
        address: SocketAddr,
        host: &'a str,
        path: &'a str,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;
}

/// Over HTTPS.
pub struct Https {
    tls: TlsConnector,
}

impl Https {
    /// With any certificate.
    pub fn new() -> Result<Https> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(Anybody(provider.clone()));
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Https { tls: TlsConnector::from(Arc::new(config)) })
    }

    async fn ask(
        &self,
        address: SocketAddr,
        host: &str,
        path: &str,
    ) -> std::result::Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(address).await?;
        let stream = self.tls.connect(ServerName::try_from(host.to_owned())?, stream).await?;
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(64 * 1024).handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let answer = async {
            let first = ask_once(&mut sender, host, path).await?;
            // The configuration server promises its header at the root alone.
            if first != Answer::Unhealthy || path == "/" {
                return Ok(first);
            }
            sender.ready().await?;
            Ok(match ask_once(&mut sender, host, "/").await? {
                Answer::Waiting => Answer::Waiting,
                _ => first,
            })
        }
        .await;
        driver.abort();
        answer
    }
}

async fn ask_once(
    sender: &mut http1::SendRequest<Empty<Bytes>>,
    host: &str,
    path: &str,
) -> std::result::Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let request = Request::get(path).header(header::HOST, host).body(Empty::new())?;
    let response = sender.send_request(request).await?;
    let waiting = response.headers().get("mse-status");
    if waiting.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"waiting")) {
        return Ok(Answer::Waiting);
    }
    let healthy = response.status().is_success();
    // Read to its end, so that the connection can be used again; a long answer ends the look in time.
    let _ = Limited::new(response.into_body(), BODY).collect().await?;
    Ok(if healthy { Answer::Healthy } else { Answer::Unhealthy })
}

impl Probe for Https {
    fn look<'a>(
        &'a self,
        address: SocketAddr,
        host: &'a str,
        path: &'a str,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        Box::pin(async move {
            match tokio::time::timeout(PATIENCE, self.ask(address, host, path)).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => Answer::Silent,
            }
        })
    }
}

/// Takes any certificate: see the head of this file.
#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
