//! The SGX enclave report body: 384 bytes that say which enclave this is and what it wants to bind.
//!
//! Trusts nothing: a report is only as good as the signature around it. Format: Intel SDM volume 3D, "REPORT" structure
//! (its first 384 bytes), and `sgx_report_body_t` of the SGX SDK. All integers are little-endian.

use crate::error::Error;

/// Length of an encoded report body, in bytes.
pub const REPORT_LEN: usize = 384;

/// The enclave finished initialisation (`EINIT`).
pub const FLAG_INIT: u64 = 0x01;
/// The enclave can be read and written by a debugger.
pub const FLAG_DEBUG: u64 = 0x02;
/// The enclave runs 64-bit code.
pub const FLAG_MODE64BIT: u64 = 0x04;
/// The enclave may derive the provisioning key.
pub const FLAG_PROVISION_KEY: u64 = 0x10;
/// The enclave may derive the launch (EINITTOKEN) key.
pub const FLAG_EINITTOKEN_KEY: u64 = 0x20;
/// Control-flow enforcement is on.
pub const FLAG_CET: u64 = 0x40;
/// Key separation and sharing is on.
pub const FLAG_KSS: u64 = 0x80;
/// The enclave is told of asynchronous exits.
pub const FLAG_AEX_NOTIFY: u64 = 0x400;

/// `ATTRIBUTES`: 8 bytes of flags, 8 bytes of XFRM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The `FLAG_*` bits.
    pub flags: u64,
    /// Extended features the enclave may use: bits of XCR0.
    pub xfrm: u64,
}

impl Attributes {
    /// The 16 bytes as they stand in a report.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.flags.to_le_bytes());
        bytes[8..].copy_from_slice(&self.xfrm.to_le_bytes());
        bytes
    }

    /// Reads the 16 bytes of a report. Every value is possible; what is allowed is a matter for the verifier.
    pub fn from_bytes(bytes: &[u8; 16]) -> Self {
        let mut reader = Fields(bytes);
        Self { flags: u64::from_le_bytes(reader.take()), xfrm: u64::from_le_bytes(reader.take()) }
    }
}

/// One enclave report body. Reserved bytes are kept, so that [`to_bytes`](Self::to_bytes) undoes
/// [`parse`](Self::parse).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnclaveReport {
    /// `CPUSVN`: security version of the processor, an opaque 16 bytes.
    pub cpu_svn: [u8; 16],
    /// `MISCSELECT`: extra state saved on exceptions.
    pub misc_select: u32,
    /// Reserved, zero.
    pub reserved1: [u8; 12],
    /// `ISVEXTPRODID` (only with KSS).
    pub isv_ext_prod_id: [u8; 16],
    /// `ATTRIBUTES`.
    pub attributes: Attributes,
    /// `MRENCLAVE`: the measurement of code and data.
    pub mr_enclave: [u8; 32],
    /// Reserved, zero.
    pub reserved2: [u8; 32],
    /// `MRSIGNER`: SHA-256 of the signer's RSA modulus.
    pub mr_signer: [u8; 32],
    /// Reserved, zero.
    pub reserved3: [u8; 32],
    /// `CONFIGID` (only with KSS).
    pub config_id: [u8; 64],
    /// `ISVPRODID`.
    pub isv_prod_id: u16,
    /// `ISVSVN`.
    pub isv_svn: u16,
    /// `CONFIGSVN` (only with KSS).
    pub config_svn: u16,
    /// Reserved, zero.
    pub reserved4: [u8; 42],
    /// `ISVFAMILYID` (only with KSS).
    pub isv_family_id: [u8; 16],
    /// 64 bytes of the enclave's own choice.
    pub report_data: [u8; 64],
}

impl Default for EnclaveReport {
    /// All zero.
    fn default() -> Self {
        Self::from_array(&[0; REPORT_LEN])
    }
}

