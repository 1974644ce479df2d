//! A simulated machine's keys in a directory.
use crate::Error;
use attestation::Collateral;
use jiff::Timestamp;
use std::path::Path;

/// One simulated machine with a make-believe Intel of its own. Clones share it.
#[derive(Clone, Debug)]
pub struct Installation {}

impl Installation {
    /// Opens the installation in `directory`, or makes one there.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Exposed`], [`Error::NotValidNow`], [`Error::Io`].
    pub fn open_or_create(directory: &Path, now: Timestamp) -> Result<Self, Error> {
        let _ = (directory, now);
        todo!()
    }
    /// Opens the installation in `directory`, which must be there.
    ///
    /// # Errors
    /// As [`Self::open_or_create`].
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let _ = directory;
        todo!()
    }
    /// The root certificate, PEM.
    pub fn root_pem(&self) -> &str {
        todo!()
    }
    /// Freshly signed collateral for this machine.
    ///
    /// # Errors
    /// [`Error::Attestation`] for a time that X.509 cannot say.
    pub fn collateral(&self, now: Timestamp) -> Result<Collateral, Error> {
        let _ = now;
        todo!()
    }
    /// Freshly signed collateral for a quote of this machine.
    ///
    /// # Errors
    /// [`Error::ForeignQuote`] for another machine's; [`Error::Attestation`] for what is no quote.
    pub fn collateral_for(&self, quote: &[u8], now: Timestamp) -> Result<Collateral, Error> {
        let _ = (quote, now);
        todo!()
    }
}
