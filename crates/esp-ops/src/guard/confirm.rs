//! Confirmations of irreversible acts: offered with a plan, approved by a person, used once.
//!
//! They are files below the state folder, so that they survive a restart. A file holds the hash of a plan and of a
//! token, never a key: the plan itself is made anew from the device when the confirmation is used, and must come to
//! the same hash.

use esp_model::mac::Mac;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Code, ToolError};

/// How long a plan can be confirmed.
const VALID: Duration = Duration::from_secs(15 * 60);

/// Where confirmations are kept.
#[derive(Debug, Clone)]
pub struct Confirmations {
    dir: PathBuf,
}

/// What a plan does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Burns eFuses.
    #[default]
    Burn,
    /// Erases the whole flash.
    Erase,
    /// Locks a recipe for production; the offer's `mac` is the recipe's name.
    Lock,
}

/// What is known of an offered plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Offer {
    /// Base MAC address of the device.
    pub mac: String,
    /// The device is simulated or emulated.
    pub is_virtual: bool,
    /// What the plan does.
    #[serde(default)]
    pub act: Act,
    /// Which fields it burns, or what it does, in a few words.
    pub about: String,
    /// Seconds since 1970 after which it is void.
    pub expires: u64,
    /// A person has approved it.
    pub approved: bool,
    token_hash: String,
}

impl Offer {
    /// What a person at a terminal is asked: what is done, and what to type.
    pub fn question(&self, hash: &str) -> String {
        let Self { mac, about, .. } = self;
        let digits = "Type the last four hex digits of the device's MAC address to approve:";
        match self.act {
            Act::Burn => format!("device {mac}: burns {about}\nThis cannot be undone.\n{digits}"),
            Act::Erase => format!("device {mac}: {about}\nThis cannot be undone.\n{digits}"),
            Act::Lock => {
                format!("Lock recipe {mac} (hash {hash}) for real devices: {about}\nType the recipe's name to approve:")
            }
        }
    }
}

impl Confirmations {
    /// Confirmations below this state folder.
    pub fn new(state: &std::path::Path) -> Self {
        Self { dir: state.join("plans") }
    }

    /// Offers a plan. Returns the token, which is told to the caller and kept nowhere.
    pub fn offer(&self, mac: Mac, hash: &str, about: &str, is_virtual: bool) -> Result<String, ToolError> {
        self.offer_act(Act::Burn, &mac.to_string(), hash, about, is_virtual)
    }

    /// The same for a plan that may do something else.
    pub fn offer_act(
        &self,
        act: Act,
        mac: &str,
        hash: &str,
        about: &str,
        is_virtual: bool,
    ) -> Result<String, ToolError> {
        let mut random = [0; 16];
        random_bytes(&mut random)?;
        let token: String = esp_model::hex::encode(random);
        let offer = Offer {
            mac: mac.into(),
            is_virtual,
            act,
            about: about.into(),
            expires: now() + VALID.as_secs(),
            approved: false,
            token_hash: digest(&token),
        };
        self.save(hash, &offer)?;
        Ok(token)
    }

    /// Uses a confirmation up. `subject`: what the offer said in `mac`. Afterwards it is gone, whatever becomes of the burn.
    pub fn redeem(&self, token: &str, subject: &str, hash: &str) -> Result<(), ToolError> {
        let refused = |why: &str| ToolError::new(Code::NotConfirmed, why.to_string()).seen("plan", hash);
        let offer = self.load(hash)?.ok_or_else(|| {
            refused("no such plan was offered, or the device or the parameters changed since: make a new plan")
        })?;
        if offer.expires < now() {
            let _ = fs::remove_file(self.path(hash));
            return Err(refused("the confirmation has expired: make a new plan"));
        }
        if offer.token_hash != digest(token) || offer.mac != subject {
            return Err(refused("the token does not belong to this plan and device"));
        }
        if !offer.is_virtual && !offer.approved {
            return Err(refused("no person has approved this plan")
                .next(format!("ask the user to run `mcp-esptool approve {hash}` in a terminal of their own")));
        }
        // Whoever removes the file may go on: nobody else can.
        fs::remove_file(self.path(hash)).map_err(|_| refused("the confirmation was used already"))
    }

    /// What was offered under this hash, or a unique beginning of it.
    pub fn find(&self, hash: &str) -> Result<(String, Offer), ToolError> {
        let unknown = || ToolError::new(Code::NotConfirmed, format!("there is no plan {hash}"));
        let entries = fs::read_dir(&self.dir).map_err(|_| unknown())?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let hashes = names.filter_map(|name| name.strip_suffix(".json").map(str::to_string));
        let fitting: Vec<_> = hashes.filter(|name| hash.len() >= 8 && name.starts_with(hash)).collect();
        let [only] = fitting.as_slice() else { return Err(unknown()) };
        let offer = self.load(only)?.ok_or_else(unknown)?;
        if offer.expires < now() { Err(unknown()) } else { Ok((only.clone(), offer)) }
    }

