//! What a node's container is made of: the files in its volume, and everything that it may not do.
//!
//! In the container everything lies where it lies in the enclave (the places are [`package::enclave`]'s). Which of three
//! programs runs there depends on the machine and on the image:
//!
//! * with SGX, Gramine's loader for it, over the measured manifest;
//! * without SGX, and with Gramine in the image, its loader without an enclave, over the very same manifest;
//! * without either, Python as the manifest starts it: same program, same arguments, same variables, same directories in
//!   memory.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, HostConfig, Mount, MountType, MountVolumeOptions, PortBinding,
    RestartPolicy, RestartPolicyNameEnum,
};
use gramine::manifest::Manifest;
use gramine::sigstruct::SigStruct;
use package::enclave::{self, Loader};
use package::instance::{Instance, Simulation};
use tar::{Builder, EntryType, Header};
use uuid::Uuid;

use crate::NodeSpec;
use crate::docker::record::Intent;
use crate::error::Error;
use crate::process::{check_validity, date, measured};

/// What a container may use besides the enclave's own size, in MiB: Gramine's loader or Python outside of it.
const SLACK_MB: u64 = 512;

/// Largest file of a simulator's installation, in bytes: keys, certificates and lists.
const LARGEST_INSTALLED: u64 = 16 * 1024 * 1024;
/// Such an installation is no deeper.
const DEEPEST: usize = 8;

/// The socket directory of Intel's quoting service.
const AESM: &str = "/var/run/aesmd";
const DEVICES: [&str; 2] = ["/dev/sgx_enclave", "/dev/sgx_provision"];

/// Gramine's loader without an enclave sets its personality, which the engine's own list of system calls forbids. This
/// list forbids what reaches beyond the container, and nothing else.
const DIRECT_SYSTEM_CALLS: &str = include_str!("seccomp.json");

/// A node, thought through: everything but what is in the engine.
pub(super) struct Plan {
    mode: Mode,
    manifest: Vec<u8>,
    sigstruct: Vec<u8>,
    pub(super) fingerprint: String,
    instance: String,
    libpal: Vec<u8>,
    pub(super) place: Intent,
}

enum Mode {
    /// In an enclave, by Gramine's loader for it.
    Sgx(Loader),
    /// Under Gramine without an enclave, by its loader for that.
    Direct(Loader),
    /// Python as it is.
    Plain,
}

impl Mode {
    fn of(spec: &NodeSpec<'_>) -> Result<Mode, Error> {
        let refuse = |reason| Error::NotForContainers { reason };
        match (spec.package.gramine(), spec.simulator) {
            (Some(gramine), None) => {
                let loader = gramine.sgx().ok_or(refuse("the Gramine in its image was built without SGX"))?;
                Ok(Mode::Sgx(loader))
            }
            (Some(gramine), Some(_)) => {
                let reason = "the Gramine in its image runs nothing without SGX, and there is none";
                Ok(Mode::Direct(gramine.direct().ok_or(refuse(reason))?))
            }
            (None, Some(_)) => Ok(Mode::Plain),
            (None, None) => Err(refuse("its image carries no Gramine, which an SGX enclave starts with")),
        }
    }
}

