//! What is found, what is missing and how to fix it; which settings count and where they came from.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use esp_ops::config::{Config, KEYS, Origin, default_file};
use esp_ops::guard::policy::{self, Policy};
use esp_virtual::{VirtualError, discover};

use crate::ctx::Ctx;
use crate::tools;

/// Rules for udev: who sits at the computer may use USB bridges and chips, and no modem manager probes them.
pub const UDEV: &str = include_str!("../udev.rules");

/// The report for this configuration.
pub fn report(config: &Config) -> String {
    let mut text = format!("mcp-esptool {} on {}\n", env!("CARGO_PKG_VERSION"), std::env::consts::OS);
    checks(&mut text, config);
    rules(&mut text, config);
    settings(&mut text, config);
    text
}

/// Those that somebody set first; of the others the values, and the names of those that have none.
fn settings(text: &mut String, config: &Config) {
    let shown = |name: &str| Some(config.shown(name)).filter(|value| !value.is_empty());
    let origin = |name: &str| config.origin(name).unwrap_or(&Origin::Default);
    let (usual, set): (Vec<_>, Vec<_>) = KEYS.iter().partition(|key| matches!(origin(key.name), Origin::Default));
    let _ = writeln!(text, "\nSettings");
    for key in set {
        let _ =
            writeln!(text, "  {:20} {}  ({})", key.name, shown(key.name).as_deref().unwrap_or("-"), origin(key.name));
    }
    let mut without = Vec::new();
    for key in usual {
        match shown(key.name) {
            Some(value) => {
                let _ = writeln!(text, "  {:20} {value}  (default)", key.name);
            }
            None => without.push(key.name),
        }
    }
    for (at, names) in without.chunks(6).enumerate() {
        let _ = writeln!(text, "  {:20} {}", if at == 0 { "not set" } else { "" }, names.join(", "));
    }
    if let Some(path) = default_file(&|name| std::env::var(name).ok()) {
        let there = if path.is_file() { "" } else { " (not there)" };
        let _ = writeln!(text, "  configuration file: {}{there}", path.display());
    }
}

/// The policy: each file with what it says, and what holds of all of them together.
fn rules(text: &mut String, config: &Config) {
    let _ = writeln!(text, "\nPolicy");
    if let Some(path) = policy::system_file() {
        let there = match esp_ops::own_file::is_there(&path) {
            Ok(true) => "",
            Ok(false) => " (not there)",
            Err(_) => " (it cannot be known whether it is there)",
        };
        let _ = writeln!(text, "  this computer's file: {}{there}", path.display());
    }
    let policy = match Policy::load(config) {
        Ok(policy) => policy,
        Err(error) => {
            let _ = writeln!(text, "  {}", error.message);
            return;
        }
    };
    for layer in policy.layers() {
        let _ = writeln!(text, "  from {}:", layer.origin);
        for (name, value) in layer.rules.set() {
            let _ = writeln!(text, "    {name:16} {value}");
        }
    }
    let risk = serde_json::to_value(policy.max_risk()).unwrap_or_default();
    let _ = writeln!(text, "  in force: max_risk {}", risk.as_str().unwrap_or_default());
    for (name, value) in policy.limits().set() {
        let _ = writeln!(text, "  in force: {name} {value}");
    }
    if policy.layers().next().is_none() {
        let _ = writeln!(text, "  none: everything but burning eFuses of real devices is allowed (docs/safety.md)");
    }
}

