//! Loading an enclave without a processor: the same inputs, the same reasons to refuse.
//!
//! Gramine's loader measures manifest and libpal while it builds the enclave; EINIT compares the outcome with the
//! SIGSTRUCT (Intel SDM, volume 3D, EINIT); the library OS compares trusted files with the manifest. All of that happens
//! here in [`Enclave::load`], and afterwards EREPORT and EGETKEY have their counterparts in the [`Platform`] trait.

use std::path::Path;

use attestation::EnclaveReport;
use attestation::report::FLAG_INIT;
use gramine::attributes::SignedAttributes;
use gramine::manifest::RemoteAttestation;
use gramine::measure::{Measurement, measure};
use gramine::{Manifest, SigStruct};
use zeroize::Zeroizing;

use super::{Installation, trusted_files};
use crate::{Error, Kind, Platform};

/// An enclave on a simulated machine.
#[derive(Debug)]
pub struct Enclave {
    installation: Installation,
    report: EnclaveReport,
    max_threads: u32,
}

impl Enclave {
    /// Loads an enclave as Gramine's loader and the processor would; `file:/x` of the manifest is `root/x`.
    ///
    /// # Errors
    /// [`Error::Gramine`] for inputs that cannot be read or measured, or a SIGSTRUCT with a wrong signature;
    /// [`Error::NotSignedForThis`] for a SIGSTRUCT of another enclave; [`Error::Manifest`] where it asks for no
    /// quotes; [`Error::TrustedFile`] for files that are not as measured; [`Error::Io`].
    pub fn load(
        installation: &Installation,
        manifest: &[u8],
        libpal: &[u8],
        sigstruct: &[u8],
        root: &Path,
    ) -> Result<Self, Error> {
        let (enclave, manifest) = Self::assemble(installation, manifest, libpal, sigstruct)?;
        trusted_files::check(&manifest.trusted_files, root)?;
        Ok(enclave)
    }

    /// The same where Gramine runs the process, without SGX: it compares each trusted file when it is opened, and
    /// reading all of them once more would take half of the start.
    ///
    /// # Errors
    /// As [`Enclave::load`], without those about files.
    pub fn load_under_gramine(
        installation: &Installation,
        manifest: &[u8],
        libpal: &[u8],
        sigstruct: &[u8],
    ) -> Result<Self, Error> {
        Ok(Self::assemble(installation, manifest, libpal, sigstruct)?.0)
    }

    fn assemble(
        installation: &Installation,
        manifest: &[u8],
        libpal: &[u8],
        sigstruct: &[u8],
    ) -> Result<(Self, Manifest), Error> {
        let parsed = Manifest::parse(manifest)?;
        if parsed.sgx.remote_attestation != RemoteAttestation::Dcap {
            return Err(Error::Manifest {
                key: "sgx.remote_attestation",
                expected: "\"dcap\": quotes are needed".to_owned(),
                found: "\"none\"".to_owned(),
            });
        }
        let sigstruct = SigStruct::parse(sigstruct)?;
        sigstruct.verify()?;
        let report = initialise(&measure(manifest, libpal)?, &sigstruct, installation)?;
        let max_threads = parsed.sgx.max_threads;
        Ok((Self { installation: installation.clone(), report, max_threads }, parsed))
    }

    /// The threads that the manifest gives the enclave.
    pub fn max_threads(&self) -> u32 {
        self.max_threads
    }
}

/// What EINIT checks of a SIGSTRUCT that is sound in itself, and what EREPORT will then say.
fn initialise(
    enclave: &Measurement,
    signed: &SigStruct,
    installation: &Installation,
) -> Result<EnclaveReport, Error> {
    let same = |field, expected: String, found: String| match expected == found {
        true => Ok(()),
        false => Err(Error::NotSignedForThis { field, expected, found }),
    };
    let wanted = SignedAttributes::of(&enclave.settings);
    let mask = signed.attribute_mask;
    let flags = |flags: u64| format!("{:#x}", flags & mask.flags);
    let xfrm = |xfrm: u64| format!("{:#x}", xfrm & mask.xfrm);
    let misc = |misc: u32| format!("{:#x}", misc & signed.misc_mask);
    let [cet, cet_mask] = signed.cet_attributes;

    same("ENCLAVEHASH", hex::encode(enclave.mrenclave), hex::encode(signed.mrenclave))?;
    same("ATTRIBUTES.FLAGS", flags(wanted.attributes.flags), flags(signed.attributes.flags))?;
    same("ATTRIBUTES.XFRM", xfrm(wanted.attributes.xfrm), xfrm(signed.attributes.xfrm))?;
    same("MISCSELECT", misc(wanted.misc_select), misc(signed.misc_select))?;
    same("CET_ATTRIBUTES", "0x0".to_owned(), format!("{:#x}", cet & cet_mask))?;

    let mut report = installation.machine().report();
    report.misc_select = wanted.misc_select;
    report.attributes.flags = wanted.attributes.flags | FLAG_INIT;
    report.attributes.xfrm = wanted.attributes.xfrm;
    report.mr_enclave = enclave.mrenclave;
    report.mr_signer = signed.mrsigner();
    report.isv_prod_id = signed.isv_prod_id;
    report.isv_svn = signed.isv_svn;
    Ok(report)
}

