//! What can be wrong with a table that the router is given. What is wrong with a connection is a
//! [`Refusal`](crate::Refusal).

/// Why a route was not taken over; nothing changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// One table leads one name two ways.
    #[error(
        "the table names '{name}' twice: expected one route for each name, which is the caller's to see to"
    )]
    NamedTwice {
        /// The name.
        name: String,
    },

    /// The name is routed already, for somebody else.
    #[error("'{name}' is a name of application '{owner}' and cannot become one of '{app}'")]
    Taken {
        /// The name.
        name: String,
        /// The application that has it.
        owner: String,
        /// The application that was to get it.
        app: String,
    },

    /// The TLS library does not accept its own settings.
    #[error("TLS towards users cannot be set up: {reason}")]
    Tls {
        /// What the library said.
        reason: String,
    },
}
