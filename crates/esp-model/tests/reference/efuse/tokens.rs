//! Tokens (`EFSR:…`), the exchange form of eFuse contents.

use esp_model::chip;
use esp_model::efuse::{Efuses, bits, token};

use super::{Random, chips};
use crate::reference::{Stop, batch, fail};

/// espefuse reads our tokens, we read its.
pub fn tokens() -> Result<(), Stop> {
    let mut cases = Vec::new();
    let mut ours = Vec::new();
    for (index, chip) in chips().enumerate() {
        let table = chip.efuse_at(0);
        let mut random = Random(index as u64 + 99);
        let mut efuses = Efuses::blank(table);
        for block in table.blocks.iter().filter(|block| block.is_key) {
            let words = bits::to_words(&random.bytes(usize::from(block.words) * 4));
            efuses.words.insert(block.id, words);
        }
        let token = token::encode(chip.id, 0, &efuses);
        cases.push(
            ["--chip", chip.id, "--virt", "--token", &token, "dump", "--format", "token"].map(str::to_string).to_vec(),
        );
        ours.push((chip, token, efuses));
    }
    for ((chip, token, efuses), answer) in ours.iter().zip(batch("espefuse", &cases)?) {
        let Some(theirs) = answer.text.lines().find(|line| line.starts_with("EFSR:")) else {
            return fail(format!("{}: {}", chip.id, answer.text));
        };
        if theirs != token {
            return fail(format!("{}: {token} came back as {theirs}", chip.id));
        }
        let (id, revision, words) =
            token::decode(theirs, |id, revision| chip::by_name(id).map(|chip| chip.efuse_at(revision)))?;
        if (id.as_str(), revision, &words) != (chip.id, 0, &efuses.words) {
            return fail(format!("{}: we read {words:?}", chip.id));
        }
    }
    Ok(())
}
