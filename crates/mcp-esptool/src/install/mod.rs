//! `mcp-esptool install`: adds this server to the configuration of MCP clients.

mod clients;
mod edit;

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};

pub use clients::Folders;
use clients::{CLIENTS, Client};
use edit::Server;

/// Parameters of `install`: a flag for each client of `clients.toml`, and what they have in common.
#[derive(Debug)]
pub struct InstallArgs {
    clients: Vec<&'static Client>,
    common: Common,
}

/// The clients that are named without an option, `install cursor`.
const NAMED: &str = "client";

#[derive(Debug, Args)]
struct Common {
    /// All clients that are found on this computer
    #[arg(long)]
    all: bool,
    /// For the project in the current folder only
    #[arg(long)]
    project: bool,
    /// Only show what would be written
    #[arg(long)]
    dry_run: bool,
    /// The server's name in the client
    #[arg(long, default_value = "esptool", value_parser = plain_name)]
    name: String,
    /// Parameters of `serve`, such as --toolsets bench
    #[arg(last = true)]
    serve: Vec<String>,
}

impl Args for InstallArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let flags = CLIENTS.iter().map(|client| {
            let place = if client.per_project() { " (also with --project)" } else { "" };
            Arg::new(client.flag.as_str())
                .long(client.flag.as_str())
                .action(ArgAction::SetTrue)
                .conflicts_with("all")
                .help(format!("{}{place}", client.name))
        });
        let names = PossibleValuesParser::new(CLIENTS.iter().map(|client| client.flag.as_str()));
        let clients = Arg::new(NAMED)
            .value_name("CLIENT")
            .num_args(0..)
            .value_parser(names)
            .conflicts_with("all")
            .help("Clients, by the names of their options");
        Common::augment_args(command.arg(clients).args(flags))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for InstallArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let words: Vec<&String> = matches.get_many(NAMED).into_iter().flatten().collect();
        let is_named = |client: &&Client| matches.get_flag(&client.flag) || words.contains(&&client.flag);
        let clients = CLIENTS.iter().filter(is_named).collect();
        Ok(Self { clients, common: Common::from_arg_matches(matches)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A name that needs no quotes in any of the files.
fn plain_name(text: &str) -> Result<String, String> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    if !text.is_empty() && text.chars().all(fits) { Ok(text.into()) } else { Err("letters, digits, - and _".into()) }
}

/// Adds the server to each chosen client; returns one line for each file.
///
/// `check` gets the arguments that the client will start us with, and refuses those that `serve` would refuse.
pub fn run(
    args: &InstallArgs,
    program: &Path,
    folders: &Folders,
    check: impl FnOnce(&[String]) -> Result<(), String>,
) -> Result<String, String> {
    let line: Vec<String> = ["serve".to_owned()].into_iter().chain(args.common.serve.iter().cloned()).collect();
    check(&line)?;
    let server = Server { name: &args.common.name, program, args: &line };
    let mut report = Vec::new();
    for client in chosen(args, folders)? {
        let file = client
            .file(folders, args.common.project)
            .ok_or_else(|| format!("{} has no configuration file for a project; leave out --project", client.name))?;
        let done = put(&file, args.common.dry_run, |old| edit::add(old, client, &server))?;
        report.push(format!("{}: {done}", client.name));
    }
    Ok(report.join("\n"))
}

/// The clients that are named; without a name those that are found, after a question.
fn chosen(args: &InstallArgs, folders: &Folders) -> Result<Vec<&'static Client>, String> {
    if !args.clients.is_empty() {
        return Ok(args.clients.clone());
    }
    let usable = |client: &&Client| client.is_there(folders) && (!args.common.project || client.per_project());
    let found: Vec<&Client> = CLIENTS.iter().filter(usable).collect();
    if found.is_empty() {
        let flags: Vec<String> = CLIENTS.iter().map(|client| format!("--{}", client.flag)).collect();
        return Err(format!("no MCP client was found; name one: {}", flags.join(", ")));
    }
    let names: Vec<&str> = found.iter().map(|client| client.name.as_str()).collect();
    if args.common.all || args.common.dry_run || asked(&names.join(", ")) {
        return Ok(found);
    }
    let flags: Vec<String> = found.iter().map(|client| format!("--{}", client.flag)).collect();
    Err(format!("found {}; choose with {} or --all", names.join(", "), flags.join(" ")))
}

/// Asks a person at a terminal; `false` where there is none.
fn asked(names: &str) -> bool {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return false;
    }
    let mut answer = String::new();
    let asked = write!(io::stderr(), "Found {names}. Add mcp-esptool to all of them? [y/N] ");
    asked.is_ok() && io::stdin().lock().read_line(&mut answer).is_ok() && answer.trim().eq_ignore_ascii_case("y")
}

/// Rewrites a file, whole or not at all.
fn put(file: &Path, dry_run: bool, change: impl FnOnce(&str) -> Result<String, String>) -> Result<String, String> {
    let named = |error: String| format!("{}: {error}", file.display());
    // A symbolic link stays one: its target is rewritten.
    let file = &esp_ops::paths::real(file).unwrap_or_else(|_| file.to_path_buf());
    let old = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(named(error.to_string())),
    };
    let new = change(&old).map_err(named)?;
    if new == old {
        return Ok(format!("{} has it already", file.display()));
    }
    if dry_run {
        return Ok(format!("{} would be:\n{new}", file.display()));
    }
    write(file, &new).map_err(|error| named(error.to_string()))?;
    Ok(format!("{} written; restart the client", file.display()))
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    let dir: PathBuf = file.parent().unwrap_or(Path::new(".")).into();
    fs::create_dir_all(&dir)?;
    let mut temp = tempfile::NamedTempFile::new_in(dir)?;
    temp.write_all(text.as_bytes())?;
    if let Ok(about) = fs::metadata(file) {
        fs::set_permissions(temp.path(), about.permissions())?;
    }
    temp.persist(file).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests;
