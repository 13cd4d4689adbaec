//! An app as the second stage reads it.

use sha2::{Digest, Sha256};

use super::{Stage, Verdict, Walk};
use crate::image::{AppDesc, CHECKSUM_SEED, Extended, Header, MAGIC};
use crate::partition::Partition;

/// ESP-IDF's `ESP_IMAGE_MAX_FLASH_ADDR_SIZE`: no partition or segment of an app is larger.
const LARGEST: u32 = 0x100_0000;
/// Segments below this address are padding or notes and are not loaded.
const LOWEST_LOADED: u32 = 0x1000_0000;
const TAG: &str = "esp_image";

/// What is known of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppFacts {
    /// Name of its partition.
    pub partition: String,
    /// Where it lies in flash.
    pub address: u32,
    /// Length in bytes, up to and with its hash.
    pub length: u32,
    /// Its description, when it has one.
    pub description: Option<AppDesc>,
    /// Lowest and highest chip revision that it takes, major × 100 + minor.
    pub revisions: (u16, u16),
    /// It carries a SHA-256.
    pub hashed: bool,
}

/// Why an app is not started.
pub(super) struct Refused {
    pub stage: Stage,
    pub text: String,
}

impl Refused {
    fn new(text: impl Into<String>) -> Self {
        Self { stage: Stage::App, text: text.into() }
    }
}

/// The image as it is read: length so far, sums over it.
struct Reading {
    start: u32,
    length: u32,
    checksum: u8,
    hash: Sha256,
}

