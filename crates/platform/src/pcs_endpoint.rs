//! The simulator's collateral over HTTP.
use crate::Error;
use crate::simulated::Installation;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// Any free port, for this machine only.
pub const LOOPBACK: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// A running endpoint; it stops when dropped.
#[derive(Debug)]
pub struct Endpoint {}

impl Endpoint {
    /// The base address, as a PCCS has it: `http://127.0.0.1:PORT/sgx/certification/v4/`.
    pub fn url(&self) -> &str {
        todo!()
    }
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        todo!()
    }
}

/// Serves the installation's collateral on a thread of its own.
///
/// # Errors
/// [`Error::Listen`] where the address cannot be had.
pub fn serve(installation: Installation, address: SocketAddr) -> Result<Endpoint, Error> {
    let _ = (installation, address);
    todo!()
}
