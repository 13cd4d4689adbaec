//! Who a chip is: revision, package, features and MAC addresses, put together from eFuses and registers by rules in
//! `chip.toml`, and the reverse for simulated chips.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Deserialize;

use super::{Bits, Chip};
use crate::efuse::Field;
use crate::mac::Mac;

/// Revision, package, features, MAC addresses: what they are read from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Major revision. None: the chip has no revisions (ESP8266).
    pub major: Option<Value>,
    /// Minor revision.
    pub minor: Option<Value>,
    /// How the base MAC is put together.
    #[serde(default)]
    pub mac: MacSource,
    /// eFuse field whose two bytes stand between the MAC's halves in an EUI-64 (C6, H2, C5 …).
    pub mac_ext: Option<String>,
    /// eFuse field with the capacity code of flash in the package.
    pub flash_cap: Option<String>,
    /// eFuse field with the capacity code of PSRAM in the package.
    pub psram_cap: Option<String>,
    /// Meanings of eFuse values that the eFuse table does not name, by field and number (decimal).
    #[serde(default)]
    pub meanings: BTreeMap<String, BTreeMap<String, String>>,
    /// The parts of the package's name, joined. Of each part the first rule that holds counts; a `?` in the result
    /// means that something is not known.
    pub name: Vec<Vec<Rule>>,
    /// The features. Of each the first rule that holds counts; an empty text is left out.
    pub features: Vec<Vec<Rule>>,
}

/// Where the base MAC comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MacSource {
    /// The eFuse field `MAC`, most significant byte first.
    #[default]
    Field,
    /// ESP8266: fields `MAC_LOW`, `MAC_MID` and `MAC_OUI`; a zero OUI is implied by `MAC_OUI_CODE`.
    Esp8266Otp,
}

/// A number put together from eFuse fields and register bits, lowest part first, then looked up.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Value {
    /// The parts, lowest bits first. None: always 0.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// What the combined number stands for; without an entry it stands for 0 where the table is not empty.
    #[serde(default)]
    pub map: BTreeMap<String, u32>,
    /// eFuse fields and values for which the number is 0 whatever the parts say.
    #[serde(default)]
    pub zero_when: BTreeMap<String, Vec<u32>>,
}

/// One part of a [`Value`].
#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Part {
    /// An eFuse field by name.
    Efuse(String),
    /// Bits of a register.
    Register(Bits),
}

/// A text that applies when all conditions hold.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The text; `{FIELD}` stands for the meaning of an eFuse field's value, empty where it has none.
    pub text: String,
    /// eFuse fields (or `MAJOR`, `MINOR`) and the values that satisfy the rule.
    #[serde(default)]
    pub when: BTreeMap<String, Vec<u32>>,
    /// First chip revision (major × 100 + minor) for which it holds.
    #[serde(default)]
    pub min_revision: u16,
}

/// What a new chip holds, for simulated ones.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factory {
    /// Revision, as major × 100 + minor: one that today's stubs run on.
    #[serde(default)]
    pub revision: u16,
    /// MAC address: Espressif's vendor part and any number.
    pub mac: Mac,
    /// eFuse fields and their values.
    #[serde(default)]
    pub efuses: BTreeMap<String, u32>,
    /// Registers that a tool reads.
    #[serde(default)]
    pub registers: Vec<Preset>,
}

/// A register's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Register address.
    pub register: u32,
    /// Its content after power up.
    pub value: u32,
}

/// Who a chip is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identified {
    /// Package and revision, as esptool prints them: `ESP32-C6 (QFN40) (revision v0.1)`.
    pub description: String,
    /// The package's name alone: `ESP32-C6 (QFN40)`.
    pub package: String,
    /// Major and minor revision, for chips that have them.
    pub revision: Option<(u8, u8)>,
    /// `Wi-Fi 6`, `Embedded Flash 4MB` …
    pub features: Vec<String>,
    /// Base MAC address.
    pub mac: Mac,
    /// The two bytes between the MAC's halves in an EUI-64, for chips with an 802.15.4 radio.
    pub mac_ext: Option<[u8; 2]>,
    /// Code of the flash capacity in the package; 0 is none.
    pub flash_cap: Option<u32>,
    /// Code of the PSRAM capacity in the package; 0 is none.
    pub psram_cap: Option<u32>,
}

impl Identified {
    /// The revision as major × 100 + minor; 0 for chips without.
    pub fn revision_number(&self) -> u16 {
        self.revision.map_or(0, |(major, minor)| u16::from(major) * 100 + u16::from(minor))
    }

