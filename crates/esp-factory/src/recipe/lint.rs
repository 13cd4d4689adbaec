//! What is wrong with a recipe before any device is touched.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Measure, NvsValue, Recipe, Template, number, revision, units::Rows};
use esp_model::chip;
use esp_model::literal::quantity;
use esp_model::nvs;
use esp_model::partition::Table;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The recipe cannot be used.
    Error,
    /// It can be used, but something is likely to be forgotten.
    Warning,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub place: String,
    /// What is wrong.
    pub text: String,
}

/// What is known of the recipe's files.
#[derive(Debug, Default)]
pub struct Context {
    /// Length of each file that could be read.
    pub sizes: BTreeMap<String, u64>,
    /// The partition table, from its own file or an image.
    pub table: Option<Table>,
    /// The rows of the CSV file.
    pub rows: Option<Rows>,
}

/// The namespace of the radio's calibration (ESP-IDF `phy_init.c`).
const PHY_NAMESPACE: &str = "phy";

/// All findings, errors first.
pub fn lint(recipe: &Recipe, context: &Context) -> Vec<Finding> {
    let mut lints = Lints { recipe, context, found: Vec::new() };
    lints.chip();
    lints.images();
    lints.partitions();
    lints.nvs();
    lints.templates();
    lints.tests();
    lints.mes();
    lints.rest();
    lints.found.sort_by_key(|finding| finding.severity);
    lints.found
}

struct Lints<'a> {
    recipe: &'a Recipe,
    context: &'a Context,
    found: Vec<Finding>,
}

