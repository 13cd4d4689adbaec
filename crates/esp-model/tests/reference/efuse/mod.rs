//! eFuse values and burns against `espefuse --virt`, on every chip that it knows.
//!
//! Random plans: a few a chip by default, a thousand with `MCP_ESPTOOL_LONG`; `MCP_ESPTOOL_EFUSE_PLANS` sets the number.
//! Every form of every field's value with `MCP_ESPTOOL_LONG`, else a part of them.

#![allow(clippy::unwrap_used)]

mod commands;
mod corpus;
mod fields;
mod plans;
mod tokens;
mod virt;

use esp_model::chip::{self, Chip};
use esp_model::efuse::{Burn, Efuses, Request};
use esp_model::mac::Mac;
use libtest_mimic::Trial;

use crate::reference::{Answer, Stop, batch, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("efuse::summaries_of_blank_chips", fields::blank_summaries),
        trial("efuse::every_field_burned", fields::every_field),
        trial("efuse::value_forms", fields::value_forms),
        trial("efuse::random_plans", plans::random_plans),
        trial("efuse::every_file_of_the_corpus", corpus::every_file),
        trial("efuse::tokens", tokens::tokens),
    ]
}

/// Chips with eFuses that a tool can burn.
fn chips() -> impl Iterator<Item = &'static Chip> {
    chip::all().iter().filter(|chip| chip.efuse().controller.is_some())
}

fn long() -> bool {
    std::env::var_os("MCP_ESPTOOL_LONG").is_some()
}

/// xorshift, the same plans in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit.max(1)
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

fn unicast(random: &mut Random) -> Mac {
    let mut mac = Mac(random.bytes(6).try_into().unwrap());
    mac.0[0] &= 0xfe;
    mac
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What our code makes of requests on top of a state.
fn burn(before: &Efuses, requests: &[Request]) -> Result<Efuses, String> {
    let mut burn = Burn::new(before.clone());
    requests.iter().try_for_each(|request| burn.add(request)).map_err(|error| error.to_string())?;
    burn.after().map_err(|error| error.to_string())
}

/// The end of a long output.
fn tail(text: &str) -> String {
    let from = text.chars().count().saturating_sub(1600);
    text.chars().skip(from).filter(|letter| *letter != ' ' || from == 0).collect()
}

fn words_of(efuses: &Efuses) -> String {
    let block = |(id, words): (&u8, &Vec<u32>)| {
        let words: Vec<_> = words.iter().map(|word| format!("{word:08x}")).collect();
        format!("{id}: {}", words.join(" "))
    };
    efuses.words.iter().map(block).collect::<Vec<_>>().join("\n      ")
}

/// Works off lists of cases in as many processes as there are processors; each list stays in one process.
fn parallel(lists: &[Vec<Vec<String>>]) -> Result<Vec<Vec<Answer>>, Stop> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = lists.len().div_ceil(threads).max(1);
    let run = |share: &[Vec<Vec<String>>]| -> Result<Vec<Vec<Answer>>, Stop> {
        let mut answers = batch("espefuse", &share.concat())?.into_iter();
        Ok(share.iter().map(|list| answers.by_ref().take(list.len()).collect()).collect())
    };
    let answers: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = lists.chunks(share).map(|share| scope.spawn(move || run(share))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    Ok(answers.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}
