//! Brings a command line of either style (v4 underscores, v5 hyphens) into the form that the parser takes.
//!
//! What the parser cannot express happens here: `@file`, options of several letters after one dash, names with
//! underscores, options of the program after the command.

use std::fs;

use clap::{Arg, ArgAction, Command};

use crate::command::Face;
use crate::fault::Fault;

/// A command line, rewritten.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The program's name and the options before the command.
    pub head: Vec<String>,
    /// Each command with its arguments.
    pub tails: Vec<Vec<String>>,
    /// The command, if one was named.
    pub command: Option<String>,
    /// What is deprecated in it.
    pub warnings: Vec<String>,
    /// The whole line, where a file of arguments took part.
    pub echo: Option<String>,
}

/// Options whose values are words that had underscores.
const WORD_VALUES: [&str; 2] = ["--before", "--after"];

/// Rewrites the arguments that follow the program's name.
pub fn prepare(root: &Command, face: &Face, arguments: Vec<String>) -> Result<Line, Fault> {
    let given = arguments.len();
    let expanded = expand(arguments)?;
    let mut line = Line::default();
    if expanded.len() != given {
        line.echo = Some(format!("{} {}", face.name, expanded.join(" ")));
    }
    let mut head = vec![face.name.to_string()];
    let mut tail: Vec<String> = Vec::new();
    let words: Vec<String> = expanded.into_iter().map(|word| renamed(face, word, &mut line.warnings)).collect();
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let command = line.command.as_deref().and_then(|name| root.find_subcommand(name));
        if !is_option(&word) {
            match command {
                Some(_) if face.chain.is_some() && is_command(root, &word) => {
                    line.tails.push(std::mem::take(&mut tail));
                    tail.push(command_name(root, face, word, &mut line));
                }
                Some(_) => tail.push(word),
                None => tail.push(command_name(root, face, word, &mut line)),
            }
            continue;
        }
        let word = hyphens(&word, root, command, &mut line.warnings);
        let command = if face.single.is_some() { Some(root) } else { command };
        let own = command.is_some_and(|command| find(command, &word).is_some());
        let (to, arg) = if own || line.command.is_some() && find(root, &word).is_none() {
            (&mut tail, command.and_then(|command| find(command, &word)))
        } else {
            (&mut head, find(root, &word))
        };
        let values = arg.map_or(0, |arg| count_of_values(arg, &word));
        let (name, inline) = split(&word);
        // The parser would take the command for one more value: each value gets the option's name.
        let each = values > 1 && !own;
        let repeated = each.then(|| name.to_string());
        to.extend((!each).then(|| match inline {
            Some(value) => format!("{name}={}", value_of(name, value.to_string(), &mut line.warnings)),
            None => word.clone(),
        }));
        for _ in 0..values {
            let next = words.peek();
            let stops = next.is_none_or(|next| values > 1 && (is_option(next) || is_command(root, next)));
            if stops {
                break;
            }
            let value = words.next().map(|value| value_of(&word, value, &mut line.warnings));
            to.extend(value.map(|value| match &repeated {
                Some(name) => format!("{name}={value}"),
                None => value,
            }));
        }
    }
    // Older names of options come first, then those of values, then the command's.
    let rank = |warning: &String| ["Option", "Choice"].iter().position(|word| warning.contains(word)).unwrap_or(2);
    line.warnings.sort_by_key(rank);
    line.tails.push(tail);
    line.head = head;
    Ok(line)
}

impl Line {
    /// One whole line for each command.
    pub fn groups(&self) -> Vec<Vec<String>> {
        self.tails.iter().map(|tail| [self.head.clone(), tail.clone()].concat()).collect()
    }
}

/// Replaces each `@file` by the words in the file.
fn expand(arguments: Vec<String>) -> Result<Vec<String>, Fault> {
    let mut out = Vec::new();
    for word in arguments {
        let Some(path) = word.strip_prefix('@').filter(|path| !path.is_empty()) else {
            out.push(word);
            continue;
        };
        let words = words_of_file(path);
        out.extend(words.map_err(|error| Fault::Fatal(format!("'{path}': {}", crate::files::reason(&error))))?);
    }
    Ok(out)
}

/// The words of a file of arguments.
pub fn words_of_file(path: &str) -> std::io::Result<Vec<String>> {
    Ok(fs::read_to_string(path)?.lines().flat_map(shell_words).collect())
}

