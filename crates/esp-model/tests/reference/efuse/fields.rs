//! Every field of every chip: read, burned, and every form of a value.

use esp_model::efuse::{Burn, Efuses, Field, FieldKind, Request, text};

use super::virt::{Theirs, Virtual, compare_summary, load, summary};
use super::{Random, burn, chips, hex, long, parallel, tail, unicast, words_of};
use crate::reference::{Answer, Stop, batch, fail, scratch};

pub fn blank_summaries() -> Result<(), Stop> {
    let dir = scratch("efuse-blank");
    let chips: Vec<_> = chips().map(|chip| Virtual { chip, file: dir.join(chip.id) }).collect();
    let cases: Vec<_> = chips.iter().map(Virtual::summary).collect();
    let mut wrong = Vec::new();
    for (virt, answer) in chips.iter().zip(batch("espefuse", &cases)?) {
        let compared =
            load(virt.chip, &virt.file).and_then(|ours| compare_summary(virt.chip.id, &ours, &summary(&answer.text)?));
        if let Err(Stop::Failed(text)) = compared {
            wrong.push(text);
        }
    }
    if wrong.is_empty() { Ok(()) } else { fail(wrong.join("\n")) }
}

/// Each field that can be burned, all in one command, then the summary.
pub fn every_field() -> Result<(), Stop> {
    let dir = scratch("efuse-fields");
    let chips: Vec<_> = chips().map(|chip| Virtual { chip, file: dir.join(chip.id) }).collect();
    let blank = batch("espefuse", &chips.iter().map(Virtual::summary).collect::<Vec<_>>())?;
    let mut cases = Vec::new();
    let mut plans = Vec::new();
    for (virt, answer) in chips.iter().zip(&blank) {
        let known = summary(&answer.text)?;
        let ours = load(virt.chip, &virt.file)?;
        let mut random = Random(7);
        let (mut argv, mut requests) = (vec!["burn-efuse".to_string()], Vec::new());
        for (name, theirs) in &known {
            // Protection, coding and whole blocks would stand in the way of the others.
            let Some(field) = ours.table.field(name).filter(|field| burnable(&ours, field, theirs)) else { continue };
            if field.block != 0 && field.len() == 256 || ["WR_DIS", "RD_DIS", "CODING_SCHEME"].contains(&name.as_str())
            {
                continue;
            }
            // espefuse takes these by burn-custom-mac only while no version is burned.
            if ours.table.field("MAC_VERSION").is_some() && name.starts_with("CUSTOM_MAC") {
                continue;
            }
            if virt.chip.id == "esp32s3" && name == "DIS_USB_JTAG" || name == "DOWNLOAD_MODE_XPD_ON" {
                continue;
            }
            let value = value_text(&ours, field, &mut random);
            requests.push(text::request(&ours, name, Some(&value))?);
            argv.extend([name.clone(), value]);
        }
        cases.extend([virt.argv(&argv), virt.summary()]);
        plans.push(requests);
    }
    let answers = batch("espefuse", &cases)?;
    let mut wrong = Vec::new();
    for ((virt, requests), answers) in chips.iter().zip(&plans).zip(answers.chunks(2)) {
        if let Err(Stop::Failed(text)) = check_every_field(virt, requests, answers) {
            wrong.push(format!("{}: {text}", virt.chip.id));
        }
    }
    if wrong.is_empty() { Ok(()) } else { fail(wrong.join("\n")) }
}

fn check_every_field(virt: &Virtual, requests: &[Request], answers: &[Answer]) -> Result<(), Stop> {
    if !answers[0].ok {
        return fail(tail(&answers[0].text));
    }
    let mut burn = Burn::new(Efuses::blank(virt.chip.efuse_at(0)));
    for request in requests {
        if let Err(error) = burn.add(request) {
            return fail(format!("{request:?}: {error}"));
        }
    }
    let (ours, theirs) = (burn.after()?, load(virt.chip, &virt.file)?);
    if ours.words != theirs.words {
        return fail(format!("ours   {}\n    theirs {}", words_of(&ours), words_of(&theirs)));
    }
    compare_summary("after", &theirs, &summary(&answers[1].text)?)
}

pub fn burnable(efuses: &Efuses, field: &Field, theirs: &Theirs) -> bool {
    let factory = ["MAC", "MAC_EXT", "ADC_VREF"].contains(&field.name.as_str());
    !factory && !theirs.calculated && !field.composed && efuses.table.field(&field.name).is_some()
}

/// A value that the field can take, in one of the forms that espefuse reads.
pub fn value_text(efuses: &Efuses, field: &Field, random: &mut Random) -> String {
    let len = usize::from(field.len());
    match field.kind {
        FieldKind::Mac => unicast(random).to_string(),
        FieldKind::Bytes | FieldKind::Key => {
            // Under 3/4 coding a key block takes less than its field has bits for.
            let block = efuses.table.block(field.block).unwrap();
            let whole = usize::from(block.words) * 32 == len && random.below(8) != 0;
            let bytes = if whole { efuses.capacity(block) } else { len / 8 };
            let prefix = if random.one_in(2) { "0x" } else { "" };
            format!("{prefix}{}", hex(&random.bytes(bytes)))
        }
        FieldKind::SpiPin => (1 + random.below(29)).to_string(),
        _ if efuses.is_purpose(&field.name) => {
            let known = efuses.table.key_purposes.iter().filter(|one| one.value.is_some_and(|value| value != 0));
            let block = efuses.table.blocks.iter().find(|block| block.purpose_field.as_ref() == Some(&field.name));
            let fits = |blocks: &[u8]| blocks.is_empty() || block.is_none_or(|block| blocks.contains(&block.id));
            let known: Vec<_> = known.filter(|one| one.value.unwrap() >> len == 0 && fits(&one.blocks)).collect();
            let purpose = known[random.below(known.len())];
            if random.one_in(2) { purpose.name.clone() } else { purpose.value.unwrap().to_string() }
        }
        _ => {
            let value = 1 + random.next() % ((1u64 << len.min(32)) - 1).max(1);
            match random.below(3) {
                0 => format!("{value:#x}"),
                1 => format!("{value:#b}"),
                _ => value.to_string(),
            }
        }
    }
}

