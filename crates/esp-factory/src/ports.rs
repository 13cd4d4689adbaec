//! Lists of ports, with ranges: `sim://esp32c3-[1-10]`, `/dev/ttyUSB[0-7]`.

use std::collections::BTreeSet;

use esp_ops::error::{Code, ToolError};

/// Most ports of one batch: more is a slip of the pen.
const MOST: usize = 1024;

/// Every port once, ranges written out, in the order given.
pub fn expand(ports: &[String]) -> Result<Vec<String>, ToolError> {
    let bad =
        |text: &str| ToolError::new(Code::BadParameter, format!("`{text}` is not a port range: write NAME[1-10]"));
    let (mut out, mut seen) = (Vec::new(), BTreeSet::new());
    for text in ports.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|text| !text.is_empty()) {
        let names = match text.split_once('[') {
            None => vec![text.to_owned()],
            Some((before, rest)) => {
                let (range, after) = rest.split_once(']').ok_or_else(|| bad(text))?;
                let (first, last) = range.split_once('-').ok_or_else(|| bad(text))?;
                let numbers = first.parse::<u32>().ok().zip(last.parse::<u32>().ok());
                let (low, high) = numbers.filter(|(low, high)| low <= high).ok_or_else(|| bad(text))?;
                if (high - low) as usize >= MOST {
                    return Err(bad(text));
                }
                let width = if first.starts_with('0') { first.len() } else { 0 };
                (low..=high).map(|number| format!("{before}{number:0width$}{after}")).collect()
            }
        };
        for name in names {
            if !seen.insert(name.clone()) {
                return Err(ToolError::new(Code::BadParameter, format!("the port {name} is named twice")));
            }
            out.push(name);
        }
    }
    match out.len() {
        0 => Err(ToolError::new(Code::MissingParameter, "no ports are named")),
        len if len > MOST => {
            Err(ToolError::new(Code::BadParameter, format!("{len} ports; at most {MOST} are possible")))
        }
        _ => Ok(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_out() {
        let all = |texts: &[&str]| expand(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(all(&["sim://x-[9-11], a"]).unwrap(), ["sim://x-9", "sim://x-10", "sim://x-11", "a"]);
        assert_eq!(all(&["s[08-10]z"]).unwrap(), ["s08z", "s09z", "s10z"]);
        for bad in ["", "a[1-", "a[2-1]", "a[1]", "a[0-99999]", "a,a", "a[x-y]"] {
            assert!(all(&[bad]).is_err(), "{bad}");
        }
    }
}
