//! The command line: the same tools as over MCP, as verbs and by name, and what surrounds them.

mod call;
mod complete;
mod show;
mod verb;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use esp_model::job::Job;
use esp_ops::config::{Config, Sources};
use esp_ops::error::{Class, ToolError};
use esp_ops::words::counted;
use serde_json::{Value, json};

use crate::ctx::Ctx;
use crate::factory::cli::RecipeCommand;
use crate::{columns, completions, docs, doctor, factory, logs, mcp, selftest, serve, sim, terminal, tools, verbs};

pub use self::call::job_with_bar;
use self::call::{answer, arguments, cancel_when_told_to_end};

/// Work with Espressif chips: an MCP server and a command line in one program.
#[derive(Parser)]
#[command(name = "mcp-esptool", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    globals: Globals,
}

/// Options of every command.
#[derive(clap::Args)]
struct Globals {
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
    #[command(disable_help_flag = true)]
    Call {
        /// The tool's name
        #[arg(index = 1, required_unless_present = "help")]
        tool: Option<String>,
        /// Parameters as `name=value`, or one JSON object
        #[arg(index = 2)]
        args: Vec<String>,
        /// Print the result, or the error, as JSON
        #[arg(long)]
        json: bool,
        /// Write a JUnit report: one suite a unit, one case a step
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
        /// Print help; behind a tool's name, its parameters with examples
        #[arg(short, long)]
        help: bool,
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
    /// List the tools, or show one tool's parameters with examples
    Tools {
        /// The tool
        name: Option<String>,
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
    Monitor(terminal::monitor::MonitorArgs),
    /// Let other computers use a board over RFC 2217, one at a time
    Share(terminal::share::ShareArgs),
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
    /// Print what an option may be: port, chip, partition (for completion scripts)
    #[command(hide = true)]
    Complete {
        /// The parameter
        name: String,
        /// What the value begins with
        #[arg(default_value = "")]
        begin: String,
    },
    /// Print the manual page, or write one page for each command below a folder
    Man {
        /// The folder, such as ~/.local/share/man/man1
        dir: Option<PathBuf>,
    },
    /// Keep the consoles of this user's boards open (started when one is opened, ends when none is left)
    #[command(hide = true)]
    Daemon(serve::DaemonArgs),
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
        Self::Tool(verbs::for_person(error, None), false)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// The commands and options of the program.
pub fn command() -> clap::Command {
    // What is set for the whole program is no everyday option of a command.
    let own = Cli::command().mut_args(|arg| if arg.is_global_set() { arg.hide_short_help(true) } else { arg });
    let program = own.subcommands(verbs::commands());
    let template = verbs::help_template(&program);
    program.help_template(template)
}

/// Reads the command line and runs it.
pub fn main() -> ExitCode {
    let program = command();
    let done = match verbs::arranged(&program, std::env::args_os()) {
        Ok(line) => run(&program.get_matches_from(line)),
        Err(text) => Err(Failure::Usage(text)),
    };
    match done {
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

fn run(matches: &clap::ArgMatches) -> Result<(), Failure> {
    if let Some((name, inner)) = matches.subcommand().filter(|(name, _)| verbs::find(name).is_some()) {
        let globals = Globals::from_arg_matches(matches).map_err(|error| Failure::Usage(error.to_string()))?;
        return verb::run(&globals, name, inner);
    }
    let cli = Cli::from_arg_matches(matches).map_err(|error| Failure::Usage(error.to_string()))?;
    // A device that ended with the command that started it would be of no use.
    let keep = matches!(cli.command, Some(Command::Call { .. }));
    let config = load_config(&cli.globals, if keep { &[("keep_virtual", "true")] } else { &[] })?;
    logs::start(config.text("log"), mcp::SDK);
    match cli.command {
        None if io::stdin().is_terminal() => {
            command().print_help()?;
            Ok(())
        }
        None | Some(Command::Serve { http: None }) => Ok(serve::over_stdio(config)??),
        Some(Command::Serve { http: Some(address) }) => Ok(serve::over_http(config, &address)??),
        Some(Command::Call { tool: None, .. }) => Ok(show::call_help(command())?),
        Some(Command::Call { tool: Some(tool), help: true, .. }) => show::tool(&tool),
        Some(Command::Call { tool: Some(tool), args, json, junit, help: false }) => {
            call::call(&Ctx::new(config)?.sharing(false), &tool, &args, json, junit.as_deref())
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
            answer(reply, json, None)
        }
        Some(Command::Tools { name: Some(name), .. }) => show::tool(&name),
        Some(Command::Tools { name: None, json }) => show::tools(&Ctx::new(config)?, json),
        Some(Command::Sim(args)) => simulate(&args),
        Some(Command::Demo) => crate::demo::run().map_err(Failure::Other),
        Some(Command::Approve { hash }) => approve(&Ctx::new(config)?, &hash),
        Some(Command::Audit { .. }) => audit(&Ctx::new(config)?),
        Some(Command::Monitor(args)) => monitor(&Ctx::new(config)?, &args),
        Some(Command::Share(args)) => until_told(|job| terminal::share::run(&Ctx::new(config)?, &args, job)),
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
            Ok(print(&report.map_err(Failure::Other)?)?)
        }
        Some(Command::Face { name, .. }) => {
            Err(Failure::Usage(format!("there is no face `{name}` (known: {})", crate::faces::names().join(", "))))
        }
        Some(Command::Link { dir }) => {
            let made = esp_faces::make_links(&dir, &std::env::current_exe()?)?;
            Ok(print(&made.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n"))?)
        }
        Some(Command::Completions { shell }) => Ok(print(&complete::script(shell))?),
        Some(Command::Complete { name, begin }) => {
            Ok(print(&completions::values(&Ctx::new(config)?, &name, &begin, &|_| None).join("\n"))?)
        }
        Some(Command::Man { dir: None }) => Ok(docs::manual(command()).render(&mut io::stdout())?),
        Some(Command::Man { dir: Some(dir) }) => Ok(docs::manuals(&dir, command())?),
        Some(Command::Daemon(args)) => Ok(serve::consoles(config, &args)??),
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

fn simulate(args: &sim::Args) -> Result<(), Failure> {
    if let Some(help) = sim::fault_help(args, columns::width()) {
        return Ok(print(&help)?);
    }
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
    Ok(print(&format!("{file}: {}, the chain holds{torn}", counted(found.lines, "line")))?)
}

fn load_config(cli: &Globals, usual: &[(&str, &str)]) -> Result<Config, Failure> {
    let mut flags: Vec<(String, String)> =
        usual.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
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

fn monitor(ctx: &Ctx, args: &terminal::monitor::MonitorArgs) -> Result<(), Failure> {
    until_told(|job| terminal::monitor::run(ctx, args, job, &|port, dir| tools::flash_project(ctx, port, dir)))
}

fn until_told(work: impl FnOnce(&Job) -> Result<(), ToolError>) -> Result<(), Failure> {
    let job = Job::new();
    cancel_when_told_to_end(job.clone());
    Ok(work(&job)?)
}
