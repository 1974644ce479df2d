//! `mse-cloud serve`: everything together, from the data directory to the last connection.
//!
//! ```text
//! <data>/.lock           held by the one backend that works here
//! <data>/mse.db          the database, unless PostgreSQL has it
//! <data>/first-token     the first operator's token, 0600: written before it works, never again
//! <data>/ca.pem, ca-key.pem     see [`crate::authority`]
//! <data>/signer.pem      signs enclaves: its MRSIGNER is what clients record
//! <data>/simulator/      the simulated platform
//! <data>/pccs-address    where its endpoint for collateral was last
//! <data>/runtime/        nodes
//! <data>/uploads/        see [`crate::blobs`]
//! ```
//!
//! Nodes outlive the backend: they are adopted when it comes back.

use std::fs::{self, File, TryLockError};
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gramine::sigstruct::SignerKey;
use jiff::{SignedDuration, Timestamp};
use platform::pcs_endpoint::{self, Endpoint};
use platform::simulated::Installation;
use router::{Router, Table, Termination};
use runtime::{DockerRuntime, ProcessRuntime, Runtime};
use rustls::KeyLog;
use rustls::server::ResolvesServerCert;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::api::{self, Operator, Shared};
use crate::authority::{AppCertificates, Authority, Certificates, Given, write};
use crate::bearer::Secret;
use crate::blobs::Blobs;
use crate::config::{Config, PlatformKind, RuntimeKind};
use crate::error::{Error, Result};
use crate::key_log::KeyLogFile;
use crate::probe::Https;
use crate::reader::{ChildReader, PackageReader};
use crate::reconcile::{self, Site, UnderWay};
use crate::routes::Routes;
use crate::server::Server;
use crate::store::{self, Claim, Plan, Store};
use crate::upstream::{Attested, Terms};

/// The first operator's token.
pub const FIRST_TOKEN: &str = "first-token";

/// The database in the data directory.
pub const DATABASE: &str = "mse.db";

/// What is on offer at the beginning: name, enclave size in MB, cores.
const PLANS: [(&str, u64, u64); 3] = [("small", 1024, 1), ("medium", 4096, 2), ("large", 16384, 4)];

/// How often the reconciler looks without being woken.
const LOOK: Duration = Duration::from_secs(2);

/// How often it is looked whether a certificate is to be renewed, and what uploads are unused.
const UPKEEP: Duration = Duration::from_secs(60);

/// A backend that listens.
pub struct Backend {
    server: Server,
    public: TcpListener,
    router: Router,
    site: Arc<Site>,
    shared: Arc<Shared>,
    certificates: Shown,
    wake: Arc<Notify>,
    claim: Option<Claim>,
    keep_uploads: SignedDuration,
    _collateral: Option<Endpoint>,
    _lock: File,
}

