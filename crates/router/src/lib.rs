//! The operator's public port: one TCP listener for every application.
//!
//! The router reads the first TLS message of a connection, the ClientHello, finds the application by the name in it
//! (Server Name Indication: RFC 6066, section 3), and then does one of two things:
//!
//! * **pass-through**: the bytes go to the node as they came and come back as they are. TLS ends in the enclave.
//! * **terminate**: TLS ends here, under the operator's certificate, and what it carried goes to the node over another
//!   TLS connection, which an [`Upstream`] makes. The backend makes it attested; nothing here goes out in clear.
//!
//! # What the router sees
//!
//! It belongs to the operator, so it is trusted by nobody but the operator. In pass-through it sees, and the operator
//! with it: the addresses of both ends, everything in the ClientHello (the name of the application, the protocols and
//! versions the user's software knows), when bytes flow and how many, each way. It does not see what they say, and it cannot change them unnoticed: the user's
//! TLS is with the enclave. It can refuse, delay, cut off, or send a connection to the wrong node, which the user's TLS
//! then refuses. Where it terminates, it sees **everything**: that is what the application's owner chose by
//! `--untrusted-ssl`, and only a channel from the router to the node remains protected.
//!
//! No PROXY protocol is sent, since the node's port speaks nothing but TLS and its bytes are untouched: the node
//! sees the router's address in place of the user's.
//!
//! # What it trusts
//!
//! The [`Table`], which the backend fills. Every byte of a user or a node is hostile: the hello has a size
//! ([`HELLO_LIMIT`]) and a deadline, a name is a host name or nothing, buffers are bounded, connections are counted and limited, and
//! an idle one ends.
//!
//! ```text
//! name      host names: what a route can be called
//! hello     TLS records -> ClientHello -> name and protocols
//! table     names -> routes; replaced while connections run
//! upstream  the way to a node where TLS ends here
//! relay     bytes both ways between two streams
//! limits    who may come in
//! metrics   what is counted
//! refusal   why a connection is refused, and the alert that says so
//! server    the listener, and each connection's course
//! ```

mod error;
mod hello;
mod limits;
mod metrics;
mod name;
mod refusal;
mod relay;
mod server;
mod table;
mod upstream;

pub use error::Error;
pub use hello::{ClientHello, HELLO_LIMIT, HelloReader};
pub use limits::network;
pub use metrics::{Counter, Gauge, Metrics, RouteMetrics};
pub use name::{Name, NameError};
pub use refusal::Refusal;
pub use server::{Drained, Router, Settings};
pub use table::{Entry, Route, Table};
pub use upstream::{Connected, Connecting, Protocol, Stream, Termination, Upstream};
