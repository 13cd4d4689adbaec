//! Every file of the corpus' `efuse` folder as data and as key, on every chip.

use std::fs;

use esp_model::efuse::{Block, Efuses, Request};

use super::virt::{Virtual, load};
use super::{burn, chips, parallel, tail, words_of};
use crate::reference::{Stop, corpus, fail, scratch};

pub fn every_file() -> Result<(), Stop> {
    let from = corpus()?.join("efuse/esptool");
    let mut files = fs::read_dir(&from)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    files.sort();
    let dir = scratch("efuse-corpus");
    let (mut cases, mut meant) = (Vec::new(), Vec::new());
    for (chip_number, chip) in chips().enumerate() {
        for (number, file) in files.iter().enumerate() {
            let data = fs::read(file)?;
            // Another block for each file, so that all of them have their turn.
            let blocks = &chip.efuse_at(0).blocks;
            let block = &blocks[(number + chip_number) % blocks.len()];
            let offset = number % 3;
            let text = ["burn-block-data", &block.name, &file.display().to_string(), "--offset", &offset.to_string()];
            let request = Request::Block { block: block.name.clone(), data: data.clone(), offset };
            let mut wanted = vec![(text.map(str::to_string).to_vec(), request)];
            wanted.extend(key(chip.efuse_at(0).blocks.iter(), chip.efuse_at(0), number, file, data));
            for (argv, request) in wanted {
                let virt = Virtual { chip, file: dir.join(format!("{}-{}", chip.id, meant.len())) };
                cases.push(vec![virt.argv(&argv)]);
                meant.push((virt, argv, request));
            }
        }
    }
    let (mut wrong, mut burned) = (Vec::new(), 0);
    for ((virt, argv, request), answers) in meant.iter().zip(parallel(&cases)?) {
        let (before, theirs) = (Efuses::blank(virt.chip.efuse_at(0)), load(virt.chip, &virt.file)?);
        let (ours, unchanged) = (burn(&before, std::slice::from_ref(request)), theirs.words == before.words);
        burned += usize::from(!unchanged);
        let same = match &ours {
            Ok(after) => after.words == theirs.words,
            Err(_) => unchanged && !answers[0].ok,
            // Data that choose a coding that no tool supports: for us a finding of the linter.
        } || answers[0].text.contains("2 coding scheme is not supported");
        if !same {
            let ours = ours.map_or_else(|error| error, |after| words_of(&after));
            wrong.push(format!("{} {argv:?}\n  ours {ours}\n  {}", virt.chip.id, tail(&answers[0].text)));
        }
    }
    if !wrong.is_empty() {
        return fail(format!("{} of {} differ:\n{}", wrong.len(), meant.len(), wrong[..wrong.len().min(4)].join("\n")));
    }
    if burned < files.len() { fail(format!("only {burned} burned")) } else { Ok(()) }
}

/// The file as a key, where the chip has purpose fields; another purpose for each file.
fn key<'a>(
    blocks: impl Iterator<Item = &'a Block>,
    table: &esp_model::efuse::EfuseTable,
    number: usize,
    file: &std::path::Path,
    key: Vec<u8>,
) -> Option<(Vec<String>, Request)> {
    // ECDSA keys come as PEM files, and these are none.
    let raw: Vec<_> = table.key_purposes.iter().filter(|one| !one.name.starts_with("ECDSA")).collect();
    let purpose = raw[number % raw.len()].name.clone();
    let block = blocks.into_iter().find(|block| block.is_key && block.purpose_field.is_some())?.name.clone();
    let argv = vec!["burn-key".into(), block.clone(), file.display().to_string(), purpose.clone()];
    Some((argv, Request::Key { block, key, purpose, read_protect: true, write_protect: true }))
}
