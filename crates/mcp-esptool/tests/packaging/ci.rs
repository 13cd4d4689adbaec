//! The commands of the GitHub Action and of the examples for CI, run as a runner would run them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use esp_ops::firmware::sample;
use serde_json::{Value, json};

use super::{program_in, read, root, walk};

/// A line that the demonstration's program prints again and again.
const LINE: &str = "demo: beat";

/// A build folder as ESP-IDF leaves it, with the demonstration's program, and a recipe.
fn project(dir: &Path) {
    program_in(dir, &["recipe", "new", "recipe.toml", "--chip", "esp32c3"]);
    let build = dir.join("build");
    fs::create_dir(&build).unwrap();
    let (chip, parts) = sample::program().unwrap();
    let mut files = serde_json::Map::new();
    for part in parts {
        fs::write(build.join(part.name), &part.bytes).unwrap();
        files.insert(format!("{:#x}", part.address), part.name.into());
    }
    let about = json!({"flash_files": files, "extra_esptool_args": {"chip": chip.id}});
    fs::write(build.join("flasher_args.json"), about.to_string()).unwrap();
}

/// Runs a script with `bash` in the folder, as GitHub does, with our program on the path; what it printed.
fn run(dir: &Path, script: &str, env: &[(&str, &str)]) -> String {
    let ours = Path::new(env!("CARGO_BIN_EXE_mcp-esptool")).parent().unwrap();
    let path = format!("{}:{}", ours.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script]).current_dir(dir).env("PATH", path);
    command.env("MCP_ESPTOOL_STATE_DIR", dir.join(".state")).envs(env.iter().copied());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
    said
}

fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).unwrap()
}

#[test]
fn action_starts_a_device_and_flashes_it() {
    let dir = tempfile::tempdir().unwrap();
    project(dir.path());
    let action = yaml(&read("action.yml"));
    let steps = action["runs"]["steps"].as_array().unwrap();
    let script = |name: &str| {
        let step = steps.iter().find(|step| step["name"] == name).unwrap();
        step["run"].as_str().unwrap().to_owned()
    };
    let place = |name: &str| dir.path().join(name).display().to_string();
    let (variables, output) = (place("env"), place("output"));
    let runner = [("RUNNER_TEMP", &*place("")), ("GITHUB_ENV", &variables), ("GITHUB_OUTPUT", &output)]
        .map(|(name, value)| (name, value.to_owned()));
    let mut env: Vec<(&str, &str)> = runner.iter().map(|(name, value)| (*name, value.as_str())).collect();
    env.extend([("CHIP", "esp32c3"), ("ARGS", "--flash-size 4MB")]);
    run(dir.path(), &script("Start a virtual device"), &env);
    let _device = Device(fs::read_to_string(dir.path().join("sim.pid")).unwrap());
    let port = fs::read_to_string(&output).unwrap().trim().strip_prefix("port=").unwrap().to_owned();
    assert_eq!(fs::read_to_string(&variables).unwrap().trim(), format!("ESPPORT={port}"));
    let mut flash = vec![("FILES", "build"), ("PORT", port.as_str()), ("EXPECT", ""), ("TIMEOUT", "60")];
    assert!(run(dir.path(), &script("Flash"), &flash).contains("verified"));
    flash[2] = ("EXPECT", LINE);
    assert!(run(dir.path(), &script("Flash"), &flash).contains(LINE));
}

/// The device that the action has started; it runs until the runner ends.
struct Device(String);

impl Drop for Device {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.trim()).status();
    }
}

/// Every command of ours in the examples, but for those in the background; boards and texts are those that are here.
#[test]
fn commands_of_the_ci_examples_work() {
    let dir = tempfile::tempdir().unwrap();
    project(dir.path());
    for pool in ["pool=serials kind=serial prefix=SN- count=20", "pool=macs kind=mac first=02:00:00:00:10:00 count=20"]
    {
        run(dir.path(), &format!("mcp-esptool ledger add-pool {pool}"), &[]);
    }
    let mut files = walk(&root().join("examples/ci"));
    files.push(root().join("examples/production.yml"));
    let mut tried = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        yaml(&text);
        let lines = text.lines().map(|line| line.trim().trim_start_matches("- ").trim_start_matches("run: "));
        for line in lines.filter(|line| line.starts_with("mcp-esptool ") && !line.ends_with('&')) {
            let here =
                line.replace("/dev/ttyUSB[0-7]", "sim://esp32c3-[1-2]").replace("\"ready\"", &format!("\"{LINE}\""));
            run(dir.path(), &here, &[]);
            tried += 1;
        }
    }
    assert!(tried >= 4, "{tried}");
    assert!(fs::read_to_string(dir.path().join("units.csv")).unwrap().contains("SN-"));
    assert!(fs::read_to_string(dir.path().join("report.xml")).unwrap().contains("<testsuite"));
}
