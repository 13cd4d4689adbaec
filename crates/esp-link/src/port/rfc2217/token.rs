//! Who may use a shared board: the server sends a challenge in its signature, and the client answers with what only
//! somebody who has the token can make of it. Other people's clients take no notice of it and are not let in.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a challenge begins with.
const BEGIN: &str = "mcp-esptool challenge ";

/// The signature that asks for the token.
pub fn challenge(nonce: &str) -> String {
    format!("{BEGIN}{nonce}")
}

/// The nonce of a challenge.
pub fn challenge_in(signature: &[u8]) -> Option<&str> {
    std::str::from_utf8(signature).ok()?.strip_prefix(BEGIN)
}

/// The answer to a challenge.
pub fn proof(token: &str, nonce: &str) -> String {
    hex(&mac(token, nonce).finalize().into_bytes())
}

/// Whether an answer is right; takes the same time whatever is wrong with it.
pub fn is_proof(token: &str, nonce: &str, answer: &str) -> bool {
    let digits: Option<Vec<u8>> =
        answer.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    digits.is_some_and(|answer| mac(token, nonce).verify_slice(&answer).is_ok())
}

fn mac(token: &str, nonce: &str) -> Hmac<Sha256> {
    // A key may be of any length: this never falls back.
    let mut mac = Hmac::<Sha256>::new_from_slice(token.as_bytes()).unwrap_or_else(|_| Hmac::new(&Default::default()));
    mac.update(nonce.as_bytes());
    mac
}

fn hex(bytes: &[u8]) -> String {
    esp_model::hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_answers_a_challenge() {
        let nonce = challenge_in(challenge("abc").as_bytes()).map(str::to_owned).unwrap();
        let answer = proof("secret", &nonce);
        assert!(is_proof("secret", "abc", &answer));
        assert!(!is_proof("other", "abc", &answer) && !is_proof("secret", "abd", &answer));
        assert!(!is_proof("secret", "abc", "") && !is_proof("secret", "abc", "zz"));
        assert_eq!(challenge_in(b"Linux/ser2net"), None);
    }
}
