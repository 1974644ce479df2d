//! The register of checks: every check that a judgement can hold, by its stable dotted id.
//!
//! The ids are part of the interface: scripts, documents and the corpus of mutants rely on them. An id is never reused
//! for another question. A judgement accepts only where every check of kind [`Kind::Always`] (and those of the other
//! kinds that apply) was made and passed: a check that some code path forgot is a refusal.

/// When a check must have passed for a judgement to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In every judgement.
    Always,
    /// Where an RA-TLS certificate is judged.
    Certificate,
    /// Where an RA-TLS certificate binds its key through claims.
    Claims,
    /// Where an evidence file is judged.
    Evidence,
    /// Only where the caller or the policy asks.
    Asked,
}

macro_rules! register {
    ($($variant:ident $id:literal $kind:ident $question:literal,)*) => {
        /// A check, by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Id {
            $(#[doc = $question] $variant,)*
        }

        impl Id {
            /// Every check there is, in the order of the register.
            pub const ALL: &[Id] = &[$(Id::$variant,)*];

            /// The stable dotted id.
            pub const fn as_str(self) -> &'static str {
                match self { $(Id::$variant => $id,)* }
            }

            /// When the check must have passed.
            pub const fn kind(self) -> Kind {
                match self { $(Id::$variant => Kind::$kind,)* }
            }

            /// What passes, in one line.
            pub const fn question(self) -> &'static str {
                match self { $(Id::$variant => $question,)* }
            }
        }
    };
}

