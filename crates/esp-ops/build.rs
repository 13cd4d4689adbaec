//! Makes the codes of errors from `hints.toml`.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;

const CLASSES: [&str; 7] = ["usage", "input", "line", "device", "policy", "cancelled", "internal"];

fn main() {
    println!("cargo::rerun-if-changed=hints.toml");
    let text = std::fs::read_to_string("hints.toml").expect("hints.toml");
    let hints: toml::Table = text.parse().unwrap_or_else(|error| panic!("hints.toml: {error}"));
    let (mut variants, mut all, mut names, mut classes) = (String::new(), String::new(), String::new(), String::new());
    for (code, hint) in &hints {
        let field = |name: &str| hint.get(name).and_then(toml::Value::as_str);
        let class = field("class").unwrap_or_else(|| panic!("hints.toml: [{code}] has no class, one of {CLASSES:?}"));
        assert!(CLASSES.contains(&class), "hints.toml: [{code}]: class {class} is not one of {CLASSES:?}");
        let (name, class) = (camel(code), camel(class));
        let about = field("about").unwrap_or_default();
        let _ = write!(variants, "/// {about}\n{name},\n");
        let _ = write!(all, "Self::{name}, ");
        let _ = writeln!(names, "Self::{name} => {code:?},");
        let _ = writeln!(classes, "Self::{name} => Class::{class},");
    }
    let out = format!(
        "/// What happened, for programs.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]\n\
         pub enum Code {{\n{variants}}}\n\
         impl Code {{\n\
         /// Every code.\n\
         pub const ALL: [Self; {count}] = [{all}];\n\
         /// The code as it is written.\n\
         pub const fn as_str(self) -> &'static str {{ match self {{\n{names}}} }}\n\
         /// What it asks of the program.\n\
         pub const fn class(self) -> Class {{ match self {{\n{classes}}} }}\n\
         }}\n",
        count = hints.len(),
    );
    let path = Path::new(&std::env::var_os("OUT_DIR").expect("OUT_DIR")).join("codes.rs");
    std::fs::write(path, out).expect("codes.rs");
}

/// `no_port` as `NoPort`.
fn camel(name: &str) -> String {
    name.split('_')
        .map(|word| {
            word.chars()
                .next()
                .map_or(String::new(), |first| first.to_uppercase().chain(word.chars().skip(1)).collect())
        })
        .collect()
}
