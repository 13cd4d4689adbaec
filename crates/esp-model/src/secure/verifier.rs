//! Whether a bootloader verifies the signatures of applications, judged by the messages that ESP-IDF's code prints.

/// What can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verifies {
    /// It contains the messages of the verifying code.
    Yes,
    /// It contains the messages of a second-stage bootloader and none of the verifying code.
    No,
    /// It contains too few messages: built without logging, encrypted, or of another make.
    Unknown,
}

/// Messages of the verifying code (ESP-IDF v4.0 to v5.5, `bootloader_support`).
const VERIFYING: [&str; 4] = [
    "Verifying image signature",
    "image valid, signature bad",
    "ecure boot signature verification failed",
    "ecure boot v2 verification failed",
];
/// Messages of any ESP-IDF bootloader. The second one is at level `error`, as some of the verifying code are: a bootloader
/// that has it would have those too.
const LOGGING: [&str; 2] = ["2nd stage bootloader", "Failed to verify partition table"];

/// Judges a bootloader image, plain.
pub fn verifies(bootloader: &[u8]) -> Verifies {
    let has = |text: &&str| bootloader.windows(text.len()).any(|window| window == text.as_bytes());
    if VERIFYING.iter().any(&has) {
        Verifies::Yes
    } else if LOGGING.iter().any(has) {
        Verifies::No
    } else {
        Verifies::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootloader_is_judged_by_its_messages() {
        let verifying = b"I (%d) %s: Verifying image signature...\0 2nd stage bootloader";
        let plain = b"\0ESP-IDF %s 2nd stage bootloader\0";
        assert_eq!(verifies(verifying), Verifies::Yes);
        assert_eq!(verifies(plain), Verifies::No);
        assert_eq!(verifies(&[0xe9; 4096]), Verifies::Unknown);
        assert_eq!(verifies(&[]), Verifies::Unknown);
    }
}
