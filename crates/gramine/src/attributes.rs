//! The SGX attributes that a manifest asks for: ATTRIBUTES, MISCSELECT and their masks (Intel SDM, volume 3D).
//!
//! A mask says which bits of a running enclave must be as signed. So a quote is compared as
//! `report.xfrm & mask.xfrm == signed.xfrm & mask.xfrm`; bits that the manifest leaves open depend on the machine.

use crate::manifest::{CpuFeature, EnclaveSettings};

/// ATTRIBUTES, or a mask for them: 16 bytes in SIGSTRUCT and in reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// FLAGS.
    pub flags: u64,
    /// XFRM: which processor state the enclave may use, bits as in XCR0.
    pub xfrm: u64,
}

/// FLAGS: the host may look inside.
pub const DEBUG: u64 = 0x2;
/// FLAGS: 64-bit mode.
pub const MODE64BIT: u64 = 0x4;
/// MISCSELECT: report page faults to the enclave.
pub const EXINFO: u32 = 0x1;

/// XFRM without any feature: x87 and SSE, which every enclave has.
const XFRM_LEGACY: u64 = 0x3;
/// Bits of XFRM that no manifest can leave open.
const XFRM_MASK: u64 = 0xffff_ffff_fff9_ff1b;

const AVX: u64 = 0x4;
/// AVX-512 needs AVX, so its bits hold AVX's.
const AVX512: u64 = 0xe4;
const AMX: u64 = 0x60000;
const MPX: u64 = 0x18;
const PKRU: u64 = 0x200;

/// What SIGSTRUCT says about the enclave's mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedAttributes {
    /// ATTRIBUTES.
    pub attributes: Attributes,
    /// ATTRIBUTEMASK.
    pub attribute_mask: Attributes,
    /// MISCSELECT.
    pub misc_select: u32,
    /// MISCMASK.
    pub misc_mask: u32,
}

impl SignedAttributes {
    /// Computes them as Gramine's signer does.
    pub fn of(settings: &EnclaveSettings) -> SignedAttributes {
        let features = &settings.cpu_features;
        let mut attributes = Attributes { flags: MODE64BIT, xfrm: XFRM_LEGACY };
        let mut attribute_mask = Attributes { flags: u64::MAX, xfrm: XFRM_MASK };
        // The order counts: AVX-512 shares a bit with AVX, and the later one wins.
        for (feature, bits) in [
            (features.avx, AVX),
            (features.avx512, AVX512),
            (features.amx, AMX),
            (features.mpx, MPX),
            (features.pkru, PKRU),
        ] {
            match feature {
                CpuFeature::Unspecified => continue,
                CpuFeature::Disabled => attributes.xfrm &= !bits,
                CpuFeature::Required => attributes.xfrm |= bits,
            }
            attribute_mask.xfrm |= bits;
        }
        if settings.debug {
            attributes.flags |= DEBUG;
        }
        let misc_select = if settings.use_exinfo { EXINFO } else { 0 };
        SignedAttributes { attributes, attribute_mask, misc_select, misc_mask: u32::MAX }
    }
}