impl Backend {
    /// Makes what is missing in `data`, opens everything, and listens.
    pub async fn start(config: &Config, data: &Path) -> Result<Backend> {
        config.check()?;
        let lock = claim_directory(data)?;
        // Nodes are told of places in it, and are started elsewhere.
        let data = &data.canonicalize().map_err(Error::file("find", data))?;
        let store = match &config.database {
            Some(url) => Store::open(url).await?,
            None => Store::open_file(&data.join(DATABASE)).await?,
        };
        let claim = store.claim().await?;
        let now = store::now();
        first_start(&store, data, now).await?;

        let blobs = Blobs::open(data)?;
        blobs.sweep(&store).await?;
        let signer = signer(data).await?;
        let (platform, collateral) = platform(config, data, now)?;
        let runtime = data.join("runtime");
        let nodes: Arc<dyn Runtime> = match config.runtime {
            RuntimeKind::Process => Arc::new(ProcessRuntime::new(&runtime)?),
            RuntimeKind::Docker => Arc::new(DockerRuntime::new(&runtime)?),
        };
        let listen = config.router;
        let failed = |source| Error::Listen { listen, source };
        let public = TcpListener::bind(listen).await.map_err(failed)?;
        let identity = Operator {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            domain: config.domain.to_ascii_lowercase(),
            router: public.local_addr().map_err(failed)?.to_string(),
            mrsigner: hex::encode(signer.mrsigner()),
            platform: config.platform.name().to_owned(),
            runtime: config.runtime.name().to_owned(),
            pccs: platform.pccs.clone(),
            simulated_root: platform.simulator.as_ref().map(|(_, root)| root.clone()),
        };
        let authority = Arc::new(Authority::open_or_create(data, now)?);
        let of_api = Certificates::of_api(authority.clone(), config.listen.ip(), &config.names, now)?;
        let of_api = Arc::new(of_api);
        let given = config.certificate.as_ref().map(Given::read).transpose()?.map(Arc::new);
        let shown: Arc<dyn ResolvesServerCert> = match &given {
            Some(given) => given.clone(),
            None => Arc::new(AppCertificates::new(authority, &identity.domain)),
        };
        let simulator = platform.simulator.as_ref().map(|(installation, _)| installation.clone());
        let upstream = Arc::new(Attested::new(platform));
        let key_log = config.diagnosis.key_log.as_deref().map(KeyLogFile::open).transpose()?;
        let key_log = key_log.map(|log| Arc::new(log) as Arc<dyn KeyLog>);
        let termination = Termination::with_key_log(shown, upstream.clone(), key_log)?;
        // One certificate for all of them.
        let termination = if given.is_some() { termination.of_many_names() } else { termination };
        let table = Arc::new(Table::new());
        let router = Router::new(router::Settings::default(), table.clone());

        let program = std::env::current_exe().map_err(Error::file("find", Path::new("/proc/self/exe")))?;
        let reader: Arc<dyn PackageReader> = Arc::new(ChildReader::new(program, config.reader_limits()));
        let shared = Arc::new(Shared::new(
            store.clone(),
            blobs.clone(),
            nodes.clone(),
            reader.clone(),
            identity.clone(),
            config.room(),
            config.limits(),
        ));
        shared.has_public_port(router.clone());
        let server = Server::bind(config.listen, of_api.server()?, api::router(shared.clone())).await?;
        let site = Arc::new(Site {
            store,
            nodes,
            blobs,
            reader,
            probe: Arc::new(Https::new()?),
            routes: Routes::new(table, termination, upstream, identity.clone()),
            identity,
            signer,
            simulator,
            capacity: config.room(),
            ports: config.node_ports(),
            work: UnderWay::default(),
        });
        let wake = shared.wake();
        let certificates = Shown { of_api, given };
        Ok(Backend {
            server,
            public,
            router,
            site,
            shared,
            certificates,
            wake,
            claim,
            keep_uploads: config.keep_uploads(),
            _collateral: collateral,
            _lock: lock,
        })
    }

    /// Where the API listens.
    pub fn address(&self) -> Result<SocketAddr> {
        self.server.address()
    }

    /// Serves until `end`.
    ///
    /// # Errors
    /// Another backend may have taken the database: this one has ended before its time.
    pub async fn run(self, end: impl Future<Output = ()>) -> Result<()> {
        let reconciler =
            tokio::spawn(reconcile::run(self.site.clone(), self.wake.clone(), LOOK, self.shared.pulse()));
        let upkeep = upkeep(self.certificates, self.site.clone(), self.keep_uploads);
        let upkeep = tokio::spawn(upkeep);
        let claim = self.claim;
        let lost = async move {
            match claim {
                Some(claim) => claim.lost().await,
                None => std::future::pending().await,
            }
        };
        let (shared, caring) = (self.shared.clone(), reconciler.abort_handle());
        let mut outcome = Ok(());
        let ended = async {
            tokio::select! {
                () = end => tracing::info!("asked to end"),
                () = lost => {
                    // At once, before anything else ends: two that care for the same apps would make nodes twice.
                    caring.abort();
                    tracing::error!("the lock on the database is lost");
                    outcome = Err(Error::ClaimLost);
                }
            }
            shared.end();
        };
        let (ending, mut watching) = watch::channel(());
        let api = async {
            self.server.serve(ended).await;
            drop(ending);
        };
        // The public port ends with the API's, and lets what runs there run to its end, for a while.
        let public = self.router.serve(self.public, async move { while watching.changed().await.is_ok() {} });
        let ((), drained) = tokio::join!(api, public);
        tracing::info!(finished = drained.finished, cut_off = drained.cut_off, "the public port is closed");
        // Between two of its steps: the next backend goes on from there.
        reconciler.abort();
        upkeep.abort();
        let _ = reconciler.await;
        self.site.store.close().await;
        tracing::info!("ended");
        outcome
    }
}

/// The certificates that do not renew themselves when they are asked for.
struct Shown {
    of_api: Arc<Certificates>,
    /// The operator's own for apps, where there is one.
    given: Option<Arc<Given>>,
}

impl Shown {
    fn renew(&self) {
        let of_api = (format!("{:?}", self.of_api), self.of_api.renew(store::now()));
        let given = self.given.as_ref().map(|given| (format!("{given:?}"), given.renew()));
        for (certificates, done) in [Some(of_api), given].into_iter().flatten() {
            match done {
                Ok(true) => tracing::info!(certificates, "a certificate was renewed"),
                Ok(false) => {}
                Err(error) => tracing::error!(certificates, %error, "a certificate could not be renewed"),
            }
        }
    }
}

