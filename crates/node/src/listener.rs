//! The one listening socket. It is bound once, before anything slow happens, and passes from the configuration
//! server to the application: whoever connects in between waits in the kernel's backlog, and the port is never lost.

use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{Error, Result};

/// How many connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// Listens on `address`. The socket is not inherited by other programs, and does not share its port.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Connections of an earlier start may still be closing.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|source| Error::Listen { address, source })
}
