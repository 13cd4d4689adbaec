//! The Telnet layer below RFC 2217 (RFC 854 and 855), for both ends.

/// Begins a command in the byte stream; sent twice, it is the data byte 0xFF.
pub const IAC: u8 = 255;
const SE: u8 = 240;
const SB: u8 = 250;

/// Who wants or refuses an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Verb {
    /// "I shall do it."
    Will = 251,
    /// "I shall not."
    Wont = 252,
    /// "You do it."
    Do = 253,
    /// "You do not."
    Dont = 254,
}

/// Telnet options that matter on a serial line.
pub mod option {
    /// Eight-bit data (RFC 856).
    pub const BINARY: u8 = 0;
    /// No go-ahead after each line (RFC 858).
    pub const SUPPRESS_GO_AHEAD: u8 = 3;
    /// Serial port control (RFC 2217).
    pub const COM_PORT: u8 = 44;
}

/// A piece of what the peer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Bytes of the serial line.
    Data(Vec<u8>),
    /// An option is offered, asked for or refused.
    Negotiate(Verb, u8),
    /// An option's own message, without the option's number.
    Sub(u8, Vec<u8>),
}

/// Longest option message kept; RFC 2217's longest useful one is a signature line.
const LONGEST_SUB: usize = 256;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Data,
    Iac,
    Verb(Verb),
    Sub,
    SubIac,
}

/// Takes commands out of a stream of bytes that may be cut anywhere.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    sub: Vec<u8>,
}

impl Decoder {
    /// What these bytes mean, in order.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        let mut data = Vec::new();
        let mut rest = bytes;
        while let Some((&byte, behind)) = rest.split_first() {
            if self.state == State::Data {
                let plain = rest.iter().position(|b| *b == IAC).unwrap_or(rest.len());
                let (run, behind) = rest.split_at(plain);
                data.extend_from_slice(run);
                rest = behind.get(1..).unwrap_or_default();
                if !behind.is_empty() {
                    self.state = State::Iac;
                }
                continue;
            }
            rest = behind;
            if self.state == State::Iac && byte == IAC {
                data.push(IAC);
                self.state = State::Data;
                continue;
            }
            if let Some(item) = self.command(byte) {
                if !data.is_empty() {
                    items.push(Item::Data(std::mem::take(&mut data)));
                }
                items.push(item);
            }
        }
        if !data.is_empty() {
            items.push(Item::Data(data));
        }
        items
    }

    /// One byte outside the data.
    fn command(&mut self, byte: u8) -> Option<Item> {
        match self.state {
            State::Verb(verb) => {
                self.state = State::Data;
                return Some(Item::Negotiate(verb, byte));
            }
            State::Sub if byte == IAC => self.state = State::SubIac,
            State::Sub => self.keep(byte),
            State::SubIac => match byte {
                SE => {
                    self.state = State::Data;
                    let message = std::mem::take(&mut self.sub);
                    let (option, body) = message.split_first()?;
                    return Some(Item::Sub(*option, body.to_vec()));
                }
                _ => {
                    self.keep(byte);
                    self.state = State::Sub;
                }
            },
            State::Iac | State::Data => {
                self.state = match byte {
                    SB => State::Sub,
                    251 => State::Verb(Verb::Will),
                    252 => State::Verb(Verb::Wont),
                    253 => State::Verb(Verb::Do),
                    254 => State::Verb(Verb::Dont),
                    _ => State::Data, // a command without argument: none matters here
                };
            }
        }
        None
    }

    fn keep(&mut self, byte: u8) {
        if self.sub.len() < LONGEST_SUB {
            self.sub.push(byte);
        }
    }
}

/// Appends line bytes with each 0xFF doubled.
pub fn escape(data: &[u8], out: &mut Vec<u8>) {
    out.reserve(data.len());
    for part in data.split_inclusive(|b| *b == IAC) {
        out.extend_from_slice(part);
        if part.ends_with(&[IAC]) {
            out.push(IAC);
        }
    }
}

/// Appends an offer, request or refusal.
pub fn negotiate(verb: Verb, option: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[IAC, verb as u8, option]);
}

/// Appends an option's message.
pub fn sub(option: u8, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[IAC, SB]);
    escape(&[option], out);
    escape(body, out);
    out.extend_from_slice(&[IAC, SE]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_stream_apart_wherever_it_is_cut() {
        let mut stream = Vec::new();
        escape(b"a\xff\xffb", &mut stream);
        negotiate(Verb::Will, option::COM_PORT, &mut stream);
        sub(option::COM_PORT, &[1, 0, 0, 255, 240], &mut stream);
        stream.extend_from_slice(&[IAC, 241]); // no operation
        escape(b"c\xff", &mut stream);
        let whole = [
            Item::Data(b"a\xff\xffb".to_vec()),
            Item::Negotiate(Verb::Will, option::COM_PORT),
            Item::Sub(option::COM_PORT, vec![1, 0, 0, 255, 240]),
            Item::Data(b"c\xff".to_vec()),
        ];
        assert_eq!(Decoder::default().push(&stream), whole);
        for cut in 0..stream.len() {
            let mut decoder = Decoder::default();
            let mut items = decoder.push(&stream[..cut]);
            items.extend(decoder.push(&stream[cut..]));
            let mut joined: Vec<Item> = Vec::new();
            for item in items {
                match (joined.last_mut(), item) {
                    (Some(Item::Data(before)), Item::Data(more)) => before.extend(more),
                    (_, item) => joined.push(item),
                }
            }
            assert_eq!(joined, whole, "cut at {cut}");
        }
    }

    #[test]
    fn any_bytes_are_bounded_and_harmless() {
        let mut random = crate::port::faulty::Random::new(7);
        for _ in 0..20_000 {
            let mut decoder = Decoder::default();
            let bytes: Vec<u8> = (0..random.below(64)).map(|_| [255, 250, 240, 253, 44, 1][random.below(6)]).collect();
            let kept: usize =
                decoder.push(&bytes).iter().map(|i| if let Item::Data(d) = i { d.len() } else { 1 }).sum();
            assert!(kept <= bytes.len());
        }
        let mut decoder = Decoder::default();
        decoder.push(&[IAC, SB]);
        decoder.push(&vec![1; 1 << 20]);
        assert_eq!(decoder.sub.len(), LONGEST_SUB);
    }
}
