//! The way to a PostgreSQL server: encrypted, unless the server is this computer.
//!
//! `sslmode` and `sslrootcert` mean what they mean to libpq, with two differences: without `sslmode` a server elsewhere
//! must show a certificate that fits its name (`verify-full`), and a mode that might send values and password in plain
//! text to another computer is refused.

use std::sync::Arc;

use postgres::config::{Host, SslMode};
use postgres::{Client, Config, NoTls};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::LedgerError;
use crate::url::take_parameter;

/// How the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// Not at all: whoever answers is believed.
    Nothing,
    /// Somebody who is trusted signed it.
    Issuer,
    /// The same, and it names the host.
    IssuerAndName,
}

/// What an address asks for.
#[derive(Debug)]
struct Wanted {
    config: Config,
    /// `None`: plain text.
    check: Option<Check>,
    /// File with the certificates of who is trusted; the system's otherwise.
    roots: Option<String>,
}

/// Connects as the address says.
pub fn connect(address: &str) -> Result<Client, LedgerError> {
    let mut wanted = Wanted::of(address)?;
    let lost = |error: postgres::Error| LedgerError::Lost(crate::postgres::describe(&error));
    let Some(check) = wanted.check else {
        wanted.config.ssl_mode(SslMode::Disable);
        return wanted.config.connect(NoTls).map_err(lost);
    };
    wanted.config.ssl_mode(SslMode::Require);
    let tls = client_config(check, wanted.roots.as_deref())?;
    wanted.config.connect(MakeRustlsConnect::new(tls)).map_err(lost)
}

impl Wanted {
    fn of(address: &str) -> Result<Self, LedgerError> {
        let bad = |text: String| LedgerError::Unreachable(text);
        let (address, mode) = take_parameter(address, "sslmode");
        let (address, roots) = take_parameter(&address, "sslrootcert");
        let roots = roots.filter(|roots| roots != "system");
        let config: Config = address.parse().map_err(|error: postgres::Error| bad(error.to_string()))?;
        let local = is_local(&config);
        let check = match mode.as_deref() {
            None if local => None,
            Some("disable" | "allow" | "prefer") if local => None,
            None | Some("verify-full") => Some(Check::IssuerAndName),
            Some("verify-ca") => Some(Check::Issuer),
            // As libpq: who names a file with certificates wants them to be used.
            Some("require") if roots.is_some() => Some(Check::Issuer),
            Some("require") => Some(Check::Nothing),
            Some(mode @ ("disable" | "allow" | "prefer")) => {
                return Err(bad(format!(
                    "sslmode={mode} could send values and password in plain text to another computer: use \
                     sslmode=verify-full (with sslrootcert=FILE for a certificate of your own), or require"
                )));
            }
            Some(other) => {
                return Err(bad(format!("sslmode={other} is not known: disable, require, verify-ca or verify-full")));
            }
        };
        Ok(Self { config, check, roots })
    }
}

/// All hosts are this computer: sockets of the file system and loopback addresses.
fn is_local(config: &Config) -> bool {
    let named = config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    });
    named && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
}

fn client_config(check: Check, roots: Option<&str>) -> Result<ClientConfig, LedgerError> {
    let bad = |error: Error| LedgerError::Unreachable(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(bad)?;
    if check == Check::IssuerAndName {
        return Ok(builder.with_root_certificates(trusted(roots)?).with_no_client_auth());
    }
    let issuer = match check {
        Check::Nothing => None,
        _ => {
            let made = WebPkiServerVerifier::builder_with_provider(Arc::new(trusted(roots)?), provider.clone()).build();
            Some(made.map_err(|error| LedgerError::Unreachable(error.to_string()))?)
        }
    };
    let verifier = Arc::new(AnyName { issuer, provider });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// The certificates of the file, or those that this computer trusts.
fn trusted(roots: Option<&str>) -> Result<RootCertStore, LedgerError> {
    let mut store = RootCertStore::empty();
    match roots {
        Some(file) => {
            let bad = |error: &dyn std::fmt::Display| LedgerError::Unreachable(format!("sslrootcert {file}: {error}"));
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| bad(&error))? {
                store.add(certificate.map_err(|error| bad(&error))?).map_err(|error| bad(&error))?;
            }
        }
        None => drop(store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if store.is_empty() {
        let whose = roots.unwrap_or("this computer's list of authorities");
        let text = format!("{whose} holds no certificate: name the authority's file with sslrootcert=FILE");
        return Err(LedgerError::Unreachable(text));
    }
    Ok(store)
}

/// `verify-ca` and `require`: the name in the certificate may be any; without an issuer so may be everything.
#[derive(Debug)]
struct AnyName {
    issuer: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        let Some(issuer) = &self.issuer else { return Ok(ServerCertVerified::assertion()) };
        match issuer.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str) -> Option<Check> {
        Wanted::of(address).unwrap_or_else(|error| panic!("{address}: {error}")).check
    }

    #[test]
    fn plain_text_stays_on_this_computer() {
        for address in ["host=/run/pg dbname=d", "postgres://localhost/d", "postgres://[::1]:5432/d?sslmode=disable"] {
            assert_eq!(check(address), None, "{address}");
        }
        for mode in ["disable", "allow", "prefer"] {
            let error = Wanted::of(&format!("postgres://db.example/d?sslmode={mode}")).unwrap_err();
            assert!(error.to_string().contains("plain text"), "{error}");
            assert!(Wanted::of(&format!("host=localhost,db.example dbname=d sslmode={mode}")).is_err());
        }
        assert!(Wanted::of("postgres://localhost/d?sslmode=none").is_err());
    }

    #[test]
    fn modes_mean_what_they_mean_to_libpq() {
        assert_eq!(check("postgres://db.example/d"), Some(Check::IssuerAndName));
        assert_eq!(check("postgres://localhost/d?sslmode=verify-full&sslrootcert=a.pem"), Some(Check::IssuerAndName));
        assert_eq!(check("host=db.example dbname=d sslmode='verify-ca'"), Some(Check::Issuer));
        assert_eq!(check("host=db.example dbname=d sslmode=require"), Some(Check::Nothing));
        assert_eq!(check("host=db.example dbname=d sslmode=require sslrootcert=a.pem"), Some(Check::Issuer));
        assert!(matches!(trusted(Some("/none.pem")), Err(LedgerError::Unreachable(_))));
    }
}
