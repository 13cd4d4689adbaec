use std::collections::BTreeSet;

use super::said::as_commands;
use super::*;

/// Each verb that calls a tool, with the words before it.
fn leaves() -> Vec<(String, &'static Verb)> {
    let mut found = Vec::new();
    for verb in &table().verb {
        match verb.verb.as_slice() {
            [] => found.push((verb.name.clone(), verb)),
            inner => found.extend(inner.iter().map(|inner| (format!("{} {}", verb.name, inner.name), inner))),
        }
    }
    found
}

/// A line as a shell splits it.
fn typed(line: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("line");
    std::fs::write(&file, line).unwrap();
    esp_faces::words_of_file(&file.display().to_string()).unwrap()
}

#[test]
fn the_table_names_only_tools_and_parameters_that_exist() {
    assert!(toml::from_str::<table::Table>(include_str!("verbs.toml")).is_ok(), "verbs.toml does not parse");
    let mut known = BTreeSet::new();
    for (path, verb) in leaves() {
        let entry = verb.entry().unwrap_or_else(|| panic!("{path}: no such tool"));
        let schema = entry.input_schema();
        let all = schema["properties"].as_object().unwrap();
        known.extend(all.keys().cloned());
        let in_forms =
            verb.forms.iter().flat_map(|form| form.split_whitespace()).map(|name| name.trim_end_matches("..."));
        let unless = verb.watch.iter().flat_map(|watch| &watch.unless).map(String::as_str);
        let names = in_forms.chain(unless).chain(verb.named_parameters());
        for name in names {
            assert!(all.contains_key(name), "{path}: {} has no parameter {name}", entry.name);
        }
        for form in &verb.forms {
            let hidden =
                form.split_whitespace().find(|name| !verb.parameters().contains_key(name.trim_end_matches("...")));
            assert_eq!(hidden, None, "{path}: a positional word is hidden");
        }
        let counts: Vec<usize> = verb
            .forms
            .iter()
            .filter(|form| !form.contains("..."))
            .map(|form| form.split_whitespace().count())
            .collect();
        assert_eq!(counts.iter().collect::<BTreeSet<_>>().len(), counts.len(), "{path}: two forms of the same length");
        if let Some(tool) = verb.watch.as_ref().and_then(|watch| watch.tool.as_deref()) {
            assert!(tools::find(tool).is_some(), "{path}: {tool}");
        }
    }
    let beside = table().environment_beside.iter().flat_map(|(name, other)| [name, other]);
    let general = table().short.keys().chain(table().also.keys()).chain(table().environment.keys()).chain(beside);
    let settings = table().esptool_cfg.keys().chain(table().esptool_cfg_attempts.keys());
    for name in general.chain(table().pairs.keys()).chain(settings) {
        assert!(known.contains(name), "no verb has a parameter {name}");
    }
}

#[test]
fn every_default_and_command_of_the_help_exists() {
    let mut program = crate::cli::command();
    program.build();
    let grouped: Vec<&String> = table().group.iter().flat_map(|group| &group.commands).collect();
    for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
        let count = grouped.iter().filter(|name| *name == &command.get_name()).count();
        assert_eq!(count, 1, "{} is in {count} groups of verbs.toml", command.get_name());
    }
    for name in grouped {
        assert!(program.find_subcommand(name).is_some(), "verbs.toml groups {name}, which is no command");
    }
    for verb in &table().verb {
        assert!(verb.own().is_some(), "{}: its default is missing", verb.name);
    }
}

#[test]
fn every_example_of_a_verb_is_a_call_that_fits_its_tool() {
    let mut program = crate::cli::command();
    program.build();
    let none = |_: &str| None;
    let around = Surroundings { variable: &none, esptool_cfg: &none };
    for (path, verb) in leaves() {
        for example in &verb.examples {
            // A file of arguments need not be there.
            let text = example.replace("@flash_args", "0x0 a.bin");
            let line = typed(&format!("mcp-esptool {text}"));
            let line = arranged(&program, line.into_iter().map(Into::into)).unwrap();
            let matches =
                program.clone().try_get_matches_from(line).unwrap_or_else(|error| panic!("{example}: {error}"));
            let (name, inner) = matches.subcommand().unwrap();
            let read = read(name, inner, &around).unwrap_or_else(|error| panic!("{example}: {error}"));
            assert!(path.starts_with(name), "{example} is an example of {path}");
            let fits = crate::tool::schema::check(read.input.clone().into(), read.entry.input_schema());
            assert!(fits.is_ok(), "{example}: {}", fits.unwrap_err());
        }
    }
}