/// All that can be written behind a field's name, right and wrong; `None`: nothing.
fn forms(efuses: &Efuses, field: &Field, random: &mut Random) -> Vec<Option<String>> {
    let len = usize::from(field.len());
    let mut forms: Vec<Option<String>> = vec![None, Some("nonsense".into())];
    let mut add = |text: String| forms.push(Some(text));
    match field.kind {
        FieldKind::Mac => {
            add(unicast(random).to_string());
            ["03:11:22:33:44:55", "02:11:22:33:44", "021122334455", "02:11:22:33:44:5g", "02:11:22:33:44:55:66"]
                .into_iter()
                .for_each(|text| add(text.into()));
        }
        FieldKind::Bytes | FieldKind::Key => {
            for bytes in [len / 8, len / 8, (len / 8).saturating_sub(1), len / 8 + 1, 24] {
                let digits = hex(&random.bytes(bytes));
                let prefix = if random.one_in(2) { "0x" } else { "" };
                add(format!("{prefix}{digits}"));
            }
            add("0".repeat(len / 4));
        }
        FieldKind::SpiPin => {
            ["0", "1", "29", "30", "31", "32", "33", "34", "0x20"].into_iter().for_each(|pin| add(pin.into()))
        }
        _ if efuses.is_purpose(&field.name) => {
            efuses.table.key_purposes.iter().for_each(|purpose| add(purpose.name.clone()));
            (0..34).for_each(|number| add(number.to_string()));
            ["CUSTOM_15", "CUSTOM_DIGEST_20", "CUSTOM_99"].into_iter().for_each(|name| add(name.into()));
            // Without the fifth bit of the purpose espefuse has no highest value that fits.
            if len > 4 {
                add("CUSTOM_MAX".into());
            }
        }
        _ => {
            let most = (1u64 << len.min(32)) - 1;
            for value in [0, 1, most, most + 1, 1 + random.next() % most] {
                add(value.to_string());
            }
            add(format!("{most:#x}"));
            add(format!("{:#b}", 1 + random.next() % most));
        }
    }
    forms
}

/// Each form of each field's value on a blank chip: the same bits, or refused by both.
pub fn value_forms() -> Result<(), Stop> {
    let dir = scratch("efuse-forms");
    let every = if long() { 1 } else { 20 };
    let chips: Vec<_> = chips().map(|chip| Virtual { chip, file: dir.join(chip.id) }).collect();
    let blank = batch("espefuse", &chips.iter().map(Virtual::summary).collect::<Vec<_>>())?;
    let (mut cases, mut meant, mut number) = (Vec::new(), Vec::new(), 0usize);
    for (virt, answer) in chips.iter().zip(&blank) {
        let efuses = load(virt.chip, &virt.file)?;
        let mut random = Random(11);
        for (name, theirs) in &summary(&answer.text)? {
            // A value that espefuse computes from several fields cannot be burned by that name there.
            let whole = |field: &&Field| !theirs.calculated && theirs.bits == u64::from(field.len());
            let Some(field) = efuses.table.field(name).filter(whole) else { continue };
            // Where a version or a flag belongs to the address, espefuse burns both by another command only.
            let belongs = ["MAC_VERSION", "CUSTOM_MAC_USED"].iter().any(|name| efuses.table.field(name).is_some());
            if belongs && name.starts_with("CUSTOM_MAC") && name != "CUSTOM_MAC_USED" {
                continue;
            }
            for form in forms(&efuses, field, &mut random) {
                number += 1;
                if !number.is_multiple_of(every) {
                    continue;
                }
                let one = Virtual { chip: virt.chip, file: dir.join(format!("form{number}")) };
                let argv: Vec<_> = ["burn-efuse".into(), name.clone()].into_iter().chain(form.clone()).collect();
                cases.push(vec![one.argv(&argv)]);
                meant.push((one, efuses.clone(), name.clone(), form));
            }
        }
    }
    let mut wrong = Vec::new();
    for ((virt, before, name, form), answers) in meant.iter().zip(parallel(&cases)?) {
        let theirs = load(virt.chip, &virt.file)?;
        let ours = text::request(before, name, form.as_deref()).map_err(|error| error.to_string());
        let ours = ours.and_then(|request| burn(before, &[request]));
        let unchanged = theirs.words == before.words;
        let same = match &ours {
            Ok(after) => after.words == theirs.words,
            // "Nothing to burn" is no error for espefuse.
            Err(_) => unchanged && (!answers[0].ok || answers[0].text.contains("Nothing to burn")),
        };
        if !same {
            let ours = ours.map_or_else(|error| error, |after| words_of(&after));
            let theirs = if unchanged { tail(&answers[0].text) } else { words_of(&theirs) };
            wrong.push(format!("{} {name} {form:?}\n  ours   {ours}\n  theirs {theirs}", virt.chip.id));
        }
    }
    eprintln!("efuse values: {} forms", meant.len());
    if wrong.is_empty() {
        return Ok(());
    }
    std::fs::write(dir.join("differences.txt"), wrong.join("\n\n"))?;
    fail(format!("{} differ, see {}; first:\n{}", wrong.len(), dir.display(), wrong[..wrong.len().min(5)].join("\n")))
}