/// Splits a line as a shell does: quotes hold words together, a backslash takes the next character as it is.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (letter, Some(open)) if letter == open => quote = None,
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(letters.next()),
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            ('#', None) if word.is_none() => break,
            (letter, None) if letter.is_whitespace() => words.extend(word.take()),
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

fn is_option(word: &str) -> bool {
    word.len() > 1 && word.starts_with('-') && word.get(1..).is_none_or(|rest| rest.parse::<f64>().is_err())
}

fn is_command(root: &Command, word: &str) -> bool {
    root.find_subcommand(word.replace('_', "-")).is_some()
}

fn split(word: &str) -> (&str, Option<&str>) {
    match word.split_once('=') {
        Some((name, value)) if name.starts_with("--") => (name, Some(value)),
        _ => (word, None),
    }
}

/// Older names, and options of several letters after one dash.
fn renamed(face: &Face, word: String, warnings: &mut Vec<String>) -> String {
    let (name, value) = split(&word);
    let value = value.map(|value| format!("={value}")).unwrap_or_default();
    if let Some((_, long)) = face.shorts.iter().find(|(short, _)| *short == name) {
        return format!("{long}{value}");
    }
    match face.renamed.iter().find(|(old, _)| *old == name) {
        Some((old, new)) => {
            warnings.push(format!("Deprecated: Option '{old}' is deprecated. Use '{new}' instead."));
            format!("{new}{value}")
        }
        None => word,
    }
}

/// A long option with underscores, where one with hyphens is known.
fn hyphens(word: &str, root: &Command, command: Option<&Command>, warnings: &mut Vec<String>) -> String {
    let (name, value) = split(word);
    let known = |name: &str| find(root, name).is_some() || command.is_some_and(|command| find(command, name).is_some());
    let new = name.replace('_', "-");
    if !name.starts_with("--") || known(name) || new == name || !known(&new) {
        return word.to_string();
    }
    warnings.push(format!("Deprecated: Option '{name}' is deprecated. Use '{new}' instead."));
    value.map_or(new.clone(), |value| format!("{new}={value}"))
}

fn command_name(root: &Command, face: &Face, word: String, line: &mut Line) -> String {
    let new = face
        .renamed
        .iter()
        .find(|(old, _)| *old == word)
        .map_or_else(|| word.replace('_', "-"), |(_, new)| new.to_string());
    let name = if root.find_subcommand(&word).is_some() {
        word
    } else if root.find_subcommand(&new).is_some() {
        line.warnings.push(format!("Deprecated: Command '{word}' is deprecated. Use '{new}' instead."));
        new
    } else {
        return word;
    };
    line.command = Some(name.clone());
    name
}

/// The values of some options: chips in any spelling, reset modes with underscores.
fn value_of(option: &str, value: String, warnings: &mut Vec<String>) -> String {
    match option {
        "--chip" | "-c" => value.to_lowercase().replace(['-', '_'], ""),
        "--port" | "-p" => value,
        _ if (WORD_VALUES.contains(&option) || option == "-a") && value.contains('_') => {
            let new = value.replace('_', "-");
            let name = if option == "-a" { "--after" } else { option };
            warnings
                .push(format!("Deprecated: Choice '{value}' for option '{name}' is deprecated. Use '{new}' instead."));
            new
        }
        _ => value,
    }
}

/// The option that this word names.
fn find<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let (name, _) = split(word);
    if let Some(long) = name.strip_prefix("--") {
        return command.get_arguments().find(|arg| arg.get_long() == Some(long));
    }
    let short = name.strip_prefix('-')?.chars().next()?;
    command.get_arguments().find(|arg| arg.get_short() == Some(short))
}

/// How many of the following words are values of this option at most.
fn count_of_values(arg: &Arg, word: &str) -> usize {
    let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let inline = split(word).1.is_some() || !word.starts_with("--") && word.len() > 2;
    if !takes || inline {
        return 0;
    }
    arg.get_num_args().map_or(1, |range| range.max_values().max(1))
}

#[cfg(test)]
mod tests {
    use super::shell_words;

    #[test]
    fn files_of_arguments_are_split_as_a_shell_does() {
        assert_eq!(
            shell_words(r#"--flash-mode dio 0x0 "a b.bin" c\ d.bin # end"#),
            ["--flash-mode", "dio", "0x0", "a b.bin", "c d.bin"]
        );
    }
}
