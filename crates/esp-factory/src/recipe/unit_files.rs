//! Files that belong to one unit each: certificates and keys whose names are templates.

use std::collections::{BTreeMap, BTreeSet};

use super::units::Rows;
use super::{Recipe, Template};

/// Files of units, as far as the CSV file with a row for each unit tells their names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UnitFiles {
    /// The files of all rows: a lock can cover them.
    pub listed: BTreeSet<String>,
    /// Templates that need a value which is issued in production only: no lock covers their files.
    pub open: Vec<String>,
}

impl Recipe {
    /// Files whose names are templates.
    pub fn unit_files(&self, rows: Option<&Rows>) -> UnitFiles {
        let mut files = UnitFiles::default();
        for template in self.all_files().into_iter().filter(|file| Template::has_holes(file)) {
            match self.files_by_rows(template, rows) {
                Some(names) => files.listed.extend(names),
                None => files.open.push(template.to_owned()),
            }
        }
        files
    }

    /// The template filled from every row; none where a row does not fill it.
    fn files_by_rows(&self, template: &str, rows: Option<&Rows>) -> Option<Vec<String>> {
        let (units, rows) = (self.units.as_ref()?, rows?);
        let filled = rows.all().map(|row| {
            let key = row.get(&units.key)?;
            let (mac, own) = match units.key.as_str() {
                "base_mac" => (mac_spelling(key), BTreeMap::new()),
                name => (String::new(), BTreeMap::from([(name.to_owned(), key.clone())])),
            };
            let mut values = self.values(&mac, &own, Some(&row));
            if mac.is_empty() {
                // Which chip gets which identity is settled in production.
                values.remove("base_mac");
            }
            self.fill(template, &values).ok()
        });
        filled.collect()
    }
}

/// A MAC address as the chip's own is written: rows may spell it in another way.
fn mac_spelling(text: &str) -> String {
    let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
    if digits.len() != 12 {
        return text.to_owned();
    }
    let pairs: Vec<String> = digits.chunks(2).map(|pair| pair.iter().collect()).collect();
    pairs.join(":").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(units: &str, cert: &str) -> Recipe {
        let text = format!(
            "[recipe]\nname = \"r\"\n[chip]\ntype = \"esp32c3\"\n[identity]\nserial = {{ pool = \"s\" }}\n\
             [units]\nfile = \"u.csv\"\nkey = \"{units}\"\n[secure_cert]\ndevice_cert = \"{cert}\"\n"
        );
        Recipe::parse(&text).unwrap()
    }

    #[test]
    fn unit_files_are_those_that_the_rows_name() {
        let rows = Rows::parse("base_mac,serial,gain\n02-00-00-00-00-0A,S1,7\n020000000b0c,S2,8\n").unwrap();
        let files = |units, cert| recipe(units, cert).unit_files(Some(&rows));
        let listed = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(files("serial", "{serial}-{csv.gain}.pem").listed, listed(&["S1-7.pem", "S2-8.pem"]));
        assert_eq!(
            files("base_mac", "{base_mac}.pem").listed,
            listed(&["02:00:00:00:00:0a.pem", "02:00:00:00:0b:0c.pem"])
        );
        assert_eq!(files("base_mac", "{base_mac.hex}.pem").listed, listed(&["02000000000a.pem", "020000000b0c.pem"]));
        // Which serial a chip gets is not in the rows by MAC, nor the MAC in the rows by serial.
        assert_eq!(files("base_mac", "{serial}.pem").open, ["{serial}.pem"]);
        assert_eq!(files("serial", "{base_mac}.pem").open, ["{base_mac}.pem"]);
        assert_eq!(recipe("serial", "{serial}.pem").unit_files(None).open, ["{serial}.pem"]);
    }
}
