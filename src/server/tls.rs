//! TLS: a certificate and its key, from files that may be renewed while the
//! server runs.
//!
//! A handshake takes the certificate that is there when it begins; connections
//! that are open stay as they are. Files that are broken, or are no pair since
//! only one of them has been renewed yet, change nothing.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// The largest file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is agreed on in a handshake, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where certificate and key are, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and behind it those that lead to the root.
    pub certificate: PathBuf,
    /// The key of the first certificate, without a passphrase.
    pub key: PathBuf,
}

/// The certificate that handshakes take.
pub struct Tls {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
    /// Of the files that were read last, good or bad.
    seen: Mutex<Digest>,
}

type Digest = [u8; 32];

/// What the files hold.
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// Reads the files; the error names the one that is wrong.
    pub fn load(files: TlsFiles) -> Result<Self> {
        let pair = Pair::read(&files)?;
        let config = ArcSwap::from_pointee(pair.config(&files)?);
        Ok(Self { files, config, seen: Mutex::new(pair.digest()) })
    }

    /// Reads the files again if they have changed; `true` if they had. The
    /// certificate stays if what they hold now is no good.
    pub fn reload(&self) -> Result<bool> {
        let pair = Pair::read(&self.files)?;
        let digest = pair.digest();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *seen, digest) == digest {
            return Ok(false);
        }
        self.config.store(Arc::new(pair.config(&self.files)?));
        Ok(true)
    }

    /// Reloads for ever, this often. What is wrong is logged once.
    pub async fn watch(self: Arc<Self>, rescan: Duration) {
        let mut looks = tokio::time::interval(rescan);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = None;
        loop {
            looks.tick().await;
            let tls = Arc::clone(&self);
            // A file may be on a disk that does not answer.
            let Ok(reloaded) = tokio::task::spawn_blocking(move || tls.reload()).await else {
                continue;
            };
            let problem = match reloaded {
                Ok(false) => continue,
                Ok(true) => {
                    tracing::info!(file = %self.files.certificate.display(), "a new certificate");
                    None
                }
                Err(error) => Some(error.message().to_owned()),
            };
            if let Some(problem) =
                problem.as_ref().filter(|problem| last.as_ref() != Some(*problem))
            {
                tracing::warn!("{problem}; the certificate from before stays");
            }
            last = problem;
        }
    }

    /// For a handshake that begins now.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}

impl Pair {
    fn read(files: &TlsFiles) -> Result<Self> {
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)? })
    }

    fn digest(&self) -> Digest {
        let each = |bytes: &[u8]| Digest::from(Sha256::digest(bytes));
        let both = [each(&self.certificate), each(&self.key)].concat();
        each(&both)
    }

    fn config(&self, files: &TlsFiles) -> Result<ServerConfig> {
        let (chain, key) = (self.chain(&files.certificate)?, self.key(&files.key)?);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::internal(format!("TLS: {error}")))?;
        let config = builder.with_no_client_auth().with_single_cert(chain, key);
        let mut config = config.map_err(|error| unusable(files, &error))?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Ok(config)
    }

    fn chain(&self, file: &Path) -> Result<Vec<CertificateDer<'static>>> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(|error| wrong(file, error))?;
        if chain.is_empty() {
            return Err(wrong(file, "no certificate in it; expected -----BEGIN CERTIFICATE-----"));
        }
        Ok(chain)
    }

    fn key(&self, file: &Path) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| {
            let text = String::from_utf8_lossy(&self.key);
            match error {
                _ if text.contains("ENCRYPTED") => {
                    wrong(file, "the private key is encrypted; expected one without a passphrase")
                }
                rustls::pki_types::pem::Error::NoItemsFound => {
                    wrong(file, "no private key in it; expected -----BEGIN PRIVATE KEY-----")
                }
                error => wrong(file, error),
            }
        })
    }
}

/// The error for a pair that TLS cannot use.
fn unusable(files: &TlsFiles, error: &rustls::Error) -> Error {
    match error {
        rustls::Error::InconsistentKeys(_) => Error::invalid(format!(
            "{}: this is not the key of the certificate in {}",
            files.key.display(),
            files.certificate.display()
        )),
        rustls::Error::InvalidCertificate(error) => {
            wrong(&files.certificate, format!("the certificate is broken: {error:?}"))
        }
        error => wrong(&files.key, error),
    }
}

fn wrong(file: &Path, why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("{}: {why}", file.display()))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|f| f.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(wrong(file, format!("cannot be read: {error}"))),
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => {
            Err(wrong(file, format!("it is larger than {FILE_BYTES_MAX} bytes")))
        }
        Ok(_) => Ok(bytes),
    }
}
