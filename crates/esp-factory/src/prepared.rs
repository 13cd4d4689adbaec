//! A recipe with its files, read once for a whole batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::recipe::{Context, Finding, Recipe, Severity, UnitFiles, lint, lock, number, units::Rows};
use esp_model::chip::{self, Chip};
use esp_model::partition::{DEFAULT_TABLE_OFFSET, Options, Table, recognise};
use zeroize::Zeroizing;

use crate::Station;
use esp_ops::error::{Code, ToolError};
use esp_ops::files::pinned::{Pin, Pins};
use esp_ops::flash::belongs;
use esp_ops::flash::files::{self, Piece};
use esp_ops::words::counted;

/// A recipe that is ready to be followed.
pub struct Prepared {
    /// The recipe.
    pub recipe: Recipe,
    /// Its text.
    pub text: String,
    /// SHA-256 of the text, which names it.
    pub hash: String,
    /// It has a lock, and the lock holds.
    pub is_locked: bool,
    /// Where its files are, with a final slash.
    pub folder: String,
    /// The chip.
    pub chip: &'static Chip,
    /// Images with their addresses.
    pub images: Vec<Placed>,
    /// Files for partitions by name.
    pub data: Vec<(String, Arc<Vec<u8>>, String)>,
    /// The partition table, where the recipe brings one.
    pub table: Option<Table>,
    /// Values by unit.
    pub rows: Option<Rows>,
    /// SHA-256 and size of every file.
    pub artefacts: BTreeMap<String, (String, u64)>,
    /// SHA-256 of each unit's own files (certificates, keys), as far as the rows by unit name them.
    pub unit_files: BTreeMap<String, String>,
    /// What its files hold, by the name they are read by: what was compared with the lock is what is used.
    pub pins: Arc<Pins>,
    /// What the linter says.
    pub findings: Vec<Finding>,
}

/// Bytes with their place, shared by all units.
#[derive(Clone)]
pub struct Placed {
    /// The file or partition.
    pub name: String,
    /// Flash address.
    pub address: u32,
    /// The bytes.
    pub bytes: Arc<Vec<u8>>,
}

impl Placed {
    /// For the checks that all writes go through.
    pub fn piece(&self) -> Piece {
        Piece::new(&self.name, self.address, self.bytes.as_ref().clone())
    }
}

impl Prepared {
    /// Reads the recipe and its files. Errors of the linter are findings, not errors, so that all of them can be shown.
    pub fn load(station: &Station, path: &str) -> Result<Self, ToolError> {
        let text = station.call.files.read_text(path)?;
        let folder = path.rfind(['/', '\\']).map_or("", |at| path.get(..=at).unwrap_or_default()).to_owned();
        Self::of(station, text, folder)
    }

    /// The same for a text whose files are below `folder`.
    pub fn of(station: &Station, text: String, folder: String) -> Result<Self, ToolError> {
        let recipe = Recipe::parse(&text).map_err(|error| ToolError::new(Code::RecipeInvalid, error.to_string()))?;
        let mut bytes: BTreeMap<String, Arc<Vec<u8>>> = BTreeMap::new();
        for file in recipe.files() {
            if let Ok(read) = station.call.files.read_some(&below(&folder, file)) {
                bytes.insert(file.to_owned(), Arc::new(read));
            }
        }
        let artefacts: BTreeMap<_, _> =
            bytes.iter().map(|(file, bytes)| (file.clone(), (lock::sha256(bytes), bytes.len() as u64))).collect();
        let rows = rows(&recipe, &bytes);
        let listed = recipe.unit_files(rows.as_ref().ok().and_then(Option::as_ref)).listed;
        let unit_files = hashes_of(station, &folder, &listed);
        if let Some(lock) = &recipe.lock {
            let changed = lock.differences(&text, &hashes(&artefacts, &unit_files));
            if !changed.is_empty() {
                let text = format!("the recipe {:?} is not what it was locked to", recipe.recipe.name);
                return Err(ToolError::new(Code::RecipeChanged, text).seen("changed", changed.join(", ")));
            }
        }
        let mut pins: Pins =
            bytes.iter().map(|(file, bytes)| (below(&folder, file), Pin::Bytes(bytes.clone()))).collect();
        if recipe.lock.is_some() {
            let pin = |file: &String| unit_files.get(file).map_or(Pin::Uncovered, |hash| Pin::Sha256(hash.clone()));
            pins.extend(listed.iter().map(|file| (below(&folder, file), pin(file))));
        }
        let table = table(&recipe, &bytes)?;
        let rows = rows?;
        let sizes = bytes.iter().map(|(file, bytes)| (file.clone(), bytes.len() as u64)).collect();
        let context = Context { sizes, table, rows };
        let findings = lint(&recipe, &context);
        let chip = chip::by_name(&recipe.chip.kind);
        let chip =
            chip.ok_or_else(|| ToolError::new(Code::UnknownChip, format!("there is no chip `{}`", recipe.chip.kind)))?;
        let images = images(&recipe, &bytes, &findings, context.table.as_ref())?;
        let data = recipe
            .data
            .iter()
            .filter_map(|data| Some((data.partition.clone(), bytes.get(&data.file)?.clone(), data.file.clone())));
        Ok(Self {
            data: data.collect(),
            hash: lock::sha256(text.as_bytes()),
            is_locked: recipe.lock.is_some(),
            table: context.table,
            rows: context.rows,
            recipe,
            text,
            folder,
            chip,
            images,
            artefacts,
            unit_files,
            pins: Arc::new(pins),
            findings,
        })
    }

