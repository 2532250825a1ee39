//! Whether and how a connection is encrypted, and how the server proves who it is.
//!
//! libpq's `sslmode` and its files become one [`TlsPolicy`]; rustls (with ring) carries it out for our own
//! connections and libpq, told the same by explicit variables, for the child programs. Where the two can differ,
//! ours is the stricter one: a certificate without subject alternative names never passes `verify-full`.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
        pem::PemObject,
    },
    server::ParsedCertificate,
};

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Never encrypted.
    Disable,
    /// Encrypted only when the server refuses a plain connection.
    Allow,
    /// Encrypted when the server can; libpq's default. Protects against nobody who can change packets.
    Prefer,
    /// Always encrypted; the certificate is checked only when a root certificate is at hand.
    Require,
    /// Always encrypted, by a server whose certificate leads to a trusted root.
    VerifyCa,
    /// As [`VerifyCa`](Self::VerifyCa), and the certificate names the host.
    VerifyFull,
}

impl TlsMode {
    /// The mode called `word` in libpq's spelling.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }

    /// libpq's word for the mode.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Whether a certificate that leads to no trusted root ends the connection even if no root file is there.
    pub(crate) fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

/// How a connection is protected, with every file named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPolicy {
    /// What is asked for.
    pub mode: TlsMode,
    /// The file of trusted root certificates. When it is there, the chain is verified in every mode, as libpq does.
    pub roots: Option<PathBuf>,
    /// The file of revoked certificates.
    pub revocations: Option<PathBuf>,
    /// Our own certificate and its key.
    pub identity: Option<ClientIdentity>,
}

impl TlsPolicy {
    /// The policy of a connection that never leaves the machine.
    pub(crate) fn plain() -> Self {
        Self {
            mode: TlsMode::Disable,
            roots: None,
            revocations: None,
            identity: None,
        }
    }
}

/// The files by which we prove who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate with its chain, PEM.
    pub certificate: PathBuf,
    /// The unencrypted private key, PEM.
    pub key: PathBuf,
}

/// Why the files of a policy cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is not there, or not PEM.
    #[error("cannot read {what} from {}", path.display())]
    File {
        /// What was wanted.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A file holds no certificate that can be used.
    #[error("{} holds no usable root certificate", path.display())]
    NoRoots {
        /// The file.
        path: PathBuf,
    },
    /// rustls refuses the parts.
    #[error("the TLS settings cannot be used")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// rustls' configuration for `policy`.
pub(crate) fn client_config(policy: &TlsPolicy) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let check = ServerCheck::new(policy, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(check));
    match &policy.identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => {
            let certificates = read_certificates("the client certificate", &identity.certificate)?;
            let key =
                PrivateKeyDer::from_pem_file(&identity.key).map_err(|source| TlsError::File {
                    what: "the client key",
                    path: identity.key.clone(),
                    source,
                })?;
            builder
                .with_client_auth_cert(certificates, key)
                .map_err(refused)
        }
    }
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> TlsError {
    TlsError::Refused(Box::new(error))
}

fn read_certificates(
    what: &'static str,
    path: &PathBuf,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| TlsError::File {
            what,
            path: path.clone(),
            source,
        })
}

/// The verifier behind every connection.
///
/// Invariant: the handshake's signature is always checked, whatever the mode, so that the other side holds the key
/// of the certificate it shows.
#[derive(Debug)]
struct ServerCheck {
    provider: Arc<CryptoProvider>,
    /// Checks chain, time, revocation and, last of all, the name.
    chain: Option<Arc<WebPkiServerVerifier>>,
    trusted: Vec<CertificateDer<'static>>,
    revocations: bool,
    check_name: bool,
}

impl ServerCheck {
    fn new(policy: &TlsPolicy, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let Some(path) = &policy.roots else {
            return Ok(Self {
                provider: Arc::clone(provider),
                chain: None,
                trusted: Vec::new(),
                revocations: false,
                check_name: false,
            });
        };
        let trusted = read_certificates("root certificates", path)?;
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(trusted.iter().cloned());
        if usable == 0 {
            return Err(TlsError::NoRoots { path: path.clone() });
        }
        let mut builder =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        if let Some(path) = &policy.revocations {
            let lists = CertificateRevocationListDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|source| TlsError::File {
                    what: "the certificate revocation list",
                    path: path.clone(),
                    source,
                })?;
            builder = builder.with_crls(lists);
        }
        Ok(Self {
            provider: Arc::clone(provider),
            chain: Some(builder.build().map_err(refused)?),
            trusted,
            revocations: policy.revocations.is_some(),
            check_name: policy.mode == TlsMode::VerifyFull,
        })
    }
}

impl ServerCertVerifier for ServerCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        let verdict =
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            // The name is looked at only after the chain was found good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.check_name => Ok(ServerCertVerified::assertion()),
            // A server that shows a trusted root itself as its certificate, as `openssl req -x509` makes it and as
            // libpq accepts it.
            Err(ref error) if self.is_trusted_itself(end_entity, error) => {
                if self.check_name {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ServerCheck {
    /// Whether `error` says no more than that `end_entity` is a root, and it is, byte for byte, a trusted one.
    ///
    /// webpki looks at the validity in time before it raises this error. Revocation it looks at later, so the
    /// exception does not hold where a revocation list is in use.
    fn is_trusted_itself(&self, end_entity: &CertificateDer<'_>, error: &rustls::Error) -> bool {
        let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else {
            return false;
        };
        !self.revocations
            && matches!(
                other.0.downcast_ref::<webpki::Error>(),
                Some(webpki::Error::CaUsedAsEndEntity)
            )
            && self.trusted.iter().any(|root| root == end_entity)
    }
}
