//! The second stage: partition table, otadata, choice of the app.

use super::app::Refused;
use super::{AppFacts, End, Found, Outcome, Stage, Verdict, Walk};
use crate::image::{AppDesc, BootDesc, Extended, Header};
use crate::partition::otadata::{self, Choice, Entry, Otadata, Rules, State, Why};
use crate::partition::{self, Partition, Recognised, Table};

const TAG: &str = "boot";
/// How far behind the bootloader a table is looked for when its place is not given.
const SEARCH_END: u32 = 0x4_0000;

/// Apps of the table as the bootloader indexes them.
struct Apps {
    factory: Option<Partition>,
    test: Option<Partition>,
    /// By slot number.
    ota: Vec<(u8, Partition)>,
    otadata: Option<Partition>,
}

impl Apps {
    fn new(table: &Table) -> Self {
        // Of several entries of one kind the last one counts.
        let last =
            |kind, subtype| table.partitions.iter().rev().find(|p| p.kind == kind && p.subtype == subtype).cloned();
        Self {
            factory: last(partition::APP, partition::APP_FACTORY),
            test: last(partition::APP, partition::APP_TEST),
            ota: table.partitions.iter().filter_map(|p| Some((p.ota_slot()?, p.clone()))).collect(),
            otadata: last(partition::DATA, partition::DATA_OTA).filter(|p| p.offset != 0),
        }
    }

    fn slots(&self) -> u32 {
        self.ota.len() as u32
    }

    fn slot(&self, number: u32) -> Option<&Partition> {
        let fits = |(slot, _): &&(u8, Partition)| u32::from(*slot) == number;
        self.ota.iter().rev().find(fits).filter(|_| number < self.slots()).map(|(_, partition)| partition)
    }

    fn at(&self, choice: Choice) -> Option<&Partition> {
        match choice {
            Choice::Factory => self.factory.as_ref(),
            Choice::Slot(slot) => self.slot(slot),
        }
    }

    /// The order in which the bootloader tries apps: from the choice down to factory, then up.
    fn order(&self, first: Choice) -> Vec<Choice> {
        let start = match first {
            Choice::Factory => 0,
            Choice::Slot(slot) => slot + 1,
        };
        let choice = |index: u32| if index == 0 { Choice::Factory } else { Choice::Slot(index - 1) };
        (0..=start).rev().chain(start + 1..=self.slots()).map(choice).collect()
    }
}

