//! The one error type of this crate. Every message names the place, what was expected there and what was found.

/// Why an enclave could not be laid out, measured, signed or checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An input is larger than this crate is willing to read.
    #[error("{what}: expected at most {limit} bytes, found {found}")]
    TooLarge {
        /// Which input.
        what: &'static str,
        /// The limit, in bytes.
        limit: u64,
        /// The size found, in bytes.
        found: u64,
    },
    /// The manifest is not UTF-8 or not TOML.
    #[error("manifest, line {line}: expected TOML, found: {message}")]
    ManifestSyntax {
        /// The line, counted from 1.
        line: usize,
        /// What the TOML parser said.
        message: String,
    },
    /// A manifest key has a value that Gramine does not accept.
    #[error("manifest, {key}: expected {expected}, found {found}")]
    ManifestKey {
        /// The dotted key, with array indices, as in `sgx.trusted_files[3].uri`.
        key: String,
        /// What the key may hold.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// The libpal image is not an ELF file that an enclave can be made of.
    #[error("libpal, {header}: expected {expected}, found {found}")]
    Elf {
        /// The header and field at fault, as in `program header 2, p_filesz`.
        header: String,
        /// What the field must hold.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// The areas do not fit into the enclave.
    #[error(
        "enclave of {enclave_size:#x} bytes (sgx.enclave_size): expected room for {area}, found that it would start below {lowest:#x}; \
         raise sgx.enclave_size or lower sgx.max_threads"
    )]
    EnclaveTooSmall {
        /// The first area that does not fit.
        area: &'static str,
        /// The enclave's size in bytes.
        enclave_size: u64,
        /// The lowest address that an area may have.
        lowest: u64,
    },
    /// Measuring would hash more bytes than any real enclave needs.
    #[error(
        "enclave: expected at most {limit} bytes to measure, found {found} (sgx.enclave_size, sgx.max_threads)"
    )]
    TooMuchToMeasure {
        /// The limit, in bytes.
        limit: u64,
        /// The bytes that would have to be hashed.
        found: u64,
    },
    /// A signing key of another kind, or damaged.
    #[error(
        "signing key: expected an RSA key of 3072 bits with public exponent 3 (PEM, PKCS#1 or PKCS#8), found {found}"
    )]
    SigningKey {
        /// What was found; never key material.
        found: String,
    },
    /// A date that is not of the form `YYYY-MM-DD`.
    #[error("date: expected YYYY-MM-DD, found {found:?}")]
    Date {
        /// The text found.
        found: String,
    },
    /// A SIGSTRUCT with a field that is not as the processor demands.
    #[error("SIGSTRUCT, {field}: expected {expected}, found {found}")]
    SigStruct {
        /// The field's name in the Intel manual.
        field: &'static str,
        /// What the field must hold.
        expected: String,
        /// What it holds.
        found: String,
    },
}
