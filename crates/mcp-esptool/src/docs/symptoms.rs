//! `docs/troubleshooting.md`: from what a person sees to what it means.

use std::fmt::Write;

use esp_model::console::Catalogue;

use esp_ops::error::hints;

const INTRO: &str = "# Troubleshooting by symptom

Look for what you see in the tables; each line leads to the cause and the remedy. `esp_log_decode` does the same with a pasted or
saved log, `esp_console_capture` with a device, `esp_recover_chip` with one that does not answer or boot. [Findings](findings.md) says how
to add your own.
";

/// The page.
pub fn page() -> String {
    let mut text = format!("{}{INTRO}", super::NOTE);
    let entries = Catalogue::builtin().entries();
    let _ = write!(text, "\n## A call fails\n\n| Diagnosis | What happened | Next step |\n|---|---|---|\n");
    for (code, hint) in hints().iter().filter(|(_, hint)| hint.id.is_some()) {
        let _ = writeln!(text, "| [`{code}`](errors.md) | {} | {} |", cell(&hint.about), cell(&hint.next));
    }
    let _ = write!(text, "\n## The console says\n\n| Line | Meaning |\n|---|---|\n");
    for entry in entries {
        let line = shortened(entry.symptom()).replace('`', "'");
        let _ = writeln!(text, "| `{}` | [`{}`](#{}) |", cell(&line), entry.code, entry.code);
    }
    for entry in entries {
        let id = entry.id.as_deref().map_or(String::new(), |id| format!("Diagnosis: {id}.\n\n"));
        let example = entry.symptom();
        let _ =
            write!(text, "\n## `{}`\n\n```text\n{example}\n```\n\n{id}Cause: {}.\n", entry.code, plain(&entry.cause));
        let _ = writeln!(text, "\nRemedy: {}.\n\nSource: {}.", plain(&entry.remedy), entry.source);
    }
    text
}

/// The facts of a chip that the decoder fills in, in words.
fn plain(text: &str) -> String {
    let words = [
        ("{bootloader_offset}", "the bootloader's address"),
        ("{boot_pin}", "the BOOT pin"),
        ("{boot_also}", "the second boot strap"),
        ("{chip}", "the chip"),
    ];
    let mut text = words.iter().fold(text.to_owned(), |text, (hole, word)| text.replace(hole, word));
    // What a log may tell beyond that.
    while let Some(start) = text.find("[?") {
        let end = text[start..].find(']').map_or(text.len(), |length| start + length + 1);
        text.replace_range(start..end, "");
    }
    text
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn shortened(line: &str) -> String {
    const LONGEST: usize = 90;
    let line = line.trim();
    if line.chars().count() <= LONGEST {
        return line.to_owned();
    }
    let start: String = line.chars().take(LONGEST).collect();
    format!("{} …", start.rsplit_once(' ').map_or(start.as_str(), |(start, _)| start))
}
