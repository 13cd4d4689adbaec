//! Signing with a key that stays in a hardware security module, through its PKCS#11 library.
//!
//! The library is code that runs in this process: only the configuration names it, never a call.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::Error;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use esp_model::secure::{PublicKey, Scheme, SecureError};
use zeroize::Zeroizing;

use crate::Call;
use crate::error::{Code, ToolError};

/// Bytes of salt in the signatures that chips verify (ESP-IDF, "Secure Boot v2").
const SALT: std::ffi::c_ulong = 32;

/// How a module is opened.
pub struct Module {
    library: std::path::PathBuf,
    token: Token,
    pin: Zeroizing<String>,
}

/// Which of the module's tokens has the keys.
enum Token {
    /// The only one, or the one of this label.
    Label(String),
    /// The one in this slot.
    Slot(u64),
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
        Ok(Self { library, token: Token::Label(call.config.text("pkcs11_token").into()), pin })
    }

    /// The module that somebody at a terminal names.
    pub fn in_slot(library: &Path, slot: u64, pin: Zeroizing<String>) -> Self {
        Self { library: library.into(), token: Token::Slot(slot), pin }
    }

    /// Signs a digest with the private key of this label, as [`esp_model::secure::PrivateKey::sign`] would.
    pub fn sign(&self, label: &str, scheme: Scheme, digest: &[u8]) -> Result<Vec<u8>, SecureError> {
        self.alone(|session| sign(session, label, scheme, digest))
    }

    /// The public key of this label: RSA, or of a curve that signatures of version 2 know.
    pub fn public_key(&self, label: &str) -> Result<PublicKey, SecureError> {
        self.alone(|session| public(session, label))
    }

    fn alone<T>(&self, work: impl FnOnce(&Session) -> Result<T, Problem>) -> Result<T, SecureError> {
        // A library may be initialised once in a process.
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        self.in_session(work).map_err(|error| SecureError::Signer(error.to_string()))
    }

    fn in_session<T>(&self, work: impl FnOnce(&Session) -> Result<T, Problem>) -> Result<T, Problem> {
        let module = Pkcs11::new(&self.library)?;
        module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
        let session = module.open_ro_session(self.slot(&module)?)?;
        if !self.pin.is_empty() {
            session.login(UserType::User, Some(&self.pin.as_str().into()))?;
        }
        let done = work(&session);
        drop(session);
        module.finalize()?;
        done
    }

    fn slot(&self, module: &Pkcs11) -> Result<Slot, Problem> {
        let slots = module.get_slots_with_token()?;
        let label = match &self.token {
            Token::Slot(number) => {
                let found = slots.into_iter().find(|slot| slot.id() == *number);
                return found.ok_or(Problem::NoSlot(*number));
            }
            Token::Label(label) => label,
        };
        let named = |slot: &&Slot| module.get_token_info(**slot).is_ok_and(|token| token.label() == label);
        match (label.is_empty(), slots.as_slice()) {
            (true, [only]) => Ok(*only),
            (true, slots) => Err(Problem::Choose(slots.len())),
            (false, slots) => slots.iter().find(named).copied().ok_or_else(|| Problem::NoToken(label.clone())),
        }
    }
}

fn sign(session: &Session, label: &str, scheme: Scheme, digest: &[u8]) -> Result<Vec<u8>, Problem> {
    let key = object(session, label, ObjectClass::PRIVATE_KEY, "private")?;
    let (hash_alg, mgf) = (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256);
    let pss = PkcsPssParams { hash_alg, mgf, s_len: SALT.into() };
    let mechanism = if scheme == Scheme::Rsa3072 { Mechanism::RsaPkcsPss(pss) } else { Mechanism::Ecdsa };
    Ok(session.sign(&mechanism, key, digest)?)
}

/// The only key of its kind with this label.
fn object(session: &Session, label: &str, class: ObjectClass, kind: &'static str) -> Result<ObjectHandle, Problem> {
    let found = session.find_objects(&[Attribute::Class(class), Attribute::Label(label.as_bytes().to_vec())])?;
    match found.as_slice() {
        [only] => Ok(*only),
        many => Err(Problem::Keys { label: label.into(), kind, count: many.len() }),
    }
}

fn public(session: &Session, label: &str) -> Result<PublicKey, Problem> {
    let key = object(session, label, ObjectClass::PUBLIC_KEY, "public")?;
    let wanted = [AttributeType::Modulus, AttributeType::PublicExponent, AttributeType::EcPoint];
    let (mut modulus, mut exponent, mut point) = (None, None, None);
    for attribute in session.get_attributes(key, &wanted)? {
        match attribute {
            Attribute::Modulus(bytes) => modulus = Some(bytes),
            Attribute::PublicExponent(bytes) => exponent = Some(bytes),
            Attribute::EcPoint(bytes) => point = Some(bytes),
            _ => {}
        }
    }
    match (modulus, exponent, point) {
        (Some(modulus), Some(exponent), _) => Ok(PublicKey::from_rsa_numbers(&modulus, &exponent)?),
        (_, _, Some(point)) => Ok(PublicKey::from_ec_point(&point)?),
        _ => Err(Problem::NoNumbers(label.into())),
    }
}

/// Why the module did not serve.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Module(#[from] Error),
    #[error("{0} tokens are there: name one (pkcs11_token)")]
    Choose(usize),
    #[error("there is no token {0:?}")]
    NoToken(String),
    #[error("there is no token in slot {0}")]
    NoSlot(u64),
    #[error("{count} {kind} keys are named {label:?}")]
    Keys { label: String, kind: &'static str, count: usize },
    #[error("the public key {0:?} is neither RSA nor of a curve")]
    NoNumbers(String),
    #[error("{0}")]
    Key(#[from] SecureError),
}
