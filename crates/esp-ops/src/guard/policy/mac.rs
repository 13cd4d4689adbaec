//! MAC addresses of rules: any usual spelling means the same device, and what is not an address is an error.

use super::rules::matches;
use esp_model::hex;
use esp_model::mac::Mac;

/// Digits of a MAC address.
const DIGITS: usize = 12;

/// The hex digits of an address or a pattern, without what separates them; `None` when it is neither.
pub fn digits(pattern: &str) -> Option<String> {
    let plain: String = pattern.trim().chars().filter(|letter| !matches!(letter, ':' | '-' | '.')).collect();
    let count = plain.chars().filter(char::is_ascii_hexdigit).count();
    let known = plain.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '*');
    let whole = if plain.contains('*') { count < DIGITS } else { count == DIGITS };
    (known && whole && separated(pattern.trim())).then(|| plain.to_ascii_lowercase())
}

/// Every separated part has whole bytes: `2:0:0:0:0:1` could be read two ways.
fn separated(pattern: &str) -> bool {
    pattern.split([':', '-', '.']).all(|part| part.contains('*') || (!part.is_empty() && part.len() % 2 == 0))
}

/// The pattern names this device.
pub fn is_it(pattern: &str, mac: Mac) -> bool {
    digits(pattern).is_some_and(|digits| matches(&digits, &hex::encode(mac.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address_names_the_device() {
        let mac = Mac([0x24, 0x0a, 0xc4, 0, 0x11, 0x22]);
        for pattern in
            ["24:0A:C4:00:11:22", "24-0A-C4-00-11-22", "240ac4001122", " 240a.c400.1122 ", "24:0a:c4:*", "*1122", "*"]
        {
            assert!(is_it(pattern, mac), "{pattern}");
        }
        assert!(!is_it("24:0a:c4:00:11:23", mac) && !is_it("25*", mac));
    }

    #[test]
    fn text_that_is_not_an_address_is_refused() {
        for pattern in
            ["", "nonsense", "24:0a:c4:00:11", "2:0:0:0:0:1", "24:0a:c4:00:11:22:33", "sim://a", "24:0a:c4:00:11:22*"]
        {
            assert_eq!(digits(pattern), None, "{pattern}");
        }
    }
}
