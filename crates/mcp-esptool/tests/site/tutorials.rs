//! The commands of the tutorials, run in the order of the page by one shell in an empty folder.
//!
//! A block marked `sh` is run and must succeed; `sh,ignore` is not run. In a block marked `console`, lines with `$ ` are run
//! and the lines below must be what was printed: `...` stands for any lines, `[..]` for any text within a line.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use regex::Regex;

use super::docs;

/// Between the outputs of commands.
const MARK: &str = "\u{1e}";

/// A command and, where the page shows it, its output.
#[derive(Debug, PartialEq)]
struct Step {
    command: String,
    shown: Option<Vec<String>>,
}

fn steps(page: &str) -> Vec<Step> {
    let (mut steps, mut block) = (Vec::<Step>::new(), None::<String>);
    for line in page.lines() {
        match (line.strip_prefix("```"), block.as_deref()) {
            (Some(language), None) => {
                block = Some(language.to_owned());
                if language == "sh" {
                    steps.push(Step { command: String::new(), shown: None });
                }
            }
            (Some(_), Some(_)) => block = None,
            (None, Some("sh")) => {
                if let Some(step) = steps.last_mut() {
                    step.command += &format!("{line}\n");
                }
            }
            (None, Some("console")) => match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step { command: format!("{command}\n"), shown: Some(Vec::new()) }),
                None => steps.last_mut().and_then(|step| step.shown.as_mut()).unwrap().push(line.to_owned()),
            },
            _ => {}
        }
    }
    steps
}

/// What was printed is what is shown.
fn matches(shown: &[String], printed: &str) -> bool {
    let line = |line: &String| match line.as_str() {
        "..." => "(?:.*\n)*?".to_owned(),
        line => format!("{}\n", regex::escape(line).replace(r"\[\.\.\]", ".*")),
    };
    let pattern: String = shown.iter().map(line).collect();
    Regex::new(&format!("^{pattern}$")).unwrap().is_match(printed)
}

/// Runs a page; the outputs of its steps.
fn run(page: &Path, steps: &[Step]) {
    // The program's own files are not below the project's folder.
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path().join("project");
    fs::create_dir(&project).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_mcp-esptool")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    // Whatever happens, no virtual device stays behind.
    let begin = "set -eu\ntrap 'mcp-esptool call esp_qemu_stop all=true >/dev/null 2>&1' EXIT\n";
    let script: String = steps.iter().map(|step| format!("printf '{MARK}'\n{}", step.command)).collect();
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{begin}{script}")]).current_dir(&project).env("PATH", path).env("HOME", dir.path());
    for name in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "MCP_ESPTOOL_CONFIG"] {
        command.env_remove(name);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: after\n{stdout}\n{stderr}", page.display());
    for (step, printed) in steps.iter().zip(stdout.split(MARK).skip(1)) {
        if let Some(shown) = &step.shown {
            assert!(matches(shown, printed), "{}: {}printed:\n{printed}", page.display(), step.command);
        }
    }
}

fn tutorial(name: &str) {
    let page = docs().join(name);
    let steps = steps(&fs::read_to_string(&page).unwrap());
    assert!(steps.len() >= 2, "{name} has {} steps", steps.len());
    run(&page, &steps);
}

#[test]
fn first_board_tutorial_works() {
    tutorial("start/first-board.md");
}

#[test]
fn agent_tutorial_works() {
    tutorial("start/agent.md");
}

#[test]
fn ci_tutorial_works() {
    tutorial("start/ci.md");
}

#[test]
fn factory_tutorial_works() {
    tutorial("start/factory.md");
}

#[test]
fn security_tutorial_works() {
    tutorial("start/security.md");
}

#[test]
fn readme_commands_work() {
    tutorial("../README.md");
}

#[test]
fn a_page_is_read_as_steps() {
    let page = "```sh\na\nb\n```\n```sh,ignore\nc\n```\n```console\n$ d\nshown\n$ e\n```\n";
    let step = |command: &str, shown: Option<&[&str]>| Step {
        command: command.into(),
        shown: shown.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect()),
    };
    assert_eq!(steps(page), [step("a\nb\n", None), step("d\n", Some(&["shown"])), step("e\n", Some(&[]))]);
    let shown = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    assert!(matches(&shown(&["MAC [..], virtual", "..."]), "MAC 02:00, virtual\nmore\nstill\n"));
    assert!(!matches(&shown(&["MAC [..]"]), "MAC 02:00\nmore\n") && !matches(&shown(&["a"]), "b\n"));
}
