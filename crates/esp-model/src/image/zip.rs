//! The names in a zip archive: enough to say what is in it, not to unpack it.

/// Ends the archive.
const END: &[u8] = b"PK\x05\x06";
const END_LEN: usize = 22;
/// Begins an entry of the directory.
const ENTRY: &[u8] = b"PK\x01\x02";
const ENTRY_LEN: usize = 46;
/// Longest comment behind the end.
const COMMENT: usize = 0xffff;

/// Names of the files, folders left out; none where the directory is missing or damaged.
pub fn names(bytes: &[u8]) -> Option<Vec<String>> {
    let from = bytes.len().saturating_sub(END_LEN + COMMENT);
    let tail = bytes.get(from..)?;
    let end = from + tail.windows(END.len()).rposition(|window| window == END)?;
    bytes.get(..end + END_LEN)?;
    let mut at = number(bytes, end + 16, 4)?;
    let count = number(bytes, end + 10, 2)?;
    let mut names = Vec::new();
    for _ in 0..count {
        if bytes.get(at..at.checked_add(4)?)? != ENTRY {
            return None;
        }
        let [name, extra, comment] = [28, 30, 32].map(|field| number(bytes, at + field, 2).unwrap_or(0));
        let text = bytes.get(at + ENTRY_LEN..at + ENTRY_LEN + name)?;
        let text = String::from_utf8_lossy(text).into_owned();
        if !text.ends_with('/') {
            names.push(text);
        }
        at += ENTRY_LEN + name + extra + comment;
    }
    Some(names)
}

fn number(bytes: &[u8], at: usize, len: usize) -> Option<usize> {
    let field = bytes.get(at..at.checked_add(len)?)?;
    Some(field.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory without the files themselves.
    fn archive(files: &[&str]) -> Vec<u8> {
        let mut out = b"PK\x03\x04".to_vec();
        let start = out.len() as u32;
        for name in files {
            let mut entry = ENTRY.to_vec();
            entry.resize(ENTRY_LEN, 0);
            entry[28] = name.len() as u8;
            out.extend(entry);
            out.extend(name.bytes());
        }
        let mut end = END.to_vec();
        end.resize(END_LEN, 0);
        end[10] = files.len() as u8;
        end[16..20].copy_from_slice(&start.to_le_bytes());
        out.extend(end);
        out
    }

    #[test]
    fn names_of_files_are_listed() {
        let bytes = archive(&["fw/", "fw/manifest.json", "fw/firmware.factory.bin"]);
        assert_eq!(names(&bytes).unwrap(), ["fw/manifest.json", "fw/firmware.factory.bin"]);
        assert_eq!(names(&[bytes.as_slice(), b"a comment"].concat()).unwrap().len(), 2);
    }

    #[test]
    fn damaged_directories_have_no_names() {
        let bytes = archive(&["a.bin", "b.bin"]);
        for len in 0..bytes.len() {
            assert!(names(&bytes[..len]).is_none(), "{len}");
        }
        let mut wrong = bytes;
        let end = wrong.len() - END_LEN;
        wrong[end + 10] = 200;
        assert!(names(&wrong).is_none());
    }
}