register! {
    // What was handed in.
    EvidenceFormat "binding.evidence" Asked "the evidence file is one, of version 1",
    CertFormat "cert.format" Certificate "the RA-TLS certificate is one well-formed X.509 v3 certificate",
    CertQuote "cert.quote" Certificate "the RA-TLS certificate carries one quote in a known extension",
    CertSelfSignature "cert.self_signature" Certificate "the RA-TLS certificate is signed by its own key",
    CertWindow "cert.window" Certificate "the RA-TLS certificate is valid at the judged time",

    // The quote.
    QuoteFormat "quote.format" Always "a quote: raw, in hex, in base64 or in PEM",
    QuoteVersion "quote.version" Always "version 3",
    QuoteKeyType "quote.attestation_key_type" Always "attestation key type 2 (ECDSA P-256)",
    QuoteTeeType "quote.tee_type" Always "TEE type 0 (SGX)",
    QuoteLength "quote.length" Always "every declared length adds up, nothing follows",
    QuoteVendor "quote.qe_vendor" Always "the quoting enclave is Intel's",
    QuoteCertificationType "quote.certification_data_type" Always "certification data type 5 (PCK chain)",
    QuoteReserved "quote.reserved" Always "reserved bytes of the enclave report are zero",
    QuoteInit "quote.init" Always "the enclave is initialised",
    QuoteDebug "quote.debug" Always "the enclave cannot be debugged",
    QuoteProvisioningKey "quote.provisioning_key" Always "the enclave may not derive provisioning or launch keys",
    QuoteAttributes "quote.attributes" Always "64-bit mode, no unknown attribute flag",
    QuoteXfrm "quote.xfrm" Always "x87 and SSE state, no unknown feature bit",
    QuoteSignature "quote.signature" Always "header and report are signed by the attestation key",
    QuoteMrenclave "quote.mrenclave" Asked "MRENCLAVE is an expected one",
    QuoteMrsigner "quote.mrsigner" Asked "MRSIGNER is the expected one",
    QuoteIsvProdId "quote.isv_prod_id" Asked "ISVPRODID is the expected one",
    QuoteIsvSvn "quote.isv_svn" Asked "ISVSVN is high enough",

    // The PCK chain inside the quote.
    PckFormat "pck.chain.format" Always "the PCK chain is well-formed PEM of well-formed certificates",
    PckLength "pck.chain.length" Always "three certificates: PCK, CA, root",
    PckOrder "pck.chain.order" Always "each certificate names the next as its issuer",
    PckRoot "pck.chain.root" Always "the root is a pinned trust anchor",
    PckNames "pck.chain.names" Always "each certificate has the name of its role",
    PckKeys "pck.chain.keys" Always "all keys are ECDSA P-256",
    PckSignatures "pck.chain.signatures" Always "each certificate is signed by the next",
    PckValidity "pck.chain.validity" Always "all certificates are valid at the judged time",
    PckConstraints "pck.chain.basic_constraints" Always "CAs are CAs, leaves are not, path lengths hold",
    PckKeyUsage "pck.chain.key_usage" Always "each key may be used as it is",
    PckExtensions "pck.chain.extensions" Always "no extension is doubled, none is critical and unknown",
    PckSgx "pck.sgx_extension" Always "the PCK certificate has one well-formed SGX extension",
    PckSimulation "pck.simulation" Always "simulation is marked as such, and only under its own anchor",

    // The certificates behind the PCK's revocation list.
    CrlChainFormat "crl.issuer_chain.format" Always "the PCK CRL's issuer chain is well-formed PEM",
    CrlChainLength "crl.issuer_chain.length" Always "two certificates: CA, root",
    CrlChainOrder "crl.issuer_chain.order" Always "each certificate names the next as its issuer",
    CrlChainRoot "crl.issuer_chain.root" Always "the root is the PCK chain's root",
    CrlChainNames "crl.issuer_chain.names" Always "each certificate has the name of its role",
    CrlChainKeys "crl.issuer_chain.keys" Always "all keys are ECDSA P-256",
    CrlChainSignatures "crl.issuer_chain.signatures" Always "each certificate is signed by the next",
    CrlChainValidity "crl.issuer_chain.validity" Always "all certificates are valid at the judged time",
    CrlChainConstraints "crl.issuer_chain.basic_constraints" Always "CAs are CAs, path lengths hold",
    CrlChainKeyUsage "crl.issuer_chain.key_usage" Always "each key may be used as it is",
    CrlChainExtensions "crl.issuer_chain.extensions" Always "no extension is doubled, none is critical and unknown",

    // Revocation lists.
    RootCrlFormat "crl.root_ca.format" Always "the root CA CRL is one well-formed CRL",
    RootCrlIssuer "crl.root_ca.issuer" Always "the root CA CRL is the root's",
    RootCrlSignature "crl.root_ca.signature" Always "the root CA CRL is signed by the root",
    RootCrlWindow "crl.root_ca.window" Always "the root CA CRL is current at the judged time",
    PckCrlFormat "crl.pck.format" Always "the PCK CRL is one well-formed CRL",
    PckCrlIssuer "crl.pck.issuer" Always "the PCK CRL is of the CA that issued the PCK certificate",
    PckCrlSignature "crl.pck.signature" Always "the PCK CRL is signed by that CA",
    PckCrlWindow "crl.pck.window" Always "the PCK CRL is current at the judged time",
    RevokedPck "crl.revocation.pck" Always "the PCK certificate is not revoked",
    RevokedPckCa "crl.revocation.pck_ca" Always "the PCK's CA is not revoked",
    RevokedTcbSigning "crl.revocation.tcb_signing" Always "the TCB signing certificates are not revoked",
    RevokedRoot "crl.revocation.root" Always "the root is not revoked by itself",

    // Collateral signed by the TCB signer.
    CollateralFormat "collateral.format" Always "the collateral is the JSON object of nine strings",
    TcbChainFormat "collateral.tcb_info_chain.format" Always "the TCB info's issuer chain is well-formed PEM",
    TcbChainLength "collateral.tcb_info_chain.length" Always "two certificates: TCB signing, root",
    TcbChainOrder "collateral.tcb_info_chain.order" Always "each certificate names the next as its issuer",
    TcbChainRoot "collateral.tcb_info_chain.root" Always "the root is the PCK chain's root",
    TcbChainNames "collateral.tcb_info_chain.names" Always "each certificate has the name of its role",
    TcbChainKeys "collateral.tcb_info_chain.keys" Always "all keys are ECDSA P-256",
    TcbChainSignatures "collateral.tcb_info_chain.signatures" Always "each certificate is signed by the next",
    TcbChainValidity "collateral.tcb_info_chain.validity" Always "all certificates are valid at the judged time",
    TcbChainConstraints "collateral.tcb_info_chain.basic_constraints" Always "CAs are CAs, leaves are not",
    TcbChainKeyUsage "collateral.tcb_info_chain.key_usage" Always "each key may be used as it is",
    TcbChainExtensions "collateral.tcb_info_chain.extensions" Always "no extension is doubled, none critical and unknown",
    TcbInfoSignature "collateral.tcb_info.signature" Always "the TCB info's text is signed by its TCB signer",
    TcbInfoFormat "collateral.tcb_info.format" Always "the TCB info is strict JSON of version 3",
    TcbInfoVersion "collateral.tcb_info.version" Always "the TCB info has version 3",
    TcbInfoId "collateral.tcb_info.id" Always "the TCB info is for SGX",
    TcbInfoType "collateral.tcb_info.tcb_type" Always "the TCB info has TCB type 0",
    TcbInfoWindow "collateral.tcb_info.window" Always "the TCB info is current at the judged time",
    TcbInfoFmspc "collateral.tcb_info.fmspc" Always "the TCB info is for the PCK's FMSPC",
    TcbInfoPceId "collateral.tcb_info.pce_id" Always "the TCB info is for the PCK's PCE id",
    QeChainFormat "collateral.qe_identity_chain.format" Always "the QE identity's issuer chain is well-formed PEM",
    QeChainLength "collateral.qe_identity_chain.length" Always "two certificates: TCB signing, root",
    QeChainOrder "collateral.qe_identity_chain.order" Always "each certificate names the next as its issuer",
    QeChainRoot "collateral.qe_identity_chain.root" Always "the root is the PCK chain's root",
    QeChainNames "collateral.qe_identity_chain.names" Always "each certificate has the name of its role",
    QeChainKeys "collateral.qe_identity_chain.keys" Always "all keys are ECDSA P-256",
    QeChainSignatures "collateral.qe_identity_chain.signatures" Always "each certificate is signed by the next",
    QeChainValidity "collateral.qe_identity_chain.validity" Always "all certificates are valid at the judged time",
    QeChainConstraints "collateral.qe_identity_chain.basic_constraints" Always "CAs are CAs, leaves are not",
    QeChainKeyUsage "collateral.qe_identity_chain.key_usage" Always "each key may be used as it is",
    QeChainExtensions "collateral.qe_identity_chain.extensions" Always "no extension is doubled, none critical and unknown",
    QeIdentitySignature "collateral.qe_identity.signature" Always "the QE identity's text is signed by its TCB signer",
    QeIdentityFormat "collateral.qe_identity.format" Always "the QE identity is strict JSON of version 2",
    QeIdentityVersion "collateral.qe_identity.version" Always "the QE identity has version 2",
    QeIdentityId "collateral.qe_identity.id" Always "the QE identity is for the SGX quoting enclave",
    QeIdentityWindow "collateral.qe_identity.window" Always "the QE identity is current at the judged time",

    // The quoting enclave.
    QeReportSignature "qe.report_signature" Always "the QE report is signed by the PCK",
    QeKeyBinding "qe.key_binding" Always "the QE report binds the attestation key and authentication data",
    QeReserved "qe.reserved" Always "reserved bytes of the QE report are zero",
    QeMrsigner "qe.mrsigner" Always "the QE has the identity's MRSIGNER",
    QeIsvProdId "qe.isv_prod_id" Always "the QE has the identity's ISVPRODID",
    QeMiscSelect "qe.misc_select" Always "the QE has the identity's MISCSELECT under its mask",
    QeAttributes "qe.attributes" Always "the QE has the identity's attributes under their mask",
    QeLevel "qe.level" Always "the QE's ISVSVN reaches a level of its identity",

    // The platform.
    TcbLevel "tcb.level" Always "the platform's 16 component SVNs and PCESVN reach a level of the TCB info",

    // Bindings.
    BindingClaimsFormat "binding.claims_format" Claims "the claims are strict deterministic CBOR",
    BindingClaims "binding.claims" Claims "the report data is the digest of the claims, then 32 zero bytes",
    BindingPublicKey "binding.public_key" Certificate "the quote binds the key of the certificate",
    BindingReportData "binding.report_data" Asked "the report data is the caller's",
    BindingNonce "binding.nonce" Asked "the quote is over the caller's nonce",
    BindingCertificateQuote "binding.certificate_quote" Evidence "the certificate's own quote tells of the same enclave and key",
    BindingArguments "binding.arguments" Evidence "the arguments agree with certificate and claims",

    // What a policy adds.
    PolicyTcbStatus "policy.tcb_status" Always "the worst status of platform and QE is allowed",
    PolicyAdvisories "policy.advisories" Always "every advisory is on the allow-list, and not past its expiry",
    PolicyGrace "policy.grace" Asked "the platform is not out of date for longer than the grace",
    PolicyEvaluationNumber "policy.tcb_evaluation_data_number" Asked "the evaluation data numbers are high enough",
    PolicyTcbDate "policy.tcb_date" Asked "the platform's TCB level is recent enough",
    PolicySmt "policy.smt" Asked "the state of hyper-threading is allowed",
    PolicyDynamicPlatform "policy.dynamic_platform" Asked "the dynamic platform flag is allowed",
    PolicyCachedKeys "policy.cached_keys" Asked "the cached keys flag is allowed",
    PolicyMachine "policy.machine" Asked "the machine is on the allow-list",
    PolicyEnclaveSize "policy.enclave_size" Asked "the enclave size is allowed",
    PolicyCollateralAge "policy.collateral_age" Asked "the oldest part of the collateral is recent enough",
    PolicyNonce "policy.nonce" Asked "the evidence is over a nonce of the caller's",
    PolicyEvidenceAge "policy.evidence_age" Asked "this verifier issued the nonce recently enough",
}

impl Id {
    /// The id of a given name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|id| id.as_str() == name)
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_dotted() {
        let families = ["quote", "cert", "pck", "crl", "collateral", "qe", "tcb", "policy", "binding"];
        let mut seen = std::collections::BTreeSet::new();
        for id in Id::ALL {
            assert!(seen.insert(id.as_str()), "{id} twice");
            let family = id.as_str().split('.').next();
            assert!(family.is_some_and(|f| families.contains(&f)), "{id}");
            assert_eq!(Id::parse(id.as_str()), Some(*id));
        }
        assert_eq!(Id::parse("quote.unknown"), None);
    }
}
