//! Brings a line that begins with a verb into the order that the parser takes: `-p PORT read …` and `nvs -p PORT get …`
//! as `esptool` allows them, and files of arguments (`@flash_args`).

use std::ffi::OsString;

use clap::Command;

use super::table::{Verb, find, table};

/// The line in the parser's order. `program` knows the options before the verb.
pub fn arranged(program: &Command, line: impl Iterator<Item = OsString>) -> Result<Vec<OsString>, String> {
    let line: Vec<OsString> = line.collect();
    let Some((place, hoisted)) = verb_place(program, &line) else { return Ok(line) };
    let name = line[place].to_string_lossy().into_owned();
    let Some(verb) = find(&name) else { return Ok(line) };
    let (front, rest) = (&line[..place], &line[place + 1..]);
    let mut sorted: Vec<OsString> =
        front.iter().enumerate().filter(|(at, _)| !hoisted.contains(at)).map(|(_, word)| word.clone()).collect();
    sorted.push(line[place].clone());
    let moved = hoisted.iter().map(|at| line[*at].clone());
    let tail: Vec<OsString> = moved.chain(rest.iter().cloned()).collect();
    let inner = inner_place(verb, &tail);
    if let Some(at) = inner {
        sorted.push(tail[at].clone());
    }
    for (_, word) in tail.into_iter().enumerate().filter(|(at, _)| Some(*at) != inner) {
        sorted.extend(expanded(verb, word)?);
    }
    Ok(sorted)
}

/// Where the verb stands, and the verbs' own options before it.
fn verb_place(program: &Command, line: &[OsString]) -> Option<(usize, Vec<usize>)> {
    let mut hoisted = Vec::new();
    let mut at = 1;
    while at < line.len() {
        let word = line[at].to_string_lossy();
        if !word.starts_with('-') {
            return find(&word).map(|_| (at, hoisted));
        }
        let own = takes_value(&word);
        let values = usize::from(own.unwrap_or_else(|| of_program(program, &word)));
        if own.is_some() {
            hoisted.extend(at..=at + values);
        }
        at += 1 + values;
    }
    None
}

/// The verb below a verb, where only options of every verb stand before it.
fn inner_place(verb: &Verb, tail: &[OsString]) -> Option<usize> {
    let mut at = 0;
    while let Some(word) = tail.get(at) {
        let word = word.to_string_lossy();
        match takes_value(&word) {
            Some(value) => at += 1 + usize::from(value),
            None => return verb.below(&word).map(|_| at),
        }
    }
    None
}

/// An option that every verb with a device has; the next word is its value.
fn takes_value(word: &str) -> Option<bool> {
    match word {
        "-v" | "-vv" | "-q" | "--json" | "--verbose" | "--quiet" => return Some(false),
        _ => {}
    }
    let long = |name: &str| word.strip_prefix("--").and_then(|rest| rest.strip_prefix(name));
    let short = |name: &str| {
        let letter = table().short.get(name)?;
        word.strip_prefix('-')?.strip_prefix(*letter)
    };
    // Those of `environment` that have a letter: port and rate.
    let names = table().environment.keys().filter(|name| table().short.contains_key(*name));
    let rest = names.map(String::as_str).find_map(|name| long(name).or_else(|| short(name)))?;
    match rest {
        "" => Some(true),
        _ if rest.starts_with('=') || !word.starts_with("--") => Some(false),
        _ => None,
    }
}

/// An option of the program whose value is the next word.
fn of_program(program: &Command, word: &str) -> bool {
    let known =
        program.get_arguments().find(|arg| word.strip_prefix("--").is_some_and(|name| arg.get_long() == Some(name)));
    known.is_some_and(|arg| arg.get_action().takes_values())
}

/// The words of a file of arguments, for verbs that take lists of files.
fn expanded(verb: &Verb, word: OsString) -> Result<Vec<OsString>, String> {
    let lists = |verb: &Verb| {
        let mut names = verb.forms.iter().flat_map(|form| form.split_whitespace());
        names.any(|name| name.strip_suffix("...").is_some_and(|name| table().pairs.contains_key(name)))
    };
    let text = word.to_string_lossy();
    match text.strip_prefix('@').filter(|_| lists(verb) || verb.verb.iter().any(lists)) {
        Some(path) if !path.is_empty() => {
            let words = esp_faces::words_of_file(path).map_err(|error| format!("@{path}: {error}"))?;
            Ok(words.into_iter().map(OsString::from).collect())
        }
        _ => Ok(vec![word]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrange(line: &str) -> String {
        let program = Command::new("mcp-esptool").arg(clap::Arg::new("root").long("root"));
        let words = line.split(' ').map(OsString::from);
        let sorted = arranged(&program, words).unwrap();
        sorted.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn options_before_a_verb_go_behind_it() {
        for (line, sorted) in [
            ("x -p P --root D read nvs a", "x --root D read -p P nvs a"),
            ("x --port=P -b115200 read nvs a", "x read --port=P -b115200 nvs a"),
            ("x nvs -p P get wifi ssid", "x nvs get -p P wifi ssid"),
            ("x -p P nvs get wifi ssid", "x nvs get -p P wifi ssid"),
            ("x --json efuse burn A 1", "x efuse burn --json A 1"),
            ("x nvs --partition list", "x nvs --partition list"),
            ("x call flash -p", "x call flash -p"),
            ("x --root read", "x --root read"),
        ] {
            assert_eq!(arrange(line), sorted, "{line}");
        }
    }

    #[test]
    fn files_of_arguments_are_expanded_where_files_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("flash_args");
        std::fs::write(&file, "--flash_mode dio 0x0 'a b.bin'\n0x8000 t.bin # table\n").unwrap();
        let line = format!("x write @{}", file.display());
        assert_eq!(arrange(&line), "x write --flash_mode dio 0x0 a b.bin 0x8000 t.bin");
        assert_eq!(arrange("x nvs set wifi ssid @home"), "x nvs set wifi ssid @home");
        assert!(arranged(&Command::new("x"), ["x", "write", "@none"].map(OsString::from).into_iter()).is_err());
    }
}
