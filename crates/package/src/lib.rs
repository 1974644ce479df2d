//! From a project to a package, and from a package to its fingerprint.
//!
//! A *project* is the directory in which the code provider works; a *package* is the tar that the
//! code provider hands to the operator; the *fingerprint* is the MRENCLAVE which an enclave started
//! from that package must show, a function of the package and the enclave size and of nothing else.
//!
//! ```text
//! config, ignore, text  what the owner wrote: mse.toml, .mseignore, in whatever encoding
//! application           the module that python_application names: whether it is there, and no factory
//! discovery             the files of a project that name packages, and which of them counts
//! cloud_config          the part of mse.toml that `mse cloud` reads
//! python, native        the interpreter, and the image made of its packages
//! code_archive          deterministic tars of code and tests, and their strict reader
//! image                 container images: every layer, digest and file, read as a stream
//! bundle                the package tar itself
//! tape, paths           tar streams, and paths as trees within a budget of memory
//! enclave, fingerprint  the Gramine manifest, and what it measures to
//! build                 project -> package
//! opened (Package)      package -> fingerprint, image, tests; checks all before it writes anything
//! instance              what the operator adds to a package to start one node of it
//! ```
//!
//! Nothing in here is trusted but the project that a package is built from: a package may come from
//! anyone, so it is checked whole, within limits, before one byte of it is written anywhere.

pub mod application;
pub mod build;
pub mod bundle;
pub mod cloud_config;
pub mod code_archive;
pub mod config;
pub mod discovery;
pub mod enclave;
mod error;
pub mod fingerprint;
pub mod ignore;
pub mod image;
pub mod instance;
pub mod native;
mod opened;
mod paths;
pub mod python;
mod recognise;
mod region;
mod tape;
pub mod text;
mod unique;

pub use build::{Built, Project};
pub use error::Error;
pub use fingerprint::Fingerprint;
pub use native::NodeFiles;
pub use opened::Package;

/// What every fallible function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
