//! From code that writes to a request's body, without holding all of it: a thread writes, the request reads.

use std::io::{self, Write};

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::error::Error;

/// So many bytes go at a time.
const PIECE: usize = 64 * 1024;
/// So many pieces may wait.
const WAITING: usize = 4;

/// Takes what is written.
pub(super) struct Writing {
    pieces: Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

/// Gives it to a request.
pub(super) type Body = Receiver<io::Result<Bytes>>;

pub(super) fn pipe() -> (Writing, Body) {
    let (pieces, body) = channel(WAITING);
    (Writing { pieces, piece: Vec::with_capacity(PIECE) }, body)
}

impl Writing {
    fn send(&self, piece: io::Result<Bytes>) -> io::Result<()> {
        self.pieces.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.piece.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.piece.extend_from_slice(taken);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.send(Ok(piece.into()))
    }
}

/// Runs `write` on a thread beside `send`, which gets the body. Where both fail, what failed first is told.
pub(super) fn through<T>(
    write: impl FnOnce(&mut dyn Write) -> Result<(), Error> + Send,
    send: impl FnOnce(Body) -> Result<T, Error>,
) -> Result<T, Error> {
    let (mut writing, body) = pipe();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || match write(&mut writing) {
            // An engine that has what it wants need not read to the end.
            Ok(()) => writing.flush().or(Ok(())),
            // The request is broken off, so that half of something never passes for all.
            Err(error) => match writing.send(Err(io::ErrorKind::InvalidData.into())) {
                Ok(()) => Err(error),
                // Nobody reads any more: whoever did has an error of its own.
                Err(_) => Ok(()),
            },
        });
        let sent = send(body);
        writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        sent
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn collect(mut body: Body) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        while let Some(piece) = body.blocking_recv() {
            let failed = |source| Error::Stream { action: "read".into(), source };
            all.extend_from_slice(&piece.map_err(failed)?);
        }
        Ok(all)
    }

    fn fails(action: &str) -> Error {
        Error::Stream { action: action.into(), source: io::ErrorKind::Other.into() }
    }

    #[test]
    fn all_bytes_arrive_in_order() {
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let got = through(|out| out.write_all(&bytes).map_err(|_| fails("write")), collect).unwrap();
        assert_eq!(got, bytes);
    }

    #[test]
    fn the_error_that_came_first_is_told() {
        let failing = |out: &mut dyn Write| {
            out.write_all(&[0; 200_000]).unwrap();
            Err(fails("write"))
        };
        let told = through(failing, collect).unwrap_err();
        assert!(matches!(told, Error::Stream { action, .. } if action == "write"));

        let endless = |out: &mut dyn Write| loop {
            out.write_all(&[0; 65_536]).map_err(|_| fails("write"))?;
        };
        let told = through(endless, |_| Err::<(), _>(fails("send"))).unwrap_err();
        assert!(matches!(told, Error::Stream { action, .. } if action == "send"));
    }
}
