//! Everything that keeps a text from being a recipe, at once and in the format's own words.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::{
    About, ChipWanted, EfusePlan, Encryption, FromPool, ImageAt, Label, Mes, NvsData, PartitionData, Recipe,
    RecipeError, SecureCert, TableFile, Test, Units, lock,
};

/// Sections with what their entries look like.
const SECTIONS: [(&str, &str); 15] = [
    ("recipe", "[recipe] with name, version"),
    ("chip", "[chip] with type, min_revision, max_revision, min_flash"),
    ("image", "[[image]] with file, address"),
    ("table", "[table] with file"),
    ("data", "[[data]] with partition, file"),
    ("identity", "[identity] with NAME = { pool = \"POOL\" }"),
    ("units", "[units] with file, key"),
    ("nvs", "[[nvs]] with partition, and [nvs.values.NAMESPACE] with key = value"),
    ("secure_cert", "[secure_cert] with device_cert, ca_cert, private_key, partition"),
    ("encryption", "[encryption] with key_file"),
    ("efuse", "[efuse] with profile, and [[efuse.burn]]"),
    ("test", "[[test]] with name, kind, min, max, equals, optional and what its kind needs"),
    ("label", "[label] with payload"),
    ("mes", "[mes] with check, report: paths below the setting mes_url"),
    ("lock", "[lock], made by locking the recipe"),
];

/// All mistakes of the text's form; empty when it reads as a recipe. What the values mean is judged by [`super::lint`].
pub fn problems(text: &str) -> Vec<RecipeError> {
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return vec![RecipeError(format!("not TOML: {}", error.to_string().trim()))],
    };
    let mut found = Found { table: &table, problems: Vec::new() };
    for name in table.keys().filter(|name| SECTIONS.iter().all(|(known, _)| known != name)) {
        let known = SECTIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        found.problems.push(RecipeError(format!("there is no section `{name}` (sections: {known})")));
    }
    for needed in ["recipe", "chip"].into_iter().filter(|name| !table.contains_key(*name)) {
        found.problems.push(RecipeError(format!("the section `{needed}` is missing: {}", form(needed))));
    }
    found.one::<About>("recipe");
    found.one::<ChipWanted>("chip");
    found.each::<ImageAt>("image");
    found.one::<TableFile>("table");
    found.each::<PartitionData>("data");
    found.named::<FromPool>("identity");
    found.one::<Units>("units");
    found.each::<NvsData>("nvs");
    found.one::<SecureCert>("secure_cert");
    found.one::<Encryption>("encryption");
    found.one::<EfusePlan>("efuse");
    found.each::<Test>("test");
    found.one::<Label>("label");
    found.one::<Mes>("mes");
    found.one::<lock::Lock>("lock");
    // Whatever the sections did not show.
    if found.problems.is_empty()
        && let Err(error) = Recipe::parse(text)
    {
        found.problems.push(error);
    }
    found.problems
}

struct Found<'t> {
    table: &'t Table,
    problems: Vec<RecipeError>,
}

impl Found<'_> {
    fn read<T: DeserializeOwned>(&mut self, section: &str, place: &str, value: &Value) {
        if let Err(error) = value.clone().try_into::<T>() {
            let error = error.to_string();
            let first = error.lines().next().unwrap_or_default();
            // A name of our own code tells a reader nothing.
            let told = if first.contains("expected struct") { "not of this form" } else { first };
            self.problems.push(RecipeError(format!("{place}: {told} ({})", form(section))));
        }
    }

    fn one<T: DeserializeOwned>(&mut self, section: &str) {
        if let Some(value) = self.table.get(section) {
            self.read::<T>(section, section, value);
        }
    }

    fn each<T: DeserializeOwned>(&mut self, section: &str) {
        match self.table.get(section) {
            None => {}
            Some(Value::Array(all)) => {
                for (number, value) in all.iter().enumerate() {
                    let name =
                        value.get("name").or(value.get("file")).or(value.get("partition")).and_then(Value::as_str);
                    let name =
                        name.map_or_else(|| format!("{section} {}", number + 1), |name| format!("{section} {name}"));
                    self.read::<T>(section, &name, value);
                }
            }
            Some(_) => {
                self.problems
                    .push(RecipeError(format!("{section}: write [[{section}]], one for each ({})", form(section))));
            }
        }
    }

    fn named<T: DeserializeOwned>(&mut self, section: &str) {
        let Some(value) = self.table.get(section) else { return };
        let Some(all) = value.as_table() else {
            self.problems.push(RecipeError(format!("{section}: not a table ({})", form(section))));
            return;
        };
        for (name, value) in all {
            self.read::<T>(section, &format!("{section} {name}"), value);
        }
    }
}

fn form(section: &str) -> &'static str {
    SECTIONS.iter().find(|(name, _)| *name == section).map_or("", |(_, form)| form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_told_at_once_without_names_of_our_code() {
        let text = "[recipe]\nnam = \"x\"\n\n[[image]]\nfile = \"a.bin\"\n\n[identity]\nserial = \"serials\"\n\n\
                    [[test]]\nname = \"t\"\nkind = \"magic\"\n\n[labels]\npayload = \"x\"\n\n[data]\npartition = \"x\"\n";
        let found: Vec<String> = problems(text).into_iter().map(|problem| problem.0).collect();
        let told = |part: &str| assert!(found.iter().any(|line| line.contains(part)), "{part} in {found:#?}");
        told("no section `labels`");
        told("the section `chip` is missing");
        told("recipe: unknown field `nam`");
        told("image a.bin: missing field `address`");
        told("identity serial: not of this form ([identity] with NAME = { pool = \"POOL\" })");
        told("test t: unknown variant `magic`");
        told("data: write [[data]]");
        assert!(found.iter().all(|line| !line.contains("struct") && !line.contains("FromPool")), "{found:#?}");
    }

    #[test]
    fn a_recipe_has_none_and_a_bad_text_has_one() {
        assert_eq!(problems(&super::super::example("esp32c3", "x", &[("a.bin".into(), 0)], None)), []);
        assert_eq!(problems(super::super::ANNOTATED), []);
        assert!(problems("[recipe\n").iter().all(|problem| problem.0.starts_with("not TOML")));
    }
}