impl Lints<'_> {
    fn error(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.found.push(Finding { severity: Severity::Error, place: place.into(), text: text.into() });
    }

    fn warn(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.found.push(Finding { severity: Severity::Warning, place: place.into(), text: text.into() });
    }

    fn chip(&mut self) {
        let wanted = &self.recipe.chip;
        if chip::by_name(&wanted.kind).is_none() {
            let known = chip::all().iter().map(|chip| chip.id).collect::<Vec<_>>().join(", ");
            self.error("chip", format!("there is no chip {:?} (known: {known})", wanted.kind));
        }
        let limits = [("min_revision", &wanted.min_revision), ("max_revision", &wanted.max_revision)];
        for (name, text) in limits {
            if let Some(text) = text.as_ref().filter(|text| revision(text).is_none()) {
                self.error("chip", format!("{name} is not `major.minor`: {text}"));
            }
        }
        let both =
            wanted.min_revision.as_deref().and_then(revision).zip(wanted.max_revision.as_deref().and_then(revision));
        if both.is_some_and(|(low, high)| low > high) {
            self.error("chip", "min_revision is above max_revision");
        }
        if wanted.min_flash.as_deref().is_some_and(|text| quantity(text).is_none()) {
            self.error("chip", "min_flash is not a size");
        }
    }

    fn images(&mut self) {
        let mut spans: Vec<(u64, u64, &str)> = Vec::new();
        for image in &self.recipe.images {
            match number(&image.address).filter(|address| u32::try_from(*address).is_ok()) {
                Some(address) => {
                    let size = self.context.sizes.get(&image.file).copied().unwrap_or(1);
                    spans.push((address, address + size, &image.file));
                }
                None => self.error(format!("image {}", image.file), "the address is not a 32-bit number"),
            }
        }
        let table = self.context.table.as_ref();
        let named = |name: &str| table.and_then(|table| table.find(name));
        for data in &self.recipe.data {
            if let (Some(partition), Some(size)) = (named(&data.partition), self.context.sizes.get(&data.file)) {
                spans.push((u64::from(partition.offset), u64::from(partition.offset) + size, &data.file));
            }
        }
        for nvs in &self.recipe.nvs {
            spans.extend(named(&nvs.partition).map(|p| (u64::from(p.offset), p.end(), nvs.partition.as_str())));
        }
        spans.sort_unstable();
        for pair in spans.windows(2) {
            if let [first, second] = pair
                && first.1 > second.0
            {
                let text = format!("{} ends at {:#x}, {} begins at {:#x}", first.2, first.1, second.2, second.0);
                self.error("images", text);
            }
        }
        if self.recipe.images.is_empty() {
            self.warn("images", "no image is written: units keep the firmware that they have");
        }
    }

    fn partitions(&mut self) {
        let mut wanted: Vec<(&str, Option<u64>)> = Vec::new();
        wanted.extend(self.recipe.nvs.iter().map(|nvs| (nvs.partition.as_str(), None)));
        wanted.extend(self.recipe.secure_cert.iter().map(|cert| (cert.partition.as_str(), None)));
        let sizes = &self.context.sizes;
        wanted.extend(self.recipe.data.iter().map(|data| (data.partition.as_str(), sizes.get(&data.file).copied())));
        let mut seen = BTreeSet::new();
        for (name, size) in wanted {
            if !seen.insert(name) {
                self.error(format!("partition {name}"), "it is written twice");
            }
            let Some(table) = &self.context.table else { continue };
            match table.find(name) {
                None => self.error(format!("partition {name}"), "the partition table has no such partition"),
                Some(found) if size.is_some_and(|size| size > u64::from(found.size)) => {
                    self.error(format!("partition {name}"), "its file is larger than the partition");
                }
                Some(_) => {}
            }
        }
        if self.context.table.is_none() && !seen.is_empty() {
            self.warn("table", "there is no partition table: the one on the unit decides where partitions are");
        }
    }

    fn nvs(&mut self) {
        for data in &self.recipe.nvs {
            let place = format!("nvs {}", data.partition);
            if let Some(found) = self.context.table.as_ref().and_then(|table| table.find(&data.partition))
                && (found.kind, found.subtype) != (esp_model::partition::DATA, esp_model::partition::DATA_NVS)
            {
                self.error(&place, "this partition is not of type data, subtype nvs");
            }
            for (namespace, values) in &data.values {
                if namespace == PHY_NAMESPACE {
                    self.error(&place, "the namespace phy is the radio's calibration, which belongs to one chip");
                }
                let names = values.keys().chain([namespace]);
                for name in names.filter(|name| name.is_empty() || name.len() > nvs::KEY_LENGTH) {
                    self.error(&place, format!("{name:?} has not 1 to {} bytes", nvs::KEY_LENGTH));
                }
                for (key, value) in values {
                    self.value(&format!("{place}, {namespace}/{key}"), value);
                }
            }
        }
    }

    fn value(&mut self, place: &str, value: &NvsValue) {
        let Some((text, is_file)) = value.source() else {
            self.error(place, "give either value or file");
            return;
        };
        if is_file || Template::has_holes(&text) {
            return;
        }
        let mut no_files = |_: &str| Err("no file".to_owned());
        if let Err(problem) = nvs::encode_value(value.kind(), "data", &text, &mut no_files) {
            self.error(place, problem.to_string());
        }
    }

    fn templates(&mut self) {
        let names = self.recipe.names();
        let mut used = BTreeSet::new();
        for (place, text) in self.recipe.templates() {
            let template = match Template::parse(&text) {
                Ok(template) => template,
                Err(error) => {
                    self.error(place, error.to_string());
                    continue;
                }
            };
            for hole in template.holes() {
                let name = hole.strip_suffix(".hex").unwrap_or(hole);
                used.insert(name.to_owned());
                let known = match hole.strip_prefix("csv.") {
                    Some(column) => match (&self.recipe.units, &self.context.rows) {
                        (None, _) => false,
                        (Some(_), rows) => rows.as_ref().is_none_or(|rows| rows.columns.iter().any(|c| c == column)),
                    },
                    None => names.iter().any(|known| known == name),
                };
                if !known {
                    self.error(place.clone(), format!("nothing is called {{{hole}}} (known: {})", names.join(", ")));
                }
            }
        }
        for name in self.recipe.identity.keys() {
            if matches!(name.as_str(), "base_mac" | "chip" | "recipe" | "version") || name.contains(['.', '{', '}']) {
                self.error(format!("identity {name}"), "this name is taken or not possible");
            }
            if !used.contains(name) {
                self.warn(format!("identity {name}"), "it is issued, but nothing is written with it");
            }
        }
        let units = self.recipe.units.as_ref();
        if let Some(units) =
            units.filter(|units| units.key != "base_mac" && !self.recipe.identity.contains_key(&units.key))
        {
            self.error("units", format!("the key {:?} is neither base_mac nor an identity", units.key));
        }
        if let (Some(units), Some(rows)) = (units, &self.context.rows)
            && !rows.columns.contains(&units.key)
        {
            self.error("units", format!("the file has no column {:?}", units.key));
        }
    }

    fn tests(&mut self) {
        let mut names = BTreeSet::new();
        for test in &self.recipe.tests {
            let place = format!("test {}", test.name);
            if !names.insert(&test.name) {
                self.error(&place, "another test has the same name");
            }
            if test.min.zip(test.max).is_some_and(|(low, high)| low > high) {
                self.error(&place, "min is above max");
            }
            let limited = test.min.is_some() || test.max.is_some() || test.equals.is_some();
            let needs_limit = !test.what.leaves_loader();
            if needs_limit && !limited {
                self.error(&place, "without min, max or equals nothing would ever fail");
            }
            if let Measure::RegionMd5 { address, size } = &test.what
                && (number(address).is_none() || number(size).is_none())
            {
                self.error(&place, "address and size must be numbers");
            }
        }
        if self.recipe.tests.is_empty() {
            self.warn("tests", "there is no test: a unit passes when what was written reads back right");
        }
    }

    fn mes(&mut self) {
        let Some(mes) = &self.recipe.mes else { return };
        if mes.check.is_none() && mes.report.is_none() {
            self.warn("mes", "neither check nor report is named: nothing is asked and nothing reported");
        }
        for path in mes.check.iter().chain(&mes.report) {
            if path.contains("://") || path.split('/').any(|part| part == "..") {
                self.error("mes", format!("{path:?} is not a path below the setting mes_url, such as \"units/check\""));
            }
        }
    }

    fn rest(&mut self) {
        let plan = self.recipe.efuse.as_ref();
        if let Some(plan) = plan.filter(|plan| !matches!(plan.profile.as_str(), "development" | "production")) {
            self.error("efuse", format!("the profile {:?} is neither development nor production", plan.profile));
        }
        if plan.is_some() {
            self.warn("efuse", "eFuses are burned permanently; on real units only where the policy names this recipe");
        }
        if self.recipe.label.is_some() && self.recipe.identity.is_empty() {
            self.warn("label", "no identity is issued: all labels of one chip differ by its MAC only");
        }
        for file in self.recipe.unit_files(self.context.rows.as_ref()).open {
            let text = "its name depends on a value that production issues: no lock covers it";
            self.warn(format!("file {file}"), text);
        }
        for file in self.recipe.files() {
            if !self.context.sizes.contains_key(file) {
                self.error(format!("file {file}"), "it cannot be read");
            }
        }
    }
}
