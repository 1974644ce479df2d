//! Reading a body: limited in time, in size, and in what all bodies together may take.
//!
//! A body holds secrets, so its buffer leaves no copy behind when it grows.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::OwnedSemaphorePermit;
use zeroize::Zeroizing;

use super::Shared;
use crate::Refusal;

/// What each body may take without asking for room, in bytes: configurations without large secrets always find place.
pub(super) const FREE: usize = 64 * 1024;
/// Room is given out in units of so many bytes.
pub(super) const UNIT: usize = 64 * 1024;
/// Of a body over the limit so much more is read, so that its sender comes to read the answer.
const DISCARDED: u64 = 32 * 1024 * 1024;

/// A whole body, and the room that it takes.
pub(super) struct Received {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    _room: Option<OwnedSemaphorePermit>,
}

pub(super) async fn receive(shared: &Shared, body: Incoming) -> Result<Received, Refusal> {
    let limit: Duration = shared.limits.body;
    let received = tokio::time::timeout(limit, read(shared, body)).await;
    received.unwrap_or(Err(Refusal::TooSlow { seconds: limit.as_secs() }))
}

async fn read(shared: &Shared, mut body: Incoming) -> Result<Received, Refusal> {
    let limit = shared.limits.body_bytes;
    let mut bytes = Zeroizing::new(Vec::new());
    let mut room: Option<OwnedSemaphorePermit> = None;
    let announced = body.size_hint();
    if announced.lower() > limit as u64 {
        return Err(discard(body, limit).await);
    }
    let longest = announced
        .upper()
        .map_or(limit, |upper| usize::try_from(upper).map_or(limit, |upper| upper.min(limit)));
    while let Some(frame) = body.frame().await {
        // A body that breaks off is a client that is gone: it reads no answer.
        let frame = frame.map_err(|_| Refusal::Malformed { line: 0, column: 0 })?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(discard(body, limit).await);
        }
        if bytes.len() + data.len() > bytes.capacity() {
            let capacity = (2 * (bytes.len() + data.len())).max(4096).min(longest);
            reserve(shared, &mut room, capacity)?;
            let mut larger = Zeroizing::new(Vec::with_capacity(capacity));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        bytes.extend_from_slice(data);
    }
    Ok(Received { bytes, _room: room })
}

/// Takes the room that a buffer of `capacity` bytes needs, or refuses.
fn reserve(shared: &Shared, room: &mut Option<OwnedSemaphorePermit>, capacity: usize) -> Result<(), Refusal> {
    let needed = capacity.saturating_sub(FREE).div_ceil(UNIT);
    let held = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
    let Ok(missing) = u32::try_from(needed.saturating_sub(held)) else { return Err(Refusal::Busy) };
    if missing == 0 {
        return Ok(());
    }
    let more = shared.body_room.clone().try_acquire_many_owned(missing).map_err(|_| Refusal::Busy)?;
    match room {
        Some(room) => room.merge(more),
        None => *room = Some(more),
    }
    Ok(())
}

async fn discard(mut body: Incoming, limit: usize) -> Refusal {
    let mut left = DISCARDED;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, |data| data.len() as u64)) else {
            break;
        };
        left = rest;
    }
    Refusal::TooLarge { limit }
}
