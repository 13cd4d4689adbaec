//! What is in `packaging/`, the manual, the completion scripts and the udev rules: as far as they can be looked at here.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use esp_ops::config::KEYS;
use regex::Regex;
use serde_json::Value;

#[cfg(unix)]
#[path = "packaging/ci.rs"]
mod ci;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

fn json(name: &str) -> Value {
    serde_json::from_str(&read(name)).unwrap()
}

fn program(args: &[&str]) -> String {
    program_in(tempfile::tempdir().unwrap().path(), args)
}

fn program_in(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    let output = command.args(args).current_dir(dir).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `shell -c script`; `None` where there is no such shell.
fn shell(name: &str, script: &str) -> Option<String> {
    let output = Command::new(name).args(["-c", script]).stdin(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn all_manifests_name_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    for file in ["server.json", "packaging/manifest.json", "gemini-extension.json", ".claude-plugin/plugin.json"] {
        assert_eq!(json(file)["version"], version, "{file}");
    }
    let server = json("server.json");
    for package in server["packages"].as_array().unwrap() {
        let named = package["version"].as_str().map_or_else(
            || package["identifier"].as_str().unwrap().rsplit(':').next().unwrap().to_owned(),
            str::to_owned,
        );
        assert_eq!(named, version, "{package}");
    }
    // The registry's limit.
    assert!(server["description"].as_str().unwrap().len() <= 100);
    // The registry looks for the name in the image, the npm package and, for PyPI, the README.
    let name = server["name"].as_str().unwrap();
    assert!(read("packaging/Dockerfile").contains(&format!("io.modelcontextprotocol.server.name=\"{name}\"")));
    assert_eq!(json("packaging/npm/package.json")["mcpName"], name);
    assert!(read("README.md").contains(&format!("mcp-name: {name}")));
}

/// The names of our crates' folders.
fn crates() -> Vec<String> {
    let folders = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap());
    folders
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

#[test]
fn crates_and_changelog_name_the_workspace_version() {
    let version = env!("CARGO_PKG_VERSION");
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    for name in crates() {
        let own: toml::Table = toml::from_str(&read(&format!("crates/{name}/Cargo.toml"))).unwrap();
        let package = own["package"].as_table().unwrap();
        for key in ["version", "license", "repository", "readme", "keywords", "categories"] {
            assert!(package[key].get("workspace").is_some(), "{name}: {key}");
        }
        if let Some(dependency) = manifest["workspace"]["dependencies"].get(&name) {
            assert_eq!(dependency["version"].as_str(), Some(version), "{name}");
        }
    }
    assert!(manifest["workspace"]["package"]["keywords"].as_array().unwrap().len() <= 5);
    let heading = format!("## [{version}]");
    assert!(read("CHANGELOG.md").lines().any(|line| line.starts_with(&heading)), "{heading}");
}

/// Keep a Changelog: each version once, each kind of change once within it, nothing said twice.
#[test]
fn changelog_says_each_thing_once() {
    let text = read("CHANGELOG.md");
    let (mut versions, mut kinds, mut said) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            assert!(versions.insert(heading.split(']').next()), "a second {line}");
            kinds.clear();
        } else if let Some(kind) = line.strip_prefix("### ") {
            assert!(["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"].contains(&kind), "{line}");
            assert!(kinds.insert(kind), "a second {line} of one version");
        } else if line.starts_with("- ") {
            assert!(said.insert(line), "twice: {line}");
        }
    }
    assert!(versions.len() >= 2, "{versions:?}");
}

