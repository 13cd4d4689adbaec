//! Asks which board is meant, where several are there and a person can answer.

use std::io::{self, BufRead, Write};

use crate::ctx::Ctx;

/// Asks on the terminal; none: there is nothing to choose, or nothing was chosen, and the call says so.
pub fn pick(ctx: &Ctx) -> Option<String> {
    let mut found = ctx.ports.candidates();
    found.retain(|found| !found.unknown && ctx.ports.allowed(&found.url, &ctx.policy));
    if found.len() < 2 {
        return None;
    }
    let rows: Vec<(String, String)> = found.into_iter().map(|found| (found.url, found.about)).collect();
    choose(&rows, &mut io::stdin().lock(), &mut io::stderr()).ok().flatten()
}

/// Shows the rows and reads a number, or a part of a name that only one has.
fn choose(rows: &[(String, String)], input: &mut dyn BufRead, output: &mut dyn Write) -> io::Result<Option<String>> {
    let width = rows.iter().map(|(url, _)| url.chars().count()).max().unwrap_or(0);
    writeln!(output, "Several boards are connected:")?;
    for (number, (url, about)) in rows.iter().enumerate() {
        writeln!(output, "  {:>2}  {url:width$}  {about}", number + 1)?;
    }
    loop {
        write!(output, "Which one (1-{}, empty to stop)? ", rows.len())?;
        output.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(None);
        }
        if let Some(url) = meant(rows, line.trim()) {
            return Ok(Some(url));
        }
        writeln!(output, "`{}` is not one of them", line.trim())?;
    }
}

fn meant(rows: &[(String, String)], answer: &str) -> Option<String> {
    if let Ok(number) = answer.parse::<usize>() {
        return Some(rows.get(number.checked_sub(1)?)?.0.clone());
    }
    let fitting: Vec<&(String, String)> = rows.iter().filter(|(url, _)| url.contains(answer)).collect();
    match fitting.as_slice() {
        [(url, _)] => Some(url.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_a_part_of_the_name_chooses() {
        let rows = [("/dev/ttyUSB0".to_string(), "CP2102".to_string()), ("/dev/ttyACM1".into(), "C3".into())];
        let ask = |typed: &str| {
            let mut shown = Vec::new();
            let chosen = choose(&rows, &mut typed.as_bytes(), &mut shown).unwrap();
            (chosen, String::from_utf8(shown).unwrap())
        };
        assert_eq!(ask("2\n").0.as_deref(), Some("/dev/ttyACM1"));
        assert_eq!(ask("USB\n").0.as_deref(), Some("/dev/ttyUSB0"));
        let (chosen, shown) = ask("3\n0\ntty\n1\n");
        assert_eq!((chosen.as_deref(), shown.matches("is not one of them").count()), (Some("/dev/ttyUSB0"), 3));
        assert_eq!(ask("\n").0, None);
        assert!(ask("").1.contains("CP2102"));
    }
}
