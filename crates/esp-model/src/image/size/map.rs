//! The linker's map file (GNU ld, `-Map`).

/// Why a map is not readable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// A part that every map has is not there.
    #[error("not a linker map: there is no {0:?}")]
    Missing(&'static str),
    /// A line of another form than expected.
    #[error("line {0} of the map is not understood")]
    Line(usize),
}

/// A region of the linker script's MEMORY command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Region {
    pub name: String,
    pub origin: u64,
    pub len: u64,
}

/// What an object contributes to an output section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Input {
    pub name: String,
    pub address: u64,
    pub len: u64,
    /// Filling behind it.
    pub fill: u64,
    pub archive: String,
    pub object: String,
    pub symbols: Vec<Symbol>,
}

/// A named piece of an input section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Symbol {
    pub name: String,
    pub address: u64,
    pub len: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Output {
    pub name: String,
    pub address: u64,
    pub len: u64,
    pub inputs: Vec<Input>,
}

#[derive(Debug)]
pub(super) struct MapFile {
    pub regions: Vec<Region>,
    /// The chip's id as ESP-IDF writes it.
    pub chip: Option<String>,
    pub outputs: Vec<Output>,
}

const MEMORY: &str = "Memory Configuration";
const SCRIPT: &str = "Linker script and memory map";
const REFERENCES: &str = "Cross Reference Table";

impl MapFile {
    pub fn parse(text: &str) -> Result<Self, MapError> {
        let lines: Vec<&str> = text.lines().collect();
        let script = lines.iter().position(|line| line.starts_with(SCRIPT)).ok_or(MapError::Missing(SCRIPT))?;
        let (before, after) = lines.split_at(script);
        let end = after.iter().position(|line| line.starts_with(REFERENCES)).unwrap_or(after.len());
        let body = after.get(..end).unwrap_or_default();
        let mut parser = Parser { outputs: Vec::new(), state: State::Outside, last_len: 0 };
        for (index, line) in body.iter().enumerate().skip(1) {
            parser.line(line).ok_or(MapError::Line(script + index + 1))?;
        }
        Ok(Self { regions: regions(before)?, chip: body.iter().find_map(|line| chip(line)), outputs: parser.outputs })
    }
}

/// A number as the linker writes it. These chips have 32-bit addresses; much larger ones
/// (sections that are nowhere, damage) count as the same far address.
fn number(text: &str) -> Option<u64> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    number.map(|number| number.min(1 << 40))
}

fn regions(lines: &[&str]) -> Result<Vec<Region>, MapError> {
    let memory = lines.iter().position(|line| line.starts_with(MEMORY)).ok_or(MapError::Missing(MEMORY))?;
    let list = lines.iter().enumerate().skip(memory + 1).skip_while(|(_, line)| !line.starts_with("Name")).skip(1);
    let mut regions = Vec::new();
    for (index, line) in list {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ([name, origin, len] | [name, origin, len, _]) = words.as_slice() else {
            if words.is_empty() {
                continue;
            }
            return Err(MapError::Line(index + 1));
        };
        let (Some(origin), Some(len)) = (number(origin), number(len)) else { return Err(MapError::Line(index + 1)) };
        if *name != "*default*" {
            regions.push(Region { name: (*name).to_owned(), origin, len });
        }
    }
    Ok(regions)
}

/// The chip that a line names: by ESP-IDF's linker symbol, by an object of older versions, or by the toolchain's path.
fn chip(line: &str) -> Option<String> {
    for (at, mark) in line.match_indices("IDF_TARGET_") {
        let rest = line.get(at + mark.len()..)?;
        let word = rest.split_whitespace().next().filter(|_| !rest.starts_with(char::is_whitespace)).unwrap_or("");
        if rest.get(word.len()..)?.starts_with(" =") {
            return Some(word.to_ascii_lowercase());
        }
    }
    if let Some((_, rest)) = line.split_once("project_elf_src_") {
        let word = rest.split_whitespace().next().unwrap_or("");
        if let Some((id, _)) = word.rsplit_once(".c.obj") {
            return Some(id.to_owned());
        }
    }
    let (_, rest) = line.strip_prefix("LOAD ")?.split_once("/xtensa-esp")?;
    let (rest, _) = rest.split_once("-elf/")?;
    (!rest.is_empty() && !rest.contains('-')).then(|| format!("esp{rest}"))
}

enum State {
    Outside,
    /// The output section's address is on the next line.
    Head(Output),
    Inside {
        output: Output,
        input: Option<Partial>,
    },
}

/// An input section whose address may be on the next line.
struct Partial {
    input: Input,
    placed: bool,
}

