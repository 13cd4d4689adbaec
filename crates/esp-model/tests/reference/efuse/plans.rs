//! Random plans on random chips, compared word by word.

use std::fs;
use std::path::{Path, PathBuf};

use esp_model::chip::Chip;
use esp_model::efuse::{ActiveCoding, Efuses, Request, bits};

use super::commands::{Command, Maker};
use super::virt::{Summary, Virtual, compare_summary, load, revision, store, summary};
use super::{Random, burn, chips, long, parallel, tail, words_of};
use crate::reference::{Answer, Stop, batch, fail, scratch};

/// Random plans a chip, and steps of each: short in every run, in the long mode a thousand of one step.
fn size() -> (usize, usize) {
    let (plans, steps) = if long() { (1000, 1) } else { (5, 3) };
    let wanted = std::env::var("MCP_ESPTOOL_EFUSE_PLANS").ok().and_then(|text| text.parse().ok());
    (wanted.unwrap_or(plans), steps)
}

/// One plan: what it begins with and its steps.
struct Plan {
    chip: &'static Chip,
    number: usize,
    start: Efuses,
    steps: Vec<Step>,
    /// What espefuse is asked to do, in order.
    cases: Vec<Vec<String>>,
    /// The case that shows the summary at the end.
    summary: Option<usize>,
}

struct Step {
    case: usize,
    /// espefuse's register file after the step.
    after: PathBuf,
    requests: Result<Vec<Request>, String>,
}

pub fn random_plans() -> Result<(), Stop> {
    let (count, steps) = size();
    // To look at some of a long run again: their numbers.
    let only = std::env::var("MCP_ESPTOOL_EFUSE_ONLY").unwrap_or_default();
    let only: Vec<usize> = only.split(',').filter_map(|number| number.parse().ok()).collect();
    let dir = scratch("efuse-random");
    let chips: Vec<_> = chips().collect();
    let blanks: Vec<_> = chips.iter().map(|chip| Virtual { chip, file: dir.join(chip.id) }).collect();
    let known = batch("espefuse", &blanks.iter().map(Virtual::summary).collect::<Vec<_>>())?;
    let mut plans = Vec::new();
    for (index, chip) in chips.iter().enumerate() {
        let known = summary(&known[index].text)?;
        let blank = fs::read(&blanks[index].file)?;
        for number in (0..count).filter(|number| only.is_empty() || only.contains(number)) {
            let mut random = Random((number * 1000 + index + 1) as u64 * 0x9e37_79b9);
            plans.push(plan(&dir, chip, number, steps, (&known, &blank), &mut random)?);
        }
    }
    // Neighbours differ in chip, so that all processes have as much to do.
    plans.sort_by_key(|plan| plan.number);
    let answers = parallel(&plans.iter().map(|plan| plan.cases.clone()).collect::<Vec<_>>())?;
    let (mut wrong, mut accepted) = (Vec::new(), 0);
    for (plan, answers) in plans.iter().zip(&answers) {
        match check(plan, answers) {
            Ok(burned) => accepted += burned,
            Err(Stop::Failed(text)) => wrong.push(text),
            Err(stop) => return Err(stop),
        }
    }
    let all = plans.len() * steps;
    eprintln!("efuse plans: {} of {} chips, {accepted} of {all} steps burned", plans.len(), chips.len());
    if !wrong.is_empty() {
        let file = dir.join("differences.txt");
        fs::write(&file, wrong.join("\n\n"))?;
        let first = wrong[..wrong.len().min(3)].join("\n\n");
        return fail(format!("{} plans differ, see {}; first:\n{first}", wrong.len(), file.display()));
    }
    // A test in which everything is refused would say nothing.
    if accepted * 3 < all { fail(format!("only {accepted} of {all} steps burned")) } else { Ok(()) }
}