    /// The EUI-64 for 802.15.4.
    pub fn eui64(&self) -> Option<[u8; 8]> {
        let Mac([a, b, c, d, e, f]) = self.mac;
        self.mac_ext.map(|[x, y]| [a, b, c, x, y, d, e, f])
    }
}

/// The words that an identity is made from.
struct Facts<'c> {
    chip: &'c Chip,
    /// Register and eFuse words by address.
    words: BTreeMap<u32, u32>,
}

impl<'c> Facts<'c> {
    /// Reads the words of these fields and registers, each once.
    fn read<'n, E>(
        chip: &'c Chip,
        fields: impl Iterator<Item = &'n str>,
        registers: impl Iterator<Item = Bits>,
        mut read: impl FnMut(u32) -> Result<u32, E>,
    ) -> Result<Self, E> {
        let of_fields =
            fields.filter_map(|name| chip.efuse().field(name)).flat_map(|field| chip.efuse().addresses(field));
        let mut words = BTreeMap::new();
        for address in of_fields.chain(registers.map(|bits| bits.register)) {
            if let Entry::Vacant(slot) = words.entry(address) {
                slot.insert(read(address)?);
            }
        }
        Ok(Self { chip, words })
    }

    fn word(&self, address: u32) -> u32 {
        self.words.get(&address).copied().unwrap_or(0)
    }

    fn field(&self, name: &str) -> Option<(&Field, Vec<u32>)> {
        let field = self.chip.efuse().field(name)?;
        let block = self.chip.efuse().block(field.block)?;
        let words = (0..u32::from(block.words)).map(|index| self.word(block.read + index * 4));
        Some((field, words.collect()))
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.field(name).map(|(field, words)| field.number(&words))
    }

    /// Major and minor revision.
    fn revision(&self) -> Option<(u8, u8)> {
        let identity = &self.chip.identity;
        let part = |value: &Option<Value>| value.as_ref().map_or(0, |value| self.value(value));
        identity.major.is_some().then(|| (part(&identity.major), part(&identity.minor)))
    }

    fn holds(&self, when: &BTreeMap<String, Vec<u32>>, revision: (u8, u8)) -> bool {
        let value_of = |name: &str| match name {
            "MAJOR" => Some(u32::from(revision.0)),
            "MINOR" => Some(u32::from(revision.1)),
            _ => self.number(name),
        };
        when.iter().all(|(name, values)| value_of(name).is_some_and(|value| values.contains(&value)))
    }

    fn value(&self, value: &Value) -> u8 {
        if !value.zero_when.is_empty() && self.holds(&value.zero_when, (0, 0)) {
            return 0;
        }
        let (mut combined, mut shift) = (0u32, 0u32);
        for part in &value.parts {
            let (bits, len) = match part {
                Part::Efuse(name) => match self.field(name) {
                    Some((field, words)) => (field.number(&words), u32::from(field.len())),
                    None => (0, 0),
                },
                Part::Register(bits) => (bits.of(self.word(bits.register)), u32::from(bits.len)),
            };
            combined |= bits.checked_shl(shift).unwrap_or(0);
            shift += len;
        }
        let looked_up = match value.map.is_empty() {
            true => combined,
            false => value.map.get(&combined.to_string()).copied().unwrap_or(0),
        };
        u8::try_from(looked_up).unwrap_or(u8::MAX)
    }

    /// The text of the first rule that holds.
    fn pick(&self, rules: &[Rule], revision: (u8, u8)) -> String {
        let number = u16::from(revision.0) * 100 + u16::from(revision.1);
        let rule = rules.iter().find(|rule| number >= rule.min_revision && self.holds(&rule.when, revision));
        rule.map_or_else(String::new, |rule| self.fill(&rule.text))
    }

    /// Replaces `{FIELD}` by the meaning of the field's value.
    fn fill(&self, text: &str) -> String {
        let Some((before, rest)) = text.split_once('{') else { return text.to_owned() };
        let Some((name, after)) = rest.split_once('}') else { return text.to_owned() };
        let known =
            self.field(name).map(|(field, words)| (field, field.number(&words))).filter(|(_, number)| *number > 0);
        let meaning = known.and_then(|(field, number)| {
            let values = self.chip.identity.meanings.get(name).unwrap_or(&field.values);
            values.get(&number.to_string())
        });
        format!("{before}{}{after}", meaning.map_or("", String::as_str))
    }

    fn mac(&self) -> Mac {
        match self.chip.identity.mac {
            MacSource::Field => {
                let mut bytes = self.field("MAC").map_or_else(Vec::new, |(field, words)| field.bytes(&words));
                bytes.resize(6, 0);
                bytes.reverse();
                Mac(<[u8; 6]>::try_from(bytes).unwrap_or_default())
            }
            MacSource::Esp8266Otp => {
                let number = |name| self.number(name).unwrap_or(0);
                let oui = match (number("MAC_OUI"), number("MAC_OUI_CODE")) {
                    (0, 0) => 0x18_fe34,
                    (0, 1) => 0xac_d074,
                    (oui, _) => oui,
                };
                let ([_, a, b, c], [_, _, d, e]) = (oui.to_be_bytes(), number("MAC_MID").to_be_bytes());
                Mac([a, b, c, d, e, number("MAC_LOW").to_be_bytes()[3]])
            }
        }
    }
}