#[test]
fn variables_of_esptool_set_what_the_line_does_not() {
    let mut program = crate::cli::command();
    program.build();
    let input = |line: &str, variables: &[(&str, &str)]| {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_string());
        let around = Surroundings { variable: &variable, esptool_cfg: &|_| None };
        let line = arranged(&program, typed(&format!("mcp-esptool {line}")).into_iter().map(Into::into)).unwrap();
        let matches = program.clone().try_get_matches_from(line).unwrap();
        let (name, inner) = matches.subcommand().unwrap();
        read(name, inner, &around).unwrap().input
    };
    let flash = [("ESPTOOL_FM", "dio"), ("ESPTOOL_FF", "40m"), ("ESPTOOL_FS", "detect"), ("ESPTOOL_CHIP", "esp32c3")];
    let found = input("flash 0x0 a.bin", &flash);
    assert_eq!(
        (&found["flash_mode"], &found["flash_freq"], &found["flash_size"]),
        (&"dio".into(), &"40m".into(), &"detect".into())
    );
    assert_eq!(input("flash 0x0 a.bin --flash-mode qio", &flash)["flash_mode"], "qio");
    assert_eq!(input("decode log a.txt", &flash)["chip"], "esp32c3");
    assert!(!input("decode log a.txt", &[("ESPTOOL_CHIP", "auto")]).contains_key("chip"));
    assert!(!input("flash 0x0 a.bin", &[("ESPTOOL_FS", "keep")]).contains_key("flash_size"));
    // The size of a virtual flash, and of one that cannot be asked, is not that of an image's header.
    assert!(!input("virtual start esp32", &flash).contains_key("flash_size"));
    assert!(!input("erase nvs", &flash).contains_key("flash_size"));
}

#[test]
fn next_steps_become_commands_that_a_shell_takes() {
    let info = find("info");
    for (step, verb, said) in [
        ("list the ports with esp_scan_ports", None, "list the ports with `mcp-esptool ports`"),
        ("(esp_docs name=esp://docs/safety)", None, "(`mcp-esptool resource esp://docs/safety`)"),
        (
            "esp_idf_build, esp_arduino_build.",
            None,
            "`mcp-esptool call esp_idf_build`, `mcp-esptool call esp_arduino_build`.",
        ),
        (
            "write `esp_flash_read region=nvs output_file=a.bin`.",
            None,
            "write `mcp-esptool read --region nvs -o a.bin`.",
        ),
        (
            "esp_flash_firmware files=[{\"address\":\"0x10000\",\"path\":\"b.bin\"}]",
            None,
            "`mcp-esptool write --files '[{\"address\":\"0x10000\",\"path\":\"b.bin\"}]'`",
        ),
        ("esp_console action=list names them", None, "`mcp-esptool console list` names them"),
        ("pass port=/dev/ttyS0 if it is there", info, "pass -p /dev/ttyS0 if it is there"),
        ("call again with before=no-reset.", info, "call again with --before no-reset."),
        ("set idf_path=… (IDF_PATH)", info, "set idf_path=… (IDF_PATH)"),
        ("esp_nothing is no tool", None, "esp_nothing is no tool"),
    ] {
        assert_eq!(as_commands(step, verb), said);
    }
    assert_eq!(next_lines("done\nnext: esp_scan_ports"), "done\nnext: `mcp-esptool ports`");
}

/// Each hint of the catalogue names commands that the program's own parser knows.
#[test]
fn every_hint_becomes_commands_that_exist() {
    let program = crate::cli::command();
    let mut seen = 0;
    for hint in esp_ops::error::hints().values() {
        let said = as_commands(hint.terminal.as_deref().unwrap_or(&hint.next), None);
        assert!(!said.contains("``"), "{said}");
        for command in said.split('`').filter(|part| part.starts_with("mcp-esptool ")) {
            let name = command.split(' ').nth(1).unwrap();
            assert!(program.find_subcommand(name).is_some(), "{command}");
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn attempts_in_the_settings_file_become_seconds_of_waiting() {
    let mut program = crate::cli::command();
    program.build();
    let input = |line: &str, attempts: &str| {
        let setting = |key: &str| (key == "open_port_attempts").then(|| attempts.to_string());
        let around = Surroundings { variable: &|_| None, esptool_cfg: &setting };
        let line = arranged(&program, typed(&format!("mcp-esptool {line}")).into_iter().map(Into::into)).unwrap();
        let matches = program.clone().try_get_matches_from(line).unwrap();
        let (name, inner) = matches.subcommand().unwrap();
        read(name, inner, &around).unwrap().input
    };
    assert_eq!(input("info", "50")["wait_s"], 5.0);
    assert_eq!(input("info", "0")["wait_s"], 600.0);
    assert_eq!(input("info --wait-s 2", "50")["wait_s"], "2");
    assert!(!input("info", "1").contains_key("wait_s"));
    assert!(!input("info", "many").contains_key("wait_s"));
    assert!(!input("size a.elf", "50").contains_key("wait_s"));
}
