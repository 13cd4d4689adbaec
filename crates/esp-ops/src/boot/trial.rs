//! A start on a virtual copy: the chip's own mask ROM and the bootloader that lies in flash start the app, or say why they
//! do not. What a walk over headers predicts, this does.

use std::collections::BTreeMap;

use esp_machine::{Config, Machine, What, firmware};
use esp_model::boot::Device;
use esp_model::chip::{Chip, SecureBootScheme};
use esp_model::efuse::bits::Words;
use esp_sim::efuse::Efuse;

/// Virtual time in picoseconds.
const MILLISECOND: u64 = 1_000_000_000;
/// A bootloader has verified its app and started it by then, whatever the chip and the app's length.
const LONGEST: u64 = 4000 * MILLISECOND;
/// Starts again and again: nothing comes of it. The first restart may belong to a start.
const RESTARTS: u32 = 2;

/// The copy.
pub struct Copy<'a> {
    /// Bytes of its flash.
    pub size: u32,
    /// What is known of the flash: address and content. The rest is blank.
    pub pages: &'a BTreeMap<u32, Vec<u8>>,
    /// Its eFuses; as they come from the factory otherwise.
    pub efuses: Option<&'a Words>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// The app's code runs from flash.
    Starts,
    /// ROM or bootloader say why they do not start it, and the chip restarts.
    Refused(String),
    /// Neither was seen; what was.
    Unknown(String),
}

/// Whether a copy of this device tells anything: no key that eFuses hide decides its start.
pub fn is_possible(device: &Device) -> bool {
    let enabled = device.secure_boot.as_ref().and_then(|state| state.enabled.as_ref());
    let by_secret = enabled.is_some_and(|trust| trust.scheme == SecureBootScheme::V1);
    !by_secret && device.encrypted != Some(true)
}

/// Starts the copy. `None`: its chip does not run here.
pub fn start(chip: &'static Chip, revision: Option<u16>, copy: &Copy<'_>) -> Option<Trial> {
    if !firmware::runs(chip) {
        return None;
    }
    let mut config = Config::with_revision(chip.id, copy.size, revision.unwrap_or(chip.factory.revision))?;
    for (address, page) in copy.pages {
        config.flash.load(*address, page);
    }
    if let Some(words) = copy.efuses {
        config.efuse = Efuse::new(config.efuse.table(), words.clone());
    }
    Some(watch(&mut Machine::new(config).ok()?, chip))
}

fn watch(machine: &mut Machine, chip: &Chip) -> Trial {
    let (mut uart, mut usb) = (Vec::new(), Vec::new());
    while machine.now() < LONGEST {
        machine.run(machine.now() + MILLISECOND / 4);
        for event in machine.take_events() {
            match event.what {
                What::Uart { port: 0, byte } => uart.push(byte),
                What::Usb(byte) => usb.push(byte),
                _ => {}
            }
        }
        if machine.cores.iter().any(|core| chip.image.is_flash(core.get().pc())) {
            return Trial::Starts;
        }
        if machine.resets >= RESTARTS {
            // Both lines say the same where both are in use.
            return verdict(if uart.is_empty() { &usb } else { &uart });
        }
    }
    Trial::Unknown("nothing happened within 4 s".into())
}

/// Of a chip that restarts: whether something was refused, or a program went wrong.
fn verdict(console: &[u8]) -> Trial {
    let mut lines: Vec<String> = console
        .split(|byte| *byte == b'\n')
        .map(|line| esp_model::console::clean(line).trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    // The second start says the same again.
    let starts = lines.iter().enumerate().filter(|(_, line)| line.starts_with("rst:"));
    let second = starts.map(|(at, _)| at).nth(1);
    lines.truncate(second.unwrap_or(lines.len()));
    let mut complaints: Vec<&str> = lines.iter().filter_map(|line| complaint(line)).collect();
    complaints.dedup();
    match (
        complaints.is_empty(),
        lines.iter().rfind(|line| !line.starts_with("ESP-ROM") && !line.starts_with("Build:")),
    ) {
        (false, _) => Trial::Refused(complaints.join("; ")),
        (true, last) => {
            let last = last.map_or_else(String::new, |line| format!("; the last line is `{line}`"));
            Trial::Unknown(format!("the chip restarts without a complaint{last}"))
        }
    }
}

/// The line as a complaint: what the bootloader reports as an error, or the ROM instead of starting the bootloader.
fn complaint(line: &str) -> Option<&str> {
    if let Some((_, text)) = line.strip_prefix("E (").and_then(|rest| rest.split_once(") ")) {
        return Some(text);
    }
    let of_rom = line.get(1..3).is_none_or(|log| log != " (");
    let plain = line.to_ascii_lowercase();
    (of_rom && ["invalid", "fail", "ets_main.c"].iter().any(|word| plain.contains(word))).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::sample;

    /// Flash with these parts.
    fn tried(chip: &'static Chip, parts: &[(u32, &[u8])]) -> Trial {
        let pages: BTreeMap<u32, Vec<u8>> = parts.iter().map(|(at, bytes)| (*at, bytes.to_vec())).collect();
        start(chip, None, &Copy { size: 4 << 20, pages: &pages, efuses: None }).unwrap()
    }

    #[test]
    fn a_program_starts_and_a_damaged_one_is_refused_by_name() {
        let (chip, parts) = sample::program().unwrap();
        let mut content: Vec<(u32, Vec<u8>)> = parts.into_iter().map(|part| (part.address, part.bytes)).collect();
        let run = |content: &[(u32, Vec<u8>)]| {
            let parts: Vec<(u32, &[u8])> = content.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
            tried(chip, &parts)
        };
        assert_eq!(run(&content), Trial::Starts);
        // Its first segment lies at another offset in its page than in memory: as of a build for smaller pages.
        content[2].1[25] ^= 0x80;
        let Trial::Refused(why) = run(&content) else { panic!("{:?}", run(&content)) };
        assert!(why.contains("load address 0x3c008020, doesn't match data"), "{why}");
        content[0].1.clear();
        let Trial::Refused(why) = run(&content) else { panic!("{:?}", run(&content)) };
        assert!(why.contains("invalid header: 0xffffffff"), "{why}");
    }

    #[test]
    fn a_bootloader_that_crashes_is_no_refusal() {
        let chip = esp_model::chip::by_name("esp32c3").unwrap();
        let parts = sample::make(chip).unwrap();
        let parts: Vec<(u32, &[u8])> = parts.iter().map(|part| (part.address, &part.bytes[..])).collect();
        assert!(matches!(tried(chip, &parts), Trial::Unknown(_)));
    }
}
