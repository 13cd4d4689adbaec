//! Signing with a key that stays in a hardware security module, through its PKCS#11 library.
//!
//! The library is code that runs in this process: only the configuration names it, never a call.

use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::Error;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use esp_model::secure::{Scheme, SecureError};
use zeroize::Zeroizing;

use crate::Call;
use crate::error::{Code, ToolError};

/// Bytes of salt in the signatures that chips verify (ESP-IDF, "Secure Boot v2").
const SALT: std::ffi::c_ulong = 32;

/// What the configuration says about the module.
pub struct Module {
    library: std::path::PathBuf,
    token: String,
    pin: Zeroizing<String>,
}

impl Module {
    /// The module that is configured.
    pub fn of(call: &Call) -> Result<Self, ToolError> {
        let library = call.config.path("pkcs11_module").ok_or_else(|| {
            ToolError::new(Code::MissingParameter, "no PKCS#11 library is configured (pkcs11_module)")
        })?;
        let pin = match call.config.path("pkcs11_pin_file") {
            Some(path) => crate::own_file::read_text(&path)
                .map_err(|error| ToolError::new(Code::FileUnreadable, format!("{}: {error}", path.display())))?,
            None => String::new(),
        };
        let pin = Zeroizing::new(pin.trim_end_matches(['\r', '\n']).to_owned());
        Ok(Self { library, token: call.config.text("pkcs11_token").into(), pin })
    }

    /// Signs a digest with the private key of this label, as [`esp_model::secure::PrivateKey::sign`] would.
    pub fn sign(&self, label: &str, scheme: Scheme, digest: &[u8]) -> Result<Vec<u8>, SecureError> {
        // A library may be initialised once in a process.
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        self.try_sign(label, scheme, digest).map_err(|error| SecureError::Signer(error.to_string()))
    }

    fn try_sign(&self, label: &str, scheme: Scheme, digest: &[u8]) -> Result<Vec<u8>, Problem> {
        let module = Pkcs11::new(&self.library)?;
        module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
        let session = module.open_ro_session(self.slot(&module)?)?;
        if !self.pin.is_empty() {
            session.login(UserType::User, Some(&self.pin.as_str().into()))?;
        }
        let signed = sign(&session, label, scheme, digest);
        drop(session);
        module.finalize()?;
        signed
    }

    fn slot(&self, module: &Pkcs11) -> Result<Slot, Problem> {
        let slots = module.get_slots_with_token()?;
        let named = |slot: &&Slot| module.get_token_info(**slot).is_ok_and(|token| token.label() == self.token);
        match (self.token.is_empty(), slots.as_slice()) {
            (true, [only]) => Ok(*only),
            (true, slots) => Err(Problem::Choose(slots.len())),
            (false, slots) => slots.iter().find(named).copied().ok_or_else(|| Problem::NoToken(self.token.clone())),
        }
    }
}

fn sign(session: &Session, label: &str, scheme: Scheme, digest: &[u8]) -> Result<Vec<u8>, Problem> {
    let wanted = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(label.as_bytes().to_vec())];
    let found = session.find_objects(&wanted)?;
    let [key] = found.as_slice() else { return Err(Problem::Keys(label.into(), found.len())) };
    let (hash_alg, mgf) = (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256);
    let pss = PkcsPssParams { hash_alg, mgf, s_len: SALT.into() };
    let mechanism = if scheme == Scheme::Rsa3072 { Mechanism::RsaPkcsPss(pss) } else { Mechanism::Ecdsa };
    Ok(session.sign(&mechanism, *key, digest)?)
}

/// Why the module did not sign.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Module(#[from] Error),
    #[error("{0} tokens are there: name one (pkcs11_token)")]
    Choose(usize),
    #[error("there is no token {0:?}")]
    NoToken(String),
    #[error("{1} private keys are named {0:?}")]
    Keys(String, usize),
}