impl Plan {
    /// Checks everything that can be checked before anything is made.
    pub(super) fn new(spec: &NodeSpec<'_>, engine: &str) -> Result<Plan, Error> {
        package::fingerprint::check_size(spec.size_mb)?;
        check_validity(spec)?;
        if spec.package.interpreter().is_some() {
            let reason = "it was built for this machine's own Python; it needs the process runtime";
            return Err(Error::NotForContainers { reason });
        }
        let manifest = measured(spec)?;
        let mode = Mode::of(spec)?;
        let simulation =
            spec.simulator.map(|_| Simulation { installation: enclave::SIMULATED_INSTALLATION.into() });
        let instance = Instance {
            app_id: spec.app_id,
            host: spec.host.to_owned(),
            other_hosts: spec.other_hosts.to_vec(),
            // The engine publishes that port at the address that was asked for, and at no other.
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, spec.listen.port())),
            not_before: spec.now,
            not_after: crate::process::not_after(spec),
            subject: spec.subject.to_owned(),
            simulation,
        };
        let instance = instance.to_toml()?;
        let libpal = spec.package.libpal()?;
        let signed = SigStruct::sign(&manifest, &libpal, spec.signer, date(spec.now))?;
        let own = format!("mse-{}-{}", spec.name, &spec.app_id.simple().to_string()[..8]);
        let image = format!("mse-node:{}", &hex::encode(spec.package.sha256())[..32]);
        let place = Intent {
            engine: engine.to_owned(),
            container: own.clone(),
            volume: own,
            image,
            app_id: spec.app_id,
        };
        let fingerprint = hex::encode(signed.mrenclave);
        Ok(Plan {
            mode,
            manifest,
            sigstruct: signed.to_bytes().to_vec(),
            fingerprint,
            instance,
            libpal,
            place,
        })
    }

    /// Writes the tar that fills the volume: everything root's, and nobody else's.
    pub(super) fn write_files(
        &self,
        spec: &NodeSpec<'_>,
        archive: &Path,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let sending = |source| Error::Stream { action: "send a node's files to the engine".into(), source };
        let mut tar = Builder::new(out);
        for path in [enclave::STATE, enclave::SEALED] {
            directory(&mut tar, &inside(path)).map_err(sending)?;
        }
        let code = File::open(archive).map_err(Error::file("open", archive))?;
        let length = code.metadata().map_err(Error::file("look at", archive))?.len();
        file(&mut tar, &inside(enclave::CODE), length, code).map_err(sending)?;
        let bytes: [(&str, &[u8]); 4] = [
            (enclave::INSTANCE, self.instance.as_bytes()),
            (enclave::MANIFEST, &self.manifest),
            (enclave::MANIFEST_DIRECT, &self.manifest),
            (enclave::SIGSTRUCT, &self.sigstruct),
        ];
        for (path, content) in bytes {
            file(&mut tar, &inside(path), content.len() as u64, content).map_err(sending)?;
        }
        if let Some(installation) = spec.simulator {
            directory(&mut tar, &inside(enclave::SIMULATION)).map_err(sending)?;
            let bytes: [(&str, &[u8]); 3] = [
                (enclave::SIMULATED_MANIFEST, &self.manifest),
                (enclave::SIMULATED_SIGSTRUCT, &self.sigstruct),
                (enclave::SIMULATED_LIBPAL, &self.libpal),
            ];
            for (path, content) in bytes {
                file(&mut tar, &inside(path), content.len() as u64, content).map_err(sending)?;
            }
            copy_tree(&mut tar, installation, &inside(enclave::SIMULATED_INSTALLATION), DEEPEST)?;
        }
        tar.into_inner().and_then(Write::flush).map_err(sending)
    }

    /// The container: the volume and the published port are all that it shares with this machine, besides the devices
    /// of SGX.
    pub(super) fn container(
        &self,
        spec: &NodeSpec<'_>,
        labels: HashMap<String, String>,
    ) -> Result<ContainerCreateBody, Error> {
        let port = format!("{}/tcp", spec.listen.port());
        let binding = PortBinding {
            host_ip: Some(spec.listen.ip().to_string()),
            host_port: Some(spec.listen.port().to_string()),
        };
        let volume = Mount {
            target: Some(enclave::VOLUME.into()),
            source: Some(self.place.volume.clone()),
            typ: Some(MountType::VOLUME),
            // What the image has at that place does not get in.
            volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
            ..Mount::default()
        };
        let memory = i64::try_from((spec.size_mb + SLACK_MB) << 20).ok();
        let mut host = HostConfig {
            mounts: Some(vec![volume]),
            port_bindings: Some(HashMap::from([(port.clone(), Some(vec![binding]))])),
            readonly_rootfs: Some(true),
            privileged: Some(false),
            cap_drop: Some(vec!["ALL".into()]),
            security_opt: Some(vec!["no-new-privileges".into()]),
            pids_limit: Some(super::PIDS),
            memory,
            // The same: nothing of it goes to a disk.
            memory_swap: memory,
            ipc_mode: Some("private".into()),
            init: Some(false),
            auto_remove: Some(false),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            ..super::logging()
        };
        let mut body = ContainerCreateBody {
            image: Some(self.place.image.clone()),
            // Its name inside: the same for all, and not one that means another address.
            hostname: Some("node".into()),
            user: Some("0:0".into()),
            labels: Some(labels),
            exposed_ports: Some(vec![port]),
            ..ContainerCreateBody::default()
        };
        let gramine =
            |parts: &Loader| vec![parts.loader.clone(), parts.libpal.clone(), "init".into(), "node".into()];
        let command = match &self.mode {
            Mode::Sgx(loader) => {
                host.devices = Some(DEVICES.map(device).to_vec());
                if Path::new(AESM).is_dir() {
                    host.binds = Some(vec![format!("{AESM}:{AESM}")]);
                }
                gramine(loader)
            }
            Mode::Direct(loader) => {
                let system_calls = format!("seccomp={DIRECT_SYSTEM_CALLS}");
                host.security_opt = Some(vec!["no-new-privileges".into(), system_calls]);
                gramine(loader)
            }
            Mode::Plain => {
                let manifest = Manifest::parse(&self.manifest)?;
                // Of any of them shared objects may be loaded, as in an enclave.
                let options = format!("rw,exec,nosuid,nodev,mode=0700,size={}m", spec.size_mb);
                let memory = spec.package.memory_mounts();
                host.tmpfs =
                    Some(memory.iter().map(|mount| (mount.path.to_owned(), options.clone())).collect());
                let home = ("HOME".to_owned(), "/root".to_owned());
                let given = manifest.env.contains_key("HOME");
                // The engine would choose one itself.
                let variables = manifest.env.iter().map(|(name, value)| (name.clone(), value.clone()));
                let variables = variables.chain((!given).then_some(home));
                body.env = Some(variables.map(|(name, value)| format!("{name}={value}")).collect());
                body.working_dir = Some(format!("/{}", enclave::SITE));
                let arguments = manifest.argv.into_iter().skip(1);
                std::iter::once(spec.package.python().to_owned()).chain(arguments).collect()
            }
        };
        if body.working_dir.is_none() {
            body.working_dir = Some(enclave::VOLUME.into());
        }
        body.entrypoint = Some(command[..1].to_vec());
        body.cmd = Some(command[1..].to_vec());
        body.host_config = Some(host);
        Ok(body)
    }
}

