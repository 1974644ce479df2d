//! Evidence over a verifier's nonce: the node's certificate and a fresh quote, bound to its key and to that nonce.
//!
//! Answered by the configuration server, then in front of the application. Quotes are slow on real hardware, so they
//! are made one at a time; few wait, and the rest is told to come again. No collateral: an enclave fetches nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use attestation::ratls::{self, LiveEvidence};

use crate::node::Node;
use crate::{Refusal, journal};

/// Where evidence is served.
pub const PATH: &str = "/.well-known/mse/evidence";

/// How many may be made or wait at a time.
pub const PLACES: usize = 5;

/// An HTTP answer, for whichever server gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Name and value of each header.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The whole body.
    pub body: String,
}

impl Answer {
    /// The problem+json of a refusal.
    pub fn refused(refusal: &Refusal) -> Answer {
        let mut headers = vec![("Content-Type", "application/problem+json"), ("Cache-Control", "no-store")];
        if refusal.is_passing() {
            headers.push(("Retry-After", "1"));
        }
        if let Refusal::Method(allowed) = refusal {
            headers.push(("Allow", allowed));
        }
        Answer { status: refusal.status(), headers, body: refusal.to_json() }
    }
}

/// The queue for quotes.
#[derive(Default)]
pub(crate) struct Queue {
    taken: AtomicUsize,
    making: Mutex<()>,
}

/// A place in the queue, given up when dropped.
pub(crate) struct Place<'q>(&'q Queue);

impl Queue {
    /// Takes a place, without waiting.
    pub(crate) fn enter(&self) -> Result<Place<'_>, Refusal> {
        let taken = self
            .taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| (taken < PLACES).then_some(taken + 1));
        taken.map(|_| Place(self)).map_err(|_| Refusal::QuoteQueue)
    }
}

impl Place<'_> {
    /// Waits for its turn, and works.
    fn work<T>(&self, work: impl FnOnce() -> T) -> T {
        let _turn = self.0.making.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Node {
    /// How many requests for evidence are being answered or wait.
    pub fn waiting_quotes(&self) -> usize {
        self.quotes.taken.load(Ordering::Acquire)
    }

    /// Answers a request for [`PATH`]: its method and its query (without `?`). Blocks while a quote is made.
    pub fn answer_evidence(&self, method: &str, query: &str) -> Answer {
        match self.evidence(method, query) {
            Ok(evidence) => Answer {
                status: 200,
                headers: vec![("Content-Type", "application/json"), ("Cache-Control", "no-store")],
                body: evidence.to_json(),
            },
            Err(refusal) => Answer::refused(&refusal),
        }
    }

    fn evidence(&self, method: &str, query: &str) -> Result<LiveEvidence, Refusal> {
        if method != "GET" {
            return Err(Refusal::Method("GET"));
        }
        let nonce = nonce(query)?;
        let place = self.quotes.enter()?;
        let claims = self.claims(Some(nonce)).encode();
        let quote = place.work(|| self.platform.quote(&ratls::report_data(&claims))).map_err(|error| {
            journal::note(&format!("cannot make a quote: {error}"));
            Refusal::Internal
        })?;
        Ok(LiveEvidence::new(self.certificate().to_vec(), quote, claims))
    }
}

/// The nonce of `nonce=HEX`, 16 to 64 bytes, given exactly once; other parameters are ignored.
fn nonce(query: &str) -> Result<Vec<u8>, Refusal> {
    let mut given = query.split('&').filter_map(|parameter| parameter.strip_prefix("nonce="));
    let (Some(hex), None) = (given.next(), given.next()) else { return Err(Refusal::Nonce) };
    let nonce = hex::decode(hex).map_err(|_| Refusal::Nonce)?;
    match ratls::NONCE_BYTES.contains(&nonce.len()) {
        true => Ok(nonce),
        false => Err(Refusal::Nonce),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_has_16_to_64_bytes_of_hex() {
        for bytes in [16, 32, 64] {
            let hex = "Ab".repeat(bytes);
            assert_eq!(nonce(&format!("nonce={hex}")).unwrap(), vec![0xab; bytes]);
            assert_eq!(nonce(&format!("a=b&nonce={hex}&c")).unwrap(), vec![0xab; bytes]);
        }
        let (short, long, good) = ("00".repeat(15), "00".repeat(65), "00".repeat(16));
        for query in [
            String::new(),
            "nonce=".into(),
            format!("nonce={short}"),
            format!("nonce={long}"),
            format!("nonce={good}0"),
            format!("nonce={good}zz"),
            format!("Nonce={good}"),
            format!("nonce={good}&nonce={good}"),
        ] {
            assert_eq!(nonce(&query), Err(Refusal::Nonce), "{query}");
        }
    }

    #[test]
    fn the_queue_has_so_many_places() {
        let queue = Queue::default();
        let mut places: Vec<_> = (0..PLACES).map(|_| queue.enter().unwrap()).collect();
        assert_eq!(queue.enter().err(), Some(Refusal::QuoteQueue));
        places.pop();
        assert!(queue.enter().is_ok());
    }
}
