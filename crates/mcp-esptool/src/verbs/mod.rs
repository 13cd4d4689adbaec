//! Verbs: the tools as people call them on a command line, `read nvs nvs.bin`. `verbs.toml` says which tool a verb
//! calls and which parameters are positional; options, texts and values follow from the tool's schema.

mod grammar;
mod line;
mod options;
mod picker;
mod said;
mod table;
mod words;

use clap::ArgMatches;
use serde_json::{Map, Value};

use crate::tool::Entry;
use crate::tools;

pub use grammar::{commands, help_template};
pub use line::arranged;
pub use picker::pick;
pub use said::{for_person, next_lines, quoted};
pub use table::{Verb, find, table};

/// One call of a verb: what the command line says.
pub struct Line {
    /// The verb that does the work, below its parents.
    pub verb: &'static Verb,
    /// The tool that is called.
    pub entry: &'static Entry,
    /// Its parameters.
    pub input: Map<String, Value>,
    /// Show the console afterwards.
    pub watch: bool,
    /// The app's ELF file, for the console.
    pub elf: Option<String>,
    /// Print the result, or the error, as JSON.
    pub json: bool,
    /// Print nothing but errors.
    pub quiet: bool,
    /// How much more is logged than usual.
    pub verbose: u8,
}

/// Where values come from that the line does not give.
pub struct Surroundings<'a> {
    /// An environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// A key of `esptool.cfg`.
    pub esptool_cfg: &'a dyn Fn(&str) -> Option<String>,
}

/// Reads what follows a verb. An error is a text for the user.
pub fn read(name: &str, matches: &ArgMatches, around: &Surroundings) -> Result<Line, String> {
    let top = find(name).ok_or_else(|| format!("there is no verb `{name}`"))?;
    let (verb, path, matches) = match matches.subcommand() {
        Some((inner, matches)) => (top.below(inner), format!("{name} {inner}"), matches),
        None => (top.own(), name.to_string(), matches),
    };
    let verb = verb.ok_or_else(|| format!("`{path}` needs one of its verbs"))?;
    let entry = verb.entry().ok_or_else(|| format!("the tool of `{path}` is missing"))?;
    let parameters = verb.parameters();
    let mut input = options::given(&parameters, matches);
    let words: Vec<String> = matches.get_many::<String>(grammar::WORDS).into_iter().flatten().cloned().collect();
    let places = words::take(verb, &path, &words, &input)?;
    if places.is_empty() && !names_what(verb, &input) {
        input.extend(verb.otherwise.clone());
    }
    input.extend(places);
    input.extend(verb.fixed.clone());
    set_by_surroundings(verb, &parameters, &mut input, around);
    let mut line = Line {
        verb,
        entry,
        input,
        watch: false,
        elf: None,
        json: matches.get_flag(grammar::JSON),
        quiet: matches.get_flag(grammar::QUIET),
        verbose: matches.get_count(grammar::VERBOSE),
    };
    line.watch_if_wanted(matches)?;
    Ok(line)
}

/// The tool that these words call.
pub fn tool_of(words: &[&str]) -> Option<&'static str> {
    let mut words = words.iter();
    let mut verb = find(words.next()?)?;
    for word in words {
        verb = verb.below(word)?;
    }
    verb.entry().map(|entry| entry.name)
}

/// Lines with which people call this tool, without the program's name.
pub fn lines_of(tool: &str) -> Vec<String> {
    let all = table().verb.iter().flat_map(|verb| verb.verb.iter().chain([verb]));
    all.filter(|verb| verb.names_tool(tool)).flat_map(|verb| verb.examples.iter().cloned()).collect()
}

/// An option names what a positional word could have named.
fn names_what(verb: &Verb, input: &Map<String, Value>) -> bool {
    let names = verb.forms.iter().flat_map(|form| form.split_whitespace());
    names.map(|name| name.trim_end_matches("...")).any(|name| input.contains_key(name))
}

/// Environment variables and `esptool.cfg` set what the line does not.
fn set_by_surroundings(
    verb: &Verb,
    parameters: &Map<String, Value>,
    input: &mut Map<String, Value>,
    around: &Surroundings,
) {
    let no_device = verb.without_device.iter().any(|name| input.contains_key(name));
    let is_free = |name: &str, input: &Map<String, Value>| {
        parameters.contains_key(name) && !input.contains_key(name) && !(no_device && name == "port")
    };
    // Words of esptool for "as it is".
    let says = |value: &String| !["", "auto", "keep"].contains(&value.as_str());
    let has = |name: &String| parameters.contains_key(name);
    for (name, variables) in &table().environment {
        if !table().environment_beside.get(name).is_none_or(has) {
            continue;
        }
        let value = variables.iter().find_map(|variable| (around.variable)(variable).filter(says));
        if let Some(value) = value.filter(|_| is_free(name, input)) {
            // As esptool 4 spelled it.
            let value = if matches!(name.as_str(), "before" | "after") { value.replace('_', "-") } else { value };
            input.insert(name.clone(), value.into());
        }
    }
    for (name, key) in &table().esptool_cfg {
        if let Some(value) = (around.esptool_cfg)(key).filter(|_| is_free(name, input)) {
            input.insert(name.clone(), value.into());
        }
    }
    for (name, attempts) in &table().esptool_cfg_attempts {
        let count = (around.esptool_cfg)(&attempts.key).filter(|_| is_free(name, input));
        if let Some(seconds) = count.and_then(|count| attempts.seconds(count.parse().ok()?)) {
            input.insert(name.clone(), seconds.into());
        }
    }
}

impl Line {
    /// The device is not named, and several could be meant.
    pub fn lacks_port(&self) -> bool {
        let takes = self.verb.parameters().contains_key("port");
        let no_device = self.verb.without_device.iter().any(|name| self.input.contains_key(name));
        takes && !no_device && !self.input.contains_key("port")
    }

    /// The call flashes, and the console follows: another tool may do the flashing, and the monitor finds names in
    /// crashes by the ELF file.
    fn watch_if_wanted(&mut self, matches: &ArgMatches) -> Result<(), String> {
        let Some(watch) = &self.verb.watch else { return Ok(()) };
        self.watch = match watch.unless.as_slice() {
            [] => matches.get_flag(grammar::MONITOR),
            names => !names.iter().any(|name| self.input.contains_key(name)),
        };
        if !self.watch {
            return Ok(());
        }
        if let Some(name) = &watch.tool {
            self.entry = tools::find(name).ok_or_else(|| format!("there is no tool `{name}`"))?;
        }
        let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(String::from));
        let named = text(self.input.remove("elf_file"));
        let project = text(self.input.get("project").cloned());
        self.elf = named.or(project.filter(|path| is_elf(path)));
        // The monitor starts the application, so that nothing of its start is missed.
        self.input.remove("run");
        Ok(())
    }
}

/// The file is a linked program.
fn is_elf(path: &str) -> bool {
    use std::io::Read;
    let mut start = [0; 4];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *b"\x7fELF"
}

#[cfg(test)]
mod tests;