struct Parser {
    outputs: Vec<Output>,
    state: State,
    /// The length read last from a line of its own; see `add`.
    last_len: u64,
}

impl Parser {
    /// None: the line is not understood.
    fn line(&mut self, line: &str) -> Option<()> {
        match std::mem::replace(&mut self.state, State::Outside) {
            State::Outside => self.outside(line),
            State::Head(output) => self.head(output, line),
            State::Inside { output, input } => self.inside(output, input, line),
        }
    }

    fn outside(&mut self, line: &str) -> Option<()> {
        if !line.starts_with('.') {
            return Some(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = |name: &str| Output { name: name.to_owned(), ..Output::default() };
        self.state = match words.as_slice() {
            [name] => State::Head(output(name)),
            [name, address, len] => {
                let output = Output { address: number(address)?, len: number(len)?, ..output(name) };
                State::Inside { output, input: None }
            }
            _ => return None,
        };
        Some(())
    }

    fn head(&mut self, mut output: Output, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() {
            self.outputs.push(output);
            return Some(());
        }
        if let [address, len] = words.as_slice()
            && let (Some(address), Some(len)) = (number(address), number(len))
        {
            (output.address, output.len) = (address, len);
            self.last_len = len;
        }
        self.state = State::Inside { output, input: None };
        Some(())
    }

    fn inside(&mut self, mut output: Output, mut input: Option<Partial>, line: &str) -> Option<()> {
        let line = line.trim();
        if line.is_empty() {
            self.add(&mut output, input);
            self.outputs.push(output);
            return Some(());
        }
        if line.starts_with('.') || line.starts_with("COMMON") {
            self.add(&mut output, input);
            input = Some(new_input(line)?);
        } else if let Some(partial) = &mut input {
            self.detail(partial, line)?;
        }
        self.state = State::Inside { output, input };
        Some(())
    }

    /// A line that belongs to an input section.
    fn detail(&mut self, partial: &mut Partial, line: &str) -> Option<()> {
        let input = &mut partial.input;
        if !partial.placed {
            let (address, rest) = split_word(line)?;
            let (len, file) = split_word(rest)?;
            place(input, address, len, file)?;
            partial.placed = true;
        } else if line.starts_with("*fill*") {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, address, len] = words.as_slice() else { return None };
            self.last_len = number(len)?;
            if number(address)? == input.address {
                input.len = 0;
            }
            input.fill = input.fill.saturating_add(self.last_len);
        } else if let [_, len, kind, _] = line.split_whitespace().collect::<Vec<_>>().as_slice()
            && ["BYTE", "SHORT", "LONG", "QUAD", "SQUAD"].contains(kind)
        {
            input.fill = input.fill.saturating_add(number(len)?);
        }
        Some(())
    }

    /// Takes an input section into its output section.
    fn add(&mut self, output: &mut Output, partial: Option<Partial>) {
        let Some(Partial { mut input, .. }) = partial else { return };
        if let Some(last) = output.inputs.last_mut() {
            // An address outside of the output section: nothing of it is in the file.
            if input.address < output.address || input.address - output.address >= output.len {
                input.len = 0;
            }
            // Two at the same address: the earlier one was merged away.
            if last.address == input.address {
                last.len = 0;
            }
            if input.len == 0 && input.fill != 0 {
                if let Some(last) = output.inputs.iter_mut().rev().find(|input| input.len != 0) {
                    last.fill = last.fill.saturating_add(self.last_len);
                }
                input.fill = 0;
            }
        }
        output.inputs.push(input);
    }
}

/// The first word and what follows it.
fn split_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace)?;
    let (word, rest) = text.split_at_checked(end)?;
    let rest = rest.trim_start();
    (!rest.is_empty()).then_some((word, rest))
}

fn new_input(line: &str) -> Option<Partial> {
    let Some((name, rest)) = split_word(line) else {
        return Some(Partial { input: Input { name: line.to_owned(), ..Input::default() }, placed: false });
    };
    let (address, rest) = split_word(rest)?;
    let (len, file) = split_word(rest)?;
    let mut input = Input { name: name.to_owned(), ..Input::default() };
    place(&mut input, address, len, file)?;
    Some(Partial { input, placed: true })
}

fn place(input: &mut Input, address: &str, len: &str, file: &str) -> Option<()> {
    (input.address, input.len) = (number(address)?, number(len)?);
    (input.archive, input.object) = match file.split_once('(') {
        Some((archive, object)) => {
            let mut object = object.to_owned();
            object.pop();
            (archive.to_owned(), object)
        }
        None => (String::from("(exe)"), file.to_owned()),
    };
    Some(())
}
