//! The ClientHello of a TLS connection, out of the first bytes it sends: RFC 8446, sections 4.1.2, 4.2 and 5.1 (TLS 1.2:
//! RFC 5246, sections 6.2.1 and 7.4.1.2), the name in it: RFC 6066, section 3, and the protocols: RFC 7301, section 3.1.
//!
//! Everything comes from whoever connects and nothing of it is trusted. What is read is kept, byte for byte, to be
//! replayed to the node or to the TLS library. The reader is strict where TLS is: lengths must fit exactly, nothing may
//! be there twice, and a name that is no host name is not repaired. It looks at the two extensions it needs and passes
//! over the others.

use crate::name::Name;
use crate::refusal::Refusal;

/// The most bytes in which a ClientHello must be complete, record headers included.
pub const HELLO_LIMIT: usize = 64 * 1024;

/// The longest fragment of a plaintext record (RFC 8446, section 5.1).
const FRAGMENT_LIMIT: usize = 1 << 14;
/// Type, version and length of a record.
const RECORD_HEADER: usize = 5;
/// Type and length of a handshake message.
const MESSAGE_HEADER: usize = 4;
/// The content type of handshake records.
const HANDSHAKE: u8 = 22;
/// The handshake type of a ClientHello.
const CLIENT_HELLO: u8 = 1;

/// What a route needs to know of a ClientHello.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientHello {
    /// The server that the client asks for, if it says.
    pub name: Option<Name>,
    /// The protocols it offers (ALPN), most wanted first; empty where it offers none.
    pub protocols: Vec<Vec<u8>>,
}

/// Takes bytes as they come, until a ClientHello is complete.
///
/// Work is in proportion to the bytes, however small the pieces are.
#[derive(Debug, Default)]
pub struct HelloReader {
    /// Everything that came.
    received: Vec<u8>,
    /// How many bytes of `received` are records that were looked at.
    records: usize,
    /// The fragments of those, put together.
    message: Vec<u8>,
}

impl HelloReader {
    /// A reader that has seen nothing.
    pub fn new() -> HelloReader {
        HelloReader::default()
    }

    /// Takes the next bytes. `Ok(None)` asks for more.
    ///
    /// # Errors
    /// What came is no ClientHello, or none that can be routed; the reader is of no more use but for
    /// [`HelloReader::received`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<ClientHello>, Refusal> {
        self.received.extend_from_slice(bytes);
        loop {
            let rest = &self.received[self.records..];
            // What is certain is refused without waiting for the rest of it.
            if rest.first().is_some_and(|&kind| kind != HANDSHAKE)
                || rest.get(1).is_some_and(|&major| major != 3)
            {
                return Err(if self.records == 0 { Refusal::NotTls } else { Refusal::Malformed });
            }
            let length = match *rest {
                [_, _, _, high, low, ..] => usize::from(u16::from_be_bytes([high, low])),
                _ => return self.ask_for_more(),
            };
            match length {
                0 => return Err(Refusal::Malformed),
                _ if length > FRAGMENT_LIMIT => return Err(Refusal::TooLarge),
                _ => {}
            }
            let Some(fragment) = rest.get(RECORD_HEADER..RECORD_HEADER + length) else {
                return self.ask_for_more();
            };
            self.message.extend_from_slice(fragment);
            self.records += RECORD_HEADER + length;
            if self.records > HELLO_LIMIT {
                return Err(Refusal::TooLarge);
            }
            let Some(body) = message_length(&self.message)? else { continue };
            if self.message.len() >= MESSAGE_HEADER + body {
                // A hello ends with its record: nothing else can be said before the server has answered.
                let (_, body_and_rest) = self.message.split_at(MESSAGE_HEADER);
                return if body_and_rest.len() == body {
                    parse(body_and_rest).map(Some)
                } else {
                    Err(Refusal::Malformed)
                };
            }
        }
    }

    fn ask_for_more(&self) -> Result<Option<ClientHello>, Refusal> {
        if self.received.len() < HELLO_LIMIT { Ok(None) } else { Err(Refusal::TooLarge) }
    }

    /// Everything that was pushed, to be replayed.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// The same, given away.
    pub fn into_received(self) -> Vec<u8> {
        self.received
    }
}

/// The length of the message's body, as soon as its header is there.
fn message_length(message: &[u8]) -> Result<Option<usize>, Refusal> {
    if message.first().is_some_and(|&kind| kind != CLIENT_HELLO) {
        return Err(Refusal::Malformed);
    }
    let [_, high, middle, low, ..] = *message else { return Ok(None) };
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    if length > HELLO_LIMIT { Err(Refusal::TooLarge) } else { Ok(Some(length)) }
}

/// Reads the body of a ClientHello, all of it.
fn parse(body: &[u8]) -> Result<ClientHello, Refusal> {
    let mut hello = ClientHello { name: None, protocols: Vec::new() };
    let mut body = Bytes(body);
    body.take(2 + 32)?; // version and random
    if body.vector8()?.0.len() > 32 {
        return Err(Refusal::Malformed); // session id
    }
    let suites = body.vector16()?.0.len();
    if suites == 0 || !suites.is_multiple_of(2) {
        return Err(Refusal::Malformed);
    }
    if body.vector8()?.0.is_empty() {
        return Err(Refusal::Malformed); // compression methods
    }
    if body.0.is_empty() {
        return Ok(hello); // TLS 1.2 may have no extensions at all
    }
    let mut extensions = body.vector16()?;
    body.end()?;

    let mut seen = Vec::new();
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.vector16()?;
        seen.push(kind);
        // The second of two is not looked at; that there are two is found below.
        match kind {
            0 if hello.name.is_none() => hello.name = Some(server_name(content)?),
            16 if hello.protocols.is_empty() => hello.protocols = protocols(content)?,
            _ => {}
        }
    }
    seen.sort_unstable();
    match seen.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(Refusal::Repeated),
        false => Ok(hello),
    }
}

/// ServerNameList: one host name, the only kind of name there is.
fn server_name(mut content: Bytes<'_>) -> Result<Name, Refusal> {
    let mut list = content.vector16()?;
    content.end()?;
    if list.take(1)? != [0] {
        return Err(Refusal::Malformed);
    }
    let name = list.vector16()?;
    if list.0.first() == Some(&0) {
        return Err(Refusal::Repeated);
    }
    list.end()?;
    Name::from_bytes(name.0).map_err(|_| Refusal::BadName)
}

/// ProtocolNameList: one at least, none of them empty.
fn protocols(mut content: Bytes<'_>) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut list = content.vector16()?;
    content.end()?;
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let protocol = list.vector8()?;
        if protocol.0.is_empty() {
            return Err(Refusal::Malformed);
        }
        protocols.push(protocol.0.to_vec());
    }
    if protocols.is_empty() { Err(Refusal::Malformed) } else { Ok(protocols) }
}

/// Bytes not yet read, with TLS's way of writing lengths (RFC 8446, section 3.4).
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Refusal::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, Refusal> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Result<Bytes<'a>, Refusal> {
        let length = self.take(1)?[0];
        self.take(length.into()).map(Bytes)
    }

    fn vector16(&mut self) -> Result<Bytes<'a>, Refusal> {
        let length = self.u16()?;
        self.take(length.into()).map(Bytes)
    }

    fn end(&self) -> Result<(), Refusal> {
        if self.0.is_empty() { Ok(()) } else { Err(Refusal::Malformed) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
