//! Texts with holes: `SN:{serial}`, `{base_mac.hex}`, `{csv.gain}`.

use std::collections::BTreeMap;

/// Values by name.
pub type Values = BTreeMap<String, String>;

/// A text with holes. `{{` and `}}` stand for braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Hole(String),
}

/// A template that cannot be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its partner.
    #[error("a brace in {0:?} has no partner")]
    Brace(String),
    /// Nothing is called so.
    #[error("nothing is called {{{name}}} (known: {known})")]
    Unknown {
        /// The name.
        name: String,
        /// What there is.
        known: String,
    },
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let bad = || TemplateError::Brace(text.to_owned());
        let (mut pieces, mut plain) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain += rest.get(..at).unwrap_or_default();
            let behind = rest.get(at + 1..).unwrap_or_default();
            let brace = rest.get(at..=at).unwrap_or_default();
            if behind.starts_with(brace) {
                plain += brace;
                rest = behind.get(1..).unwrap_or_default();
                continue;
            }
            let close = if brace == "{" { behind.find('}') } else { None };
            let close = close.ok_or_else(bad)?;
            let name = behind.get(..close).unwrap_or_default().trim().to_owned();
            if name.is_empty() || name.contains('{') {
                return Err(bad());
            }
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
            pieces.push(Piece::Hole(name));
            rest = behind.get(close + 1..).unwrap_or_default();
        }
        plain += rest;
        pieces.push(Piece::Text(plain));
        pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
        Ok(Self(pieces))
    }

    /// The text is different for different units.
    pub fn has_holes(text: &str) -> bool {
        Self::parse(text).is_ok_and(|template| template.holes().next().is_some())
    }

    /// The names that it needs.
    pub fn holes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Hole(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The text with every hole filled. `NAME.hex` is the value without separators, in lower case.
    pub fn fill(&self, values: &Values) -> Result<String, TemplateError> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out += text,
                Piece::Hole(name) => out += &value(name, values)?,
            }
        }
        Ok(out)
    }
}

/// Reads and fills a template.
pub(super) fn fill(text: &str, values: &Values) -> Result<String, TemplateError> {
    Template::parse(text)?.fill(values)
}

fn value(name: &str, values: &Values) -> Result<String, TemplateError> {
    if let Some(value) = values.get(name) {
        return Ok(value.clone());
    }
    if let Some(value) = name.strip_suffix(".hex").and_then(|name| values.get(name)) {
        return Ok(value.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>().to_ascii_lowercase());
    }
    let known = values.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    Err(TemplateError::Unknown { name: name.to_owned(), known })
}

impl super::Recipe {
    /// Names that templates may use, apart from `csv.COLUMN`.
    pub fn names(&self) -> Vec<String> {
        let fixed = ["base_mac", "chip", "recipe", "version"].map(str::to_owned);
        fixed.into_iter().chain(self.identity.keys().cloned()).collect()
    }

    /// What templates are filled with: the unit's base MAC, its identities, its row of the CSV file.
    pub fn values(
        &self,
        base_mac: &str,
        identities: &BTreeMap<String, String>,
        row: Option<&BTreeMap<String, String>>,
    ) -> Values {
        let mut values = Values::new();
        values.insert("base_mac".into(), base_mac.into());
        values.insert("chip".into(), self.chip.kind.clone());
        values.insert("recipe".into(), self.recipe.name.clone());
        values.insert("version".into(), self.recipe.version.clone());
        values.extend(identities.iter().map(|(name, value)| (name.clone(), value.clone())));
        values.extend(row.into_iter().flatten().map(|(column, value)| (format!("csv.{column}"), value.clone())));
        values
    }

    /// Fills a template.
    pub fn fill(&self, text: &str, values: &Values) -> Result<String, TemplateError> {
        fill(text, values)
    }
}