impl Platform for Enclave {
    fn kind(&self) -> Kind {
        Kind::Simulated
    }

    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, Error> {
        let report = EnclaveReport { report_data: *report_data, ..self.report.clone() };
        Ok(self.installation.machine().quote(&report)?)
    }

    fn sealing_key(&self) -> Result<Zeroizing<[u8; 32]>, Error> {
        Ok(self.installation.sealing_key(&self.report.mr_enclave))
    }

    fn mrenclave(&self) -> [u8; 32] {
        self.report.mr_enclave
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use gramine::SignerKey;
    use tempfile::TempDir;

    use super::*;

    const LIBPAL: &[u8] = include_bytes!("../../../gramine/tests/vectors/01-defaults-256m-t4/libpal.so");
    const SIGNER: &str = include_str!("../../../gramine/tests/vectors/01-defaults-256m-t4/key.pem");

    struct Loaded {
        _home: TempDir,
        installation: Installation,
        enclave: Measurement,
        signed: SigStruct,
    }

    impl Loaded {
        fn new(manifest: &str) -> Self {
            let home = tempfile::tempdir().unwrap();
            let now = "2026-03-01T12:00:00Z".parse().unwrap();
            let key = SignerKey::from_pem(SIGNER).unwrap();
            let date = "2026-03-01".parse().unwrap();
            Self {
                installation: Installation::open_or_create(&home.path().join("simulator"), now).unwrap(),
                enclave: measure(manifest.as_bytes(), LIBPAL).unwrap(),
                signed: SigStruct::sign(manifest.as_bytes(), LIBPAL, &key, date).unwrap(),
                _home: home,
            }
        }

        /// The field for which EINIT refuses, after this change to what was signed.
        fn refused(&self, change: impl FnOnce(&mut SigStruct)) -> Option<&'static str> {
            let mut signed = self.signed.clone();
            change(&mut signed);
            match initialise(&self.enclave, &signed, &self.installation) {
                Err(Error::NotSignedForThis { field, .. }) => Some(field),
                Err(other) => panic!("{other}"),
                Ok(report) => {
                    assert_eq!(report.mr_enclave, self.enclave.mrenclave);
                    None
                }
            }
        }
    }

    #[test]
    fn every_signed_field_must_be_the_enclaves() {
        let loaded = Loaded::new("[sgx]\n");
        assert_eq!(loaded.refused(|_| {}), None);
        assert_eq!(loaded.refused(|s| s.mrenclave[0] ^= 1), Some("ENCLAVEHASH"));
        assert_eq!(loaded.refused(|s| s.attributes.flags |= 2), Some("ATTRIBUTES.FLAGS"));
        assert_eq!(loaded.refused(|s| s.attributes.flags |= 0x10), Some("ATTRIBUTES.FLAGS"));
        assert_eq!(loaded.refused(|s| s.attributes.xfrm |= 0x18), Some("ATTRIBUTES.XFRM"));
        assert_eq!(loaded.refused(|s| s.misc_select = 1), Some("MISCSELECT"));
        assert_eq!(loaded.refused(|s| s.cet_attributes = [1, 1]), Some("CET_ATTRIBUTES"));
    }

    #[test]
    fn bits_that_the_masks_leave_open_do_not_count() {
        let loaded = Loaded::new("[sgx]\n");
        assert_eq!(loaded.refused(|s| s.attributes.xfrm |= 0x4), None);
        assert_eq!(loaded.refused(|s| s.cet_attributes = [1, 0]), None);
        let without_mask = |s: &mut SigStruct| {
            s.misc_select = 1;
            s.misc_mask = 0;
        };
        assert_eq!(loaded.refused(without_mask), None);
    }
}
