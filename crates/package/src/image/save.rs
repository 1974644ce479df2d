//! An image for a container engine to load: the archive of `docker save`, with a configuration of our own.
//!
//! Format: `manifest.json` with one image, which engines before version 25 write and all load. Layers go in unpacked, so
//! that what an engine can unpack does not matter, and each is checked against its diff id on the way. The archive names
//! the image as the caller says; what names the image itself brought is in none of it.

use std::io::{Read, Write};
use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Image, changed, layer};
use crate::region::Hashing;
use crate::tape::TapeWriter;
use crate::{Error, Result};

impl Image {
    /// Writes the image for an engine to load under `reference` (under no name with `None`), with an empty configuration:
    /// no environment, command, user, volumes, health check or triggers.
    pub fn write_bare(&self, reference: Option<&str>, out: &mut dyn Write) -> Result<()> {
        self.save(reference, Map::new(), out)
    }

    /// Writes the image for an engine to load under `reference`, with what a base image needs of its configuration:
    /// environment (but for the variables named in `without_env`), working directory, user, command, entry point, labels.
    /// Its history is left out.
    pub fn write_archive(&self, reference: &str, without_env: &[&str], out: &mut dyn Write) -> Result<()> {
        let (mut kept, config) = (Map::new(), self.settings.config());
        for key in ["Cmd", "Entrypoint", "Env", "Labels", "User", "WorkingDir"] {
            if let Some(value) = config.get(key) {
                kept.insert(key.into(), value.clone());
            }
        }
        if let Some(Value::Array(variables)) = kept.get_mut("Env") {
            variables.retain(|variable| {
                let name = variable.as_str().and_then(|text| text.split('=').next()).unwrap_or_default();
                !without_env.contains(&name)
            });
        }
        self.save(Some(reference), kept, out)
    }

    /// The value of a variable in the environment that the image's configuration gives to programs.
    pub fn environment_variable(&self, name: &str) -> Option<String> {
        let config = self.settings.config();
        let variables = config.get("Env")?.as_array()?;
        let value = |text: &str| Some(text.strip_prefix(name)?.strip_prefix('=')?.to_owned());
        variables.iter().filter_map(Value::as_str).find_map(value)
    }

    fn save(&self, reference: Option<&str>, config: Map<String, Value>, out: &mut dyn Write) -> Result<()> {
        let digests: Vec<String> = self.layers.iter().map(|layer| hex::encode(layer.diff_id)).collect();
        let diff_ids: Vec<String> = digests.iter().map(|digest| format!("sha256:{digest}")).collect();
        // Keys in alphabetical order, which is how they come out whichever way serde_json keeps them.
        let config = json!({
            "architecture": self.architecture(),
            "config": config,
            "os": "linux",
            "rootfs": { "diff_ids": diff_ids, "type": "layers" },
        })
        .to_string();
        let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
        let names: Vec<String> = digests.iter().map(|digest| format!("{digest}/layer.tar")).collect();
        let tags: Vec<&str> = reference.into_iter().collect();
        let manifest = json!([{ "Config": config_name, "Layers": names, "RepoTags": tags }]).to_string();

        let failed = |e| Error::io("write", Path::new("the image's archive"))(e);
        let mut archive = TapeWriter::new(out);
        for (index, (blob, name)) in self.layers.iter().zip(&names).enumerate() {
            // A layer that occurs twice, such as an empty one, is there once.
            if names[..index].contains(name) {
                continue;
            }
            let mut content = Hashing::new(layer::stream(index, blob)?);
            archive.file(name, false, blob.unpacked, &mut content).map_err(failed)?;
            let more = content.read(&mut [0]).map_err(failed)?;
            if more != 0 || content.finish() != blob.diff_id {
                return Err(changed(&layer::name(index), "other bytes"));
            }
        }
        archive.file(&config_name, false, config.len() as u64, config.as_bytes()).map_err(failed)?;
        // Last, so that an archive which broke off loads nothing.
        archive.file("manifest.json", false, manifest.len() as u64, manifest.as_bytes()).map_err(failed)?;
        archive.finish().map_err(failed)?;
        Ok(())
    }

    /// The architecture as engines write it; the one that enclaves have, where the image says none that could be one.
    fn architecture(&self) -> &str {
        let stated = self.settings.architecture.as_str();
        let plain = (1..=32).contains(&stated.len())
            && stated.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if plain { stated } else { "amd64" }
    }
}
