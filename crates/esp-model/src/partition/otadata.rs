//! otadata: two entries, one in each of two sectors, that say which OTA slot boots.
//!
//! Layout and choice as in ESP-IDF: `esp_flash_partitions.h`, `bootloader_common_loader.c`, `bootloader_utility.c`.

/// Size of the whole partition in bytes.
pub const LENGTH: usize = 0x2000;
/// Distance of the two entries in bytes.
pub const COPY: usize = 0x1000;
/// Length of one entry in bytes.
pub const ENTRY: usize = 32;

/// What is known of the app in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// To be started for the first time.
    New,
    /// Started once, not yet confirmed.
    PendingVerify,
    /// Confirmed.
    Valid,
    /// Rejected by itself.
    Invalid,
    /// Not confirmed before the next start.
    Aborted,
    /// Not followed: rollback is not in use.
    Undefined,
    /// No state that the bootloader knows.
    Other(u32),
}

impl State {
    /// The state's number in flash.
    pub fn number(self) -> u32 {
        match self {
            Self::New => 0,
            Self::PendingVerify => 1,
            Self::Valid => 2,
            Self::Invalid => 3,
            Self::Aborted => 4,
            Self::Undefined => u32::MAX,
            Self::Other(number) => number,
        }
    }

    /// ESP-IDF's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::PendingVerify => "pending_verify",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Aborted => "aborted",
            Self::Undefined => "undefined",
            Self::Other(_) => "unknown",
        }
    }
}

impl From<u32> for State {
    fn from(number: u32) -> Self {
        match number {
            0 => Self::New,
            1 => Self::PendingVerify,
            2 => Self::Valid,
            3 => Self::Invalid,
            4 => Self::Aborted,
            u32::MAX => Self::Undefined,
            other => Self::Other(other),
        }
    }
}

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Sequence number; the higher one counts. 0xFFFFFFFF is blank.
    pub sequence: u32,
    /// Label, unused by the bootloader.
    pub label: [u8; 20],
    /// State of the app.
    pub state: State,
    /// CRC of the sequence number alone.
    pub crc: u32,
}

impl Entry {
    /// A blank entry.
    pub const BLANK: Self = Self { sequence: u32::MAX, label: [0xff; 20], state: State::Undefined, crc: u32::MAX };

    /// An entry with its CRC.
    pub fn new(sequence: u32, state: State) -> Self {
        Self { sequence, label: [0xff; 20], state, crc: crc(sequence) }
    }

    /// Reads the first [`ENTRY`] bytes; missing ones count as 0xFF.
    pub fn read(bytes: &[u8]) -> Self {
        let mut row = [0xff; ENTRY];
        row.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let word = |at: usize| u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
        let mut label = [0; 20];
        label.copy_from_slice(&row[4..24]);
        Self { sequence: word(0), label, state: State::from(word(24)), crc: word(28) }
    }

    /// The entry's bytes.
    pub fn bytes(&self) -> [u8; ENTRY] {
        let mut row = [0; ENTRY];
        row[..4].copy_from_slice(&self.sequence.to_le_bytes());
        row[4..24].copy_from_slice(&self.label);
        row[24..28].copy_from_slice(&self.state.number().to_le_bytes());
        row[28..].copy_from_slice(&self.crc.to_le_bytes());
        row
    }

    /// Nothing was written.
    pub fn is_blank(&self) -> bool {
        self.sequence == u32::MAX
    }

    /// The CRC fits the sequence number.
    pub fn crc_ok(&self) -> bool {
        self.crc == crc(self.sequence)
    }

    /// Blank, or its app was rejected. Such an entry never selects a slot.
    pub fn is_invalid(&self) -> bool {
        self.is_blank() || matches!(self.state, State::Invalid | State::Aborted)
    }

    /// It may select a slot.
    pub fn is_valid(&self) -> bool {
        !self.is_invalid() && self.crc_ok()
    }

    /// Blank or damaged: the state in which a device leaves the factory.
    fn is_initial(&self) -> bool {
        self.is_blank() || !self.crc_ok()
    }

    /// The slot that it selects among `slots`; none when there are no slots.
    pub fn slot(&self, slots: u32) -> Option<u32> {
        self.sequence.wrapping_sub(1).checked_rem(slots)
    }
}

/// CRC-32 of the sequence number, as the ROM computes it with a start value of 0xFFFFFFFF.
pub fn crc(sequence: u32) -> u32 {
    crate::crc::rom_crc32(&sequence.to_le_bytes())
}

/// Both entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Otadata {
    /// The entries, by sector.
    pub entries: [Entry; 2],
}

/// What the bootloader starts first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The factory app.
    Factory,
    /// The OTA slot of this number.
    Slot(u32),
}

/// How the bootloader came to its choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No OTA slots, or nothing selected: factory.
    Default,
    /// Nothing selected and no factory app: slot 0.
    NoFactory,
    /// The entry in this sector selects the slot.
    Entry(usize),
    /// No entry can be used although something was selected: factory, then all others.
    Damaged,
}

