//! What monitors, loggers, mails and issue trackers put before a line.

use std::sync::OnceLock;

use regex::Regex;

/// Most prefixes taken off one line: `> 12:16:53.101 -> [E][esp-idf:000]: `.
const MOST: usize = 6;

/// One prefix at the start of a line. What cannot be told from the device's own text stays.
const PREFIX: &str = r"(?x)^(?:
    \s+
  | >+(?:\s|$)                                       # quoted mail
  | ``+[A-Za-z]*\s*                                  # Markdown fence
  | \|\s
  | \[?\d{4}[-/.]\d\d[-/.]\d\d[T\x20_]?\]?\s*        # date
  | \[?\d{1,2}:\d\d:\d\d(?:[.,:]\d{1,9}(?:,\d{3})?)?(?:Z|[+-]\d\d:?\d\d)?\]?(?:\s*(?:->|>|\||-|\#)(?:\s|$))?:?\s*
  | \[?(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),?\s+(?:[A-Z][a-z]{2}\s+\d{1,2}|\d{1,2}\s+[A-Z][a-z]{2})\s+(?:\d{4}\s+)?\d\d:\d\d:\d\d(?:[.,]\d+)?(?:\s+\d{4})?\]?:?\s*  # date of C and mail
  | \d{1,6}(?:\s*[|:]\s+|\t|\s{2,})                  # line number
  | \[\s*\d+(?:\.\d+)?(?:\s?m?s)?\](?:\s*->)?\s*     # seconds or milliseconds
  | \[[VDIWECN]\]\s?(?:\[[^\]\[]{1,60}\]:?\s?)?(?:\w+\(\):\s)?  # level and place: Arduino, ESPHome
  | \[[\w./-]+\.(?:c|cpp|cc|h|hpp|ino|rs):\d+\]\s?(?:\w+\(\):\s)?
  | (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\s+\d{1,2}\s\d\d:\d\d:\d\d\s\S+\s[\w./-]+(?:\[\d+\])?:\s
  | (?:/dev/)?tty\w+\s*[:>|]\s* | COM\d+\s*[:>|]\s*
  | <(?:err|wrn|inf|dbg)>\s(?:[\w.-]+:\s+)?          # Zephyr
  | [EWID]:\s+                                       # Zephyr without time
  | \[esp32\w*\]\s(?:\[(?:INF|ERR|WRN|DBG)\]\s)?     # MCUboot
  | \[\s*(?:EMERG|ALERT|CRIT|ERROR|WARN|NOTICE|INFO|DEBUG|TRACE)\s*\]\s?    # NuttX, defmt
  | (?:ERROR|WARN|INFO|DEBUG)\s-\s                   # esp-println
  | \d{1,9}\.\d{3,9}\s+                              # defmt
  | \[CPU\d\]\s
  | \[?(?:RX|Rx)\]?\s?(?:<-|->|:|-)\s? | 收\s?←\s?◆?   # terminal programs
)";

fn pattern() -> Option<&'static Regex> {
    static PATTERN: OnceLock<Option<Regex>> = OnceLock::new();
    PATTERN.get_or_init(|| Regex::new(&super::catalogue::ascii(PREFIX)).ok()).as_ref()
}

/// The device's own text in a line of a log.
pub(crate) fn bare(text: &str) -> &str {
    // Of an empty line the prefix ends in a space.
    let mut rest = text.trim_start();
    // Nearly all lines begin with their own text.
    let may_have = |c: char| c.is_ascii_digit() || " []<>|`/\"tCJFMASONDRTW收".contains(c);
    let has_level =
        rest.get(1..2) == Some(":") || ["ERROR ", "WARN ", "INFO "].iter().any(|word| rest.starts_with(word));
    if !rest.starts_with(may_have) && !has_level {
        return rest.trim_end();
    }
    let Some(pattern) = pattern() else { return rest.trim_end() };
    for _ in 0..MOST {
        match pattern.find(rest) {
            Some(found) if !found.is_empty() => rest = rest.get(found.end()..).unwrap_or_default(),
            _ => break,
        }
    }
    rest.trim()
}

/// A line that a monitor wrote and not the device: `--- 0x400d1234: app_main at main.c:12`, also without the dashes.
pub(super) fn is_the_monitors(text: &str) -> bool {
    let decoded = |text: &str| {
        let rest = text.strip_prefix("0x").and_then(|rest| rest.get(8..))?;
        Some((rest.starts_with(": ") || rest.starts_with(" - ")) && rest.contains(" at "))
    };
    text.starts_with("--- ") || text.starts_with("WARNING Decoded ") || decoded(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_all_kinds_are_taken_off() {
        for prefix in [
            "12:16:53.101 -> ",
            "[12:16:53] ",
            "[12:16:53]",
            "[12:16:53.101]",
            "2024-05-01 12:16:53.101 ",
            "[2024-05-01 12:16:53] ",
            "2024-05-01T12:16:53.101Z ",
            "2024-05-01T12:16:53,101+02:00 ",
            "12:16:53.101 > ",
            "[1234] ",
            "[    1.234567] ",
            "> ",
            ">> > ",
            "  17: ",
            "17  ",
            " 17 | ",
            "[12:16:53][E][esp-idf:000]: ",
            "[  1234][E][main.cpp:12] setup(): ",
            "[00:00:00.250,000] <err> os: ",
            "May  1 12:16:53 host logger[123]: ",
            "/dev/ttyUSB0: ",
            "COM3> ",
            "[Tue Apr 24 21:52:32.147 2018] ",
            "> [Tue Apr 24 21:52:32 2018] ",
            "Sun, 29 Nov 2026 10:11:12: ",
            "2026-11-01 03:13:27,000 # ",
            "> 12:16:53.101 -> ",
            "E: ",
            "[esp32] [ERR] ",
            "[    4.649000] [ EMERG] ",
            "22.618592 [INFO ] ",
            "ERROR - ",
            "[CPU0] ",
            "[12:16:53.101] RX: ",
            "[12:16:53.101]收←◆",
        ] {
            for text in [
                "E (703) esp_image: image at 0x10000",
                "Backtrace:0x40083e1d:0x3ffb2550",
                "3ffffd40:  402036f7 3ffe908c",
            ] {
                assert_eq!(bare(&format!("{prefix}{text}")), text, "{prefix}");
            }
        }
    }

    #[test]
    fn the_devices_text_stays() {
        for text in [
            "3fc8ea70: 0xa5a5a5a5 0xa5a5a5a5",
            "40810f50: 0x00000000",
            "0x400d1234:0x3ffb0000",
            "PC      : 0x400d467a",
            "load:0x3fff0018,len:4",
            "E (12:16:53.101) tag: text",
            "12345678:  40000000 40000000",
        ] {
            assert_eq!(bare(text), text);
        }
        assert!(is_the_monitors("--- 0x400d1234: app_main at main.c:12"));
        assert!(is_the_monitors("0x400d1234: app_main at main.c:12"));
        assert!(!is_the_monitors("0x400d1234"));
    }
}
