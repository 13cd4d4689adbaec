//! The command line: the same tools as over MCP, and what surrounds them.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use clap::builder::PossibleValuesParser;
use clap::{CommandFactory, Parser, Subcommand};
use esp_model::job::{Job, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::ctx::Ctx;
use crate::factory::cli::RecipeCommand;
use crate::ops::config::{Config, Sources};
use crate::ops::error::{Class, ToolError};
use crate::tool::Entry;
use crate::{docs, doctor, factory, logs, mcp, ops, selftest, serve, sim, terminal, tool, tools};

/// Work with Espressif chips: an MCP server and a command line in one program.
#[derive(Parser)]
#[command(name = "mcp-esptool", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration file (default: ~/.config/mcp-esptool/config.toml)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets a value of the configuration; `doctor` lists all of them
    #[arg(long = "set", global = true, value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Folder that files may be read from and written to (may be repeated)
    #[arg(long = "root", global = true, value_name = "DIR")]
    roots: Vec<String>,
    /// Sets or profiles of tools to offer: chip, flash …, bench, factory, security, virtual
    #[arg(long, global = true, value_name = "NAMES")]
    toolsets: Option<String>,
    /// Further tools to offer, by name
    #[arg(long, global = true, value_name = "NAMES")]
    tools: Option<String>,
    /// Tools not to offer, by name
    #[arg(long, global = true, value_name = "NAMES")]
    exclude_tools: Option<String>,
    /// Rules in TOML that narrow the policy: --narrow 'max_risk = "reads"' (may be repeated)
    #[arg(long, global = true, value_name = "RULES")]
    narrow: Vec<String>,
    /// Offers only tools that change neither devices nor files
    #[arg(long, global = true)]
    read_only: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Serve MCP on standard input and output (the default when a program starts us), or over HTTP
    Serve {
        /// Serve over HTTP instead, on this address
        #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = serve::HTTP_ADDRESS)]
        http: Option<String>,
    },
    /// Call one tool: `call esp_flash_read port=sim://esp32 address=0x0 size=4K output_file=boot.bin`
    Call {
        /// The tool's name
        #[arg(index = 1)]
        tool: String,
        /// Parameters as `name=value`, or one JSON object
        #[arg(index = 2)]
        args: Vec<String>,
        /// Print the result, or the error, as JSON
        #[arg(long)]
        json: bool,
        /// Write a JUnit report: one suite a unit, one case a step
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
    },
    /// Make, check and lock a recipe of production
    Recipe {
        #[command(subcommand)]
        command: RecipeCommand,
    },
    /// The ledger of production: `ledger add-pool pool=serials kind=serial prefix=SN- count=100`, `ledger export file=x.csv`
    Ledger {
        /// status, add-pool, unit, export, verify, backup, label, void, quarantine, lend, borrow, report, merge, end-lease, void-gap, send
        #[arg(default_value = "status")]
        action: String,
        /// Parameters as `name=value`
        args: Vec<String>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the tools
    Tools {
        /// Print them as `tools/list` would, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Serve a virtual chip for esptool, espflash and others
    Sim(Box<sim::Args>),
    /// Flash a virtual chip through MCP, from beginning to end, and show each step
    Demo,
    /// Approve a plan to burn eFuses, in a terminal: shows it and asks for the end of the device's MAC address
    Approve {
        /// The plan's hash, or its first 8 digits
        hash: String,
    },
    /// Check the audit log's chain of hashes: what was planned, confirmed and burned
    Audit {
        /// What to do
        #[arg(default_value = "verify", value_parser = ["verify"])]
        action: String,
    },
    /// Show a device's console, with boot lines, crashes and source lines; what is typed goes to the device
    Monitor(terminal::MonitorArgs),
    /// Say what a recorded line (trace file) holds, and play it to the client of today
    Replay {
        /// The trace file
        trace: PathBuf,
    },
    /// Say what is found, what is missing and how to fix it, and which settings count
    Doctor {
        /// Print rules that let users at the desk use the boards (Linux, udev)
        #[arg(long)]
        udev: bool,
    },
    /// Add this server to the configuration of MCP clients; without a client's name those that are found
    Install(crate::install::InstallArgs),
    /// Try the tools on one device, one after the other; changes nothing without --scratch
    Selftest {
        /// The device
        #[arg(long)]
        port: String,
        /// Address of 64 KiB of blank flash that may be written and is erased again
        #[arg(long, value_name = "ADDRESS")]
        scratch: Option<String>,
    },
    /// Run another tool's command line: `face esptool flash-id`; also by the program's name (see `link`)
    Face {
        /// The tool
        name: String,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Make links named esptool, espsecure … and wrapper files for ESP-IDF, Arduino and PlatformIO in a folder
    Link {
        /// The folder
        dir: PathBuf,
    },
    /// Print a completion script
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one page for each command below a folder
    Man {
        /// The folder, such as ~/.local/share/man/man1
        dir: Option<PathBuf>,
    },
    /// Keep one virtual device running (started by esp_qemu_start)
    #[command(hide = true)]
    VirtualHost {
        /// Its folder
        dir: PathBuf,
    },
    /// Print a document, a skill or this server's settings, as MCP clients read them: `resource esp://docs/index`
    Resource {
        /// Its address: esp://docs/NAME, esp://docs/tools/TOOL, skill://NAME/SKILL.md, esp://server
        uri: String,
    },
    /// Write the generated documents below a folder
    #[command(hide = true)]
    Docs {
        /// The folder
        #[arg(default_value = "docs")]
        dir: PathBuf,
    },
}

/// What went wrong, and the exit code that says so.
enum Failure {
    /// Wrong usage: 2.
    Usage(String),
    /// A tool failed: 1, or 130 when it was cancelled.
    Tool(ToolError, bool),
    /// The tool did its work, and what it looked at is not right: 3.
    Verdict,
    /// Anything else: 1.
    Other(String),
}

impl From<ToolError> for Failure {
    fn from(error: ToolError) -> Self {
        Self::Tool(error, false)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// The commands and options of the program.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Reads the command line and runs it.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
        Err(Failure::Tool(error, as_json)) => {
            if as_json {
                let _ = print(&format!("{:#}", json!({ "error": error })));
            } else {
                eprintln!("{error}");
                eprint!("{}", terminal::where_resources_are(&error));
            }
            ExitCode::from(match error.code.class() {
                Class::Cancelled => 130,
                Class::Usage => 2,
                _ => 1,
            })
        }
        Err(Failure::Verdict) => ExitCode::from(3),
        Err(Failure::Other(text)) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let config = load_config(&cli)?;
    logs::start(config.text("log"), mcp::SDK);
    match cli.command {
        None if io::stdin().is_terminal() => {
            Cli::command().print_help()?;
            Ok(())
        }
        None | Some(Command::Serve { http: None }) => Ok(serve::over_stdio(config)??),
        Some(Command::Serve { http: Some(address) }) => Ok(serve::over_http(config, &address)??),
        Some(Command::Call { tool, args, json, junit }) => {
            call(&Ctx::new(config)?, &tool, &args, json, junit.as_deref())
        }
        Some(Command::Recipe { command }) => {
            let (job, bar) = job_with_bar();
            cancel_when_told_to_end(job.clone());
            let (text, good) = factory::cli::recipe(&Ctx::new(config)?, &job, &command)?;
            bar.finish_and_clear();
            print(&text)?;
            if good { Ok(()) } else { Err(Failure::Verdict) }
        }
        Some(Command::Ledger { action, args, json }) => {
            let Value::Object(input) = arguments(&args)? else { return Ok(()) };
            let reply = factory::cli::ledger(&Ctx::new(config)?, &Job::new(), &action, input);
            answer(reply, json)
        }
        Some(Command::Tools { json }) => list(&Ctx::new(config)?, json),
        Some(Command::Sim(args)) => simulate(&args),
        Some(Command::Demo) => crate::demo::run().map_err(Failure::Other),
        Some(Command::Approve { hash }) => approve(&Ctx::new(config)?, &hash),
        Some(Command::Audit { .. }) => audit(&Ctx::new(config)?),
        Some(Command::Monitor(args)) => monitor(&Ctx::new(config)?, &args),
        Some(Command::Replay { trace }) => terminal::replay(&trace, &mut io::stdout()).map_err(Failure::Other),
        Some(Command::Doctor { udev: true }) => Ok(print(doctor::UDEV)?),
        Some(Command::Doctor { udev: false }) => Ok(print(&doctor::report(&config))?),
        Some(Command::Install(args)) => {
            let folders = crate::install::Folders::of_this_user()?;
            let program = std::env::current_exe()?;
            Ok(print(&crate::install::run(&args, &program, &folders, served).map_err(Failure::Other)?)?)
        }
        Some(Command::Selftest { port, scratch }) => {
            let (job, bar) = job_with_bar();
            cancel_when_told_to_end(job.clone());
            let report = selftest::run(&Ctx::new(config)?, &job, &port, scratch.as_deref());
            bar.finish_and_clear();
            match report {
                Ok(text) => Ok(print(&text)?),
                Err(text) => Err(Failure::Other(text)),
            }
        }
        Some(Command::Face { name, .. }) => {
            let known = crate::faces::names().join(", ");
            Err(Failure::Usage(format!("there is no face `{name}` (known: {known})")))
        }
        Some(Command::Link { dir }) => {
            let made = esp_faces::make_links(&dir, &std::env::current_exe()?)?;
            Ok(print(&made.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n"))?)
        }
        Some(Command::Completions { shell }) => Ok(print(&completion_script(shell))?),
        Some(Command::Man { dir: None }) => Ok(docs::manual(Cli::command()).render(&mut io::stdout())?),
        Some(Command::Man { dir: Some(dir) }) => Ok(docs::manuals(&dir, Cli::command())?),
        Some(Command::VirtualHost { dir }) => {
            esp_virtual::server::host::serve(&dir, &mut io::stdout()).map_err(|error| Failure::Other(error.to_string()))
        }
        Some(Command::Docs { dir }) => Ok(docs::write(&dir, command())?),
        Some(Command::Resource { uri }) => Ok(print(&terminal::resource(&uri, &config).map_err(Failure::Usage)?)?),
    }
}

/// Refuses arguments that `serve` would refuse.
fn served(args: &[String]) -> Result<(), String> {
    let line = ["mcp-esptool"].into_iter().chain(args.iter().map(String::as_str));
    Cli::try_parse_from(line).map(drop).map_err(|error| format!("a client could not start the server: {error}"))
}

/// The script that completes commands, options and names of tools.
fn completion_script(shell: clap_complete::Shell) -> String {
    let names = || tools::ALL.iter().map(|entry| entry.name);
    let mut command = Cli::command().mut_subcommand("call", |call| {
        call.mut_arg("tool", |tool| tool.value_parser(PossibleValuesParser::new(names())))
    });
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "mcp-esptool", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        // The generator names the branches of a program with a dash otherwise than it asks for them.
        clap_complete::Shell::Bash => script.replace("mcp__subcmd__esptool", "mcp__esptool"),
        // It leaves out what a parameter may be.
        clap_complete::Shell::Fish => {
            let names = names().collect::<Vec<_>>().join(" ");
            let when = "__fish_mcp_esptool_using_subcommand call";
            format!("{script}complete -c mcp-esptool -n \"{when}\" -f -a \"{names}\"\n")
        }
        _ => script,
    }
}

fn simulate(args: &sim::Args) -> Result<(), Failure> {
    sim::run(args).map_err(|error| match error {
        sim::SimError::Usage(text) => Failure::Usage(text),
        error => Failure::Other(error.to_string()),
    })
}

/// Asks the person at the terminal. A pipe is no person.
fn approve(ctx: &Ctx, hash: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage("approve asks a person: run it in a terminal".into()));
    }
    let (_, offer) = ctx.confirmations.find(hash)?;
    print(&offer.question(hash))?;
    let mut typed = String::new();
    io::stdin().read_line(&mut typed)?;
    ctx.confirmations.approve(hash, typed.trim())?;
    ctx.audit.append(json!({ "event": "approved", "mac": offer.mac, "plan": hash }))?;
    Ok(print("approved; the plan can now be carried out once, within its 15 minutes")?)
}

/// Checks the audit log. A broken one is exit code 3.
fn audit(ctx: &Ctx) -> Result<(), Failure> {
    let (found, file) = (ctx.audit.verify()?, ctx.audit.path().display());
    if let Some(line) = found.broken {
        print(&format!(
            "{file}: line {line} does not follow from the line before it; {} lines before it hold",
            found.lines
        ))?;
        return Err(Failure::Verdict);
    }
    let torn = if found.torn { "; a last line is unfinished, which the next event repairs" } else { "" };
    Ok(print(&format!("{file}: {} lines, the chain holds{torn}", found.lines))?)
}

fn load_config(cli: &Cli) -> Result<Config, Failure> {
    let mut flags = Vec::new();
    if matches!(cli.command, Some(Command::Call { .. })) {
        // A device that ended with the command that started it would be of no use.
        flags.push(("keep_virtual".to_string(), "true".to_string()));
    }
    for setting in &cli.settings {
        let pair = setting.split_once('=').map(|(name, value)| (name.to_string(), value.to_string()));
        flags.push(pair.ok_or_else(|| Failure::Usage(format!("--set wants NAME=VALUE, not `{setting}`")))?);
    }
    if !cli.roots.is_empty() {
        flags.push(("project_roots".into(), cli.roots.join(",")));
    }
    for (name, value) in [("toolsets", &cli.toolsets), ("tools", &cli.tools), ("exclude_tools", &cli.exclude_tools)] {
        flags.extend(value.clone().map(|value| (name.to_string(), value)));
    }
    if !cli.narrow.is_empty() {
        flags.push(("narrow".into(), cli.narrow.join("\n")));
    }
    if cli.read_only {
        flags.push(("read_only".into(), "true".into()));
    }
    let env = |name: &str| std::env::var(name).ok();
    Ok(Config::load(&Sources { file: cli.config.clone(), flags, env: &env })?)
}

/// Standard output is written here and by the MCP transport, nowhere else.
pub(crate) fn print(text: &str) -> io::Result<()> {
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn call(ctx: &Ctx, name: &str, args: &[String], as_json: bool, junit: Option<&Path>) -> Result<(), Failure> {
    let entry = tools::find(name).ok_or_else(|| {
        let near = ops::nearest(name, tools::ALL.iter().map(|entry| entry.name));
        Failure::Usage(match near {
            Some(near) => format!("there is no tool `{name}`; did you mean `{near}`?"),
            None => format!("there is no tool `{name}`; `mcp-esptool tools` lists them"),
        })
    })?;
    let mut input = tool::aliases::translate(name, arguments(args)?);
    // Asking for the schema of a call without a report would only take time.
    let takes = |name: &str| entry.input_schema().get("properties").is_some_and(|known| known.get(name).is_some());
    if let (Some(_), true, Some(fields)) = (junit, junit.is_some() && takes("details"), input.as_object_mut()) {
        fields.entry("details").or_insert(true.into());
    }
    let (job, bar) = job_with_bar();
    cancel_when_told_to_end(job.clone());
    let result = entry.call(ctx, &job, input);
    bar.finish_and_clear();
    ctx.app.jobs.wait_all();
    if let Some(path) = junit {
        let report = esp_factory::junit::report(name, result.as_ref().map(|reply| &reply.data));
        std::fs::write(path, report).map_err(|error| Failure::Other(format!("{}: {error}", path.display())))?;
    }
    answer(result, as_json)
}

/// Prints what came of a call. A result that says `passed: false` is an exit code of its own.
fn answer(result: Result<crate::tool::Reply, ToolError>, as_json: bool) -> Result<(), Failure> {
    let reply = result.map_err(|error| Failure::Tool(error, as_json))?;
    let passed = reply.data.get("passed") != Some(&Value::Bool(false));
    print(&if as_json { format!("{:#}", Value::Object(reply.data)) } else { reply.text })?;
    if passed { Ok(()) } else { Err(Failure::Verdict) }
}

/// `name=value` pairs and JSON objects, later ones first. Values stay text: the schema says what they become.
fn arguments(args: &[String]) -> Result<Value, Failure> {
    let mut input = Map::new();
    for arg in args {
        if arg.trim_start().starts_with('{') {
            let object = serde_json::from_str::<Map<String, Value>>(arg);
            input.extend(object.map_err(|error| Failure::Usage(format!("not a JSON object: {error}: {arg}")))?);
            continue;
        }
        let (name, value) = arg.split_once('=').ok_or_else(|| Failure::Usage(format!("not `name=value`: {arg}")))?;
        input.insert(name.into(), value.into());
    }
    Ok(Value::Object(input))
}

/// A job whose progress is drawn on stderr, if that is a terminal.
pub fn job_with_bar() -> (Job, ProgressBar) {
    if !io::stderr().is_terminal() {
        return (Job::new(), ProgressBar::hidden());
    }
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{wide_bar} {percent:>3} % {msg:56!}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let drawn = Mutex::new(bar.clone());
    let draw = move |progress: Progress| {
        if let Ok(bar) = drawn.lock() {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            bar.set_message(progress.message);
        }
    };
    (Job::with_progress(draw), bar)
}

fn cancel_when_told_to_end(job: Job) {
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(crate::signals::told_to_end());
        job.cancel();
    });
}

fn monitor(ctx: &Ctx, args: &terminal::MonitorArgs) -> Result<(), Failure> {
    let job = Job::new();
    cancel_when_told_to_end(job.clone());
    terminal::monitor(ctx, args, &job).map_err(|error| Failure::Tool(error, false))
}

fn list(ctx: &Ctx, as_json: bool) -> Result<(), Failure> {
    let offered: Vec<&Entry> = tools::offered(ctx).collect();
    if as_json {
        return Ok(print(&format!("{:#}", json!({ "tools": mcp::list_json(ctx) })))?);
    }
    let width = offered.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
    let lines = offered.iter().map(|entry| format!("{:width$}  {}", entry.name, entry.about));
    Ok(print(&lines.collect::<Vec<_>>().join("\n"))?)
}
