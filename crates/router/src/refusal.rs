//! Why a connection is refused, and the TLS alert (RFC 8446, section 6; RFC 5246, section 7.2) that tells the peer.

use std::fmt;

/// Why a connection did not reach its node.
///
/// Whose fault: the user's software's up to [`Refusal::Handshake`], the router's settings' for the three *busy* ones,
/// the node's for [`Refusal::Unreachable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The first bytes are no TLS handshake.
    NotTls,
    /// The ClientHello contradicts its own lengths, or is another message.
    Malformed,
    /// Something in the hello is there twice that may be there once.
    Repeated,
    /// The hello is larger than the limit, or a record than TLS allows.
    TooLarge,
    /// The hello was not complete before the deadline.
    TooSlow,
    /// The user hung up before the hello was complete.
    HungUp,
    /// The hello names no server.
    NoName,
    /// What it names is no host name.
    BadName,
    /// No application has that name.
    UnknownName,
    /// Where TLS ends here: user and node have no protocol in common.
    NoProtocol,
    /// Where TLS ends here: the handshake with the user failed or took too long.
    Handshake,
    /// The router has all the connections it may have.
    Busy,
    /// Too many connections, or too many of one address, have not finished their hello.
    HellosBusy,
    /// The application has all the connections it may have.
    AppBusy,
    /// The node could not be reached, or is not the one it should be.
    Unreachable,
}

impl Refusal {
    /// Every reason there is.
    pub const ALL: [Refusal; 15] = [
        Refusal::NotTls,
        Refusal::Malformed,
        Refusal::Repeated,
        Refusal::TooLarge,
        Refusal::TooSlow,
        Refusal::HungUp,
        Refusal::NoName,
        Refusal::BadName,
        Refusal::UnknownName,
        Refusal::NoProtocol,
        Refusal::Handshake,
        Refusal::Busy,
        Refusal::HellosBusy,
        Refusal::AppBusy,
        Refusal::Unreachable,
    ];

    /// The reason as a label of a metric: lower case and underscores, stable.
    pub fn label(self) -> &'static str {
        match self {
            Refusal::NotTls => "not_tls",
            Refusal::Malformed => "malformed",
            Refusal::Repeated => "repeated",
            Refusal::TooLarge => "too_large",
            Refusal::TooSlow => "too_slow",
            Refusal::HungUp => "hung_up",
            Refusal::NoName => "no_name",
            Refusal::BadName => "bad_name",
            Refusal::UnknownName => "unknown_name",
            Refusal::NoProtocol => "no_protocol",
            Refusal::Handshake => "handshake",
            Refusal::Busy => "busy",
            Refusal::HellosBusy => "hellos_busy",
            Refusal::AppBusy => "app_busy",
            Refusal::Unreachable => "unreachable",
        }
    }

    /// The record with the fatal alert that says so; `None` where the peer would not understand one, is gone, or was
    /// told by the TLS library.
    pub(crate) fn alert(self) -> Option<[u8; 7]> {
        let description = match self {
            Refusal::NotTls | Refusal::TooSlow | Refusal::HungUp | Refusal::Handshake => return None,
            Refusal::Malformed => 50, // decode_error
            Refusal::TooLarge => 22,  // record_overflow
            Refusal::Repeated => 47,  // illegal_parameter
            Refusal::NoName | Refusal::BadName | Refusal::UnknownName => 112, // unrecognized_name
            Refusal::NoProtocol => 120, // no_application_protocol
            Refusal::Busy | Refusal::HellosBusy | Refusal::AppBusy | Refusal::Unreachable => 80, // internal_error
        };
        // An alert record, legacy version 3.3, two bytes: fatal, and which.
        Some([21, 3, 3, 0, 2, 2, description])
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_listed_once_where_it_is_counted() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index, "{refusal}");
        }
        let labels: std::collections::BTreeSet<_> =
            Refusal::ALL.iter().map(|refusal| refusal.label()).collect();
        assert_eq!(labels.len(), Refusal::ALL.len());
    }
}
