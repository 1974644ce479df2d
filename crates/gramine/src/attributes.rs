//! SGX attributes.
/// ATTRIBUTES: flags and XFRM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// flags
    pub flags: u64,
    /// xfrm
    pub xfrm: u64,
}
