//! Where TLS ends here: the side towards the user, and the way to the node.
//!
//! The way to the node is an [`Upstream`]'s: it hands out streams whose other end it has verified to be the node. This
//! crate neither makes nor checks such a channel and never opens one of its own for a [`Termination`], so nothing goes
//! out in clear.
//!
//! Protocols (ALPN, RFC 7301) are passed on: the node is offered what the user offers, and the user gets what the node
//! chose. That is why the node is connected to before the user's handshake ends.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};

use rustls::KeyLog;
use rustls::crypto::CryptoProvider;
use rustls::server::{ResolvesServerCert, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::Error;
use crate::refusal::Refusal;

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

/// A protocol inside TLS that the router passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2: RFC 9113.
    Http2,
    /// HTTP/1.1: RFC 9112.
    Http1,
}

impl Protocol {
    /// Its name in ALPN.
    pub fn name(self) -> &'static [u8] {
        match self {
            Protocol::Http2 => b"h2",
            Protocol::Http1 => b"http/1.1",
        }
    }

    /// The protocol of that name, if it is one of these.
    pub fn from_name(name: &[u8]) -> Option<Protocol> {
        [Protocol::Http2, Protocol::Http1].into_iter().find(|protocol| protocol.name() == name)
    }
}

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to a verified node.
pub struct Connected {
    /// What the user's bytes go into. A shut-down of writing must leave reading open, as TLS does.
    pub stream: Box<dyn Stream>,
    /// What the node chose of what it was offered; `None` where it chose nothing.
    pub protocol: Option<Protocol>,
}

/// A connection in the making.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Connected>> + Send + 'a>>;

/// Makes connections to the nodes of applications.
pub trait Upstream: Send + Sync {
    /// Connects to the node of `app` and offers it `protocols`, most wanted first, never empty.
    ///
    /// The stream must be protected, and its other end verified to be that node. The router sets a time limit.
    ///
    /// # Errors
    /// The node cannot be reached, or is not the one it should be: the user is refused.
    fn connect<'a>(&'a self, app: &'a str, protocols: &'a [Protocol]) -> Connecting<'a>;
}

/// A route where TLS ends here. Clones share their session tickets.
#[derive(Clone)]
pub struct Termination {
    upstream: Arc<dyn Upstream>,
    http2: Arc<ServerConfig>,
    http1: Arc<ServerConfig>,
    /// For users who offer no protocols.
    silent: Arc<ServerConfig>,
    /// Whether a certificate covers more names than the one asked for.
    many_names: bool,
}

/// What a user speaks, and the side of TLS that says so.
pub(crate) struct Agreed {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) connected: Connected,
}

impl Termination {
    /// TLS 1.2 and 1.3 under the certificates of `certificates`, and on through `upstream`.
    ///
    /// # Errors
    /// The TLS library refuses its own settings.
    pub fn new(
        certificates: Arc<dyn ResolvesServerCert>,
        upstream: Arc<dyn Upstream>,
    ) -> Result<Termination, Error> {
        Termination::with_key_log(certificates, upstream, None)
    }

    /// The same, with a log of the users' session keys: whoever has it can read what the router read anyway.
    ///
    /// # Errors
    /// As [`Termination::new`].
    pub fn with_key_log(
        certificates: Arc<dyn ResolvesServerCert>,
        upstream: Arc<dyn Upstream>,
        key_log: Option<Arc<dyn KeyLog>>,
    ) -> Result<Termination, Error> {
        let tls = |error: rustls::Error| Error::Tls { reason: error.to_string() };
        let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(tls)?;
        if let Some(log) = key_log {
            config.key_log = log;
        }
        let speaking = |protocol: Protocol| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.name().to_vec()];
            Arc::new(config)
        };
        Ok(Termination {
            upstream,
            http2: speaking(Protocol::Http2),
            http1: speaking(Protocol::Http1),
            silent: Arc::new(config),
            many_names: false,
        })
    }

    /// The same, where one certificate covers the names of several applications.
    ///
    /// Over HTTP/2 browsers send what is for one name to another that the certificate covers (RFC 9113, section 9.1.1): to
    /// another application, which would be told what was not meant for it. So users who can speak HTTP/1.1 do, which
    /// knows no such thing. Who offers HTTP/2 alone is no browser, and gets it.
    pub fn of_many_names(self) -> Termination {
        Termination { many_names: true, ..self }
    }

    /// Connects to the node, and says how to answer a user who offers these protocols.
    pub(crate) async fn connect(&self, app: &str, offered: &[Vec<u8>]) -> Result<Agreed, Refusal> {
        // Who offers nothing speaks what was spoken before there were offers.
        let wanted: Vec<Protocol> = match offered {
            [] => vec![Protocol::Http1],
            _ => offered.iter().filter_map(|name| Protocol::from_name(name)).collect(),
        };
        let wanted = match self.many_names && wanted.contains(&Protocol::Http1) {
            true => vec![Protocol::Http1],
            false => wanted,
        };
        if wanted.is_empty() {
            return Err(Refusal::NoProtocol);
        }
        let connected = self.upstream.connect(app, &wanted).await.map_err(|_| Refusal::Unreachable)?;
        // A node that chooses nothing speaks HTTP/1.1, like a user who offers nothing.
        let spoken = connected.protocol.unwrap_or(Protocol::Http1);
        if !wanted.contains(&spoken) {
            return Err(Refusal::NoProtocol);
        }
        let config = match spoken {
            _ if offered.is_empty() => &self.silent,
            Protocol::Http2 => &self.http2,
            Protocol::Http1 => &self.http1,
        };
        Ok(Agreed { config: config.clone(), connected })
    }
}

