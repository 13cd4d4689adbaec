//! Log frames of defmt between the text of a console, as esp-println wraps them. `defmt-print` of the defmt project
//! makes text of them; its library would bring a JSON mode that changes this whole program's numbers.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// What esp-println puts before a frame.
const BEGIN: [u8; 2] = [0xff, 0x00];
/// What ends it.
const END: u8 = 0;
/// A longer frame is none: the line's rate is wrong, or bytes were lost.
const LONGEST: usize = 4096;

/// Parts text from frames.
#[derive(Debug, Default)]
pub struct Frames {
    /// The frame that has begun.
    open: Option<Vec<u8>>,
    /// The first byte of what may begin one.
    half: bool,
    /// Frames that came.
    pub count: u64,
}

impl Frames {
    /// Takes bytes; gives the text among them, and the frames that ended.
    pub fn part(&mut self, bytes: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (mut text, mut frames) = (Vec::new(), Vec::new());
        for byte in bytes {
            match &mut self.open {
                Some(frame) if *byte == END => {
                    frames.push(std::mem::take(frame));
                    self.open = None;
                }
                Some(frame) if frame.len() >= LONGEST => {
                    text.append(frame);
                    self.open = None;
                }
                Some(frame) => frame.push(*byte),
                None if self.half && *byte == BEGIN[1] => (self.half, self.open) = (false, Some(Vec::new())),
                None => {
                    if std::mem::take(&mut self.half) {
                        text.push(BEGIN[0]);
                    }
                    match *byte == BEGIN[0] {
                        true => self.half = true,
                        false => text.push(*byte),
                    }
                }
            }
        }
        self.count += frames.len() as u64;
        (text, frames)
    }
}

/// The program that makes text of frames.
pub struct Printer {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Printer {
    /// Starts `program` for the app of this ELF file.
    pub fn start(program: &str, elf: &str) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(["-e", elf]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(
                error.kind(),
                format!("{program} makes text of defmt frames and is not installed (cargo install defmt-print)"),
            ),
            _ => error,
        })?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, input, lines })
    }

    /// Gives it a frame.
    pub fn take(&mut self, frame: &[u8]) -> io::Result<()> {
        self.input.write_all(frame)?;
        self.input.write_all(&[END])?;
        self.input.flush()
    }

    /// What it has made by now.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.lines.try_iter()
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_parted_from_text_wherever_the_pieces_end() {
        let all = b"boot\r\n\xff\x00abc\x00more\xffx\xff\x00de\x00\r\n";
        for size in 1..all.len() {
            let mut frames = Frames::default();
            let (mut text, mut found) = (Vec::new(), Vec::new());
            for piece in all.chunks(size) {
                let (more, new) = frames.part(piece);
                text.extend(more);
                found.extend(new);
            }
            assert_eq!(text, b"boot\r\nmore\xffx\r\n", "pieces of {size}");
            assert_eq!(found, [b"abc".to_vec(), b"de".to_vec()], "pieces of {size}");
            assert_eq!(frames.count, 2);
        }
    }

    #[test]
    fn a_frame_without_end_becomes_text_again() {
        let mut frames = Frames::default();
        frames.part(&BEGIN);
        let (text, found) = frames.part(&[b'a'; LONGEST + 10]);
        assert!(text.len() > LONGEST && found.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_frame_goes_through_the_program_and_comes_back_as_text() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("defmt-print");
        std::fs::write(&program, "#!/bin/sh\necho \"elf $2\"\ntr '\\000' '\\n'\n").unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let mut printer = Printer::start(&program.display().to_string(), "app.elf").unwrap();
        printer.take(b"abc").unwrap();
        let mut lines = Vec::new();
        for _ in 0..500 {
            lines.extend(printer.lines());
            // `tr` may keep its output until its input ends: the first line shows that the program runs.
            if !lines.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(lines.first().map(String::as_str), Some("elf app.elf"));
        let missing = Printer::start("no-such-defmt-print", "app.elf").err().unwrap();
        assert!(missing.to_string().contains("cargo install defmt-print"), "{missing}");
    }
}