/// What a plan finds on its chip: mostly nothing, else data of the factory, protection, another revision or coding.
fn start(chip: &'static Chip, number: usize, random: &mut Random) -> Efuses {
    let mut efuses = Efuses::blank(chip.efuse_at(0));
    if number % 2 == 1 && efuses.table.field("CODING_SCHEME").is_some() {
        let coding = if random.one_in(12) { 2 } else { 1 };
        let field = efuses.table.field("CODING_SCHEME").unwrap();
        field.store(efuses.words.get_mut(&field.block).unwrap(), &[coding]);
    }
    if number.is_multiple_of(3) {
        return efuses;
    }
    for block in efuses.table.blocks.iter().filter(|block| block.id != 0) {
        let len = efuses.capacity(block);
        if random.one_in(if block.is_key { 5 } else { 3 }) {
            let mut data = random.bytes(len);
            // Often as sparse as real ones are.
            if random.one_in(2) {
                data.iter_mut().for_each(|byte| *byte &= random.next() as u8 & random.next() as u8);
            }
            data.resize(usize::from(block.words) * 4, 0);
            efuses.words.insert(block.id, bits::to_words(&data));
        }
    }
    // A revision at which the map differs, where there is one.
    for overlay in &chip.efuse().overlays {
        let wanted = *random.pick(&[0, 1, 100, 101, overlay.max_revision.saturating_add(1), 300, 301]);
        set_revision(&mut efuses, wanted);
    }
    let fields: Vec<_> =
        efuses.table.fields.iter().filter(|field| field.block == 0 && !field.composed && field.shown).collect();
    for _ in 0..random.below(6) {
        let field = *random.pick(&fields);
        if !["CODING_SCHEME", "WR_DIS", "RD_DIS"].contains(&field.name.as_str()) {
            let value = random.bytes(usize::from(field.len()).div_ceil(8));
            field.store(efuses.words.get_mut(&0).unwrap(), &value);
        }
    }
    for (name, chance) in [("WR_DIS", 3), ("RD_DIS", 5)] {
        let field = efuses.table.field(name).unwrap();
        if random.one_in(chance) {
            let value = (random.next() & random.next() & random.next()) as u32;
            field.store(efuses.words.get_mut(&0).unwrap(), &value.to_le_bytes());
        }
    }
    efuses.table = chip.efuse_at(revision(&efuses));
    efuses.hide();
    efuses
}

fn set_revision(efuses: &mut Efuses, revision: u16) {
    let (major, minor) = ((revision / 100) as u8, (revision % 100) as u8);
    let parts = [
        ("WAFER_VERSION_MAJOR", major),
        ("WAFER_VERSION_MAJOR_LO", major & 3),
        ("WAFER_VERSION_MAJOR_HI", major >> 2),
        ("WAFER_VERSION_MINOR", minor),
    ];
    for (name, value) in parts {
        if let Some(field) = efuses.table.field(name).filter(|field| !field.composed) {
            field.store(efuses.words.get_mut(&field.block).unwrap(), &[value]);
        }
    }
}

fn plan(
    dir: &Path,
    chip: &'static Chip,
    number: usize,
    steps: usize,
    (known, blank): (&Summary, &[u8]),
    random: &mut Random,
) -> Result<Plan, Stop> {
    let virt = Virtual { chip, file: dir.join(format!("{}-{number}", chip.id)) };
    let start = start(chip, number, random);
    let mut plan = Plan { chip, number, steps: Vec::new(), cases: Vec::new(), summary: None, start };
    store(&plan.start, blank, &virt.file)?;
    for step in 0..steps {
        let serial = (number * 10 + step) * 10;
        let part = |part, random: &mut Random| {
            let dir = dir.join(chip.id.to_string() + "-data");
            fs::create_dir_all(&dir).unwrap();
            Maker { dir: &dir, efuses: &plan.start, known, serial: serial + part }.command(random)
        };
        let mut commands: Vec<_> = (0..=random.below(2)).map(|number| part(number, random)).collect();
        // espefuse takes the letters of a name for names when another command follows a protection.
        let last = commands.iter().position(Command::protects).map(|at| commands.remove(at));
        commands.retain(|command| !command.protects());
        commands.extend(last);
        let argv: Vec<_> = commands.iter().flat_map(|command| command.argv.clone()).collect();
        let case = plan.cases.len();
        plan.cases.push(virt.argv(&argv));
        let mut after = virt.file.clone();
        if step + 1 < steps {
            after = dir.join(format!("{}-{number}-{step}", chip.id));
            plan.cases.push(vec!["@copy".into(), virt.file.display().to_string(), after.display().to_string()]);
        }
        let requests = commands.into_iter().map(|command| command.requests).collect::<Result<Vec<_>, _>>();
        plan.steps.push(Step { case, after, requests: requests.map(|lists| lists.concat()) });
    }
    // The words are compared after every step; of a long run the summary of every twentieth plan will do.
    if steps > 1 || number % 20 < 2 {
        plan.summary = Some(plan.cases.len());
        plan.cases.push(virt.summary());
    }
    Ok(plan)
}

