//! Base64 as the console prints it: one block a line, between two marker lines, perhaps with a log's own prefixes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{CoreDumpError, container};

/// What ESP-IDF prints around a dump on the UART (`core_dump_uart.c`).
const START: &str = "CORE DUMP START";
const END: &str = "CORE DUMP END";

/// The dump in a text, or None when the bytes are no such text.
pub(super) fn decode(bytes: &[u8]) -> Option<Result<Vec<u8>, CoreDumpError>> {
    if container::looks_like_dump(bytes) {
        return None;
    }
    let text = String::from_utf8_lossy(bytes);
    if let Some(start) = text.rfind(START) {
        let from = text.get(start..)?;
        let marked: Vec<&str> = from.lines().skip(1).take_while(|line| !line.contains(END)).collect();
        let complete = from.contains(END);
        let decoded: Vec<u8> = marked.iter().filter_map(|line| block(line)).flatten().collect();
        let cut = CoreDumpError::Cut { what: "dump on the console", need: decoded.len() + 1, have: decoded.len() };
        return Some(if decoded.is_empty() || (!complete && !whole(&decoded)) { Err(cut) } else { Ok(decoded) });
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() || !lines.iter().all(|line| is_base64(line)) {
        return None;
    }
    // One long line, or wrapped text that must be joined, or one padded block a line.
    let by_line: Option<Vec<Vec<u8>>> = lines.iter().map(|line| STANDARD.decode(line).ok()).collect();
    let decoded = by_line.map(|blocks| blocks.concat()).or_else(|| STANDARD.decode(lines.concat()).ok())?;
    Some(Ok(decoded))
}

/// The decoded bytes hold all that their header promises.
fn whole(decoded: &[u8]) -> bool {
    super::le32(decoded).is_some_and(|total| usize::try_from(total).is_ok_and(|total| decoded.len() >= total))
}

fn is_base64(line: &str) -> bool {
    line.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
}

/// The base64 block at the end of a line; what stands before it is the log's own (time stamps).
fn block(line: &str) -> Option<Vec<u8>> {
    let last = line.split_whitespace().last()?;
    STANDARD.decode(last).ok()
}