impl Walk<'_> {
    /// Reads the whole app as `esp_image_load` does. The console's lines are written on the way.
    pub(super) fn read_app(&mut self, partition: &Partition) -> Result<AppFacts, Refused> {
        let start = partition.offset;
        if partition.size > LARGEST {
            return Err(self.refuse(format!("partition size 0x{:x} invalid, larger than 16MB", partition.size)));
        }
        let head = self.bytes::<24>(start).ok_or_else(|| Refused::new("the flash ends before it"))?;
        let (Some(header), Some(extended)) = (Header::decode(&head), head.get(8..).and_then(Extended::decode)) else {
            return Err(Refused::new("the flash ends within its header"));
        };
        if header.magic != MAGIC {
            let line = format!("image at 0x{start:x} has invalid magic byte (nothing flashed here?)");
            return Err(self.refuse(line));
        }
        self.check_chip(extended, true)?;
        if header.segments > self.chip.image.max_segments {
            let line = format!(
                "image at 0x{start:x} segment count {} exceeds max {}",
                header.segments, self.chip.image.max_segments
            );
            return Err(self.refuse(line));
        }
        let mut reading = Reading { start, length: 0, checksum: CHECKSUM_SEED, hash: Sha256::new() };
        self.take(&mut reading, 24, false)?;
        let description = self.bytes::<256>(start + 32).and_then(|bytes| AppDesc::decode(&bytes));
        let page = description.as_ref().and_then(AppDesc::mmu_page_size).unwrap_or_else(|| self.default_page());
        for index in 0..header.segments {
            self.read_segment(index, page, &mut reading)?;
        }
        self.check_sums(partition, extended, &mut reading)?;
        Ok(AppFacts {
            partition: partition.name.clone(),
            address: start,
            length: reading.length,
            description,
            revisions: (extended.min_rev_full, extended.max_rev_full),
            hashed: extended.append_digest == 1,
        })
    }

    /// An app of an older ESP-IDF does not name its page size, which only its bootloader knows: the smallest is what must fit.
    fn default_page(&self) -> u32 {
        self.chip.image.mmu_page_sizes.iter().min().copied().unwrap_or(0x1_0000)
    }

    fn refuse(&mut self, line: String) -> Refused {
        self.log.error(TAG, &line);
        Refused::new(line)
    }

    /// Chip id and revision. A bootloader's highest revision is not looked at.
    pub(super) fn check_chip(&mut self, extended: Extended, is_app: bool) -> Result<(), Refused> {
        let tag = "boot_comm";
        let mut refuse = |line: String| {
            self.log.error(tag, &line);
            Err(Refused::new(line))
        };
        if let Some(expected) = self.chip.chip_id.filter(|id| *id != extended.chip_id) {
            return refuse(format!("mismatch chip ID, expected {expected}, found {}", extended.chip_id));
        }
        let Some(revision) = self.device.revision else { return Ok(()) };
        let (least, most) = (extended.min_rev_full, extended.max_rev_full);
        let version = |number: u16| format!("v{}.{}", number / 100, number % 100);
        let found = version(revision);
        if revision < least {
            let needed = version(least);
            return refuse(format!("chip revision check failed. Required >= {needed}, found {found}."));
        }
        if is_app && most != 0 && most != u16::MAX && revision > most {
            let needed = version(most);
            return refuse(format!("chip revision check failed. Required <= {needed}, found {found}."));
        }
        Ok(())
    }

    fn read_segment(&mut self, index: u8, page: u32, reading: &mut Reading) -> Result<(), Refused> {
        let head = reading.start + reading.length;
        let data = head + 8;
        self.take(reading, 8, false)?;
        let (address, length) = (self.word(head).unwrap_or_default(), self.word(head + 4).unwrap_or_default());
        if !length.is_multiple_of(4) || length >= LARGEST {
            return Err(self.refuse(format!("invalid segment length 0x{length:x}")));
        }
        if index == 0 && (length as usize) < AppDesc::LEN {
            return Err(self.refuse(format!("Segment 0: length 0x{length:x} is too short for app description")));
        }
        let mapped = self.chip.image.is_flash(address);
        if mapped && data % page != address % page {
            let line = format!("Segment {index} load address 0x{address:08x}, doesn't match data 0x{data:08x}");
            return Err(self.refuse(line));
        }
        let loaded = !mapped && address >= LOWEST_LOADED;
        let how = match (loaded, mapped) {
            (true, _) => "load",
            (_, true) => "map",
            _ => "",
        };
        self.log.info(
            TAG,
            format!("segment {index}: paddr={data:08x} vaddr={address:08x} size={length:05x}h ({length:6}) {how}"),
        );
        if loaded && length > 0 && !self.is_ram(address, length) {
            let end = u64::from(address) + u64::from(length);
            let line = format!("Segment {index} 0x{address:08x}-0x{end:08x} invalid: bad load address range");
            return Err(self.refuse(line));
        }
        if index == 0 {
            self.check_block_revision(data)?;
        }
        self.take(reading, length, true)
    }

    /// Both ends lie in memory that can be written.
    fn is_ram(&self, address: u32, length: u32) -> bool {
        let writable = |at: u32| {
            let holds = |region: &&crate::chip::Region| (region.start..region.end).contains(&at);
            self.chip.memory.iter().filter(holds).any(|region| {
                !region.name.ends_with("_MASK") && !matches!(region.name.as_str(), "IROM" | "DROM" | "PADDING")
            })
        };
        writable(address) && address.checked_add(length - 1).is_some_and(writable)
    }

    fn check_block_revision(&mut self, data: u32) -> Result<(), Refused> {
        let description = self.bytes::<256>(data).and_then(|bytes| AppDesc::decode(&bytes));
        let (Some(app), Some(revision)) = (description, self.device.block_revision) else { return Ok(()) };
        match block_revision_fault(&app, revision, self.device.ignores_block_limit) {
            Some(line) => {
                self.log.error("boot_comm", &line);
                Err(Refused::new(line))
            }
            None => Ok(()),
        }
    }

    fn check_sums(&mut self, partition: &Partition, extended: Extended, reading: &mut Reading) -> Result<(), Refused> {
        let padding = 16 - reading.length % 16;
        self.take(reading, padding, false)?;
        let place = reading.start + reading.length - 1;
        let [stored] = self.bytes::<1>(place).unwrap_or_default();
        if stored != reading.checksum {
            let line = format!("Checksum failed. Calculated 0x{:x} read 0x{stored:x}", reading.checksum);
            return Err(self.refuse(line));
        }
        let hashed = extended.append_digest == 1;
        let digest = self.bytes::<32>(reading.start + reading.length).filter(|_| hashed);
        let computed: [u8; 32] = reading.hash.clone().finalize().into();
        if hashed {
            reading.length += 32;
        }
        if reading.length > partition.size {
            let (length, room) = (reading.length, partition.size);
            return Err(self.refuse(format!("Image length {length} doesn't fit in partition length {room}")));
        }
        if hashed && digest != Some(computed) {
            return Err(self.refuse("Image hash failed - image is corrupt".into()));
        }
        self.app_signature(reading)
    }

    fn app_signature(&mut self, reading: &Reading) -> Result<(), Refused> {
        let Some(trust) = self.device.secure_boot.as_ref().and_then(|state| state.enabled.clone()) else {
            return Ok(());
        };
        self.log.info(TAG, "Verifying image signature...");
        match self.check_signature(reading.start, reading.length, &trust) {
            Ok(text) => self.pass(Stage::AppSignature, reading.start, text),
            Err((Verdict::Unknown, text)) => {
                self.step(Stage::AppSignature, Verdict::Unknown, Some(reading.start), text);
            }
            Err((_, text)) => {
                self.log.error(TAG, "Secure boot signature verification failed");
                self.log.info(TAG, "Calculating simple hash to check for corruption...");
                self.log.warning(TAG, "image valid, signature bad");
                return Err(Refused { stage: Stage::AppSignature, text });
            }
        }
        Ok(())
    }

    /// Takes the next bytes of the image into the sums.
    fn take(&mut self, reading: &mut Reading, length: u32, checksummed: bool) -> Result<(), Refused> {
        let mut buffer = [0; 4096];
        let mut left = length;
        while left > 0 {
            let part = left.min(buffer.len() as u32);
            let bytes = buffer.get_mut(..part as usize).unwrap_or_default();
            let place = reading.start.checked_add(reading.length);
            if !place.is_some_and(|place| self.flash.read(place, bytes)) {
                return Err(Refused::new("the flash ends within the image"));
            }
            reading.hash.update(&*bytes);
            if checksummed {
                reading.checksum = bytes.iter().fold(reading.checksum, |sum, byte| sum ^ byte);
            }
            reading.length += part;
            left -= part;
        }
        Ok(())
    }
}

/// Why the bootloader does not start an app on a chip with this eFuse block revision, in its words.
pub fn block_revision_fault(app: &AppDesc, revision: u16, ignores_limit: bool) -> Option<String> {
    let set = |number: u16| number != 0 && number != u16::MAX;
    let text = |number: u16| format!("v{}.{}", number / 100, number % 100);
    let (least, most) = (app.min_efuse_blk_rev, app.max_efuse_blk_rev);
    if set(least) && revision < least {
        Some(format!("Image requires efuse blk rev >= {}, but chip is {}", text(least), text(revision)))
    } else if set(most) && revision > most && !ignores_limit {
        Some(format!("Image requires efuse blk rev <= {}, but chip is {}", text(most), text(revision)))
    } else {
        None
    }
}
