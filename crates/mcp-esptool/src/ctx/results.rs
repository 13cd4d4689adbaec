//! Texts of results that were cut in an answer: `esp_docs` and `resources/read` show them whole for a while.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use esp_model::hex;
use sha2::{Digest, Sha256};

/// What begins the address of every text.
pub const SCHEME: &str = "esp://results/";
/// Digits of a text's SHA-256 in its address.
const DIGITS: usize = 16;
/// Texts that are kept; older ones are dropped.
const MAX_KEPT: usize = 16;
/// Bytes that are kept together; the newest text always is.
const MAX_BYTES: usize = 16 << 20;

/// The newest texts, by address.
#[derive(Default)]
pub struct Results(Mutex<VecDeque<(String, Arc<str>)>>);

impl Results {
    /// Keeps a text and returns its address, which only somebody knows who knows the text: other clients of a server
    /// do not read it.
    pub fn keep(&self, text: &str) -> String {
        let hash = hex::encode(Sha256::digest(text));
        let address = format!("{SCHEME}{}", hash.get(..DIGITS).unwrap_or(&hash));
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(known, _)| *known != address);
        kept.push_back((address.clone(), text.into()));
        let bytes = |kept: &VecDeque<(String, Arc<str>)>| kept.iter().map(|(_, text)| text.len()).sum::<usize>();
        while kept.len() > 1 && (kept.len() > MAX_KEPT || bytes(&kept) > MAX_BYTES) {
            kept.pop_front();
        }
        address
    }

    /// The text at this address, if it is still kept.
    pub fn read(&self, address: &str) -> Option<Arc<str>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(known, _)| known == address).map(|(_, text)| text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_texts_are_kept_and_old_ones_dropped() {
        let results = Results::default();
        let addresses: Vec<String> = (0..=MAX_KEPT).map(|n| results.keep(&n.to_string())).collect();
        assert_eq!(results.read(&addresses[0]), None);
        assert_eq!(results.read(&addresses[MAX_KEPT]).as_deref(), Some(MAX_KEPT.to_string().as_str()));
        let large = results.keep(&"x".repeat(MAX_BYTES + 1));
        assert_eq!(results.read(&addresses[MAX_KEPT]), None);
        assert_eq!(results.read(&large).unwrap().len(), MAX_BYTES + 1);
        assert_eq!(results.keep("same"), results.keep("same"));
    }
}
