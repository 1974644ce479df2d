//! Everything that can go wrong on this side of a connection to a node, and whose fault it is.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::backend::ProblemKind;

/// Why a node could not be reached, was not believed, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's address of a node is not one.
    #[error("'{given}' is no address of a node: {reason}")]
    Target {
        /// What the caller gave.
        given: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// The name of the node has no address.
    #[error("no address found for '{host}': {source}")]
    Unresolved {
        /// The name that was looked up.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },

    /// Nothing accepts connections where the node should be.
    #[error("nothing answers at {address}: {source}")]
    Unreachable {
        /// Where it was tried.
        address: String,
        /// What the system said.
        source: io::Error,
    },

    /// The node (or something between) is too slow.
    #[error("{target} did not {what} within {} s", .limit.as_secs())]
    TooSlow {
        /// The node.
        target: String,
        /// What was being waited for, as a verb.
        what: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },

    /// The TLS handshake failed for another reason than the key.
    #[error("the TLS handshake with {target} failed, which is the peer's doing: {reason}")]
    Handshake {
        /// The node.
        target: String,
        /// What the TLS library said.
        reason: String,
    },

    /// The peer holds another key than the verified one: it is another enclave, or something in between.
    #[error(
        "the peer at {target} is not the enclave that was verified: expected TLS key {expected}, found {found}"
    )]
    WrongKey {
        /// Where the connection went.
        target: String,
        /// SHA-256 of the SubjectPublicKeyInfo(s) that would have been accepted, in hex.
        expected: String,
        /// SHA-256 of the SubjectPublicKeyInfo that the peer showed, in hex.
        found: String,
    },

    /// The connection broke, or the peer does not speak HTTP.
    #[error("the conversation with {target} broke off: {reason}")]
    Conversation {
        /// The node.
        target: String,
        /// What the HTTP library said.
        reason: String,
    },

    /// An answer is longer than anything a node sends.
    #[error("the answer of {target} is longer than {limit} bytes, which no node sends")]
    AnswerTooLong {
        /// The node.
        target: String,
        /// The limit, in bytes.
        limit: usize,
    },

    /// The node refused what it was asked for, and changed nothing.
    #[error("the node at {target} refused {asked} (HTTP {status}): {reason}")]
    Refused {
        /// The node.
        target: String,
        /// What was asked for.
        asked: &'static str,
        /// The HTTP status.
        status: u16,
        /// The reason the node gave.
        reason: String,
    },

    /// The node has its configuration and takes no other.
    #[error("the node at {target} does not wait for a configuration: it has one, and accepts one only")]
    Configured {
        /// The node.
        target: String,
    },

    /// The node answered with something that the protocol does not know.
    #[error("the peer at {target} does not answer as a node: expected {expected}, found {found}")]
    UnexpectedAnswer {
        /// The node.
        target: String,
        /// What the protocol says.
        expected: &'static str,
        /// What came.
        found: String,
    },

    /// Live evidence is about another question than the one asked.
    #[error("the node at {target} answered for another nonce: expected {expected}, found {found}")]
    Nonce {
        /// The node.
        target: String,
        /// The nonce sent, in hex.
        expected: String,
        /// The nonce in the evidence, in hex, or "none".
        found: String,
    },

    /// Live evidence is about another key than that of the connection it came over.
    #[error(
        "the evidence from {target} is not about the peer of this connection: \
         the peer's TLS key is {connection}, the evidence speaks of {evidence}; something sits in between"
    )]
    NotThisPeer {
        /// The node.
        target: String,
        /// SHA-256 of the peer's SubjectPublicKeyInfo, in hex.
        connection: String,
        /// The keys which the evidence binds, in hex.
        evidence: String,
    },

    /// The channel ends in a certificate of the owner's, which no quote binds.
    #[error(
        "channel: owner certificate, not attested; {target} serves the application under a certificate \
         of its owner's, so the key of this connection is not proven to be the enclave's alone"
    )]
    OwnerCertificate {
        /// The node.
        target: String,
    },

    /// The caller's verification of a live node did not accept it.
    #[error("the node at {target} is not accepted: {reason}")]
    NotVerified {
        /// The node.
        target: String,
        /// Why, in the verifier's words.
        reason: String,
    },
    /// The owner's own certificate cannot serve the application.
    #[error("the owner's certificate: expected {expected}, found {found}")]
    OwnersCertificate {
        /// What it has to be.
        expected: &'static str,
        /// What it is.
        found: String,
    },

    /// Verified evidence lacks what makes it a node's.
    #[error("the evidence is genuine but not a node's: it carries no {missing}")]
    NotANode {
        /// What is missing.
        missing: &'static str,
    },

    /// A verification no longer holds.
    #[error("the verification of this enclave holds until {until}, and it is {now}; verify it again")]
    Expired {
        /// The end of the record's validity.
        until: jiff::Timestamp,
        /// The time of use.
        now: jiff::Timestamp,
    },

    /// A record has the wrong origin for what it is wanted for.
    #[error("{wanted_for} needs a record made by 'verify', and this one is of origin '{found}'")]
    Origin {
        /// What the record is wanted for.
        wanted_for: &'static str,
        /// Its origin.
        found: &'static str,
    },

    /// A file in the record directory that this store did not write.
    #[error("{} is not a record of a verification made here: {reason}", .path.display())]
    NotARecord {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },

    /// The key that signs records cannot be used.
    #[error("the key that signs records of verification, {}, cannot be used: {reason}", .path.display())]
    RecordKey {
        /// The key file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },

    /// A file of the record directory could not be read or written.
    #[error("cannot {action} {}: {source}", .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The configuration of a node cannot be sent: the caller's input is wrong.
    #[error("cannot send this configuration: {0}")]
    Configuration(String),

    /// Nobody said where collateral comes from.
    #[error("no source of collateral: neither --pccs URL was given nor does {} name a PCCS", .qcnl.display())]
    NoCollateralSource {
        /// The configuration file that was looked for.
        qcnl: PathBuf,
    },

    /// The configuration file of Intel's quote provider library cannot be understood.
    #[error("{} does not name a PCCS: {reason}", .path.display())]
    Qcnl {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// Collateral could not be had.
    #[error("no collateral from {origin}: {reason}")]
    Collateral {
        /// Where it was sought.
        origin: String,
        /// What went wrong.
        reason: String,
    },

    /// A service shows a TLS certificate that is not trusted here, as a PCCS with a certificate of its own does.
    #[error("no collateral from {origin}: {reason}")]
    UntrustedService {
        /// The service.
        origin: String,
        /// What went wrong.
        reason: String,
    },

    /// The quote does not say which platform it is of, so nobody was asked.
    #[error("the quote names no platform to ask collateral for: {0}")]
    NoPlatform(String),

    /// A collateral file is not one.
    #[error("the collateral in {origin} cannot be used: {reason}")]
    CollateralFile {
        /// The file.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The platform is not one of this installation's simulator.
    #[error("no collateral from the simulator: {0}")]
    Simulator(String),

    /// Sealing failed.
    #[error("cannot seal for this enclave: {0}")]
    Sealing(String),

    /// The local door cannot be opened.
    #[error("cannot listen on {address}: {reason}")]
    Door {
        /// The address asked for.
        address: SocketAddr,
        /// Why not.
        reason: String,
    },

    /// The caller's address of a backend is not one.
    #[error("'{given}' is no address of a backend: {reason}")]
    BackendAddress {
        /// What the caller gave.
        given: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// The token or the CA certificate for a backend cannot be used.
    #[error("the {what} cannot be used: {reason}")]
    BackendCredential {
        /// Which of them.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },

    /// A backend said no, and why.
    #[error("the backend at {backend} did not {asked} (HTTP {status}): {title}{}{detail}", if .detail.is_empty() { "" } else { "; " })]
    Backend {
        /// Its address.
        backend: String,
        /// What was asked for, as a verb.
        asked: &'static str,
        /// The HTTP status.
        status: u16,
        /// What kind of no that is.
        kind: ProblemKind,
        /// The kind in the backend's words.
        title: String,
        /// The reason in the backend's words.
        detail: String,
    },

    /// A backend answered with something that the API does not know.
    #[error("the backend at {backend} does not answer as one: expected {expected}, found {found}")]
    BackendAnswer {
        /// Its address.
        backend: String,
        /// What the API says.
        expected: String,
        /// What came.
        found: String,
    },

    /// A backend is somebody else's than recorded: its operator changed, or somebody sits in between.
    #[error(
        "the backend at {backend} has another {what} than recorded or stated: expected {expected}, found {found}"
    )]
    AnotherOperator {
        /// Its address.
        backend: String,
        /// What was compared.
        what: &'static str,
        /// What was recorded at login, or stated by the user.
        expected: String,
        /// What the backend says.
        found: String,
    },

    /// A login or the context of a deployment that is not one.
    #[error("{} is not a {what} kept here: {reason}", .path.display())]
    BackendFile {
        /// What it should be.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },

    /// A package cannot be uploaded as the caller says.
    #[error("cannot upload {}: {reason}", .path.display())]
    Upload {
        /// The package.
        path: PathBuf,
        /// Why not.
        reason: String,
    },

    /// No random bytes, or no runtime: the system's fault.
    #[error("the system does not provide {what}: {reason}")]
    System {
        /// What is missing.
        what: &'static str,
        /// What the system said.
        reason: String,
    },
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &std::path::Path, source: io::Error) -> Error {
        Error::File { action, path: path.to_owned(), source }
    }

    /// Whether trying again a little later may help: the node is starting, or changes from its
    /// configuration server to the application.
    pub fn is_passing(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::TooSlow { .. } | Error::Conversation { .. })
    }

    /// What kind of no a backend said, if this is one.
    pub fn problem(&self) -> Option<ProblemKind> {
        match self {
            Error::Backend { kind, .. } => Some(*kind),
            _ => None,
        }
    }

    /// Whether the peer was not believed (as opposed to not reached).
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Error::WrongKey { .. }
                | Error::Nonce { .. }
                | Error::NotThisPeer { .. }
                | Error::OwnerCertificate { .. }
                | Error::NotANode { .. }
                | Error::NotARecord { .. }
                | Error::Origin { .. }
                | Error::Expired { .. }
                | Error::NotVerified { .. }
                | Error::CollateralFile { .. }
                | Error::NoPlatform(_)
                | Error::AnotherOperator { .. }
        )
    }
}
