//! Bytes both ways between two streams, until both ways have ended.
//!
//! The two ways are independent: the end of one (half-close) is passed on and the other goes on. At most one buffer a
//! way is held, so a slow reader slows its writer; a way on which nothing is under way holds none. An end that breaks
//! off, or says nothing together with the other for too long, ends both.
//!
//! A node that answers and closes before it has read everything (an upload it refuses) is no break: what it said still
//! reaches the user.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep};

use crate::metrics::Counter;

/// How many buffers are kept for the next ones.
const KEPT: usize = 64;

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both ways ended.
    Finished,
    /// Both ways ended, but the node did not take all that the user sent.
    Unheard,
    /// An end broke off.
    Broken,
    /// Nothing was said for too long.
    Idle,
}

/// Buffers of one size, shared by all relays.
pub(crate) struct Buffers {
    size: usize,
    free: Mutex<Vec<Box<[u8]>>>,
}

impl Buffers {
    pub(crate) fn new(size: usize) -> Buffers {
        Buffers { size: size.max(1), free: Mutex::default() }
    }

    fn take(&self) -> Box<[u8]> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| vec![0; self.size].into())
    }

    fn give_back(&self, buffer: Box<[u8]>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(buffer);
        }
    }
}

/// Where the bytes of a relay are counted, each way.
pub(crate) struct Tally<'a> {
    pub(crate) up: [&'a Counter; 2],
    pub(crate) down: [&'a Counter; 2],
}

/// Passes bytes between `user` and `node` until both ways have ended, or one end broke off, or nothing was said for
/// `idle`.
pub(crate) async fn relay<U, N>(
    user: &mut U,
    node: &mut N,
    buffers: &Buffers,
    idle: Duration,
    tally: &Tally<'_>,
) -> End
where
    U: AsyncRead + AsyncWrite + Unpin,
    N: AsyncRead + AsyncWrite + Unpin,
{
    let (mut user, mut node) = (Pin::new(user), Pin::new(node));
    let mut up = Way::new(buffers, tally.up);
    let mut down = Way::new(buffers, tally.down);
    let mut alarm = std::pin::pin!(sleep(idle));
    let mut said = Instant::now();
    poll_fn(|cx| {
        let ended_up = up.poll(cx, user.as_mut(), node.as_mut());
        let ended_down = down.poll(cx, node.as_mut(), user.as_mut());
        match (ended_up, ended_down) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(End::Broken),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                let heard = up.state != State::Refused;
                return Poll::Ready(if heard { End::Finished } else { End::Unheard });
            }
            _ => {}
        }
        if std::mem::take(&mut up.moved) | std::mem::take(&mut down.moved) {
            said = Instant::now();
        }
        // The alarm is set anew only when it rings: setting it at every byte would be work.
        while alarm.as_mut().poll(cx).is_ready() {
            if said.elapsed() >= idle {
                return Poll::Ready(End::Idle);
            }
            alarm.as_mut().reset(said + idle);
        }
        Poll::Pending
    })
    .await
}

/// One way: from a reader to a writer.
struct Way<'a> {
    buffers: &'a Buffers,
    counters: [&'a Counter; 2],
    state: State,
    /// The buffer, and which part of it is yet to be written.
    held: Option<(Box<[u8]>, usize, usize)>,
    /// Something was written that may not have left.
    unflushed: bool,
    /// Bytes moved since this was last looked at.
    moved: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Copying,
    /// The reader has ended, and the writer is being told.
    Closing,
    Ended,
    /// The writer takes nothing more; the other way may still have something to say.
    Refused,
}

impl<'a> Way<'a> {
    fn new(buffers: &'a Buffers, counters: [&'a Counter; 2]) -> Way<'a> {
        Way { buffers, counters, state: State::Copying, held: None, unflushed: false, moved: false }
    }

    /// Moves what can be moved. Ready when this way has ended; an error is the reader's, which broke off.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        loop {
            match self.state {
                State::Ended | State::Refused => return Poll::Ready(Ok(())),
                State::Closing => {
                    let told = ready!(to.as_mut().poll_shutdown(cx));
                    self.state = if told.is_ok() { State::Ended } else { State::Refused };
                }
                State::Copying if self.held.is_some() => {
                    if ready!(self.poll_write(cx, to.as_mut())).is_err() {
                        self.refused();
                    }
                }
                State::Copying => match self.poll_read(cx, from.as_mut()) {
                    Poll::Ready(read) => read?,
                    Poll::Pending => {
                        if self.unflushed {
                            match ready!(to.as_mut().poll_flush(cx)) {
                                Ok(()) => self.unflushed = false,
                                Err(_) => {
                                    self.refused();
                                    continue;
                                }
                            }
                        }
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    fn poll_read<R: AsyncRead>(&mut self, cx: &mut Context<'_>, from: Pin<&mut R>) -> Poll<io::Result<()>> {
        let mut buffer = self.buffers.take();
        let mut space = ReadBuf::new(&mut buffer);
        let read = from.poll_read(cx, &mut space);
        let length = space.filled().len();
        if let Poll::Ready(Ok(())) = read
            && length > 0
        {
            self.moved = true;
            self.held = Some((buffer, 0, length));
            return Poll::Ready(Ok(()));
        }
        self.buffers.give_back(buffer);
        if let Poll::Ready(Ok(())) = read {
            self.state = State::Closing;
        }
        read
    }

    fn poll_write<W: AsyncWrite>(
        &mut self,
        cx: &mut Context<'_>,
        mut to: Pin<&mut W>,
    ) -> Poll<io::Result<()>> {
        let Some((buffer, start, end)) = &mut self.held else { return Poll::Ready(Ok(())) };
        while start < end {
            let written = ready!(to.as_mut().poll_write(cx, &buffer[*start..*end]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *start += written;
            self.moved = true;
            for counter in self.counters {
                counter.add(written as u64);
            }
        }
        self.unflushed = true;
        self.give_back();
        Poll::Ready(Ok(()))
    }

    fn refused(&mut self) {
        self.state = State::Refused;
        self.give_back();
    }

    fn give_back(&mut self) {
        if let Some((buffer, ..)) = self.held.take() {
            self.buffers.give_back(buffer);
        }
    }
}

impl Drop for Way<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