impl Walk<'_> {
    pub(super) fn second_stage(&mut self, found: &mut Found) -> Result<Outcome, End> {
        self.banner()?;
        let (offset, table) = self.partition_table()?;
        found.table_offset = Some(offset);
        found.table = Some(table.clone());
        let apps = Apps::new(&table);
        let first = self.choose(&apps, found)?;
        self.start(&apps, first, found)
    }

    fn banner(&mut self) -> Result<(), End> {
        let at = self.chip.flash.bootloader_offset;
        let bootloader = self.bootloader_description();
        let version = bootloader.as_ref().map_or("", |desc| desc.idf_version.as_str());
        self.log
            .info(TAG, format!("ESP-IDF {version}{}2nd stage bootloader", if version.is_empty() { "" } else { " " }));
        if let Some(desc) = &bootloader {
            self.log.info(TAG, format!("compile time {}", desc.date_time));
        }
        let Some(head) = self.bytes::<24>(at) else { return Err(End::Stops(Stage::Bootloader)) };
        let (Some(header), Some(extended)) = (Header::decode(&head), head.get(8..).and_then(Extended::decode)) else {
            return Err(End::Stops(Stage::Bootloader));
        };
        match self.device.revision {
            Some(revision) => {
                self.log.info(TAG, format!("chip revision: v{}.{}", revision / 100, revision % 100));
            }
            None => {
                let text = "the chip's revision is not known; revision limits are not judged";
                self.step(Stage::Bootloader, Verdict::Unknown, None, text);
            }
        }
        if let Err(refused) = self.check_chip(extended, false) {
            return Err(self.stop(Stage::Bootloader, at, refused.text));
        }
        let tag = format!("boot.{}", self.chip.id);
        let speed = header.frequency_name(self.chip).unwrap_or("?").trim_end_matches('m').to_owned();
        self.log.info(&tag, format!("SPI Speed      : {speed}MHz"));
        self.log.info(&tag, format!("SPI Mode       : {}", header.mode().map_or("?", |m| m.name()).to_uppercase()));
        self.log.info(&tag, format!("SPI Flash Size : {}", header.size_name(self.chip).unwrap_or("?")));
        self.pass(Stage::Bootloader, at, "the bootloader is for this chip");
        self.log.info(TAG, "Enabling RNG early entropy source...");
        Ok(())
    }

    /// The bootloader's description stands at the start of one of its segments.
    fn bootloader_description(&self) -> Option<BootDesc> {
        let at = self.chip.flash.bootloader_offset;
        let [segments] = self.bytes::<1>(at + 1)?;
        let mut place = at + 24;
        for _ in 0..segments.min(self.chip.image.max_segments) {
            let length = self.word(place + 4)?;
            if length as usize >= BootDesc::LEN
                && let Some(desc) = self.bytes::<{ BootDesc::LEN }>(place + 8).and_then(|b| BootDesc::decode(&b))
                && desc.idf_version.starts_with(|c: char| c.is_ascii_alphanumeric())
            {
                return Some(desc);
            }
            place = place.checked_add(8)?.checked_add(length)?;
        }
        None
    }

    fn partition_table(&mut self) -> Result<(u32, Table), End> {
        let offset = self.config.table_offset.or_else(|| self.find_table()).unwrap_or(partition::DEFAULT_TABLE_OFFSET);
        let mut bytes = vec![0; partition::TABLE_LENGTH];
        if !self.flash.read(offset, &mut bytes) {
            return Err(self.stop(Stage::PartitionTable, offset, "the flash ends before the partition table"));
        }
        match self.verify_table(&bytes) {
            Ok(table) => {
                let text = format!("{} partitions, MD5 right where there is one", table.partitions.len());
                self.pass(Stage::PartitionTable, offset, text);
                if self.config.table_offset.is_none() && offset != partition::DEFAULT_TABLE_OFFSET {
                    let text =
                        format!("the table was found at {offset:#x}; the bootloader must be built for that place");
                    self.step(Stage::PartitionTable, Verdict::Warning, Some(offset), text);
                }
                self.list_table(&table);
                Ok((offset, table))
            }
            Err(line) => {
                self.log.error("flash_parts", &line);
                self.log.error(TAG, "Failed to verify partition table");
                self.log.error(TAG, "load partition table error!");
                let what = match partition::recognise(&bytes) {
                    Recognised::Blank => " (the sector is blank)",
                    Recognised::Encrypted => " (the sector looks encrypted)",
                    _ => "",
                };
                Err(self.stop(Stage::PartitionTable, offset, format!("{line}{what}")))
            }
        }
    }

    /// The usual place, or the first sector behind it that holds a valid table.
    fn find_table(&self) -> Option<u32> {
        let usual = partition::DEFAULT_TABLE_OFFSET;
        let sectors = (usual..SEARCH_END).step_by(0x1000);
        sectors.into_iter().find(|offset| {
            let mut bytes = vec![0; partition::TABLE_LENGTH];
            self.flash.read(*offset, &mut bytes) && Table::is_binary(&bytes) && self.verify_table(&bytes).is_ok()
        })
    }

    /// `esp_partition_table_verify`: magic numbers, MD5, end marker, size of flash. Alignment is not looked at.
    fn verify_table(&self, bytes: &[u8]) -> Result<Table, String> {
        let flash_size = self.flash_size();
        let mut md5 = false;
        for (index, row) in bytes.as_chunks::<{ partition::ENTRY_LENGTH }>().0.iter().enumerate() {
            let word = |at: usize| u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
            match u16::from_le_bytes([row[0], row[1]]) {
                0x50aa => {
                    let (offset, size) = (word(4), word(8));
                    if u64::from(offset) + u64::from(size) > flash_size {
                        return Err(format!(
                            "partition {index} invalid - offset 0x{offset:x} size 0x{size:x} exceeds flash chip size 0x{flash_size:x}"
                        ));
                    }
                }
                0xebeb if md5 => return Err("Only one MD5 checksum is allowed".into()),
                0xebeb => {
                    md5 = true;
                    Table::from_binary(bytes, true).map_err(|_| "Incorrect MD5 checksum".to_owned())?;
                }
                0xffff if index > 0 && row[2] == 0xff && row[3] == 0xff => {
                    return Table::from_binary(bytes, true).map_err(|error| error.to_string());
                }
                magic => return Err(format!("partition {index} invalid magic number 0x{magic:x}")),
            }
        }
        Err("partition table has no terminating entry, not valid".into())
    }

    /// The size in the bootloader's header is what the bootloader goes by.
    fn flash_size(&self) -> u64 {
        let head = self.bytes::<8>(self.chip.flash.bootloader_offset).and_then(|bytes| Header::decode(&bytes));
        let name = head.and_then(|header| header.size_name(self.chip).map(str::to_owned));
        let number = |name: &String| {
            let digits = name.trim_end_matches(|c: char| !c.is_ascii_digit());
            let unit = if name.ends_with("KB") { 1 << 10 } else { 1 << 20 };
            digits.parse::<u64>().ok().map(|count| count * unit)
        };
        name.as_ref().and_then(number).unwrap_or(u64::from(u32::MAX))
    }

    fn list_table(&mut self, table: &Table) {
        self.log.info(TAG, "Partition Table:");
        self.log.info(TAG, "## Label            Usage          Type ST Offset   Length");
        for (index, p) in table.partitions.iter().enumerate() {
            let usage = usage(p);
            self.log.info(
                TAG,
                format!(
                    "{index:2} {:16} {usage:16} {:02x} {:02x} {:08x} {:08x}",
                    p.name, p.kind, p.subtype, p.offset, p.size
                ),
            );
        }
        self.log.info(TAG, "End of partition table");
    }

    fn choose(&mut self, apps: &Apps, found: &mut Found) -> Result<Choice, End> {
        if self.config.test_app {
            self.pass(Stage::Otadata, None, "the test app was asked for");
            return Ok(Choice::Factory);
        }
        let Some(place) = &apps.otadata else {
            self.pass(Stage::Otadata, None, "no otadata partition: the factory app comes first");
            return Ok(Choice::Factory);
        };
        if (place.size as usize) < otadata::LENGTH {
            let line =
                format!("ota_info partition size {} is too small (minimum {} bytes)", place.size, otadata::LENGTH);
            self.log.error(TAG, &line);
            return Err(self.stop(Stage::Otadata, place.offset, line));
        }
        let first = self.bytes::<{ otadata::ENTRY }>(place.offset);
        let second = self.bytes::<{ otadata::ENTRY }>(place.offset.saturating_add(otadata::COPY as u32));
        let (Some(first), Some(second)) = (first, second) else {
            return Err(self.stop(Stage::Otadata, place.offset, "the flash ends before otadata"));
        };
        let data = Otadata { entries: [Entry::read(&first), Entry::read(&second)] };
        let rules = Rules { slots: apps.slots(), factory: apps.factory.is_some(), rollback: self.config.rollback };
        let decision = if self.config.anti_rollback {
            let least = self.device.secure_version.unwrap_or(0);
            self.log.info(TAG, "Enabled a check secure version of app for anti rollback");
            self.log.info(TAG, format!("Secure version (from eFuse) = {least}"));
            data.decide_anti_rollback(rules, least, |slot| self.secure_version(apps.slot(slot)?))
        } else {
            data.decide(rules)
        };
        self.explain(place.offset, &data, &decision, apps);
        found.otadata = Some((data, decision.after));
        Ok(decision.choice)
    }

    fn explain(&mut self, at: u32, data: &Otadata, decision: &otadata::Decision, apps: &Apps) {
        let (verdict, text) = match (decision.why, decision.choice) {
            (Why::Default, _) => {
                if !self.config.anti_rollback {
                    self.log.info(TAG, "Defaulting to factory image");
                }
                (Verdict::Pass, "otadata selects nothing: the factory app comes first".to_owned())
            }
            (Why::NoFactory, _) => {
                self.log.info(TAG, "No factory image, trying OTA 0");
                (Verdict::Pass, "otadata selects nothing and there is no factory app: ota_0 comes first".to_owned())
            }
            (Why::Entry(index), Choice::Slot(slot)) => {
                let entry = data.entries.get(index).copied().unwrap_or(Entry::BLANK);
                let text = format!(
                    "otadata entry {index} (sequence {}, {}) selects ota_{slot}",
                    entry.sequence,
                    entry.state.name()
                );
                let pending = entry.state == State::PendingVerify && !self.config.rollback;
                (if pending { Verdict::Warning } else { Verdict::Pass }, text)
            }
            _ => {
                let line = if apps.factory.is_some() {
                    "ota data partition invalid, falling back to factory"
                } else {
                    "ota data partition invalid and no factory, will try all partitions"
                };
                self.log.error(TAG, line);
                (Verdict::Warning, format!("no entry of otadata can be used: {line}"))
            }
        };
        self.step(Stage::Otadata, verdict, Some(at), text);
    }

    fn secure_version(&self, partition: &Partition) -> Option<u32> {
        let desc = self.bytes::<{ AppDesc::LEN }>(partition.offset.checked_add(32)?)?;
        AppDesc::decode(&desc).map(|desc| desc.secure_version)
    }

    fn start(&mut self, apps: &Apps, first: Choice, found: &mut Found) -> Result<Outcome, End> {
        let mut stage = None;
        if !self.config.test_app {
            for choice in apps.order(first) {
                let Some(partition) = apps.at(choice).filter(|p| p.size > 0) else { continue };
                match self.try_app(partition) {
                    Ok(facts) => {
                        self.set_sequence(choice, found);
                        return Ok(self.started(facts, found));
                    }
                    Err(refused) => {
                        self.not_bootable(choice, partition, &refused);
                        stage.get_or_insert(refused.stage);
                    }
                }
            }
        }
        if let Some(test) = &apps.test {
            match self.try_app(test) {
                Ok(facts) => {
                    if !self.config.test_app {
                        self.log.warning(TAG, "Falling back to test app as only bootable partition");
                    }
                    return Ok(self.started(facts, found));
                }
                Err(refused) => {
                    self.step(
                        refused.stage,
                        Verdict::Fail,
                        Some(test.offset),
                        format!("{}: {}", test.name, refused.text),
                    );
                    stage.get_or_insert(refused.stage);
                }
            }
        }
        self.log.error(TAG, "No bootable app partitions in the partition table");
        match stage {
            Some(stage) => Err(End::Stops(stage)),
            None => Err(self.stop(Stage::App, None, "the partition table has no app partition")),
        }
    }

    fn try_app(&mut self, partition: &Partition) -> Result<AppFacts, Refused> {
        if self.config.anti_rollback {
            let refuse = |text: String| Refused { stage: Stage::AntiRollback, text };
            let version =
                self.secure_version(partition).ok_or_else(|| refuse("its secure version cannot be read".to_owned()))?;
            let least = self.device.secure_version.unwrap_or(0);
            if version < least {
                return Err(refuse(format!("its secure version {version} is below {least}")));
            }
            self.pass(Stage::AntiRollback, partition.offset, format!("{}: secure version {version}", partition.name));
        }
        let facts = self.read_app(partition)?;
        self.log.info(TAG, format!("Loaded app from partition at offset 0x{:x}", partition.offset));
        let hash = if facts.hashed { "checksum and SHA-256 right" } else { "checksum right, no SHA-256" };
        let text = format!("{}: {} bytes, {hash}", Self::partition_name(partition), facts.length);
        self.pass(Stage::App, partition.offset, text);
        Ok(facts)
    }

    fn not_bootable(&mut self, choice: Choice, partition: &Partition, refused: &Refused) {
        let line = match choice {
            Choice::Factory => "Factory app partition is not bootable".to_owned(),
            Choice::Slot(slot) => format!("OTA app partition slot {slot} is not bootable"),
        };
        self.log.error(TAG, line);
        let text = format!("{}: {}", partition.name, refused.text);
        self.step(refused.stage, Verdict::Fail, Some(partition.offset), text);
    }

    /// With blank otadata and no factory app, the bootloader writes down which slot it started.
    fn set_sequence(&mut self, choice: Choice, found: &mut Found) {
        let (Choice::Slot(slot), Some((before, after))) = (choice, &mut found.otadata) else { return };
        if !before.entries.iter().all(|entry| entry.is_blank() || !entry.crc_ok()) {
            return;
        }
        after.entries[0] = Entry::new(slot + 1, State::Valid);
        self.log.info(TAG, format!("Set actual ota_seq={} in otadata[0]", slot + 1));
    }

    fn started(&mut self, facts: AppFacts, found: &mut Found) -> Outcome {
        self.log.info(TAG, "Disabling RNG early entropy source...");
        let outcome = Outcome::Starts { partition: Some(facts.partition.clone()), address: facts.address };
        found.app = Some(facts);
        outcome
    }
}

/// The bootloader's word for a partition.
fn usage(p: &Partition) -> &'static str {
    match (p.kind, p.subtype) {
        (partition::APP, partition::APP_FACTORY) => "factory app",
        (partition::APP, partition::APP_TEST) => "test app",
        (partition::APP, partition::APP_OTA_0..=partition::APP_OTA_15) => "OTA app",
        (partition::APP, _) => "Unknown app",
        (partition::DATA, partition::DATA_OTA) => "OTA data",
        (partition::DATA, partition::DATA_PHY) => "RF data",
        (partition::DATA, partition::DATA_NVS) => "WiFi data",
        (partition::DATA, partition::DATA_NVS_KEYS) => "NVS keys",
        (partition::DATA, partition::DATA_EFUSE) => "efuse",
        (partition::DATA, _) => "Unknown data",
        (partition::BOOTLOADER, 0) => "primary bootloader",
        (partition::BOOTLOADER, 1) => "ota bootloader",
        (partition::BOOTLOADER, 2) => "recovery bootloader",
        (partition::PARTITION_TABLE, 0) => "primary partition_table",
        (partition::PARTITION_TABLE, 1) => "ota partition_table",
        _ => "unknown",
    }
}
