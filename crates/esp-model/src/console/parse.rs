//! Pieces of lines.

/// The hexadecimal number after `mark`: `0x…` or bare digits.
pub(super) fn hex_after(text: &str, mark: &str) -> Option<u32> {
    let rest = text.split_once(mark)?.1.trim_start();
    let digits = rest.strip_prefix("0x").unwrap_or(rest);
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    u32::from_str_radix(digits.get(..end)?, 16).ok()
}

/// The decimal number after `mark`.
pub(super) fn decimal_after(text: &str, mark: &str) -> Option<u32> {
    let rest = text.split_once(mark)?.1.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// What stands in the first round brackets after `mark`.
pub(super) fn bracketed(text: &str, mark: &str) -> Option<String> {
    let rest = text.split_once(mark)?.1;
    let inner = rest.split_once('(')?.1;
    // Modes name UARTs in brackets of their own: DOWNLOAD_BOOT(UART0/UART1/SDIO_REI_REO_V2).
    let mut depth = 1;
    let end = inner.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    })?;
    inner.get(..end).map(str::to_owned)
}

/// `tag: message` of an ESP-IDF log line: `I (27) boot: …`, with the time in milliseconds or as a clock.
pub(super) fn log_line(text: &str) -> Option<(char, &str, &str)> {
    let level = text.chars().next().filter(|c| "EWIDV".contains(*c))?;
    let rest = text.get(1..)?.strip_prefix(" (")?;
    let (_, rest) = rest.split_once(") ")?;
    let (tag, message) = rest.split_once(": ")?;
    Some((level, tag, message.trim()))
}

/// `NAME : 0x12345678` pairs of a register dump; `NAME=0x12345678` on an ESP8266.
pub(super) fn registers(text: &str) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once([':', '=']) {
        let name = before.rsplit([' ', ',']).find(|word| !word.is_empty()).unwrap_or_default();
        let value = after.trim_start();
        let Some(digits) = value.strip_prefix("0x").and_then(|digits| digits.get(..8)) else { return found };
        let Ok(number) = u32::from_str_radix(digits, 16) else { return found };
        let plain = !name.is_empty() && name.len() <= 8 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'/');
        if plain {
            found.push((name.to_owned(), number));
        }
        rest = value.get(10..).unwrap_or_default();
    }
    found
}

/// A line that is nothing but a code address.
pub(super) fn lone_address(text: &str) -> Option<u32> {
    let digits = text.trim().strip_prefix("0x").filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok()
}

/// The pairs `pc:sp` of an Xtensa backtrace.
pub(super) fn backtrace(text: &str) -> Vec<(u32, u32)> {
    let number = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let pair = |word: &str| {
        let (pc, sp) = word.split_once(':')?;
        Some((number(pc)?, number(sp.split('|').next()?)?))
    };
    // Until ESP-IDF 4.3 no space stood behind the colon.
    let pairs = text.trim_start().strip_prefix("Backtrace:").unwrap_or(text);
    pairs.split_whitespace().filter_map(pair).take(128).collect()
}

/// A line of a stack dump: `3fc8e9d0: 0x… 0x…`, on an ESP8266 without the `0x`.
pub(super) fn stack_line(text: &str) -> Option<(u32, Vec<u32>)> {
    let (address, words) = text.split_once(": ")?;
    let number = |text: &str| {
        let digits = text.trim_start_matches("0x");
        (digits.len() == 8).then(|| u32::from_str_radix(digits, 16).ok())?
    };
    let address = number(address.trim())?;
    let words: Vec<u32> = words.split_whitespace().map_while(number).take(16).collect();
    (!words.is_empty()).then_some((address, words))
}
