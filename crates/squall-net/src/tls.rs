//! TLS for what goes out: whom to trust, and what to offer.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use squall_types::dial::Offer;
use tokio_rustls::TlsConnector;

/// Whose certificates are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Mozilla's roots and those of the node's configuration.
    Roots,
    /// Anybody's: for an upstream that says `insecure = true`.
    Anybody,
}

/// One configuration for each combination, made once.
pub(crate) struct TlsConnectors {
    trusting_roots: [TlsConnector; 3],
    trusting_anybody: [TlsConnector; 3],
}

impl TlsConnectors {
    /// # Errors
    /// Fails when an extra root is not a certificate that can be an anchor of trust.
    pub(crate) fn new(extra_roots: &[CertificateDer<'static>]) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for root in extra_roots {
            roots.add(root.clone())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let begin = || {
            ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
        };
        let checked = begin()?.with_root_certificates(roots).with_no_client_auth();
        let unchecked = begin()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TakesAny(provider.clone())))
            .with_no_client_auth();
        Ok(Self {
            trusting_roots: for_each_offer(&checked),
            trusting_anybody: for_each_offer(&unchecked),
        })
    }

    pub(crate) fn get(&self, offer: Offer, trust: Trust) -> &TlsConnector {
        let connectors = match trust {
            Trust::Roots => &self.trusting_roots,
            Trust::Anybody => &self.trusting_anybody,
        };
        match offer {
            Offer::Http1 => &connectors[0],
            Offer::Http2 => &connectors[1],
            Offer::Either => &connectors[2],
        }
    }
}

fn for_each_offer(config: &ClientConfig) -> [TlsConnector; 3] {
    let offers: [&[&[u8]]; 3] = [&[b"http/1.1"], &[b"h2"], &[b"h2", b"http/1.1"]];
    offers.map(|offer| {
        let mut config = config.clone();
        config.alpn_protocols = offer.iter().map(|protocol| protocol.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    })
}

/// Any certificate will do, but the other side must hold its key.
#[derive(Debug)]
struct TakesAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakesAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
