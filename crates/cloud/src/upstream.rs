//! The way to a node where users' TLS ends at the router: over RA-TLS, to an enclave that was verified.
//!
//! The router is the operator's and sees what its users say; this is about everybody else on the way, and about a node
//! that is not the app's. Before the first connection the node is asked for evidence over a fresh nonce: a genuine
//! enclave, with the fingerprint that this backend computed of the package, and with the app's id. From then on every
//! connection ends in that enclave's key or fails.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attestation::trust::SimulatedRoot;
use attestation::{Expected, Policy, TrustAnchors};
use client::channel::Channel;
use client::collate::Sources;
use client::live;
use client::records::{Origin, Record};
use client::target::Target;
use jiff::Timestamp;
use router::{Connected, Connecting, Protocol, Upstream};
use uuid::Uuid;

use crate::store::App;
use crate::tls_mode::TlsMode;

/// How long a node may take for its evidence.
const EVIDENCE: Duration = Duration::from_secs(60);

/// On what terms nodes are verified.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The simulator's installation and its root (PEM); `None` where there is SGX.
    pub simulator: Option<(PathBuf, String)>,
    /// Where collateral is, if not at Intel's service.
    pub pccs: Option<String>,
}

/// Verified ways to the nodes of apps.
pub struct Attested {
    terms: Terms,
    nodes: Mutex<HashMap<Uuid, Arc<Node>>>,
}

/// What is made once, while all others who want it wait.
type Slot<T> = Arc<tokio::sync::Mutex<Option<T>>>;

/// A node as the backend knows it, and what was verified of it.
struct Node {
    place: Place,
    /// One verification at a time; the others wait for it.
    record: Slot<Record>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    app: Uuid,
    address: SocketAddr,
    fingerprint: [u8; 32],
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Attested {
    /// To no node yet.
    pub fn new(terms: Terms) -> Attested {
        Attested { terms, nodes: Mutex::default() }
    }

    /// Knows these apps, and no others. What was verified of a node counts as long as the node is where it was.
    pub(crate) fn keep(&self, apps: &[App]) {
        let places = apps.iter().filter(|app| app.tls == TlsMode::UntrustedSsl).filter_map(|app| {
            let mut fingerprint = [0; 32];
            hex::decode_to_slice(app.fingerprint.as_ref()?, &mut fingerprint).ok()?;
            Some(Place { app: app.id, address: app.address?, fingerprint })
        });
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let new = places.map(|place| {
            let same = nodes.get(&place.app).filter(|node| node.place == place).cloned();
            (place.app, same.unwrap_or_else(|| Arc::new(Node { place, record: Default::default() })))
        });
        *nodes = new.collect();
    }

    async fn reach(&self, app: &str, protocols: &[Protocol]) -> Result<Connected, Failure> {
        let id: Uuid = app.parse()?;
        let node = self.nodes.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        let node = node.ok_or("no such node")?;
        let target =
            Target::new(&id.to_string(), node.place.address.port())?.resolve_to(node.place.address.ip());
        let offered: Vec<&[u8]> = protocols.iter().map(|protocol| protocol.name()).collect();
        let record = self.record(&node, &target).await?;
        let stream = match Channel::attested(&record, &target).open(&offered).await {
            // A node that was made anew is another enclave: it is verified anew, once.
            Err(client::Error::WrongKey { .. }) => {
                self.forget(&node, &record).await;
                let record = self.record(&node, &target).await?;
                Channel::attested(&record, &target).open(&offered).await?
            }
            opened => opened?,
        };
        let protocol = stream.get_ref().1.alpn_protocol().and_then(Protocol::from_name);
        Ok(Connected { stream: Box::new(stream), protocol })
    }

    /// What was verified of a node, now or before.
    async fn record(&self, node: &Node, target: &Target) -> Result<Record, Failure> {
        let (terms, place, target) = (self.terms.clone(), node.place.clone(), target.clone());
        made_once(&node.record, async move {
            let app = place.app;
            let record = tokio::task::spawn_blocking(move || verify(&terms, &place, &target)).await??;
            tracing::info!(%app, "the node was verified: users' requests go to it");
            Ok(record)
        })
        .await
    }

    async fn forget(&self, node: &Node, record: &Record) {
        let mut held = node.record.lock().await;
        if held.as_ref() == Some(record) {
            *held = None;
        }
    }
}

/// What the slot holds, or what `make` makes for it. Who waits may give up: what was begun is brought to its end, and the
/// next one finds it. So a node whose evidence takes longer than a connection may is reached in the end.
async fn made_once<T: Clone + Send + 'static>(
    slot: &Slot<T>,
    make: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    let mut held = slot.clone().lock_owned().await;
    if let Some(made) = &*held {
        return Ok(made.clone());
    }
    tokio::spawn(async move { Ok(held.insert(make.await?).clone()) }).await?
}

impl Upstream for Attested {
    fn connect<'a>(&'a self, app: &'a str, protocols: &'a [Protocol]) -> Connecting<'a> {
        Box::pin(async move {
            self.reach(app, protocols).await.map_err(|error| {
                tracing::warn!(app, %error, "the node cannot be reached over an attested channel");
                io::Error::other(error)
            })
        })
    }
}

fn verify(terms: &Terms, place: &Place, target: &Target) -> Result<Record, Failure> {
    let now = Timestamp::now();
    let nonce = live::fresh_nonce()?;
    let live = live::request(target, &nonce, EVIDENCE)?;
    let sources = Sources {
        pccs: terms.pccs.as_deref(),
        simulator: terms.simulator.as_ref().map(|(installation, _)| installation.as_path()),
        intel: true,
        ..Sources::default()
    };
    let collateral = sources.choose()?.collateral(live.quote(), now, None)?;
    let anchors = match &terms.simulator {
        Some((_, root)) => TrustAnchors::intel().with_simulated(SimulatedRoot::from_pem(root.as_bytes())?),
        None => TrustAnchors::intel(),
    };
    let expected = Expected {
        mrenclave: vec![place.fingerprint],
        nonce: Some(nonce.to_vec()),
        nonce_issued_at: Some(now),
        ..Expected::default()
    };
    let evidence = live.with(collateral, live.own_arguments()?);
    let verified =
        attestation::admit(evidence, &anchors, &Policy::strict(), &expected, now).map_err(|refused| {
            let failed: Vec<_> = refused.judgement.failures().map(|check| check.id.to_string()).collect();
            format!("its evidence is refused: {}", failed.join(", "))
        })?;
    live.require_attested(&verified)?;
    let record = Record::of(&verified, Origin::SpawnedHere)?;
    if record.app_id() != *place.app.as_bytes() {
        return Err("it is another app's".into());
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_was_begun_is_finished_though_nobody_waits_any_more() {
        let slot: Slot<u32> = Slot::default();
        let (begun, begins) = oneshot::channel();
        let (finish, finished) = oneshot::channel();
        let make = async move {
            let _ = begun.send(());
            Ok(finished.await?)
        };
        tokio::select! {
            _ = made_once(&slot, make) => panic!("it is not finished"),
            done = begins => done.unwrap(),
        }
        finish.send(7).unwrap();
        let found = made_once(&slot, async { Err("made twice".into()) }).await;
        assert_eq!(found.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_failed_is_tried_again() {
        let slot: Slot<u32> = Slot::default();
        assert!(made_once(&slot, async { Err("not yet".into()) }).await.is_err());
        assert_eq!(made_once(&slot, async { Ok(1) }).await.unwrap(), 1);
    }
}
