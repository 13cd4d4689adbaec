//! The first stage: the ROM reads the bootloader.

use sha2::{Digest, Sha256};

use super::{End, Stage, Verdict, Walk};
use crate::chip::ImageFormat;
use crate::image::content::Foreign;
use crate::image::{CHECKSUM_SEED, Extended, Header, MAGIC, MAGIC_V2};
use crate::secure::boot_v2;

/// A segment's header in bytes.
const SEGMENT_HEADER: u32 = 8;
/// The most that is read of a bootloader: up to where any partition table can lie.
const LARGEST: u32 = 0x20_0000;

/// Where the first app lies in ESP-IDF's usual tables.
const USUAL_APP: u32 = 0x1_0000;

/// What the ROM reads while it loads an image.
struct Loaded {
    /// Bytes up to and with the checksum.
    length: u32,
    /// XOR of all segment bytes.
    checksum: u8,
    hash: Sha256,
}

impl Walk<'_> {
    pub(super) fn rom(&mut self) -> Result<(), End> {
        let at = self.chip.flash.bootloader_offset;
        if self.device.ciphertext {
            if let Some(what) = self.never_encrypted(at) {
                let text = format!("flash encryption is on and {what} at {at:#x}: the ROM decrypts it to noise");
                return Err(self.stop(Stage::Rom, at, text));
            }
            let text = "flash is encrypted and no key is given: nothing of it can be checked from outside";
            self.step(Stage::Rom, Verdict::Unknown, Some(at), text);
            return Err(End::Unknown(Stage::Rom));
        }
        let Some(header) = self.bytes::<8>(at).and_then(|bytes| Header::decode(&bytes)) else {
            return Err(self.stop(Stage::Rom, at, "the flash ends before the bootloader"));
        };
        self.check_magic(at, header)?;
        match self.chip.image.format {
            ImageFormat::Esp8266 => self.load_plain(at, header),
            ImageFormat::Esp32 => self.load_extended(at, header),
        }
    }

    /// What cannot be the ciphertext of a bootloader: plain bytes do not come about by chance.
    fn never_encrypted(&self, at: u32) -> Option<&'static str> {
        let head = self.bytes::<24>(at)?;
        if head.iter().all(|byte| *byte == 0xff) {
            return Some("there is blank flash");
        }
        let (header, extended) = (Header::decode(&head)?, Extended::decode(head.get(8..)?)?);
        let is_image = header.magic == MAGIC && Some(extended.chip_id) == self.chip.chip_id;
        is_image.then_some("the bootloader is plain")
    }

    fn check_magic(&mut self, at: u32, header: Header) -> Result<(), End> {
        let old = self.chip.image.format == ImageFormat::Esp8266;
        if header.magic == MAGIC || (old && header.magic == MAGIC_V2) {
            return Ok(());
        }
        let word = self.word(at).unwrap_or_default();
        self.log.rom(format!("invalid header: 0x{word:08x}"));
        let what = match word {
            u32::MAX => "flash is erased",
            0 => "there are only zeros",
            _ => "there is no image (or it is encrypted and the chip does not decrypt)",
        };
        let foreign = self.bytes::<512>(at).and_then(|head| Foreign::of(&head)).map(Foreign::name);
        let what = foreign.map_or_else(|| what.to_owned(), |name| format!("there is {name}"));
        let text = format!("no bootloader at {at:#x}: {what}; the first word is {word:#010x}");
        Err(self.stop(Stage::Rom, at, text))
    }

    /// The ESP8266's ROM loads all segments and compares the checksum; there is no second stage that ESP-IDF knows.
    fn load_plain(&mut self, at: u32, header: Header) -> Result<(), End> {
        if header.magic == MAGIC_V2 {
            self.pass(Stage::Rom, at, "an image for a second-stage loader (magic 0xea); its loader checks it");
            return Ok(());
        }
        let loaded = self.load(at, 8, header.segments, &mut |walk, address, length, room, sum| {
            let tail = (length.wrapping_sub(room)) % 16;
            walk.log.rom(format!("load 0x{address:08x}, len {length}, room {room} "));
            walk.log.rom(format!("tail {tail}"));
            walk.log.rom(format!("chksum 0x{sum:02x}"));
        })?;
        self.log.rom(format!("csum 0x{:02x}", loaded.checksum));
        self.compare_checksum(at, &loaded)?;
        self.pass(Stage::Rom, at, format!("{} segments, checksum right", header.segments));
        Ok(())
    }

    fn load_extended(&mut self, at: u32, header: Header) -> Result<(), End> {
        let Some(extended) = self.bytes::<16>(at + 8).and_then(|bytes| Extended::decode(&bytes)) else {
            return Err(self.stop(Stage::Rom, at, "the flash ends within the bootloader's header"));
        };
        // The first ROM prints lengths in decimal digits and says more about pins.
        let first_rom = self.chip.boot.banner.starts_with("ets ");
        let mode = header.mode().map_or("DIO", |mode| mode.name()).to_uppercase();
        if first_rom {
            let [clk_q, d_cs, hd_wp] = extended.drive.map(|drive| (drive & 15, drive >> 4));
            self.log.rom(format!("configsip: 0, SPIWP:0x{:02x}", extended.wp_pin));
            self.log.rom(format!(
                "clk_drv:0x{:02x},q_drv:0x{:02x},d_drv:0x{:02x},cs0_drv:0x{:02x},hd_drv:0x{:02x},wp_drv:0x{:02x}",
                clk_q.0, clk_q.1, d_cs.0, d_cs.1, hd_wp.0, hd_wp.1
            ));
        } else {
            self.log.rom(format!("SPIWP:0x{:02x}", extended.wp_pin));
        }
        let divider = match header.flash_size_freq & 15 {
            0 => 2,
            1 => 3,
            2 => 4,
            _ => 1,
        };
        self.log.rom(format!("mode:{mode}, clock div:{divider}"));
        self.refuse_app(at, header)?;
        let loaded = self.load(at, 24, header.segments, &mut |walk, address, length, _, _| {
            walk.log.rom(match first_rom {
                true => format!("load:0x{address:08x},len:{length}"),
                false => format!("load:0x{address:08x},len:0x{length:x}"),
            });
        })?;
        self.compare_checksum(at, &loaded)?;
        self.pass(Stage::Rom, at, format!("bootloader: {} segments, checksum right", header.segments));
        self.compare_hash(at, extended, &loaded);
        self.bootloader_signature(at, extended, &loaded)?;
        self.log.rom(format!("entry 0x{:08x}", header.entry));
        Ok(())
    }

    /// The ROM copies segments to RAM and maps none: an app cannot stand in the bootloader's place.
    fn refuse_app(&mut self, at: u32, header: Header) -> Result<(), End> {
        let mut place = at + 24;
        for index in 0..header.segments {
            let (Some(address), Some(length)) = (self.word(place), self.word(place.saturating_add(4))) else { break };
            if self.chip.image.is_flash(address) {
                let text = format!(
                    "an app image is at the bootloader's address {at:#x}: its segment {index} is for {address:#010x}, which \
                     is mapped from flash, and the ROM maps nothing; an app belongs in an app partition (usually \
                     {USUAL_APP:#x}), and a bootloader here"
                );
                return Err(self.stop(Stage::Rom, at, text));
            }
            let Some(next) = place.checked_add(length).and_then(|next| next.checked_add(SEGMENT_HEADER)) else { break };
            place = next;
        }
        Ok(())
    }

    /// Reads segments as they stand in flash; `say` gets each one's address, length, room in its 16-byte block, and the
    /// checksum so far.
    fn load(
        &mut self,
        at: u32,
        header: u32,
        segments: u8,
        say: &mut dyn FnMut(&mut Self, u32, u32, u32, u8),
    ) -> Result<Loaded, End> {
        if segments == 0 || segments > self.chip.image.max_segments {
            let text =
                format!("the header names {segments} segments; 1 to {} are possible", self.chip.image.max_segments);
            return Err(self.stop(Stage::Rom, at, text));
        }
        let mut loaded = Loaded { length: header, checksum: CHECKSUM_SEED, hash: Sha256::new() };
        self.hash(at, header, &mut loaded, false)?;
        for index in 0..segments {
            let place = at + loaded.length;
            let (Some(address), Some(length)) = (self.word(place), self.word(place + 4)) else {
                return Err(self.stop(Stage::Rom, place, format!("the flash ends before segment {index}")));
            };
            if length > LARGEST || loaded.length + length > LARGEST {
                let text = format!("segment {index} claims {length:#x} bytes");
                return Err(self.stop(Stage::Rom, place, text));
            }
            self.hash(place, SEGMENT_HEADER, &mut loaded, false)?;
            loaded.length += SEGMENT_HEADER;
            let room = 16 - loaded.length % 16;
            self.hash(place + SEGMENT_HEADER, length, &mut loaded, true)?;
            loaded.length += length;
            say(self, address, length, room, loaded.checksum);
        }
        let padding = 16 - loaded.length % 16;
        self.hash(at + loaded.length, padding, &mut loaded, false)?;
        loaded.length += padding;
        Ok(loaded)
    }

    fn hash(&mut self, at: u32, length: u32, loaded: &mut Loaded, checksummed: bool) -> Result<(), End> {
        let mut buffer = [0; 4096];
        let mut done = 0;
        while done < length {
            let part = (length - done).min(buffer.len() as u32);
            let bytes = buffer.get_mut(..part as usize).unwrap_or_default();
            if !self.flash.read(at.saturating_add(done), bytes) {
                return Err(self.stop(Stage::Rom, at + done, "the flash ends within the bootloader"));
            }
            loaded.hash.update(&*bytes);
            if checksummed {
                loaded.checksum = bytes.iter().fold(loaded.checksum, |sum, byte| sum ^ byte);
            }
            done += part;
        }
        Ok(())
    }

    fn compare_checksum(&mut self, at: u32, loaded: &Loaded) -> Result<(), End> {
        let place = at + loaded.length - 1;
        let [stored] = self.bytes::<1>(place).unwrap_or_default();
        let computed = loaded.checksum;
        if stored == computed {
            return Ok(());
        }
        self.log.rom(format!("csum err:0x{stored:x}!=0x{computed:x}"));
        self.log.rom("ets_main.c 384");
        let text = format!("the bootloader's checksum is {stored:#04x}, its bytes give {computed:#04x}");
        Err(self.stop(Stage::Rom, place, text))
    }

    /// ROMs since the ESP32-S2 compare the appended hash and start the bootloader all the same.
    fn compare_hash(&mut self, at: u32, extended: Extended, loaded: &Loaded) {
        if extended.append_digest != 1 {
            return;
        }
        let place = at + loaded.length;
        let stored = self.bytes::<32>(place).unwrap_or_default();
        let computed: [u8; 32] = loaded.hash.clone().finalize().into();
        if stored == computed {
            return self.pass(Stage::Rom, place, "the bootloader's SHA-256 is right");
        }
        if !self.chip.boot.banner.starts_with("ets ") {
            self.log.rom("SHA-256 comparison failed:");
            self.log.rom(format!("Calculated: {}", hex(&computed)));
            self.log.rom(format!("Expected: {}", hex(&stored)));
            self.log.rom("Attempting to boot anyway...");
        }
        let text = "the bootloader's SHA-256 is wrong; the ROM starts it all the same (without secure boot)";
        self.step(Stage::Rom, Verdict::Warning, Some(place), text);
    }

    fn bootloader_signature(&mut self, at: u32, extended: Extended, loaded: &Loaded) -> Result<(), End> {
        let Some(state) = &self.device.secure_boot else {
            let text = "whether secure boot is enabled is not known; the bootloader's signature is not judged";
            self.step(Stage::BootloaderSignature, Verdict::Unknown, None, text);
            return Ok(());
        };
        let Some(trust) = state.enabled.clone() else { return Ok(()) };
        let length = loaded.length + if extended.append_digest == 1 { 32 } else { 0 };
        match self.check_signature(at, length, &trust) {
            Ok(text) => {
                self.pass(Stage::BootloaderSignature, at, text);
                Ok(())
            }
            Err((Verdict::Unknown, text)) => {
                self.step(Stage::BootloaderSignature, Verdict::Unknown, Some(at), text);
                Ok(())
            }
            Err((_, text)) => {
                self.log.rom("secure boot verification failed");
                self.log.rom("ets_main.c 333");
                Err(self.stop(Stage::BootloaderSignature, at, text))
            }
        }
    }

    /// Checks the signature sector behind an image of `length` bytes against the trusted keys.
    pub(super) fn check_signature(
        &self,
        at: u32,
        length: u32,
        trust: &super::Trust,
    ) -> Result<String, (Verdict, String)> {
        use crate::chip::SecureBootScheme;
        if trust.scheme == SecureBootScheme::V1 {
            let text = "secure boot version 1: its digest needs the key in the eFuses, which cannot be read";
            return Err((Verdict::Unknown, text.into()));
        }
        let signed = length.next_multiple_of(4096) as usize + 4096;
        let mut image = vec![0; signed];
        if !self.flash.read(at, &mut image) {
            return Err((Verdict::Fail, "the flash ends before the signature".into()));
        }
        let blocks = boot_v2::check(&image).map_err(|error| (Verdict::Fail, error.to_string()))?;
        if blocks.is_empty() {
            return Err((Verdict::Fail, "there is no signature block".into()));
        }
        let valid: Vec<_> = blocks.iter().filter(|checked| checked.is_valid()).collect();
        if valid.is_empty() {
            return Err((Verdict::Fail, "no signature fits the image".into()));
        }
        if trust.digests.is_empty() {
            let text = "the signature fits the image; whether its key is trusted cannot be told";
            return Err((Verdict::Unknown, text.into()));
        }
        match valid.iter().find(|checked| trust.has(&checked.block.key_digest())) {
            Some(checked) => Ok(format!("signature block {} is valid and its key trusted", checked.index)),
            None => Err((Verdict::Fail, "the image is signed with a key that this device does not trust".into())),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    crate::hex::encode(bytes)
}
