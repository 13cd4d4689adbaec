//! The tools that build, with stand-ins for ESP-IDF and arduino-cli that say what the real ones say.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use esp_model::job::Job;
use esp_ops::config::{Config, Origin};
use esp_ops::error::ToolError;
use mcp_esptool::ctx::Ctx;
use mcp_esptool::tool::Reply;
use mcp_esptool::tools;
use serde_json::{Value, json};
use tempfile::TempDir;

/// `idf_tools.py export` and `idf.py`, as far as a build needs them. The build fails when `main.c` says `bad`.
const IDF_TOOLS: &str = "print('STAND_IN=yes')\nprint('PATH=/stand/in:$PATH')\n";
const IDF: &str = r#"
import json, os, pathlib, sys
assert os.environ["STAND_IN"] == "yes" and "/stand/in:" in os.environ["PATH"], os.environ["PATH"]
args = sys.argv[1:]
project, build = pathlib.Path(args[args.index("-C") + 1]), pathlib.Path(args[args.index("-B") + 1])
(project / "arguments.txt").write_text(" ".join(args))
print("[1/2] Building C object main.c.obj", flush=True)
if "bad" in (project / "main.c").read_text():
    print("%s/main.c:3:5: error: 'bad' undeclared" % project, file=sys.stderr)
    print("ninja: build stopped: subcommand failed.")
    sys.exit(2)
print("main.c:9:1: warning: unused variable 'x'", file=sys.stderr)
print("[2/2] Linking", flush=True)
build.mkdir(exist_ok=True)
(build / "app.bin").write_bytes(bytes(100))
(build / "CMakeCache.txt").write_text("IDF_TARGET:STRING=esp32c3\n")
about = {"project_name": "app", "target": "esp32c3", "project_version": "1", "app_elf": "app.elf", "app_bin": "app.bin"}
(build / "project_description.json").write_text(json.dumps(about))
"#;
const ARDUINO: &str = r#"#!/bin/sh
while [ "$1" != -- ]; do [ "$1" = --output-dir ] && out=$2; shift; done
mkdir -p "$out" && : > "$out/$(basename "$2").ino.bin" && : > "$out/$(basename "$2").ino.elf"
"#;

struct Bench {
    dir: TempDir,
    ctx: Ctx,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for folder in ["idf/tools/cmake", "work/app", "sketches/Blink"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    let put = |name: &str, text: &str| fs::write(at(name), text).unwrap();
    put("idf/tools/cmake/project.cmake", "");
    put("idf/export.sh", "");
    put("idf/version.txt", "v5.5\n");
    put("idf/tools/idf_tools.py", IDF_TOOLS);
    put("idf/tools/idf.py", IDF);
    put("work/app/CMakeLists.txt", "include($ENV{IDF_PATH}/tools/cmake/project.cmake)\nproject(app)\n");
    put("work/app/main.c", "good");
    put("sketches/Blink/Blink.ino", "");
    put("arduino-cli", ARDUINO);
    fs::set_permissions(at("arduino-cli"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = Config::default();
    let mut set = |name: &str, value: &Path| config.set(name, value.display().to_string(), Origin::Flag).unwrap();
    set("project_roots", &at("work"));
    set("idf_path", &at("idf"));
    set("arduino_cli_path", &at("arduino-cli"));
    set("sketch_directories", &at("sketches"));
    set("state_dir", &at("state"));
    let ctx = Ctx::new(config).unwrap();
    Bench { dir, ctx }
}

impl Bench {
    fn call(&self, tool: &str, input: Value) -> Result<Reply, ToolError> {
        tools::find(tool).unwrap().call(&self.ctx, &Job::new(), input)
    }
}

#[test]
fn a_project_is_built_and_its_target_stays() {
    let bench = bench();
    let built = bench.call("esp_idf_build", json!({"project": "app", "target": "esp32c3"})).unwrap();
    assert_eq!((&built.data["target"], &built.data["app_bytes"]), (&json!("esp32c3"), &json!(100)));
    assert_eq!(built.data["warnings"][0]["line"], 9);
    assert!(built.text.contains("esp_flash_firmware"));
    let arguments = || fs::read_to_string(bench.dir.path().join("work/app/arguments.txt")).unwrap();
    assert!(arguments().contains("-DIDF_TARGET=esp32c3") && arguments().ends_with("build"));
    // The second build sets nothing; another target is refused before anything runs.
    bench.call("esp_idf_build", json!({"project": "app", "target": "esp32c3"})).unwrap();
    assert!(!arguments().contains("IDF_TARGET"), "{}", arguments());
    let error = bench.call("esp_idf_build", json!({"project": "app", "target": "esp32s3"})).unwrap_err();
    assert_eq!(error.code.as_str(), "target_differs");
    let error = bench.call("esp_idf_build", json!({"project": "app; touch x"})).unwrap_err();
    assert_ne!(error.code.as_str(), "build_failed");
}

#[test]
fn a_failed_build_names_file_and_line() {
    let bench = bench();
    fs::write(bench.dir.path().join("work/app/main.c"), "bad").unwrap();
    let error = bench.call("esp_idf_build", json!({"project": "app"})).unwrap_err();
    assert_eq!(error.code.as_str(), "build_failed");
    assert_eq!(error.evidence["errors"][0]["line"], 3, "{error}");
    assert!(error.message.contains("'bad' undeclared"), "{error}");
}

#[test]
fn other_projects_are_told_apart() {
    let bench = bench();
    let work = bench.dir.path().join("work");
    for (name, file, wanted) in [
        ("pio", "platformio.ini", "PlatformIO"),
        ("rust", "Cargo.toml", "Rust"),
        ("Sketch", "Sketch.ino", "esp_arduino_build"),
    ] {
        fs::create_dir(work.join(name)).unwrap();
        fs::write(work.join(name).join(file), "").unwrap();
        let error = bench.call("esp_idf_build", json!({ "project": name })).unwrap_err();
        assert!(error.code.as_str() == "no_project" && error.next_step.contains(wanted), "{error}");
    }
}

#[test]
fn a_sketch_is_found_by_name_and_built() {
    let bench = bench();
    let input = json!({"sketch": "Blink", "fqbn": "esp32:esp32:esp32c3", "output_dir": "out"});
    let built = bench.call("esp_arduino_build", input).unwrap();
    assert!(built.data["images"][0].as_str().unwrap().ends_with("out/Blink.ino.bin"), "{:?}", built.data);
    // Without a folder of its own the result lies in the sketch, where the next tool may read it.
    let built = bench.call("esp_arduino_build", json!({"sketch": "Blink"})).unwrap();
    let dir = built.data["build_dir"].as_str().unwrap();
    assert!(dir.ends_with("sketches/Blink/build-arduino") && bench.ctx.files.input(dir).is_ok(), "{dir}");
    assert_eq!(bench.call("esp_arduino_build", json!({"sketch": "None"})).unwrap_err().code.as_str(), "no_project");
    let error = bench.call("esp_arduino_build", json!({"sketch": "Blink", "fqbn": "--evil x"})).unwrap_err();
    assert_eq!(error.code.as_str(), "bad_parameter");
}
