//! Layouts by name, for projects that need nothing special.

use super::{Options, Table, TableError};

/// A layout with a name.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub about: &'static str,
    /// Its rows in the CSV form.
    pub csv: &'static str,
}

macro_rules! layout {
    ($($row:literal)*) => { concat!($($row, "\n"),*) };
}

/// All presets. The first group has the names, sizes and order of ESP-IDF's own layouts, so that both give the same table.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "single_app",
        about: "one app of 1 MB, no OTA",
        csv: layout!("nvs,data,nvs,,24K" "phy_init,data,phy,,4K" "factory,app,factory,,1M"),
    },
    Preset {
        name: "single_app_large",
        about: "one app of 1500 KB, no OTA",
        csv: layout!("nvs,data,nvs,,24K" "phy_init,data,phy,,4K" "factory,app,factory,,1500K"),
    },
    Preset {
        name: "single_app_coredump",
        about: "one app of 1 MB and 64 KB for a core dump",
        csv: layout!(
            "nvs,data,nvs,,24K" "phy_init,data,phy,,4K" "factory,app,factory,,1M" "coredump,data,coredump,,64K"
        ),
    },
    Preset {
        name: "single_app_encrypted_nvs",
        about: "one app of 1 MB and a key partition for encrypted NVS",
        csv: layout!(
            "nvs,data,nvs,,24K" "phy_init,data,phy,,4K" "factory,app,factory,,1M" "nvs_key,data,nvs_keys,,4K,encrypted"
        ),
    },
    Preset {
        name: "two_ota",
        about: "factory app and two OTA slots of 1 MB each (4 MB flash)",
        csv: layout!(
            "nvs,data,nvs,,16K" "otadata,data,ota,,8K" "phy_init,data,phy,,4K"
            "factory,app,factory,,1M" "ota_0,app,ota_0,,1M" "ota_1,app,ota_1,,1M"
        ),
    },
    Preset {
        name: "two_ota_large",
        about: "two OTA slots of 1700 KB each, no factory app (4 MB flash)",
        csv: layout!(
            "nvs,data,nvs,,24K" "otadata,data,ota,,8K" "phy_init,data,phy,,4K"
            "ota_0,app,ota_0,,1700K" "ota_1,app,ota_1,,1700K"
        ),
    },
    Preset {
        name: "two_ota_coredump",
        about: "factory app, two OTA slots of 1 MB each and 64 KB for a core dump (4 MB flash)",
        csv: layout!(
            "nvs,data,nvs,,16K" "otadata,data,ota,,8K" "phy_init,data,phy,,4K" "factory,app,factory,,1M"
            "coredump,data,coredump,,64K" "ota_0,app,ota_0,,1M" "ota_1,app,ota_1,,1M"
        ),
    },
    Preset {
        name: "two_ota_encrypted_nvs",
        about: "factory app, two OTA slots of 1 MB each and a key partition for encrypted NVS (4 MB flash)",
        csv: layout!(
            "nvs,data,nvs,,16K" "otadata,data,ota,,8K" "phy_init,data,phy,,4K" "factory,app,factory,,1M"
            "ota_0,app,ota_0,,1M" "ota_1,app,ota_1,,1M" "nvs_key,data,nvs_keys,,4K,encrypted"
        ),
    },
    Preset {
        name: "two_ota_spiffs",
        about: "two OTA slots of 1280 KB each and a SPIFFS of 1408 KB (4 MB flash)",
        csv: layout!(
            "nvs,data,nvs,0x9000,20K" "otadata,data,ota,0xe000,8K" "ota_0,app,ota_0,0x10000,1280K"
            "ota_1,app,ota_1,,1280K" "spiffs,data,spiffs,,1408K" "coredump,data,coredump,,64K"
        ),
    },
    Preset {
        name: "single_app_fat",
        about: "one app of 1 MB and a FAT of 2 MB (4 MB flash)",
        csv: layout!(
            "nvs,data,nvs,,24K" "phy_init,data,phy,,4K" "factory,app,factory,,1M" "storage,data,fat,,2M"
        ),
    },
    Preset {
        name: "single_app_littlefs",
        about: "one app of 1 MB and a LittleFS of 2 MB (4 MB flash)",
        csv: layout!(
            "nvs,data,nvs,,24K" "phy_init,data,phy,,4K" "factory,app,factory,,1M" "storage,data,littlefs,,2M"
        ),
    },
];

/// The preset of this name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

impl Preset {
    /// The table for this table offset.
    pub fn table(&self, options: &Options) -> Result<Table, TableError> {
        let table = Table::from_csv(self.csv, options)?;
        table.check(options)?;
        Ok(table)
    }
}
