//! Random commands of espefuse, and the requests that say the same to us.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use esp_model::efuse::{Block, Efuses, Field, KeyPurpose, Request, Voltage, text};
use esp_model::secure::block::key_digest;
use esp_model::secure::{PrivateKey, Scheme};

use super::fields::{burnable, value_text};
use super::virt::Summary;
use super::{Random, unicast};

/// One command and what we make of it; `Err` where we already refuse to read it.
pub struct Command {
    pub requests: Result<Vec<Request>, String>,
    pub argv: Vec<String>,
}

impl Command {
    fn new(requests: Vec<Request>, argv: Vec<String>) -> Self {
        Self { requests: Ok(requests), argv }
    }

    pub fn protects(&self) -> bool {
        self.argv[0].ends_with("protect-efuse")
    }
}

/// Makes commands for one chip.
pub struct Maker<'a> {
    /// For key files.
    pub dir: &'a Path,
    /// Where the plan begins.
    pub efuses: &'a Efuses,
    /// What espefuse shows.
    pub known: &'a Summary,
    /// For names of files.
    pub serial: usize,
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| word.to_string()).collect()
}

impl Maker<'_> {
    pub fn command(&self, random: &mut Random) -> Command {
        let table = self.efuses.table;
        let keys: Vec<_> = table.blocks.iter().filter(|block| block.is_key).collect();
        let block = &table.blocks[random.below(table.blocks.len())];
        let command = match random.below(15) {
            0..=3 => self.fields(random),
            4 => Some(self.bits(block, random)),
            5 | 6 => Some(self.block(block, random)),
            7..=9 => self.key(keys[random.below(keys.len())], random),
            10 => self.digest(keys[random.below(keys.len())], random),
            11 => Some(self.mac(random)),
            12 => self.voltage(random),
            _ => self.protection(random),
        };
        command.unwrap_or_else(|| self.command(random))
    }

    fn one_key_block(&self) -> bool {
        self.efuses.table.blocks.iter().filter(|block| block.is_key).count() == 1
    }

    fn file(&self, data: &[u8]) -> String {
        let file = self.dir.join(format!("data{}", self.serial));
        fs::write(&file, data).unwrap();
        file.display().to_string()
    }

    fn fields(&self, random: &mut Random) -> Option<Command> {
        let (mut requests, mut argv) = (Ok(Vec::new()), words(&["burn-efuse"]));
        let fields: Vec<_> = self.known.iter().collect();
        for _ in 0..=random.below(3) {
            let (name, theirs) = fields[random.below(fields.len())];
            let field = self.efuses.table.field(name).filter(|field| burnable(self.efuses, field, theirs));
            let Some(field) = field.filter(|_| !argv.contains(name)) else { continue };
            // Where a version or a flag belongs to the address, espefuse burns both by another command only.
            let belongs = |name: &str| self.efuses.table.field(name).is_some();
            if name.starts_with("CUSTOM_MAC") && (belongs("CUSTOM_MAC_USED") || belongs("MAC_VERSION")) {
                continue;
            }
            let value = value_text(self.efuses, field, random);
            let one = text::request(self.efuses, name, Some(&value)).map_err(|error| error.to_string());
            requests = requests.and_then(|list| Ok([list, vec![one?]].concat()));
            argv.extend([name.clone(), value]);
        }
        (argv.len() > 1).then_some(Command { requests, argv })
    }

    fn bits(&self, block: &Block, random: &mut Random) -> Command {
        let bit = |random: &mut Random| random.below(usize::from(block.words) * 32) as u16;
        let bits: Vec<_> = (0..=random.below(3)).map(|_| bit(random)).collect();
        let mut argv = words(&["burn-bit", name_of(block, random)]);
        argv.extend(bits.iter().map(u16::to_string));
        Command::new(vec![Request::Bits { block: block.name.clone(), bits }], argv)
    }

    fn block(&self, block: &Block, random: &mut Random) -> Command {
        let mut len = self.efuses.capacity(block);
        if random.one_in(8) {
            len = [len - 1, len + 1, len + 4, 24, 32][random.below(5)];
        }
        let offset = if random.one_in(2) { random.below(len) } else { 0 };
        let some = if random.one_in(3) { 1 + random.below(len - offset) } else { len - offset };
        let data = random.bytes(some);
        let argv =
            words(&["burn-block-data", name_of(block, random), &self.file(&data), "--offset", &offset.to_string()]);
        Command::new(vec![Request::Block { block: block.name.clone(), data, offset }], argv)
    }

    fn key(&self, block: &Block, random: &mut Random) -> Option<Command> {
        if block.purpose_field.is_none() && self.efuses.table.key_purposes.iter().all(|one| one.value.is_none()) {
            return self.named_key(block, random);
        }
        let custom = self.efuses.table.custom_purposes && random.one_in(6);
        let purpose = if custom {
            let name = match random.below(4) {
                // Without the fifth bit of the purpose espefuse has no highest value that fits.
                0 if self.efuses.table.field(block.purpose_field.as_ref()?)?.len() > 4 => "CUSTOM_MAX".to_string(),
                1 => format!("CUSTOM_DIGEST_{}", random.below(32)),
                _ => format!("CUSTOM_{}", random.below(32)),
            };
            self.efuses.table.purpose(&name)?.into_owned()
        } else {
            random.pick(&self.efuses.table.key_purposes).clone()
        };
        let (key, file) = self.key_data(&purpose, block, random);
        // By an alias espefuse takes the same block for both halves of a long key.
        let by_name = !purpose.split.is_empty() || self.one_key_block();
        let name = if by_name { &block.name } else { name_of(block, random) };
        let mut argv = words(&["burn-key", name, &self.file(&file), &purpose.name]);
        let (read_protect, write_protect) = (!random.one_in(3), !random.one_in(3));
        if !read_protect {
            argv.push("--no-read-protect".into());
        }
        if !write_protect {
            argv.push("--no-write-protect".into());
        }
        let block = block.name.clone();
        Some(Command::new(vec![Request::Key { block, key, purpose: purpose.name, read_protect, write_protect }], argv))
    }

    /// The key for us and the file for espefuse.
    fn key_data(&self, purpose: &KeyPurpose, block: &Block, random: &mut Random) -> (Vec<u8>, Vec<u8>) {
        let halves = ["ECDSA_KEY_P384_L", "ECDSA_KEY_P384_H"];
        if purpose.name.starts_with("ECDSA_KEY") && !halves.contains(&purpose.name.as_str()) {
            let wanted = match purpose.name.as_str() {
                "ECDSA_KEY_P384" => 2,
                "ECDSA_KEY_P192" => 0,
                _ => 1,
            };
            let key = &signing_keys()[if random.one_in(6) { random.below(3) } else { wanted }];
            return (text::ecdsa_key(key.scalar().unwrap()), key.to_pem().unwrap().as_bytes().to_vec());
        }
        let field = purpose.field.as_ref().and_then(|name| self.efuses.table.field(name));
        let part = field.map_or(self.efuses.capacity(block), |field| usize::from(field.len() / 8));
        let mut len = if purpose.split.is_empty() { part } else { 64 };
        if purpose.digest && purpose.field.is_some() && random.one_in(2) {
            len = 32;
        } else if random.one_in(8) {
            len = [16, 24, 31, 32, 64][random.below(5)];
        }
        let key = random.bytes(len);
        (key.clone(), key)
    }

    /// On chips without purpose fields a block's alias stands for the purpose.
    fn named_key(&self, block: &Block, random: &mut Random) -> Option<Command> {
        let mut len = self.efuses.capacity(block);
        if random.one_in(8) {
            len = [24, 32, 31][random.below(3)];
        }
        let key = random.bytes(len);
        let protect = !random.one_in(3);
        let aliases = [
            ("flash_encryption", "FLASH_ENCRYPTION"),
            ("secure_boot_v1", "SECURE_BOOT_V1"),
            ("secure_boot_v2", "SECURE_BOOT_V2_DIGEST"),
        ];
        let (alias, purpose) = *random.pick(&aliases);
        let fits = |one: &&KeyPurpose| one.name == purpose && one.blocks.contains(&block.id);
        let named = self.efuses.table.key_purposes.iter().find(fits);
        let name = block.name.clone();
        let (requests, alias) = match named {
            Some(purpose) => {
                let (read_protect, write_protect) = (protect, protect);
                let purpose = purpose.name.clone();
                (vec![Request::Key { block: name, key: key.clone(), purpose, read_protect, write_protect }], alias)
            }
            // A plain block: it is burned as it stands, and frozen.
            None => {
                let freeze = protect.then(|| Request::WriteProtect { name: name.clone() });
                let value = Request::Field { name, value: key.clone() };
                ([value].into_iter().chain(freeze).collect(), block.name.as_str())
            }
        };
        let mut argv = words(&["burn-key", alias, &self.file(&key)]);
        if !protect {
            argv.push("--no-protect-key".into());
        }
        Some(Command::new(requests, argv))
    }

    fn digest(&self, block: &Block, random: &mut Random) -> Option<Command> {
        let digests: Vec<_> = self.efuses.table.key_purposes.iter().filter(|purpose| purpose.digest).collect();
        if digests.is_empty() {
            return None;
        }
        let purpose = digests[random.below(digests.len())];
        let key = &signing_keys()[random.below(3)];
        let file = self.file(key.to_pem().unwrap().as_bytes());
        let write_protect = !random.one_in(3);
        let mut argv = words(&["burn-key-digest"]);
        // Where the place is fixed it is not named.
        let fixed = purpose.value.is_none() || self.one_key_block();
        let block = match purpose.blocks.first() {
            Some(id) if fixed => self.efuses.table.block(*id)?,
            _ => block,
        };
        if fixed {
            argv.push(file);
        } else {
            argv.extend([name_of(block, random).to_string(), file, purpose.name.clone()]);
        }
        if !write_protect {
            let option = if purpose.field.is_none() && fixed { "--no-protect-key" } else { "--no-write-protect" };
            argv.push(option.into());
        }
        let request = Request::Key {
            block: block.name.clone(),
            key: key_digest(&key.public().unwrap()).to_vec(),
            purpose: purpose.name.clone(),
            read_protect: true,
            write_protect,
        };
        Some(Command::new(vec![request], argv))
    }

    fn mac(&self, random: &mut Random) -> Command {
        let mut mac = unicast(random);
        mac.0[0] |= u8::from(random.one_in(10));
        Command::new(vec![Request::CustomMac(mac)], words(&["burn-custom-mac", &mac.to_string()]))
    }

    fn voltage(&self, random: &mut Random) -> Option<Command> {
        self.efuses.table.field("XPD_SDIO_FORCE").or(self.efuses.table.field("VDD_SPI_FORCE"))?;
        let (voltage, name) =
            [(Voltage::V1_8, "1.8V"), (Voltage::V3_3, "3.3V"), (Voltage::Off, "OFF")][random.below(3)];
        Some(Command::new(vec![Request::FlashVoltage(voltage)], words(&["set-flash-voltage", name])))
    }

    fn protection(&self, random: &mut Random) -> Option<Command> {
        let read = random.one_in(2);
        let has = |field: &&Field| if read { !field.read_protect.is_empty() } else { field.write_protect.is_some() };
        let shown = |field: &&Field| self.known.get(&field.name).is_some_and(|theirs| !theirs.calculated);
        let fields: Vec<_> = self.efuses.table.fields.iter().filter(has).filter(shown).collect();
        let mut names: Vec<_> =
            (0..=random.below(2)).map(|_| fields[random.below(fields.len())].name.clone()).collect();
        names.dedup();
        let mut argv = words(&[if read { "read-protect-efuse" } else { "write-protect-efuse" }]);
        argv.extend(names.iter().cloned());
        let request = |name| if read { Request::ReadProtect { name } } else { Request::WriteProtect { name } };
        Some(Command::new(names.into_iter().map(request).collect(), argv))
    }
}

/// A block's name or one of its aliases.
fn name_of<'a>(block: &'a Block, random: &mut Random) -> &'a str {
    match block.aliases.first().filter(|alias| alias.starts_with("BLOCK") && random.one_in(3)) {
        Some(alias) => alias,
        None => &block.name,
    }
}

/// P-192, P-256 and P-384.
fn signing_keys() -> &'static [PrivateKey; 3] {
    static KEYS: OnceLock<[PrivateKey; 3]> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut random = Random(77);
        [Scheme::EcdsaP192, Scheme::EcdsaP256, Scheme::EcdsaP384].map(|scheme| {
            let mut noise = |buffer: &mut [u8]| buffer.iter_mut().for_each(|byte| *byte = random.next() as u8);
            PrivateKey::generate(scheme, &mut noise).unwrap()
        })
    })
}