/// What is to be done now and then, for ever.
async fn upkeep(certificates: Shown, site: Arc<Site>, keep_uploads: SignedDuration) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        certificates.renew();
        match site.blobs.expire(&site.store, store::now() - keep_uploads).await {
            Ok(0) => {}
            Ok(uploads) => tracing::info!(uploads, "unused uploads were removed"),
            Err(error) => tracing::error!(%error, "unused uploads could not be removed"),
        }
    }
}

/// The simulated platform, made on first use, and its endpoint for collateral; or the real one.
fn platform(config: &Config, data: &Path, now: Timestamp) -> Result<(Terms, Option<Endpoint>)> {
    if config.platform == PlatformKind::Sgx {
        return Ok((Terms { simulator: None, pccs: config.pccs.clone() }, None));
    }
    let directory = data.join("simulator");
    let installation = Installation::open_or_create(&directory, now)?;
    let root = installation.root_pem().to_owned();
    let (pccs, endpoint) = match &config.pccs {
        Some(url) => (url.clone(), None),
        None => {
            let endpoint = collateral_endpoint(installation, config.pccs_listen, data)?;
            (endpoint.url().to_owned(), Some(endpoint))
        }
    };
    Ok((Terms { simulator: Some((directory, root)), pccs: Some(pccs) }, endpoint))
}

/// Where no port was chosen, the one of the last time is taken again: clients have noted it.
fn collateral_endpoint(installation: Installation, listen: SocketAddr, data: &Path) -> Result<Endpoint> {
    let path = data.join("pccs-address");
    let noted =
        outside::files::read_text(&path, 100).ok().and_then(|text| text.trim().parse::<SocketAddr>().ok());
    let again = noted.filter(|noted| listen.port() == 0 && noted.ip() == listen.ip());
    let endpoint = match again.map(|again| pcs_endpoint::serve(installation.clone(), again)) {
        Some(Ok(endpoint)) => endpoint,
        Some(Err(_)) | None => pcs_endpoint::serve(installation, listen)?,
    };
    write(&path, format!("{}\n", endpoint.address()).as_bytes(), 0o600)?;
    Ok(endpoint)
}

/// Makes the directory, for its owner alone, and takes its lock.
pub(crate) fn claim_directory(data: &Path) -> Result<File> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(Error::file("make", data))?;
    let path = data.join(".lock");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::file("open", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { what: data.display().to_string() }),
        Err(TryLockError::Error(source)) => Err(Error::file("lock", &path)(source)),
    }
}

/// Where there is nobody yet: the first operator, its token, and plans to begin with.
async fn first_start(store: &Store, data: &Path, now: Timestamp) -> Result<()> {
    if store.count_users().await? > 0 {
        return Ok(());
    }
    let user = store::User {
        id: Uuid::new_v4(),
        name: "operator".to_owned(),
        is_operator: true,
        created_at: now,
        disabled_at: None,
    };
    let token = store::Token {
        id: Uuid::new_v4(),
        user_id: user.id,
        name: FIRST_TOKEN.to_owned(),
        created_at: now,
        expires_at: None,
    };
    let secret = Secret::generate()?;
    let mut work = store.begin().await?;
    work.add_user(&user).await?;
    work.add_token(&token, &secret.sha256(), 1).await?;
    for (n, (name, enclave_mb, cores)) in PLANS.into_iter().enumerate() {
        let created_at = now + Duration::from_micros(n as u64);
        let price = "free".to_owned();
        let plan = Plan { id: Uuid::new_v4(), name: name.to_owned(), enclave_mb, cores, price, created_at };
        work.add_plan(&plan).await?;
    }
    work.note(now, None, None, "backend.first-start", &user.id.to_string(), "").await?;
    // Before the commit: else a crash between the two would lock everybody out.
    let line = Zeroizing::new(format!("{}\n", secret.reveal()));
    write(&data.join(FIRST_TOKEN), line.as_bytes(), 0o600)?;
    work.commit().await
}

/// The operator's signer key, made on first use.
async fn signer(data: &Path) -> Result<SignerKey> {
    let path = data.join("signer.pem");
    if !path.exists() {
        let key = tokio::task::spawn_blocking(SignerKey::generate).await??;
        write(&path, key.to_pem()?.as_bytes(), 0o600)?;
    }
    let pem =
        Zeroizing::new(outside::files::read_text(&path, 64 * 1024).map_err(Error::file("read", &path))?);
    Ok(SignerKey::from_pem(&pem)?)
}