/// How the bootloader was built and what it sees, as far as the choice depends on it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// Number of OTA slots in the table.
    pub slots: u32,
    /// The table has a factory app.
    pub factory: bool,
    /// The bootloader follows states (`CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE`).
    pub rollback: bool,
}

/// The choice, and what the bootloader writes back before it starts the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What is started first.
    pub choice: Choice,
    /// Why.
    pub why: Why,
    /// otadata after the bootloader has marked states.
    pub after: Otadata,
}

impl Otadata {
    /// Both entries blank.
    pub const BLANK: Self = Self { entries: [Entry::BLANK, Entry::BLANK] };

    /// Reads the partition; missing bytes count as 0xFF.
    pub fn read(bytes: &[u8]) -> Self {
        Self { entries: [Entry::read(bytes), Entry::read(bytes.get(COPY..).unwrap_or_default())] }
    }

    /// The partition's [`LENGTH`] bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0xff; LENGTH];
        for (copy, entry) in out.chunks_mut(COPY).zip(&self.entries) {
            copy[..ENTRY].copy_from_slice(&entry.bytes());
        }
        out
    }

    /// Number of the entry with the highest sequence among those that pass `usable`.
    pub fn active(&self, usable: impl Fn(&Entry) -> bool) -> Option<usize> {
        let [first, second] = &self.entries;
        match (usable(first), usable(second)) {
            (true, true) => Some(usize::from(second.sequence > first.sequence)),
            (true, false) => Some(0),
            (false, true) => Some(1),
            (false, false) => None,
        }
    }

    /// Decides as the bootloader does (without anti-rollback).
    pub fn decide(&self, rules: Rules) -> Decision {
        let mut after = *self;
        if rules.rollback {
            let pending = |entry: &&mut Entry| entry.state == State::PendingVerify;
            after.entries.iter_mut().filter(pending).for_each(|entry| entry.state = State::Aborted);
        }
        if after.entries.iter().all(Entry::is_invalid) || rules.slots == 0 {
            let (choice, why) =
                if rules.factory { (Choice::Factory, Why::Default) } else { (Choice::Slot(0), Why::NoFactory) };
            return Decision { choice, why, after };
        }
        after.select(rules, Entry::is_valid)
    }

    /// Decides as a bootloader with anti-rollback does. `secure_version` tells the version of the app in a slot (`None`
    /// when it cannot be read), `least` is the version burned into the eFuses.
    pub fn decide_anti_rollback(
        &self,
        rules: Rules,
        least: u32,
        secure_version: impl Fn(u32) -> Option<u32>,
    ) -> Decision {
        let mut after = *self;
        if rules.rollback {
            let pending = |entry: &&mut Entry| entry.state == State::PendingVerify;
            after.entries.iter_mut().filter(pending).for_each(|entry| entry.state = State::Aborted);
        }
        if after.entries.iter().all(Entry::is_initial) {
            return Decision { choice: Choice::Factory, why: Why::Default, after };
        }
        let new_enough = |slot: u32| secure_version(slot).is_some_and(|version| version >= least);
        after.select(rules, |entry| entry.is_valid() && entry.slot(rules.slots).is_some_and(new_enough))
    }

    fn select(mut self, rules: Rules, usable: impl Fn(&Entry) -> bool) -> Decision {
        let active = self.active(usable);
        let chosen = active.and_then(|index| Some((index, self.entries.get(index)?.slot(rules.slots)?)));
        let Some((index, slot)) = chosen else {
            return Decision { choice: Choice::Factory, why: Why::Damaged, after: self };
        };
        if rules.rollback
            && let Some(entry) = self.entries.get_mut(index)
            && entry.state == State::New
        {
            entry.state = State::PendingVerify;
        }
        Decision { choice: Choice::Slot(slot), why: Why::Entry(index), after: self }
    }

    /// otadata that makes `slot` of `slots` boot next, in `state`; the entry in use stays untouched, so that a rollback
    /// finds it. Follows `esp_rewrite_ota_data` of ESP-IDF: the sequence goes up to the next number of that slot.
    ///
    /// `None` when there is no such slot or no sequence number is left.
    pub fn switch_to(&self, slot: u32, slots: u32, state: State) -> Option<Self> {
        if slot >= slots {
            return None;
        }
        let mut out = *self;
        let Some(active) = self.active(Entry::is_valid) else {
            // Nothing was selected yet: the first entry, with the slot's own number.
            out.entries[0] = Entry::new(slot + 1, state);
            return Some(out);
        };
        let current = self.entries.get(active)?.sequence;
        let ahead = (slot + slots - current.wrapping_sub(1) % slots) % slots;
        let sequence = current.checked_add(ahead).filter(|next| *next != u32::MAX)?;
        // The slot in use keeps its sector and number; only its state is written again.
        let sector = if ahead == 0 { active } else { 1 - active };
        *out.entries.get_mut(sector)? = Entry::new(sequence, state);
        Some(out)
    }
}