/// Refusals of espefuse that are findings of our linter (docs/safety.md), not of the burn itself.
const LINTED: [&str; 4] =
    ["must be readable", "Incompatible eFuse", "Incorrect chip revision", "Coding scheme (2) not supported"];

/// The difference is one that docs/compatibility.md names.
fn named(argv: &[String], ours: &Result<Efuses, String>, unchanged: bool, answer: &Answer) -> bool {
    let says = |text: &str| answer.text.contains(text);
    let linted = unchanged && LINTED.iter().any(|text| says(text));
    // Of some fields espefuse knows no protection by their own name, only by their block's.
    let protects = argv.iter().any(|word| word.ends_with("protect-efuse"));
    let nameless = protects && unchanged && says("is not one of");
    // A block of which only one half is hidden counts as hidden there; we hide the other half.
    let half_hidden = protects && says("already read protected");
    // A purpose whose bits are all in the present one counts as burned there; we refuse.
    let purpose = ours.as_ref().is_err_and(|error| error.contains("already has the purpose")) && answer.ok;
    // Frozen bits in raw data of BLOCK0: espefuse burns a part and stops at those that it keeps for the end.
    let torn = says("Burn postponed") && says("is write-protected. Burn is not possible");
    // A coding that no tool supports stops it half way; for us it is a finding.
    let coding = says("2 coding scheme is not supported");
    // The fifth bit of a purpose is a field of its own there.
    let fifth_bit = unchanged && says("too large an unsigned integer for a bitstring of length 4");
    // The second half of a long key goes into a block that another command of the same plan burns.
    let long = argv.iter().any(|word| word.contains("AES_256") || word == "ECDSA_KEY_P384");
    let same_block = long && unchanged && says("cannot be cleared");
    // Its virtual chip protects the bits of the map for older silicon.
    let old_map = says("Loading eFuses for") && says("not all bits were set");
    old_map || linted || nameless || half_hidden || purpose || torn || coding || fifth_bit || same_block
}

/// Equal words; a block that RD_DIS hides by ESP-IDF's table and not by espefuse's is left out.
fn same_words(ours: &Efuses, theirs: &Efuses) -> bool {
    // In another coding the same bits are other data: only what is not coded can be compared.
    let coded = |efuses: &Efuses| efuses.table.blocks.iter().map(|block| efuses.coding(block)).collect::<Vec<_>>();
    if ours.table.field("CODING_SCHEME").is_some() && coded(ours).iter().any(|one| *one != ActiveCoding::None) {
        return ours.words.iter().all(|(id, words)| {
            let len = ours.table.block(*id).map_or(0, |block| ours.capacity(block) / 4);
            theirs.words.get(id).and_then(|theirs| theirs.get(..len)) == words.get(..len)
        });
    }
    let hidden = |id: &u8| {
        let block = ours.table.block(*id).filter(|block| block.read_protect.is_empty());
        block.is_some_and(|block| ours.hidden(block).iter().all(|word| *word == u32::MAX))
    };
    ours.words.iter().filter(|(id, _)| !hidden(id)).all(|(id, words)| theirs.words.get(id) == Some(words))
}

/// Compares a plan step by step; how many steps burned something.
fn check(plan: &Plan, answers: &[Answer]) -> Result<usize, Stop> {
    let (mut state, mut burned) = (plan.start.clone(), 0);
    for (number, step) in plan.steps.iter().enumerate() {
        let theirs = load(plan.chip, &step.after)?;
        let answer = &answers[step.case];
        let ours = step.requests.clone().and_then(|requests| burn(&state, &requests));
        let unchanged = theirs.words == state.words;
        let same = match &ours {
            Ok(after) => same_words(after, &theirs),
            Err(_) => unchanged && !answer.ok,
        } || named(&plan.cases[step.case], &ours, unchanged, answer);
        if !same {
            return fail(format!(
                "{} plan {} step {number}: {:?}\n{:?}\n  before {}\n  ours   {}\n  theirs {}\n{}",
                plan.chip.id,
                plan.number,
                plan.cases[step.case],
                step.requests,
                words_of(&state),
                ours.as_ref().map_or_else(|error| error.clone(), words_of),
                words_of(&theirs),
                tail(&answer.text)
            ));
        }
        burned += usize::from(!unchanged);
        state = theirs;
    }
    if let Some(case) = plan.summary.filter(|case| answers[*case].ok) {
        compare_summary(&format!("{} plan {}", plan.chip.id, plan.number), &state, &summary(&answers[case].text)?)?;
    }
    Ok(burned)
}