impl fmt::Debug for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Termination").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A node that chooses `chooses`, whatever it is offered.
    struct Node {
        chooses: io::Result<Option<Protocol>>,
    }

    impl Upstream for Node {
        fn connect<'a>(&'a self, app: &'a str, protocols: &'a [Protocol]) -> Connecting<'a> {
            assert_eq!(app, "app");
            assert!(!protocols.is_empty());
            Box::pin(async {
                let protocol = *self.chooses.as_ref().map_err(|error| io::Error::from(error.kind()))?;
                Ok(Connected { stream: Box::new(tokio::io::duplex(1).0), protocol })
            })
        }
    }

    #[derive(Debug)]
    struct NoCertificates;

    impl ResolvesServerCert for NoCertificates {
        fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
            None
        }
    }

    async fn answer(
        offered: &[&str],
        chooses: io::Result<Option<Protocol>>,
    ) -> Result<Vec<Vec<u8>>, Refusal> {
        let termination = Termination::new(Arc::new(NoCertificates), Arc::new(Node { chooses })).unwrap();
        let offered: Vec<_> = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(termination.connect("app", &offered).await?.config.alpn_protocols.clone())
    }

    #[tokio::test]
    async fn the_user_gets_what_the_node_chose() {
        let (h1, h2) = (Some(Protocol::Http1), Some(Protocol::Http2));
        let both = ["h2", "http/1.1"];
        assert_eq!(answer(&both, Ok(h2)).await, Ok(vec![b"h2".to_vec()]));
        assert_eq!(answer(&both, Ok(h1)).await, Ok(vec![b"http/1.1".to_vec()]));
        assert_eq!(answer(&both, Ok(None)).await, Ok(vec![b"http/1.1".to_vec()]));
        assert_eq!(answer(&[], Ok(h1)).await, Ok(vec![]));
        assert_eq!(answer(&[], Ok(None)).await, Ok(vec![]));
        assert_eq!(answer(&["h3", "h2"], Ok(h2)).await, Ok(vec![b"h2".to_vec()]));
    }

    /// The node takes what it is offered first.
    struct Willing;

    impl Upstream for Willing {
        fn connect<'a>(&'a self, _: &'a str, protocols: &'a [Protocol]) -> Connecting<'a> {
            let protocol = protocols.first().copied();
            Box::pin(async move { Ok(Connected { stream: Box::new(tokio::io::duplex(1).0), protocol }) })
        }
    }

    #[tokio::test]
    async fn under_a_certificate_of_many_names_browsers_speak_what_knows_one_at_a_time() {
        let one = Termination::new(Arc::new(NoCertificates), Arc::new(Willing)).unwrap();
        let many = one.clone().of_many_names();
        for (offered, under_one, under_many) in [
            (vec!["h2", "http/1.1"], "h2", "http/1.1"),
            (vec!["http/1.1", "h2"], "http/1.1", "http/1.1"),
            (vec!["h2"], "h2", "h2"),
        ] {
            let offered: Vec<_> = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
            for (termination, expected) in [(&one, under_one), (&many, under_many)] {
                let agreed = termination.connect("app", &offered).await.ok().unwrap();
                assert_eq!(agreed.config.alpn_protocols, [expected.as_bytes().to_vec()], "{offered:?}");
            }
        }
    }

    #[tokio::test]
    async fn nobody_gets_what_was_not_offered() {
        let (h1, h2) = (Some(Protocol::Http1), Some(Protocol::Http2));
        assert_eq!(answer(&["h3", "smtp"], Ok(h1)).await, Err(Refusal::NoProtocol));
        assert_eq!(answer(&["h2"], Ok(None)).await, Err(Refusal::NoProtocol));
        assert_eq!(answer(&["h2"], Ok(h1)).await, Err(Refusal::NoProtocol));
        assert_eq!(answer(&["http/1.1"], Ok(h2)).await, Err(Refusal::NoProtocol));
        assert_eq!(answer(&[], Ok(h2)).await, Err(Refusal::NoProtocol));
        let refused = Err(io::ErrorKind::ConnectionRefused.into());
        assert_eq!(answer(&["h2"], refused).await, Err(Refusal::Unreachable));
    }
}
