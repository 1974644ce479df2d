//! Where a node is: the name it is asked by, and the address where that name is looked for.
//!
//! The name goes into SNI and `Host`, whatever the address; neither is trusted, for only the key of the
//! peer decides (see [`crate::channel`]).

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use rustls_pki_types::ServerName;
use url::{Host, Url};

use crate::error::Error;

/// A node's name, port and, when the caller knows better than the resolver, its IP address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: Host<String>,
    port: u16,
    address: Option<IpAddr>,
}

impl Target {
    /// A node by name (a DNS name or an IP address) and port.
    pub fn new(host: &str, port: u16) -> Result<Target, Error> {
        let refuse = |reason| Error::Target { given: host.to_owned(), reason };
        let bare = host.parse::<Ipv6Addr>().map(Host::Ipv6).map_err(|_| ());
        let host = bare.or_else(|()| Host::parse(host)).map_err(|_| refuse("it is not a host name"))?;
        if port == 0 {
            return Err(refuse("port 0 cannot be connected to"));
        }
        let target = Target { host, port, address: None };
        target.server_name().map_err(|()| refuse("it cannot be put in a TLS handshake"))?;
        Ok(target)
    }

    /// A node by URL, `https://host[:port][/]`: anything beyond the root is refused, for it would be ignored.
    pub fn from_url(text: &str) -> Result<Target, Error> {
        let refuse = |reason| Error::Target { given: text.to_owned(), reason };
        let url = Url::parse(text).map_err(|_| refuse("it is not a URL of the form https://host:port"))?;
        if url.scheme() != "https" {
            return Err(refuse("a node speaks https only"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("a user name or password has no place in it"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("give host and port only, without a path"));
        }
        let host = url.host_str().ok_or_else(|| refuse("it names no host"))?;
        let port = url.port_or_known_default().ok_or_else(|| refuse("it names no port"))?;
        Target::new(host, port)
    }

    /// The same node, looked for at this IP address instead of where its name resolves to.
    pub fn resolve_to(mut self, address: IpAddr) -> Target {
        self.address = Some(address);
        self
    }

    /// The node's name.
    pub fn host(&self) -> String {
        self.host.to_string()
    }

    /// The node's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, the port left out where it is https's own: the value of a `Host` header.
    pub fn authority(&self) -> String {
        if self.port == 443 { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }

    /// `https://host:port`: the origin of the node's pages.
    pub fn origin(&self) -> String {
        format!("https://{}", self.authority())
    }

    /// The name for SNI; an IP address is not sent there (RFC 6066, section 3).
    pub(crate) fn server_name(&self) -> Result<ServerName<'static>, ()> {
        match &self.host {
            Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|_| ()),
            Host::Ipv4(ip) => Ok(ServerName::from(IpAddr::V4(*ip))),
            Host::Ipv6(ip) => Ok(ServerName::from(IpAddr::V6(*ip))),
        }
    }

    /// Whether it is on this machine by its name alone: a loopback address, or a name under `.localhost`.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
            Host::Domain(name) => is_localhost(name),
        }
    }

    /// The addresses to try, in order. Names under `.localhost` are loopback (RFC 6761, section 6.3) and
    /// never reach a resolver. May block on the system's resolver.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>, Error> {
        let at = |ip: IpAddr| SocketAddr::new(ip, self.port);
        if let Some(ip) = self.address {
            return Ok(vec![at(ip)]);
        }
        let name = match &self.host {
            Host::Ipv4(ip) => return Ok(vec![at(IpAddr::V4(*ip))]),
            Host::Ipv6(ip) => return Ok(vec![at(IpAddr::V6(*ip))]),
            Host::Domain(name) => name,
        };
        if is_localhost(name) {
            return Ok(vec![at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into())]);
        }
        let unresolved = |source| Error::Unresolved { host: name.clone(), source };
        let found: Vec<_> = (name.as_str(), self.port).to_socket_addrs().map_err(unresolved)?.collect();
        if found.is_empty() {
            return Err(unresolved(io::Error::from(io::ErrorKind::NotFound)));
        }
        Ok(found)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)?;
        match self.address {
            Some(address) => write!(f, " (at {address})"),
            None => Ok(()),
        }
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_name_and_port() {
        let target = Target::from_url("https://myapp.fr:7777").unwrap();
        assert_eq!((target.host(), target.port()), ("myapp.fr".to_owned(), 7777));
        assert_eq!(target.authority(), "myapp.fr:7777");
        assert_eq!(Target::from_url("https://myapp.fr/").unwrap().authority(), "myapp.fr");
        assert_eq!(Target::from_url("https://[::1]:7777").unwrap().authority(), "[::1]:7777");
        assert_eq!(Target::new("::1", 7777).unwrap().authority(), "[::1]:7777");
    }

    #[test]
    fn what_is_no_address_of_a_node_is_refused() {
        for bad in [
            "http://myapp.fr",
            "myapp.fr:7777",
            "https://",
            "https://user@myapp.fr",
            "https://myapp.fr/path",
            "https://myapp.fr/?query",
            "https://my app.fr",
            "https://myapp.fr:99999",
            "https://myapp.fr:0",
        ] {
            assert!(matches!(Target::from_url(bad), Err(Error::Target { .. })), "{bad}");
        }
    }

    #[test]
    fn names_under_localhost_are_loopback_without_a_resolver() {
        for name in ["localhost", "myapp.localhost", "deep.MYAPP.LocalHost", "app_name.localhost."] {
            let found = Target::new(name, 80).unwrap().addresses().unwrap();
            assert!(found.iter().all(|address| address.ip().is_loopback()), "{name}: {found:?}");
        }
        assert!(!is_localhost("notlocalhost"));
        assert!(!is_localhost("localhost.fr"));
    }

    #[test]
    fn an_override_replaces_the_resolver_and_keeps_the_name() {
        let target = Target::new("myapp.fr", 7777).unwrap().resolve_to(Ipv4Addr::LOCALHOST.into());
        assert_eq!(target.addresses().unwrap(), ["127.0.0.1:7777".parse().unwrap()]);
        assert_eq!(target.authority(), "myapp.fr:7777");
    }
}