impl EnclaveReport {
    /// Reads exactly [`REPORT_LEN`] bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`] for any other length.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let array: &[u8; REPORT_LEN] = bytes.try_into().map_err(|_| {
            Error::malformed(
                "enclave report",
                format!("{REPORT_LEN} bytes"),
                format!("{} bytes", bytes.len()),
            )
        })?;
        Ok(Self::from_array(array))
    }

    /// Reads a report body whose length is known to be right.
    pub fn from_array(bytes: &[u8; REPORT_LEN]) -> Self {
        let mut fields = Fields(bytes);
        Self {
            cpu_svn: fields.take(),
            misc_select: u32::from_le_bytes(fields.take()),
            reserved1: fields.take(),
            isv_ext_prod_id: fields.take(),
            attributes: Attributes::from_bytes(&fields.take()),
            mr_enclave: fields.take(),
            reserved2: fields.take(),
            mr_signer: fields.take(),
            reserved3: fields.take(),
            config_id: fields.take(),
            isv_prod_id: u16::from_le_bytes(fields.take()),
            isv_svn: u16::from_le_bytes(fields.take()),
            config_svn: u16::from_le_bytes(fields.take()),
            reserved4: fields.take(),
            isv_family_id: fields.take(),
            report_data: fields.take(),
        }
    }

    /// The encoded report body.
    pub fn to_bytes(&self) -> [u8; REPORT_LEN] {
        let fields: [&[u8]; 16] = [
            &self.cpu_svn,
            &self.misc_select.to_le_bytes(),
            &self.reserved1,
            &self.isv_ext_prod_id,
            &self.attributes.to_bytes(),
            &self.mr_enclave,
            &self.reserved2,
            &self.mr_signer,
            &self.reserved3,
            &self.config_id,
            &self.isv_prod_id.to_le_bytes(),
            &self.isv_svn.to_le_bytes(),
            &self.config_svn.to_le_bytes(),
            &self.reserved4,
            &self.isv_family_id,
            &self.report_data,
        ];
        let mut bytes = [0; REPORT_LEN];
        let mut at = 0;
        for field in fields {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        }
        debug_assert_eq!(at, REPORT_LEN);
        bytes
    }

    /// Whether every reserved byte is zero, as the processor writes them.
    pub fn reserved_is_zero(&self) -> bool {
        let reserved: [&[u8]; 4] = [&self.reserved1, &self.reserved2, &self.reserved3, &self.reserved4];
        reserved.iter().all(|field| field.iter().all(|byte| *byte == 0))
    }
}

/// The rest of a fixed-length structure, read field by field.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// The next `N` bytes. The callers' field lengths add up to the array they start from, so there always are `N`.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        let (head, tail) = self.0.split_at(N);
        field.copy_from_slice(head);
        self.0 = tail;
        field
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn to_bytes_undoes_parse(bytes in proptest::collection::vec(any::<u8>(), REPORT_LEN)) {
            prop_assert_eq!(EnclaveReport::parse(&bytes).unwrap().to_bytes().to_vec(), bytes);
        }
    }

    #[test]
    fn fields_stand_where_the_sdm_puts_them() {
        let mut bytes = [0u8; REPORT_LEN];
        bytes[16] = 1;
        bytes[48] = 0x05;
        bytes[56] = 0xe7;
        bytes[64] = 2;
        bytes[128] = 3;
        bytes[256] = 4;
        bytes[258] = 5;
        bytes[320] = 6;
        let report = EnclaveReport::parse(&bytes).unwrap();
        assert_eq!(report.misc_select, 1);
        assert_eq!(report.attributes, Attributes { flags: FLAG_INIT | FLAG_MODE64BIT, xfrm: 0xe7 });
        assert_eq!((report.mr_enclave[0], report.mr_signer[0]), (2, 3));
        assert_eq!((report.isv_prod_id, report.isv_svn, report.report_data[0]), (4, 5, 6));
    }

    #[test]
    fn any_other_length_is_refused() {
        for length in [0, 1, REPORT_LEN - 1, REPORT_LEN + 1] {
            assert!(EnclaveReport::parse(&vec![0; length]).is_err(), "{length}");
        }
    }

    #[test]
    fn each_reserved_byte_is_seen() {
        for at in (20..32).chain(96..128).chain(160..192).chain(262..304) {
            let mut bytes = [0u8; REPORT_LEN];
            bytes[at] = 1;
            assert!(!EnclaveReport::from_array(&bytes).reserved_is_zero(), "byte {at}");
        }
        assert!(EnclaveReport::default().reserved_is_zero());
    }
}
