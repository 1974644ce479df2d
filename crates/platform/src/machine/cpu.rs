//! What the processor says of itself, through CPUID.
//!
//! The instruction tells what the processor can, not what the BIOS let it: SGX that the BIOS left off still shows here,
//! with no memory of its own. Format: Intel SDM volume 2A (CPUID), volume 3D chapter 37 (leaf 12H).

use raw_cpuid::{CpuId, CpuIdReader, SgxSectionInfo};

/// No processor has more sections of enclave memory; a hypervisor that reports more is not believed.
const MOST_SECTIONS: usize = 64;

/// The processor, as far as enclaves are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Who made it: `GenuineIntel`; empty where it does not say.
    pub vendor: String,
    /// Its name; empty where it does not say.
    pub model: String,
    /// Whether this is a virtual machine: its CPUID says what the hypervisor wants.
    pub virtual_machine: bool,
    /// Whether it knows SGX at all.
    pub sgx: bool,
    /// Flexible launch control: enclaves of anybody's signature, as DCAP and Linux need.
    pub flc: bool,
    /// The first instructions of SGX, which the BIOS enables.
    pub sgx1: bool,
    /// Those of SGX2: enclaves that change their memory while they run (EDMM).
    pub sgx2: bool,
    /// Memory for enclaves (EPC), all sections together, in bytes.
    pub epc: u64,
}

impl Cpu {
    /// The processor that a reader of CPUID shows.
    pub fn of<R: CpuIdReader>(id: &CpuId<R>) -> Cpu {
        let vendor = id.get_vendor_info().map(|vendor| vendor.as_str().to_owned());
        let brand = id.get_processor_brand_string().map(|brand| brand.as_str().trim().to_owned());
        let features = id.get_extended_feature_info();
        let sgx = id.get_sgx_info();
        let sections = sgx.iter().flat_map(|sgx| sgx.iter().take(MOST_SECTIONS));
        let sizes = sections.map(|SgxSectionInfo::Epc(section)| section.size());
        Cpu {
            vendor: vendor.unwrap_or_default(),
            model: brand.unwrap_or_default(),
            virtual_machine: id.get_feature_info().is_some_and(|found| found.has_hypervisor()),
            sgx: features.as_ref().is_some_and(|found| found.has_sgx()),
            flc: features.as_ref().is_some_and(|found| found.has_sgx_lc()),
            sgx1: sgx.as_ref().is_some_and(|found| found.has_sgx1()),
            sgx2: sgx.as_ref().is_some_and(|found| found.has_sgx2()),
            epc: sizes.fold(0, u64::saturating_add),
        }
    }

    /// The processor at work; `None` where it is of another architecture.
    pub fn here() -> Option<Cpu> {
        #[cfg(target_arch = "x86_64")]
        return Some(Cpu::of(&CpuId::new()));
        #[cfg(not(target_arch = "x86_64"))]
        return None;
    }
}
