//! Frames on a port: the only file that writes bytes to a loader.

use std::collections::VecDeque;
use std::time::Duration;

use esp_model::job::Job;
use esp_model::port::Port;
use esp_model::wire::slip;

use crate::error::LoaderError;

/// How long one wait for bytes lasts, so that a cancel is seen soon.
const SLICE: Duration = Duration::from_millis(50);
/// Longest frame that is kept: a 16 KiB block with escapes fits well.
const FRAME_LIMIT: usize = 64 * 1024;
/// Bytes outside frames that are kept as evidence, at most.
const NOISE_LIMIT: usize = 4096;

/// What moved over the line so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Commands sent.
    pub commands: u64,
    /// Bytes sent, with framing.
    pub sent: u64,
    /// Bytes received, with framing and noise.
    pub received: u64,
    /// Times the line had to be synchronised again.
    pub resyncs: u64,
}

/// A port with the frames that came over it.
pub(crate) struct Line {
    port: Box<dyn Port>,
    decoder: slip::Decoder,
    frames: VecDeque<Vec<u8>>,
    /// Bytes outside frames since the last command, as evidence.
    noise: Vec<u8>,
    received: Vec<u8>,
    encoded: Vec<u8>,
    pub stats: Stats,
    /// When what goes on must have ended, on the port's clock, and how much time it was given.
    pub deadline: Option<(Duration, Duration)>,
}

impl Line {
    pub fn new(port: Box<dyn Port>) -> Self {
        Self {
            port,
            decoder: slip::Decoder::new(FRAME_LIMIT),
            frames: VecDeque::new(),
            noise: Vec::new(),
            received: vec![0; 64 * 1024],
            encoded: Vec::new(),
            stats: Stats::default(),
            deadline: None,
        }
    }

    pub fn port(&mut self) -> &mut dyn Port {
        &mut *self.port
    }

    pub fn into_port(self) -> Box<dyn Port> {
        self.port
    }

    /// Fails once the time for connecting is over, however the device answers.
    pub fn check_deadline(&self) -> Result<(), LoaderError> {
        match self.deadline {
            Some((until, limit)) if self.port.now() >= until => Err(LoaderError::TooLong { limit }),
            _ => Ok(()),
        }
    }

    /// Sends a command; evidence from before it is forgotten.
    pub fn send_command(&mut self, payload: &[u8]) -> Result<(), LoaderError> {
        self.noise.clear();
        self.stats.commands += 1;
        self.send_frame(payload)
    }

    /// Sends one frame.
    pub fn send_frame(&mut self, payload: &[u8]) -> Result<(), LoaderError> {
        self.encoded.clear();
        slip::encode(payload, &mut self.encoded);
        self.stats.sent += self.encoded.len() as u64;
        Ok(self.port.write(&self.encoded)?)
    }

    /// Closes a frame that the other side may be in the middle of.
    pub fn close_frame(&mut self) -> Result<(), LoaderError> {
        Ok(self.port.write(&[slip::END])?)
    }

    /// Bytes outside whole frames since the last command.
    pub fn evidence(&self) -> impl Iterator<Item = u8> + '_ {
        self.noise.iter().chain(self.decoder.pending()).copied()
    }

    /// The next frame, or `None` when none is whole by `until` on the port's clock.
    pub fn frame_until(&mut self, job: &Job, until: Duration) -> Result<Option<Vec<u8>>, LoaderError> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Ok(Some(frame));
            }
            job.check()?;
            self.check_deadline()?;
            let left = until.saturating_sub(self.port.now());
            if left.is_zero() {
                return Ok(None);
            }
            self.receive(left.min(SLICE))?;
        }
    }

    /// Reads what is there, waiting at most `wait`; returns the number of bytes.
    fn receive(&mut self, wait: Duration) -> Result<usize, LoaderError> {
        let count = self.port.read(&mut self.received, wait)?;
        self.stats.received += count as u64;
        let (frames, noise) = (&mut self.frames, &mut self.noise);
        self.decoder.push(&self.received[..count], |event| match event {
            slip::Event::Frame(frame) => frames.push_back(frame),
            slip::Event::Noise(bytes) | slip::Event::Bad(bytes) => {
                noise.extend_from_slice(&bytes);
                let surplus = noise.len().saturating_sub(NOISE_LIMIT);
                noise.drain(..surplus);
            }
        });
        Ok(count)
    }

    /// Reads until the line was quiet for `quiet` (at most `most`) and forgets frames. Returns bytes outside frames.
    pub fn drain(&mut self, quiet: Duration, most: Duration) -> Result<Vec<u8>, LoaderError> {
        let until = self.port.now() + most;
        while self.receive(quiet)? > 0 && self.port.now() < until {
            self.frames.clear();
        }
        self.frames.clear();
        let mut seen = std::mem::take(&mut self.noise);
        seen.extend_from_slice(self.decoder.pending());
        self.decoder.reset();
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    /// Files beside `port/` that write to a port: frames to a loader here, keys of a person in the monitor.
    const WRITERS: [&str; 2] = ["line.rs", "monitor.rs"];

    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn only_the_line_writes_to_a_loader() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let needles = [[".port", ".write("].concat(), ["port", "().write("].concat(), [" port", ".write("].concat()];
        let mut writers: Vec<String> = sources(&root)
            .iter()
            .map(|path| path.strip_prefix(&root).unwrap().display().to_string())
            .filter(|name| !name.starts_with("port"))
            .filter(|name| {
                let text = std::fs::read_to_string(root.join(name)).unwrap();
                needles.iter().any(|needle| text.contains(needle.as_str()))
            })
            .collect();
        writers.sort();
        assert_eq!(writers, WRITERS);
    }
}