    /// A person approves a plan, and shows by the end of the MAC address which device is meant.
    pub fn approve(&self, hash: &str, mac_end: &str) -> Result<Offer, ToolError> {
        let (hash, mut offer) = self.find(hash)?;
        let plain = |text: &str| text.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_ascii_lowercase();
        let typed = plain(mac_end);
        if offer.act == Act::Lock {
            if mac_end.trim() != offer.mac {
                return Err(ToolError::new(Code::NotConfirmed, "this is not the recipe's name"));
            }
        } else if typed.len() < 4 || !plain(&offer.mac).ends_with(&typed) {
            return Err(ToolError::new(Code::NotConfirmed, "this is not the end of the device's MAC address"));
        }
        offer.approved = true;
        self.save(&hash, &offer)?;
        Ok(offer)
    }

    /// Takes an offer back.
    pub fn withdraw(&self, hash: &str) {
        if let Ok((hash, _)) = self.find(hash) {
            let _ = fs::remove_file(self.path(&hash));
        }
    }

    fn path(&self, hash: &str) -> PathBuf {
        self.dir.join(format!("{hash}.json"))
    }

    fn load(&self, hash: &str) -> Result<Option<Offer>, ToolError> {
        if !hash.chars().all(|letter| letter.is_ascii_hexdigit()) {
            return Ok(None);
        }
        match fs::read(self.path(hash)) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(state_error(&error)),
        }
    }

    fn save(&self, hash: &str, offer: &Offer) -> Result<(), ToolError> {
        private_dir(&self.dir).map_err(|error| state_error(&error))?;
        let text = serde_json::to_vec(offer).map_err(|error| ToolError::new(Code::Internal, error.to_string()))?;
        let mut temp = tempfile::NamedTempFile::new_in(&self.dir).map_err(|error| state_error(&error))?;
        temp.write_all(&text).map_err(|error| state_error(&error))?;
        temp.persist(self.path(hash)).map(|_| ()).map_err(|error| state_error(&error.error))
    }
}

pub(super) fn digest(text: &str) -> String {
    esp_model::hex::encode(Sha256::digest(text.as_bytes()))
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Random bytes of the operating system, fit for keys.
pub fn random_bytes(buffer: &mut [u8]) -> Result<(), ToolError> {
    getrandom::fill(buffer).map_err(|error| ToolError::new(Code::Internal, format!("no random bytes: {error}")))
}

pub(super) fn state_error(error: &io::Error) -> ToolError {
    ToolError::of_io(Code::FileUnwritable, "the state folder cannot be used", error)
}

pub(super) fn private_dir(dir: &std::path::Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: &str = "02:00:00:00:ab:cd";

    #[test]
    fn a_token_is_used_once_and_for_its_plan_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = Confirmations::new(dir.path());
        let token = store.offer(MAC.parse().unwrap(), "aabbccdd00", "test", true).unwrap();
        let code = |result: Result<(), ToolError>| result.unwrap_err().code;
        assert_eq!(code(store.redeem("00", MAC, "aabbccdd00")), Code::NotConfirmed);
        assert_eq!(code(store.redeem(&token, "02:00:00:00:00:00", "aabbccdd00")), Code::NotConfirmed);
        assert_eq!(code(store.redeem(&token, MAC, "aabbccdd01")), Code::NotConfirmed);
        assert_eq!(code(store.redeem(&token, MAC, "../../etc")), Code::NotConfirmed);
        // Another process, after a restart.
        Confirmations::new(dir.path()).redeem(&token, MAC, "aabbccdd00").unwrap();
        assert_eq!(code(store.redeem(&token, MAC, "aabbccdd00")), Code::NotConfirmed);
    }

    #[test]
    fn a_real_device_wants_a_person() {
        let dir = tempfile::tempdir().unwrap();
        let store = Confirmations::new(dir.path());
        let token = store.offer(MAC.parse().unwrap(), "aabbccdd00", "test", false).unwrap();
        assert!(store.redeem(&token, MAC, "aabbccdd00").unwrap_err().next_step.contains("approve aabbccdd00"));
        assert!(store.approve("aabbccdd", "00:00").is_err() && store.approve("aabbccdd", "").is_err());
        store.approve("aabbccdd", "AB:CD").unwrap();
        store.redeem(&token, MAC, "aabbccdd00").unwrap();
    }

    #[test]
    fn an_expired_offer_is_void() {
        let dir = tempfile::tempdir().unwrap();
        let store = Confirmations::new(dir.path());
        let token = store.offer(MAC.parse().unwrap(), "aabbccdd00", "test", true).unwrap();
        let mut offer = store.load("aabbccdd00").unwrap().unwrap();
        offer.expires = 1;
        store.save("aabbccdd00", &offer).unwrap();
        assert!(store.redeem(&token, MAC, "aabbccdd00").unwrap_err().message.contains("expired"));
    }
}
