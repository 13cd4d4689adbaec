//! A recipe to begin with.

use std::fmt::Write as _;

use esp_ops::partition::nvs_values::FACTORY_DATA;

/// A commented recipe for a chip, with these images (file and address). `own_table`: the NVS partition for factory data,
/// where the partition table is among the images; else a table comes from `partitions.csv`.
pub fn example(chip: &str, name: &str, images: &[(String, u32)], own_table: Option<&str>) -> String {
    let mut out = format!(
        "# What a unit must become. Check it with `mcp-esptool recipe check FILE`, then `mcp-esptool recipe lock FILE`.\n\
         \n\
         [recipe]\nname = \"{name}\"\nversion = \"1.0.0\"\n\
         \n\
         [chip]\ntype = \"{chip}\"\nmin_revision = \"0.0\"\nmin_flash = \"2MB\"\n"
    );
    for (file, address) in images {
        let _ = write!(out, "\n[[image]]\nfile = \"{file}\"\naddress = \"{address:#x}\"\n");
    }
    if own_table.is_none() {
        out += "\n[table]\nfile = \"partitions.csv\"\n";
    }
    out + &REST.replace("\"fctry\"", &format!("\"{}\"", own_table.unwrap_or(FACTORY_DATA)))
}

/// Identity, factory data, tests and label.
const REST: &str = r#"
# Issued by the ledger, once each: `mcp-esptool ledger add-pool pool=serials kind=serial prefix=SN- first=1 count=1000`
[identity]
serial = { pool = "serials" }
mac = { pool = "macs" }

# Factory data in NVS, best in a partition of its own. {NAME} is an identity, {csv.COLUMN} a per-unit value.
[[nvs]]
partition = "fctry"
[nvs.values.device]
serial = "{serial}"
mac = { type = "hex2bin", value = "{mac.hex}" }
hw_rev = { type = "u8", value = 1 }

# A row of values for each unit, found by the named column:
# [units]
# file = "units.csv"
# key = "serial"

# Certificates in the esp_secure_cert partition:
# [secure_cert]
# ca_cert = "certs/ca.pem"
# device_cert = "certs/{serial}.pem"
# private_key = "certs/{serial}.key.pem"

[[test]]
name = "flash size"
kind = "flash_size"
min = 2097152

[[test]]
name = "serial in flash"
kind = "nvs"
partition = "fctry"
namespace = "device"
key = "serial"
equals = "{serial}"

# The firmware's own self test, on the console after a reset:
# [[test]]
# name = "supply voltage"
# kind = "console"
# expect = "VDD=([0-9.]+) V"
# min = 3.2
# max = 3.4
# seconds = 5

[label]
payload = "SN:{serial} MAC:{mac}"
"#;