/// Reads who a chip is. `read` gives a 32-bit word by address: eFuse words and registers.
///
/// # Errors
/// The first error of `read`.
pub fn identify<E>(chip: &Chip, read: impl FnMut(u32) -> Result<u32, E>) -> Result<Identified, E> {
    Ok(conclude(&Facts::read(chip, chip.identity.fields(), chip.identity.registers(), read)?))
}

/// Reads only the revision, as major and minor; none for chips that have none.
///
/// # Errors
/// The first error of `read`.
pub fn revision<E>(chip: &Chip, read: impl FnMut(u32) -> Result<u32, E>) -> Result<Option<(u8, u8)>, E> {
    let identity = &chip.identity;
    Ok(Facts::read(chip, identity.revision_fields(), identity.registers(), read)?.revision())
}

fn conclude(facts: &Facts<'_>) -> Identified {
    let identity = &facts.chip.identity;
    let known = facts.revision();
    let revision = known.unwrap_or_default();

    let mut package: String = identity.name.iter().map(|rules| facts.pick(rules, revision)).collect();
    if package.contains('?') {
        package.insert_str(0, "Unknown ");
    }
    let description = match known {
        Some((major, minor)) => format!("{package} (revision v{major}.{minor})"),
        None => package.clone(),
    };
    let features = identity.features.iter().map(|rules| facts.pick(rules, revision)).filter(|text| !text.is_empty());
    let mac_ext = identity.mac_ext.as_deref().and_then(|name| facts.number(name));
    Identified {
        description,
        package,
        revision: known,
        features: features.collect(),
        mac: facts.mac(),
        mac_ext: mac_ext.map(|ext| [(ext >> 8) as u8, ext as u8]),
        flash_cap: identity.flash_cap.as_deref().and_then(|name| facts.number(name)),
        psram_cap: identity.psram_cap.as_deref().and_then(|name| facts.number(name)),
    }
}

impl Identity {
    /// All eFuse fields that the identity is read from.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        let rules = || self.name.iter().chain(&self.features).flatten();
        let conditions = rules().flat_map(|rule| rule.when.keys().map(String::as_str));
        let mentions = rules().filter_map(|rule| Some(rule.text.split_once('{')?.1.split_once('}')?.0));
        let named = [&self.mac_ext, &self.flash_cap, &self.psram_cap].into_iter().filter_map(|name| name.as_deref());
        let all = self.revision_fields().chain(conditions).chain(mentions).chain(named);
        all.filter(|name| !matches!(*name, "MAJOR" | "MINOR")).chain(self.mac.fields().iter().copied())
    }

    /// The eFuse fields that the revision is read from.
    pub fn revision_fields(&self) -> impl Iterator<Item = &str> {
        let values = || self.major.iter().chain(&self.minor);
        let parts = values().flat_map(|value| &value.parts).filter_map(|part| match part {
            Part::Efuse(name) => Some(name.as_str()),
            Part::Register(_) => None,
        });
        parts.chain(values().flat_map(|value| value.zero_when.keys().map(String::as_str)))
    }

    /// All registers that the identity is read from.
    pub fn registers(&self) -> impl Iterator<Item = Bits> {
        let parts = self.major.iter().chain(&self.minor).flat_map(|value| &value.parts);
        parts.filter_map(|part| match part {
            Part::Register(bits) => Some(*bits),
            Part::Efuse(_) => None,
        })
    }
}

impl MacSource {
    /// The eFuse fields that hold the address.
    pub fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Field => &["MAC"],
            Self::Esp8266Otp => &["MAC_LOW", "MAC_MID", "MAC_OUI_CODE", "MAC_OUI"],
        }
    }
}
