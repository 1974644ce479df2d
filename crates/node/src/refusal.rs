//! Why a client is refused: `application/problem+json` (RFC 9457) with stable `type` and `title`.
//!
//! Whoever does not know the instance's id learns nothing: a missing, malformed and wrong id get the same answer,
//! and every other judgement comes after it.

/// One reason, with the HTTP status that goes with it. The message is the `detail`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No such path.
    #[error("the node waits for its configuration: it answers only `/` and `/.well-known/mse/evidence`")]
    NotFound,
    /// The path exists, for other methods.
    #[error("expected the method {0}")]
    Method(&'static str),
    /// Not the JSON object that a configuration is.
    #[error(
        "expected a JSON object with `uuid` and, where needed, `app_secrets`, `app_sealed_secrets`, `code_secret_key`, \
         `ssl_private_key`, `ssl_certificate`, each once; found something else at line {line}, column {column}"
    )]
    Malformed {
        /// Where, from 1.
        line: usize,
        /// Where, from 1; 0 for the end of the line before.
        column: usize,
    },
    /// The body is over the limit.
    #[error("expected a body of at most {limit} bytes, found more")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The request line and the header fields are over the limit.
    #[error("expected a request line and header fields of at most {limit} bytes, found more")]
    HeadTooLarge {
        /// The limit.
        limit: usize,
    },
    /// The body did not arrive in time.
    #[error("expected the whole body within {seconds} seconds")]
    TooSlow {
        /// The limit.
        seconds: u64,
    },
    /// Too much is under way.
    #[error("the node is busy with other requests: try again")]
    Busy,
    /// The configuration was accepted, the application is about to start.
    #[error("the node has its configuration and starts the application: try again")]
    Starting,
    /// The nonce is missing or not 16 to 64 bytes.
    #[error("expected `?nonce=` with 16 to 64 bytes in hexadecimal digits")]
    Nonce,
    /// The queue for quotes is full.
    #[error("the node makes one quote at a time and others wait already: try again")]
    QuoteQueue,
    /// The id is not this instance's.
    #[error("expected the `uuid` of this application, found another or none")]
    Id,
    /// There is a configuration already.
    #[error("the node was configured before, and a configuration is accepted once")]
    Configured,
    /// The code is encrypted and no key came.
    #[error(
        "the code is encrypted: expected its key, in `code_secret_key` or among the sealed secrets; found none"
    )]
    CodeKeyMissing,
    /// The code is not encrypted.
    #[error("the code is not encrypted: expected no code key, found one")]
    CodeKeyUnexpected,
    /// Two keys came, and differ.
    #[error(
        "expected one code key, found two different ones in `code_secret_key` and among the sealed secrets"
    )]
    CodeKeysDiffer,
    /// Not a key at all.
    #[error("expected `code_secret_key` to be 64 hexadecimal digits")]
    CodeKeyForm,
    /// The key does not open the archive.
    #[error("the code key does not open this package's code: it belongs to another package, or is mistyped")]
    CodeKeyWrong,
    /// The archive opens and cannot be used.
    #[error("the package's code cannot be used, which its code provider must mend: {0}")]
    Code(String),
    /// The measured configuration wants sealed secrets.
    #[error(
        "this application requires sealed secrets: expected `app_sealed_secrets` that hold secrets, found none"
    )]
    SealedSecretsMissing,
    /// They do not open.
    #[error(
        "the sealed secrets do not open: they were sealed for another enclave, for another instance of this one, or \
         were changed since"
    )]
    SealedSecrets,
    /// Not base64url.
    #[error("expected `app_sealed_secrets` in base64url")]
    SealedSecretsForm,
    /// Not an object.
    #[error("expected the {0} to be a JSON object")]
    SecretsForm(&'static str),
    /// The owner's certificate mode needs both.
    #[error(
        "this application serves its owner's certificate: expected `ssl_certificate` and `ssl_private_key`"
    )]
    CertificateMissing,
    /// Another mode needs neither.
    #[error(
        "this application serves the enclave's own certificate: expected neither `ssl_certificate` nor \
         `ssl_private_key`"
    )]
    CertificateUnexpected,
    /// They cannot be served.
    #[error("the owner's certificate cannot be served: {0}")]
    Certificate(String),
    /// The node's own failure; its log says which.
    #[error("the node failed, through no fault of the request; its log says why")]
    Internal,
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::Malformed { .. } | Refusal::Nonce => 400,
            Refusal::Id => 403,
            Refusal::NotFound => 404,
            Refusal::Method(_) => 405,
            Refusal::TooSlow { .. } => 408,
            Refusal::Configured => 409,
            Refusal::TooLarge { .. } => 413,
            Refusal::QuoteQueue => 429,
            Refusal::HeadTooLarge { .. } => 431,
            Refusal::Internal => 500,
            Refusal::Busy | Refusal::Starting => 503,
            _ => 422,
        }
    }

    /// The last part of `type`, stable: `wrong-id`.
    pub fn kind(&self) -> &'static str {
        self.names().0
    }

    /// The stable `title`.
    pub fn title(&self) -> &'static str {
        self.names().1
    }

    /// Whether the same request may succeed a moment later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Refusal::Busy | Refusal::Starting | Refusal::QuoteQueue)
    }

    /// The problem+json text: `{"type", "title", "status", "detail"}`.
    pub fn to_json(&self) -> String {
        serde_json::json!({
            "type": format!("urn:mse:problem:{}", self.kind()),
            "title": self.title(),
            "status": self.status(),
            "detail": self.to_string(),
        })
        .to_string()
    }

    fn names(&self) -> (&'static str, &'static str) {
        match self {
            Refusal::NotFound => ("not-found", "No such page"),
            Refusal::Method(_) => ("method-not-allowed", "Method not allowed"),
            Refusal::Malformed { .. } => ("malformed-request", "Malformed request"),
            Refusal::TooLarge { .. } => ("body-too-large", "Body too large"),
            Refusal::HeadTooLarge { .. } => ("header-too-large", "Header too large"),
            Refusal::TooSlow { .. } => ("body-too-slow", "Body too slow"),
            Refusal::Busy => ("busy", "Busy"),
            Refusal::Starting => ("starting", "The application is starting"),
            Refusal::Nonce => ("bad-nonce", "Bad nonce"),
            Refusal::QuoteQueue => ("too-many-quotes", "Too many quotes"),
            Refusal::Id => ("wrong-id", "Wrong application id"),
            Refusal::Configured => ("already-configured", "Already configured"),
            Refusal::CodeKeyMissing => ("code-key-missing", "Code key missing"),
            Refusal::CodeKeyUnexpected => ("code-key-unexpected", "Code key unexpected"),
            Refusal::CodeKeysDiffer => ("code-keys-differ", "Two different code keys"),
            Refusal::CodeKeyForm => ("code-key-malformed", "Malformed code key"),
            Refusal::CodeKeyWrong => ("wrong-code-key", "Wrong code key"),
            Refusal::Code(_) => ("code-unusable", "Unusable code"),
            Refusal::SealedSecretsMissing => ("sealed-secrets-required", "Sealed secrets required"),
            Refusal::SealedSecrets => ("sealed-secrets-refused", "Sealed secrets refused"),
            Refusal::SealedSecretsForm => ("sealed-secrets-malformed", "Malformed sealed secrets"),
            Refusal::SecretsForm(_) => ("secrets-malformed", "Malformed secrets"),
            Refusal::CertificateMissing => ("certificate-required", "Certificate required"),
            Refusal::CertificateUnexpected => ("certificate-unexpected", "Certificate unexpected"),
            Refusal::Certificate(_) => ("certificate-unusable", "Unusable certificate"),
            Refusal::Internal => ("internal", "Internal failure"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_four_members() {
        let json: serde_json::Value = serde_json::from_str(&Refusal::Id.to_json()).unwrap();
        assert_eq!(json["type"], "urn:mse:problem:wrong-id");
        assert_eq!(json["title"], "Wrong application id");
        assert_eq!(json["status"], 403);
        assert_eq!(json["detail"], Refusal::Id.to_string());
        assert_eq!(json.as_object().unwrap().len(), 4);
    }
}