/// Which QEMUs are there, what they emulate, and what they lack.
fn emulators(line: &mut impl FnMut(bool, String), ctx: &Ctx) {
    let emulations = || esp_model::chip::all().iter().filter_map(|chip| chip.emulation());
    let mut found = ctx.virtuals.emulators();
    found.retain(|emulator| emulations().any(|emulation| emulation.program == emulator.program));
    let mut of_others = Vec::new();
    for emulator in &found {
        let place = emulator.path.display();
        let emulated = |name: &String| {
            emulations().any(|emulation| emulation.program == emulator.program && emulation.machine == *name)
        };
        match discover::probe(emulator) {
            Ok(abilities) => {
                let machines: Vec<String> = abilities.machines.into_iter().filter(emulated).collect();
                match machines.as_slice() {
                    [] => of_others.push(&emulator.path),
                    some => line(true, format!("QEMU {place} {}: {}", emulator.version, some.join(", "))),
                }
            }
            Err(VirtualError::BrokenProgram { what, package, .. }) => {
                let fix = package.map(|package| format!(": install {package}")).unwrap_or_default();
                line(false, format!("QEMU {place} does not run: {what}{fix}"));
            }
            Err(error) => line(false, format!("QEMU {place}: {error}")),
        }
    }
    if found.len() == of_others.len() {
        let others = of_others.iter().map(|path| format!("; {} emulates none of its chips", path.display()));
        let fix = "built-in devices do without; idf_tools.py install qemu-xtensa qemu-riscv32, or set qemu_xtensa and \
                   qemu_riscv";
        line(false, format!("Espressif's QEMU ({fix}{})", others.collect::<String>()));
    }
}

/// The program that a setting stands for, where it is found without it.
fn on_path(setting: &str) -> Option<PathBuf> {
    let name = setting.strip_suffix("_cli_path")?.to_string() + "-cli" + std::env::consts::EXE_SUFFIX;
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|dir| dir.join(&name)).find(|path| path.is_file())
}

fn checks(text: &mut String, config: &Config) {
    let _ = writeln!(text, "\nChecks");
    let mut line = |good: bool, what: String| {
        let _ = writeln!(text, "  {} {what}", if good { "ok     " } else { "missing" });
    };
    match Ctx::new(config.clone()) {
        Ok(ctx) => {
            for root in ctx.files.roots() {
                let good = root.is_dir();
                let fix = if good { "" } else { ": create it or set project_roots" };
                line(good, format!("files below {}{fix}", root.display()));
            }
            let exposed = ctx.files.exposed();
            for root in ctx.files.roots() {
                let below = || exposed.iter().filter(|(at, _)| *at == root).map(|(_, path)| *path);
                let outermost = below().filter(|path| !below().any(|other| path != &other && path.starts_with(other)));
                let inside: BTreeSet<String> = outermost.map(|path| path.display().to_string()).collect();
                if inside.is_empty() {
                    continue;
                }
                line(
                    false,
                    format!(
                        "separation: the root {} contains {}: choose a root without: it stays closed to calls, but not to \
                     other programs of an agent",
                        root.display(),
                        inside.into_iter().collect::<Vec<_>>().join(", ")
                    ),
                );
            }
            if ctx.files.roots().is_empty() {
                line(false, "files: no project root lies in the policy's project_roots".into());
            }
            emulators(&mut line, &ctx);
            line(true, format!("{} tools offered of {}", tools::offered(&ctx).count(), tools::ALL.len()));
            let found = ctx.ports.candidates();
            let names = found.iter().map(|found| found.url.as_str()).collect::<Vec<_>>().join(", ");
            let advice = if found.is_empty() { "none; plug in a device or use sim://esp32" } else { &names };
            line(!found.is_empty(), format!("ports: {advice}"));
        }
        Err(error) => line(false, error.to_string()),
    }
    for (name, what) in [
        ("idf_path", "ESP-IDF (only for esp_bootloader_build and esp_idf_build)"),
        ("arduino_cli_path", "arduino-cli (only for Arduino sketches)"),
    ] {
        let found = config.path(name).filter(|path| path.exists()).or_else(|| on_path(name));
        let place = found.as_deref().map(Path::display);
        match place {
            Some(place) => line(true, format!("{what}: {place}")),
            None => line(false, format!("{what}: set {name} if you want it")),
        }
    }
}
