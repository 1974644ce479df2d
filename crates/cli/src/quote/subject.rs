//! What `quote verify` and `quote explain-tcb` share: the subject, where its collateral comes from, and the terms.

use std::path::PathBuf;

use attestation::pcs::platform_of;
use attestation::ratls::RatlsCertificate;
use attestation::{Evidence, Expected, Input, Policy, Quote, TrustAnchors};
use client::collate::says_simulated;
use jiff::Timestamp;

use crate::collateral::CollateralArgs;
use crate::files;
use crate::home::nodes;
use crate::judging::{self, Rules, Trust};

/// The subject and the terms it is judged on.
#[derive(clap::Args)]
pub struct SubjectArgs {
    #[command(flatten)]
    subject: Files,
    // Any of these is used instead of the evidence's own collateral.
    #[command(flatten)]
    collateral: CollateralArgs,
    /// One more root to trust, beside Intel's.
    #[arg(long, value_name = "PEM")]
    root_ca: Option<PathBuf>,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    rules: Rules,
    /// The MRENCLAVE to find.
    #[arg(long, value_name = "HEX", value_parser = judging::hex_array::<32>)]
    mrenclave: Option<[u8; 32]>,
    /// The MRSIGNER to find.
    #[arg(long, value_name = "HEX", value_parser = judging::hex_array::<32>)]
    mrsigner: Option<[u8; 32]>,
    /// The product id to find.
    #[arg(long, value_name = "N")]
    isv_prod_id: Option<u16>,
    /// The lowest security version of the enclave.
    #[arg(long, value_name = "N")]
    min_isv_svn: Option<u16>,
    /// The report data to find.
    #[arg(long, value_name = "HEX", value_parser = judging::hex_array::<64>)]
    report_data: Option<[u8; 64]>,
    /// The nonce to find in the claims.
    #[arg(long, value_name = "HEX", value_parser = judging::hex_bytes)]
    nonce: Option<std::vec::Vec<u8>>,
}

/// The file to judge.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Files {
    /// A quote: raw, hex, base64 or PEM.
    #[arg(long, value_name = "FILE")]
    quote: Option<PathBuf>,
    /// An RA-TLS certificate: PEM or DER.
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// An evidence file: JSON.
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
}

/// Which kind of file the bytes came from.
enum Kind {
    Quote,
    Certificate,
    Evidence,
}

/// All that judging needs, read.
pub struct Case {
    bytes: Vec<u8>,
    kind: Kind,
    /// The collateral, unless the evidence's own is to be used.
    pub collateral: Option<Vec<u8>>,
    /// Whom to trust.
    pub anchors: TrustAnchors,
    /// The policy.
    pub policy: Policy,
    /// What to find.
    pub expected: Expected,
    /// When.
    pub at: Timestamp,
}

impl Case {
    /// What is judged.
    pub fn input(&self) -> Input<'_> {
        match self.kind {
            Kind::Quote => Input::Quote(&self.bytes),
            Kind::Certificate => Input::Certificate(&self.bytes),
            Kind::Evidence => Input::Evidence(&self.bytes),
        }
    }
}

impl SubjectArgs {
    /// Reads the files and gets the collateral.
    pub fn read(&self) -> anyhow::Result<Case> {
        let files = &self.subject;
        let (kind, path) = match (&files.quote, &files.cert, &files.evidence) {
            (Some(path), _, _) => (Kind::Quote, path),
            (_, Some(path), _) => (Kind::Certificate, path),
            (_, _, Some(path)) => (Kind::Evidence, path),
            _ => anyhow::bail!("name a file with --quote, --cert or --evidence"),
        };
        let anchors = self.trust.anchors_and(self.root_ca.as_deref())?;
        let policy = self.rules.policy()?;
        let bytes = files::read(path)?;
        let collateral = self.collateral(&kind, &bytes)?;
        let issued = match &self.nonce {
            Some(nonce) => nodes::records()?.nonce_issued_at(nonce)?,
            None => None,
        };
        let expected = Expected {
            mrenclave: self.mrenclave.into_iter().collect(),
            mrsigner: self.mrsigner,
            isv_prod_id: self.isv_prod_id,
            min_isv_svn: self.min_isv_svn,
            report_data: self.report_data,
            nonce: self.nonce.clone(),
            nonce_issued_at: issued,
            ..Expected::default()
        };
        Ok(Case { bytes, kind, collateral, anchors, policy, expected, at: self.rules.at() })
    }

    /// Without a quote that can be read and names its platform there is nothing to ask for: judging will say what is wrong with it.
    fn collateral(&self, kind: &Kind, bytes: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        let choice = self.collateral.choice()?;
        if let Some(file) = &choice.file {
            return files::read(file).map(Some);
        }
        let quote = match kind {
            Kind::Evidence if !choice.overrules_evidence() => return Ok(None),
            Kind::Evidence => Evidence::from_json(bytes).ok().map(|evidence| evidence.quote),
            Kind::Quote => Quote::recognise(bytes).ok(),
            Kind::Certificate => RatlsCertificate::from_file(bytes).ok().map(|certificate| certificate.quote),
        };
        // Without what follows it, which is judged and no reason to have no collateral.
        let alone = |mut bytes: Vec<u8>| {
            let (_, left) =
                Quote::parse_prefix(&bytes).ok().filter(|(quote, _)| platform_of(quote).is_ok())?;
            bytes.truncate(bytes.len() - left);
            Some(bytes)
        };
        let Some(quote) = quote.and_then(alone) else { return Ok(None) };
        let simulated = self.trust.allow_simulated && says_simulated(&quote);
        Ok(Some(choice.fetch(&quote, simulated)?.to_json().into_bytes()))
    }
}
