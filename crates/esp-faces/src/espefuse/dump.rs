//! `dump`: all blocks as words, as files or as a token.

use std::fs;

use esp_model::efuse::{Block, bits, token};

use super::bench::Bench;
use crate::command::Call;
use crate::fault::Fault;

/// The name that the tables print, and the number's name where it differs.
pub fn names(block: &Block) -> (String, String) {
    let number = format!("BLOCK{}", block.id);
    let other = if block.name == number { String::new() } else { number };
    (block.name.clone(), other)
}

/// Prints each block's words.
pub fn blocks(bench: &Bench, call: &Call<'_>, what: &str) {
    for block in &bench.efuses.table.blocks {
        let words = bench.efuses.block(block.id).iter().take(bench.efuses.capacity(block) / 4);
        let words: Vec<String> = words.map(|word| format!("{word:08x}")).collect();
        let (name, number) = names(block);
        call.terminal.say(format_args!("{name:<16}({number:<16}) [{:<2}] {what}: {}", block.id, words.join(" ")));
    }
}

fn bytes(bench: &Bench, block: &Block) -> Vec<u8> {
    let mut bytes = bits::to_bytes(bench.efuses.block(block.id));
    bytes.truncate(bench.efuses.capacity(block));
    bytes
}

pub fn run(bench: &Bench, call: &Call<'_>) -> Result<(), Fault> {
    let file = call.optional("file-name");
    let table = bench.efuses.table;
    match (call.text("format"), file) {
        ("token", file) => {
            let text = token::encode(bench.chip.id, bench.revision(), &bench.efuses);
            match file {
                Some(path) => fs::write(path, text)?,
                None => call.terminal.say(text),
            }
        }
        ("joint", Some(path)) => {
            let all: Vec<u8> = table.blocks.iter().flat_map(|block| bytes(bench, block)).collect();
            call.terminal.say(path);
            fs::write(path, all)?;
        }
        ("split" | "default", Some(path)) => {
            let (stem, extension) = match path.rsplit_once('.') {
                Some((stem, extension)) if !extension.contains('/') => (stem, format!(".{extension}")),
                _ => (path, String::new()),
            };
            for block in &table.blocks {
                let path = format!("{stem}{}{extension}", block.id);
                call.terminal.say(&path);
                fs::write(path, bytes(bench, block))?;
            }
        }
        _ => blocks(bench, call, "dump"),
    }
    Ok(())
}