/// The labels of everything that is a node's.
pub(super) fn labels(name: &str, home: Uuid, place: &Intent) -> HashMap<String, String> {
    let labels = [
        ("mse", "node".to_owned()),
        ("mse.name", name.to_owned()),
        ("mse.home", home.to_string()),
        ("mse.app-id", place.app_id.to_string()),
        ("mse.image", place.image.clone()),
    ];
    labels.into_iter().map(|(label, value)| (label.to_owned(), value)).collect()
}

fn device(path: &str) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(path.into()),
        path_in_container: Some(path.into()),
        cgroup_permissions: Some("rw".into()),
    }
}

/// The path of a place, from the volume on.
fn inside(path: &str) -> String {
    path.strip_prefix(enclave::VOLUME).unwrap_or(path).trim_start_matches('/').to_owned()
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn directory(tar: &mut Builder<&mut dyn Write>, path: &str) -> std::io::Result<()> {
    let mut header = header(EntryType::Directory, 0o700, 0);
    tar.append_data(&mut header, format!("{path}/"), &[][..])
}

fn file(tar: &mut Builder<&mut dyn Write>, path: &str, size: u64, content: impl Read) -> std::io::Result<()> {
    tar.append_data(&mut header(EntryType::Regular, 0o600, size), path, content)
}

/// Copies a directory with its plain files; others have no place in a simulator's installation.
fn copy_tree(tar: &mut Builder<&mut dyn Write>, from: &Path, to: &str, depth: usize) -> Result<(), Error> {
    let sending = |source| Error::Stream { action: "send a node's files to the engine".into(), source };
    let refuse = |path: &Path, found: &str| {
        Err(Error::Specification {
            what: "the simulator's installation",
            expected: format!(
                "plain files of at most {LARGEST_INSTALLED} bytes, and not too deep directories"
            ),
            found: format!("{}, {found}", path.display()),
        })
    };
    if depth == 0 {
        return refuse(from, "a directory");
    }
    directory(tar, to).map_err(sending)?;
    let mut entries: Vec<_> =
        fs::read_dir(from).and_then(Iterator::collect).map_err(Error::file("list", from))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else { return refuse(&path, "a name in other bytes") };
        let to = format!("{to}/{name}");
        let metadata = path.symlink_metadata().map_err(Error::file("look at", &path))?;
        if metadata.is_dir() {
            copy_tree(tar, &path, &to, depth - 1)?;
        } else if metadata.is_file() {
            // Whole, since it may be replaced or grow while it is read.
            let mut content = Vec::new();
            let open = File::open(&path).map_err(Error::file("open", &path))?;
            open.take(LARGEST_INSTALLED + 1).read_to_end(&mut content).map_err(Error::file("read", &path))?;
            if content.len() as u64 > LARGEST_INSTALLED {
                return refuse(&path, "which is larger");
            }
            file(tar, &to, content.len() as u64, &content[..]).map_err(sending)?;
        } else {
            return refuse(&path, "which is neither");
        }
    }
    Ok(())
}