    /// Fails when the linter found an error.
    pub fn checked(self) -> Result<Self, ToolError> {
        let errors: Vec<String> = self.errors().map(|finding| format!("{}: {}", finding.place, finding.text)).collect();
        if errors.is_empty() {
            return Ok(self);
        }
        let text = format!("the recipe {:?} has {}", self.recipe.recipe.name, counted(errors.len(), "error"));
        Err(ToolError::new(Code::RecipeInvalid, text).seen("errors", errors.join("; ")))
    }

    /// What makes it unusable.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error)
    }

    /// Units' files that a lock cannot cover: they are not there yet, or production issues what names them.
    pub fn uncovered(&self) -> Vec<String> {
        let UnitFiles { listed, open } = self.recipe.unit_files(self.rows.as_ref());
        listed.into_iter().filter(|file| !self.unit_files.contains_key(file)).chain(open).collect()
    }

    /// The recipe's text with a lock at its end.
    pub fn locked_text(&self) -> String {
        lock::locked(&self.text, &hashes(&self.artefacts, &self.unit_files))
    }
}

/// Hashes of all files that a lock covers.
fn hashes(
    artefacts: &BTreeMap<String, (String, u64)>,
    unit_files: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let named = artefacts.iter().map(|(file, (hash, _))| (file.clone(), hash.clone()));
    named.chain(unit_files.iter().map(|(file, hash)| (file.clone(), hash.clone()))).collect()
}

/// Hashes of the units' own files that are there. Their bytes are not kept: there may be thousands of private keys.
fn hashes_of(station: &Station, folder: &str, files: &BTreeSet<String>) -> BTreeMap<String, String> {
    let hash = |file: &String| {
        let bytes = Zeroizing::new(station.call.files.read_some(&below(folder, file)).ok()?);
        Some((file.clone(), lock::sha256(&bytes)))
    };
    files.iter().filter_map(hash).collect()
}

/// A file of a recipe: absolute, or below the recipe's folder.
pub fn below(folder: &str, file: &str) -> String {
    if std::path::Path::new(file).is_absolute() { file.to_owned() } else { format!("{folder}{file}") }
}

/// The table from its own file, or from an image at the usual place.
fn table(recipe: &Recipe, bytes: &BTreeMap<String, Arc<Vec<u8>>>) -> Result<Option<Table>, ToolError> {
    if let Some(bytes) = recipe.table.as_ref().and_then(|table| bytes.get(&table.file)) {
        return Ok(Some(Table::read(bytes, &Options::default())?));
    }
    let at_usual = recipe.images.iter().find(|image| number(&image.address) == Some(DEFAULT_TABLE_OFFSET.into()));
    let found = at_usual.and_then(|image| bytes.get(&image.file));
    let is_table = |bytes: &&Arc<Vec<u8>>| matches!(recognise(bytes), esp_model::partition::Recognised::Table { .. });
    found.filter(is_table).map(|bytes| Ok(Table::read(bytes, &Options::default())?)).transpose()
}

fn rows(recipe: &Recipe, bytes: &BTreeMap<String, Arc<Vec<u8>>>) -> Result<Option<Rows>, ToolError> {
    let Some((units, bytes)) = recipe.units.as_ref().and_then(|units| Some((units, bytes.get(&units.file)?))) else {
        return Ok(None);
    };
    let bad = |error: String| ToolError::new(Code::RecipeInvalid, format!("`{}`: {error}", units.file));
    let text = std::str::from_utf8(bytes).map_err(|error| bad(error.to_string()))?;
    Rows::parse(text).map(Some).map_err(|error| bad(error.to_string()))
}

/// Images through the same reader as all files that are flashed: HEX and UF2 bring their own addresses. Made of the
/// bytes whose hashes were compared with the lock: a file that is exchanged meanwhile changes nothing.
fn images(
    recipe: &Recipe,
    bytes: &BTreeMap<String, Arc<Vec<u8>>>,
    findings: &[Finding],
    table: Option<&Table>,
) -> Result<Vec<Placed>, ToolError> {
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return Ok(Vec::new());
    }
    let mut pieces = Vec::new();
    for image in &recipe.images {
        let (Some(address), Some(bytes)) = (number(&image.address), bytes.get(&image.file)) else { continue };
        let base = u32::try_from(address).map_err(|_| files::too_far(&image.file, address))?;
        pieces.extend(files::split(Piece::new(&image.file, base, bytes.as_ref().clone()))?);
    }
    files::no_overlap(&mut pieces)?;
    belongs::refuse_programs(&pieces)?;
    if let Some(chip) = chip::by_name(&recipe.chip.kind) {
        belongs::check(&pieces, chip, table)?;
    }
    let placed = |piece: Piece| {
        Ok(Placed { name: piece.path.clone(), address: piece.address, bytes: Arc::new(piece.bytes()?.into_owned()) })
    };
    pieces.into_iter().map(placed).collect()
}