/// What a crate includes when it is compiled, or lists in its build script, has to be in its package.
#[test]
fn packages_hold_every_file_that_is_compiled_in() {
    let cargo = std::env::var_os("CARGO").unwrap();
    let include = Regex::new(r#"include_(?:str|bytes)!\(\s*"([^"]+)""#).unwrap();
    for name in crates() {
        let mut command = Command::new(&cargo);
        command.args(["package", "--list", "--allow-dirty", "--offline", "-p", &name]).current_dir(root());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let listed = String::from_utf8(output.stdout).unwrap().replace('\\', "/");
        let listed: Vec<&str> = listed.lines().collect();
        assert!(listed.contains(&"README.md") && !listed.iter().any(|file| file.starts_with("tests/")), "{name}");
        let folder = root().join("crates").join(&name).canonicalize().unwrap();
        let mut needed: Vec<PathBuf> = Vec::new();
        for source in listed.iter().filter(|file| file.ends_with(".rs")) {
            let text = fs::read_to_string(folder.join(source)).unwrap();
            let beside = folder.join(source).parent().unwrap().to_owned();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            needed.extend(include.captures_iter(code).filter_map(|found| beside.join(&found[1]).canonicalize().ok()));
        }
        // Build scripts read these folders.
        for data in ["chips", "console"] {
            for file in walk(&folder.join(data)) {
                needed.push(file);
            }
        }
        for file in needed {
            let inside = file.strip_prefix(&folder).unwrap_or_else(|_| panic!("{name} includes {}", file.display()));
            let path = inside.display().to_string().replace('\\', "/");
            assert!(listed.contains(&path.as_str()), "the package {name} lacks {path}");
        }
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// `cargo binstall` looks for the archive by the name that packaging gives it.
#[test]
fn binstall_finds_the_archives_of_a_release() {
    let own: toml::Table = toml::from_str(&read("crates/mcp-esptool/Cargo.toml")).unwrap();
    let binstall = &own["package"]["metadata"]["binstall"];
    let filled = |text: &str, target: &str| {
        let suffix = if target.contains("windows") { ".zip" } else { ".tar.gz" };
        let end = if target.contains("windows") { ".exe" } else { "" };
        let names = [("repo", "REPO"), ("version", "1.2.3"), ("name", "mcp-esptool"), ("bin", "mcp-esptool")];
        let more = [("target", target), ("archive-suffix", suffix), ("binary-ext", end)];
        names
            .iter()
            .chain(&more)
            .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{ {name} }}"), value))
    };
    for entry in json("packaging/targets.json").as_array().unwrap() {
        let target = entry["target"].as_str().unwrap();
        let url = filled(binstall["pkg-url"].as_str().unwrap(), target);
        let end = if target.contains("windows") { "zip" } else { "tar.gz" };
        assert_eq!(url, format!("REPO/releases/download/v1.2.3/mcp-esptool-{target}.{end}"));
        let program = filled(binstall["bin-dir"].as_str().unwrap(), target);
        assert!(program.starts_with(&format!("mcp-esptool-{target}/mcp-esptool")), "{program}");
        let format = binstall.get("overrides").and_then(|all| all.get(target)).and_then(|own| own["pkg-fmt"].as_str());
        assert_eq!(format.unwrap_or("tgz") == "zip", target.contains("windows"), "{target}");
    }
}

/// What people who choose a package have to know before they need it.
#[test]
fn static_builds_say_that_they_load_no_pkcs11_modules() {
    for file in ["docs/install.md", "docs/compatibility.md", "docs/faq.md"] {
        assert!(read(file).contains("PKCS#11"), "{file}");
    }
    assert!(read(".github/workflows/release.yml").contains("mcp-esptool-x86_64-unknown-linux-gnu.tar.gz"));
}

/// Runs a Python script of `packaging/`; `None` without Python.
fn python(args: &[&str], env: &[(&str, &str)]) -> Option<String> {
    let mut command = Command::new("python3");
    command.args(args).current_dir(root()).env("CARGO", env!("CARGO")).env("CARGO_NET_OFFLINE", "true");
    let output = command.envs(env.iter().copied()).stdin(Stdio::null()).output().ok()?;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// This build's program, without what only debuggers read, as the packages would hold it.
#[cfg(target_os = "linux")]
fn stripped(dir: &Path) -> String {
    let program = dir.join("mcp-esptool");
    fs::copy(env!("CARGO_BIN_EXE_mcp-esptool"), &program).unwrap();
    let _ = Command::new("strip").arg(&program).status();
    program.display().to_string()
}

/// The job `packages` does it with the release build, the wheel and the container image, too.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn packages_of_this_build_are_installed_and_start() {
    let dir = tempfile::tempdir().unwrap();
    let program = stripped(dir.path());
    let only = [("TRY_ONLY", "archive,mcpb,npm")];
    let Some(said) = python(&["packaging/try.py", "x86_64-unknown-linux-musl", &program], &only) else { return };
    for kind in ["archive", "mcpb", "npm"] {
        let passed = said.contains(&format!("{kind}: installed, demo and initialize passed"));
        let left = kind == "npm" && said.contains("npm: not tried, npm was not found");
        assert!(passed || left, "{said}");
    }
}

/// An image is made for each kind of processor, always the same, and holds what the Dockerfile's image does.
#[cfg(target_os = "linux")]
#[test]
fn container_image_is_that_of_the_dockerfile() {
    let script = "import oci, tempfile, pathlib, sys
program, folder = b'program', pathlib.Path(sys.argv[1])
for cpu in ('x64', 'arm64', 'arm'):
    one, two = (oci.image(folder / f'{name}-{cpu}', '1.2.3', cpu, program) for name in ('one', 'two'))
    assert one.read_bytes() == two.read_bytes(), cpu
    config = oci.unpack(one, folder / cpu)
    assert (folder / cpu / 'mcp-esptool').read_bytes() == program
    assert (folder / cpu / 'mcp-esptool').stat().st_mode & 0o777 == 0o755
    print(config['os'], config['architecture'], *config['config']['Entrypoint'], *config['config']['Cmd'], *config['config']['Env'])
print(config['config']['Labels'])";
    let dir = tempfile::tempdir().unwrap();
    let env = [("PYTHONPATH", "packaging"), ("PYTHONDONTWRITEBYTECODE", "1")];
    let Some(said) = python(&["-c", script, &dir.path().display().to_string()], &env) else { return };
    let docker = read("packaging/Dockerfile");
    let (variables, cpus) = (docker.split("ENV ").nth(1).unwrap().lines().next().unwrap(), ["amd64", "arm64", "arm"]);
    for (line, cpu) in said.lines().zip(cpus) {
        assert_eq!(line, format!("linux {cpu} /mcp-esptool serve --http 0.0.0.0:8080 {variables}"));
    }
    let name = json("server.json")["name"].as_str().unwrap().to_owned();
    assert!(said.contains(&name) && said.contains("1.2.3") && said.contains("MIT OR Apache-2.0"), "{said}");
}

/// The links of README.md add what `install` would add.
#[test]
fn buttons_add_the_server_as_install_does() {
    let Some(made) = python(&["packaging/package.py", "buttons"], &[("PYTHONDONTWRITEBYTECODE", "1")]) else { return };
    let (made, readme): (Value, String) = (serde_json::from_str(&made).unwrap(), read("README.md"));
    for (client, link) in made.as_object().unwrap() {
        let link = link.as_str().unwrap();
        assert!(readme.contains(link), "README.md lacks the button of {client}: {link}");
        let config = link.split("config=").nth(1).unwrap();
        let config = percent_encoding::percent_decode_str(config).decode_utf8().unwrap().into_owned();
        let config = match client.as_str() {
            "cursor" => {
                use base64::Engine;
                base64::engine::general_purpose::STANDARD.decode(config).unwrap()
            }
            _ => config.into_bytes(),
        };
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!((&config["command"], &config["args"]), (&"mcp-esptool".into(), &serde_json::json!(["serve"])));
    }
}

/// What a plugin's manifest names is there.
#[test]
fn plugin_of_claude_brings_the_skills() {
    let folder = json(".claude-plugin/plugin.json")["skills"].as_str().unwrap().to_owned();
    let skills = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path().join("SKILL.md"));
    assert!(skills.filter(|skill| skill.is_file()).count() >= 6);
    let context = json("gemini-extension.json")["contextFileName"].as_str().unwrap().to_owned();
    assert!(root().join(context).is_file());
}

#[test]
fn templates_are_whole_when_packaging_has_filled_them_in() {
    let targets = json("packaging/targets.json");
    let known: Vec<String> =
        targets.as_array().unwrap().iter().map(|entry| entry["npm"].as_str().unwrap().replace('-', "_")).collect();
    let place = Regex::new("@[a-z0-9_]+@").unwrap();
    for folder in ["homebrew", "scoop", "winget", "aur", "nix"] {
        for entry in fs::read_dir(root().join("packaging").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            for (at, _) in text.match_indices("@sha256_") {
                let name = text[at + "@sha256_".len()..].split('@').next().unwrap();
                assert!(known.iter().any(|target| target == name), "{folder}: {name}");
            }
            assert!(text.contains("@version@"), "{folder}");
            let filled = place.replace_all(&text, "0").into_owned();
            match path.file_stem().and_then(|name| name.to_str()).unwrap() {
                name if name.ends_with(".json") => drop(serde_json::from_str::<Value>(&filled).unwrap()),
                name if name.ends_with(".yaml") => drop(serde_yaml_ng::from_str::<Value>(&filled).unwrap()),
                "PKGBUILD" => assert_eq!(shell("bash", &format!("set -n\n{filled}")).unwrap_or_default(), ""),
                _ => {}
            }
        }
    }
}

/// Each client configuration of `examples/` starts a server with parameters that it takes.
#[test]
fn examples_of_client_configurations_start_the_server() {
    let mut tried = 0;
    for file in walk(&root().join("examples/clients")) {
        let text = fs::read_to_string(&file).unwrap();
        let all: Value = match file.extension().and_then(|end| end.to_str()) {
            Some("toml") => serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap(),
            _ => serde_json::from_str(&text).unwrap(),
        };
        let servers = ["mcpServers", "servers", "mcp_servers"].iter().find_map(|name| all.get(name)).unwrap();
        let server = &servers["esptool"];
        assert_eq!(server["command"], "mcp-esptool", "{}", file.display());
        let args: Vec<&str> = server["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
        assert_eq!(args[0], "serve");
        // Its input has ended: it ends, too.
        program(&args);
        tried += 1;
    }
    assert!(tried >= 4, "{tried}");
}

#[test]
fn the_example_recipe_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
        command.args(args).current_dir(dir.path()).env("MCP_ESPTOOL_STATE_DIR", dir.path().join("state"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert!(run(&["recipe", "new", "base.toml", "--chip", "esp32c3"]).0);
    fs::copy(root().join("examples/recipes/blink.toml"), dir.path().join("blink.toml")).unwrap();
    let (good, said) = run(&["recipe", "check", "blink.toml"]);
    assert!(good && said.contains("the recipe is good"), "{said}");
}

#[test]
fn container_files_set_what_there_is_to_set() {
    let (docker, compose) = (read("packaging/Dockerfile"), read("packaging/compose.yaml"));
    let named = docker.split([' ', '\n']).chain(compose.split([' ', '\n'])).filter_map(|word| word.split_once('='));
    let ours = named.map(|(name, _)| name).filter(|name| name.starts_with("MCP_ESP") || name.starts_with("ESP_"));
    let names: Vec<&str> = ours.collect();
    assert!(names.len() >= 5, "{names:?}");
    for name in names {
        assert!(KEYS.iter().any(|key| key.env.contains(&name)), "{name}");
    }
    let rust = env!("CARGO_PKG_RUST_VERSION");
    assert!(docker.contains(&format!("FROM rust:{rust}-alpine")), "{docker}");
}

#[test]
fn udev_rules_come_before_those_that_give_devices_away() {
    let rules = program(&["doctor", "--udev"]);
    assert!(rules.contains("/etc/udev/rules.d/60-mcp-esptool.rules"));
    for line in rules.lines().filter(|line| !line.starts_with('#')) {
        for part in line.split(", ") {
            let (name, value) = part.split_once('=').unwrap();
            let value = value.trim_start_matches('=');
            assert!(value.starts_with('"') && value.ends_with('"'), "{part}");
            let known =
                ["SUBSYSTEM", "ATTRS{idVendor}", "ATTR{idVendor}", "MODE", "GROUP", "TAG+", "ENV{ID_MM_DEVICE_IGNORE}"];
            assert!(known.contains(&name), "{part}");
        }
    }
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let dir = tempfile::tempdir().unwrap();
    program(&["man", &dir.path().display().to_string()]);
    let main = fs::read_to_string(dir.path().join("mcp-esptool.1")).unwrap();
    let named = main.split("mcp\\-esptool\\-").skip(1).filter_map(|rest| rest.split_once("(1)")).map(|(name, _)| name);
    let mut pages = 0;
    for name in named {
        let page = dir.path().join(format!("mcp-esptool-{}.1", name.replace("\\-", "-")));
        assert!(page.is_file(), "{}", page.display());
        pages += 1;
    }
    assert!(pages > 10, "{main}");
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if let Some(said) =
            shell("sh", &format!("command -v mandoc >/dev/null && mandoc -T lint -W warning {}", path.display()))
        {
            // Breaks that do nothing, around the lists of values.
            let faults: Vec<&str> = said.lines().filter(|line| !line.contains("skipping paragraph macro")).collect();
            assert!(faults.is_empty(), "{}: {faults:?}", path.display());
        }
    }
}

#[test]
fn shells_complete_commands_and_tools() {
    let dir = tempfile::tempdir().unwrap();
    let script = |shell: &str| {
        let path = dir.path().join(format!("complete.{shell}"));
        fs::write(&path, program(&["completions", shell])).unwrap();
        path.display().to_string()
    };
    let bash = format!(
        "source {}; COMP_WORDS=(mcp-esptool call esp_flash_r); COMP_CWORD=2; _mcp__esptool mcp-esptool esp_flash_r call; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script("bash")
    );
    if let Some(said) = shell("bash", &bash) {
        assert!(said.contains("esp_flash_read") && said.contains("esp_flash_restore"), "{said}");
    }
    let fish = format!("source {}; complete -C 'mcp-esptool call esp_flash_r'", script("fish"));
    if let Some(said) = shell("fish", &fish) {
        assert!(said.contains("esp_flash_read"), "{said}");
    }
    if let Some(said) =
        shell("zsh", &format!("autoload -U compinit; compinit -D; source {} && echo sourced", script("zsh")))
    {
        assert!(said.contains("sourced"), "{said}");
    }
}
