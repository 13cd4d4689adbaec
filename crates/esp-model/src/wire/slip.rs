//! SLIP framing (RFC 1055).

/// Begins and ends a frame.
pub const END: u8 = 0xc0;
const ESC: u8 = 0xdb;
const ESC_END: u8 = 0xdc;
const ESC_ESC: u8 = 0xdd;

/// Appends `payload` to `out` as one frame, delimited on both sides.
pub fn encode(payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(payload.len() + payload.len() / 64 + 2);
    out.push(END);
    let mut rest = payload;
    while let Some(at) = rest.iter().position(|&b| b == END || b == ESC) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(if rest[at] == END { &[ESC, ESC_END] } else { &[ESC, ESC_ESC] });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(END);
}

/// What a decoder found in the bytes pushed so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole frame, unescaped. Empty frames are not reported.
    Frame(Vec<u8>),
    /// Bytes outside any frame: boot messages, console output, noise.
    Noise(Vec<u8>),
    /// A frame that broke a rule (a bad escape, over the size limit) and was dropped.
    Bad(Vec<u8>),
}

/// Cuts a byte stream into frames and what lies between them.
///
/// Keeps at most `limit` bytes of one frame, so a line of noise cannot grow memory.
#[derive(Debug)]
pub struct Decoder {
    frame: Vec<u8>,
    state: State,
    limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Outside,
    Inside,
    Escape,
}

impl Decoder {
    /// A decoder that drops frames longer than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { frame: Vec::new(), state: State::Outside, limit }
    }

    /// Takes `bytes` and calls `found` for each frame and each stretch of noise, in order.
    pub fn push(&mut self, bytes: &[u8], mut found: impl FnMut(Event)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.state {
                State::Outside => self.outside(rest, &mut found),
                State::Inside => self.inside(rest, &mut found),
                State::Escape => self.escape(rest, &mut found),
            };
        }
    }

    /// Forgets a half-received frame.
    pub fn reset(&mut self) {
        self.frame.clear();
        self.state = State::Outside;
    }

    /// Bytes of an unfinished frame, for an error report.
    pub fn pending(&self) -> &[u8] {
        &self.frame
    }

    fn outside<'a>(&mut self, bytes: &'a [u8], found: &mut impl FnMut(Event)) -> &'a [u8] {
        let end = bytes.iter().position(|&b| b == END).unwrap_or(bytes.len());
        if end > 0 {
            found(Event::Noise(bytes[..end].to_vec()));
        }
        if end == bytes.len() {
            return &[];
        }
        self.state = State::Inside;
        &bytes[end + 1..]
    }

    fn inside<'a>(&mut self, bytes: &'a [u8], found: &mut impl FnMut(Event)) -> &'a [u8] {
        let end = bytes.iter().position(|&b| b == END || b == ESC).unwrap_or(bytes.len());
        self.frame.extend_from_slice(&bytes[..end]);
        if self.frame.len() > self.limit {
            found(Event::Bad(std::mem::take(&mut self.frame)));
            self.state = State::Outside;
            return &bytes[end..];
        }
        match bytes.get(end) {
            None => &[],
            Some(&ESC) => {
                self.state = State::Escape;
                &bytes[end + 1..]
            }
            Some(_) => {
                // An empty frame is the opening mark of the next one: stay inside.
                if !self.frame.is_empty() {
                    found(Event::Frame(std::mem::take(&mut self.frame)));
                    self.state = State::Outside;
                }
                &bytes[end + 1..]
            }
        }
    }

    fn escape<'a>(&mut self, bytes: &'a [u8], found: &mut impl FnMut(Event)) -> &'a [u8] {
        self.state = State::Inside;
        match bytes[0] {
            ESC_END => self.frame.push(END),
            ESC_ESC => self.frame.push(ESC),
            _ => {
                self.frame.push(ESC);
                found(Event::Bad(std::mem::take(&mut self.frame)));
                self.state = State::Outside;
                return bytes;
            }
        }
        &bytes[1..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        Decoder::new(64).push(bytes, |event| events.push(event));
        events
    }

    #[test]
    fn frames_survive_a_round_trip_whatever_bytes_they_hold() {
        let payload: Vec<u8> = (0..=255).collect();
        let mut line = Vec::new();
        encode(&payload, &mut line);
        let mut events = Vec::new();
        Decoder::new(1024).push(&line, |event| events.push(event));
        assert_eq!(events, [Event::Frame(payload)]);
    }

    #[test]
    fn noise_between_frames_is_kept_apart() {
        let events = decode(b"ets Jun\r\n\xc0OHAI\xc0tail");
        assert_eq!(
            events,
            [Event::Noise(b"ets Jun\r\n".to_vec()), Event::Frame(b"OHAI".to_vec()), Event::Noise(b"tail".to_vec())]
        );
    }

    #[test]
    fn a_lost_end_mark_costs_one_frame_only() {
        // The opening mark of the second frame closes the first; the second is then read as noise, the third is whole.
        let events = decode(b"\xc0one\xc0two\xc0\xc0three\xc0");
        assert!(events.contains(&Event::Frame(b"one".to_vec())));
        assert!(events.contains(&Event::Frame(b"three".to_vec())));
    }

    #[test]
    fn bad_escapes_and_endless_frames_are_dropped() {
        assert_eq!(decode(b"\xc0a\xdbz\xc0"), [Event::Bad(b"a\xdb".to_vec()), Event::Noise(b"z".to_vec())]);
        assert!(matches!(decode(&[&b"\xc0"[..], &[1; 65]].concat())[0], Event::Bad(_)));
    }
}
