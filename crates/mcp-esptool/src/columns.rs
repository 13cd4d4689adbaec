//! Text in columns for a terminal.

/// Widest text: longer lines are hard to read.
const WIDEST: usize = 110;
/// Width where the terminal does not tell one.
const USUAL: usize = 100;
/// Least room for a text beside a name.
const LEAST: usize = 24;

/// Columns of the terminal: `COLUMNS`, or what standard output says.
pub fn width() -> usize {
    let named = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let asked = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    named.or_else(asked).map_or(USUAL, |columns: usize| columns.clamp(40, WIDEST))
}

/// A name and a text beside it, whose further lines are indented as its first.
pub fn entry(name: &str, text: &str, name_width: usize, width: usize) -> String {
    let indent = name_width + 4;
    let lines = lines(text, width.saturating_sub(indent).max(LEAST));
    let text = lines.join(&format!("\n{:indent$}", ""));
    format!("  {name:name_width$}  {text}").trim_end().to_string() + "\n"
}

/// The text in lines of at most `room` columns; a longer word has a line of its own.
pub fn lines(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(last) if last.chars().count() + 1 + word.chars().count() <= room => {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_continue_below_their_beginning() {
        let shown = entry("port", "the board that is meant when several are there", 6, 34);
        assert_eq!(shown, "  port    the board that is meant\n          when several are there\n");
        assert_eq!(entry("a-long-name", "", 6, 40), "  a-long-name\n");
    }
}
