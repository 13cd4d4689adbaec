//! The server's side of RFC 2217, without I/O: bytes of the connection in, events and answers out.

use super::telnet::{self, Decoder, Item, Verb, option};
use super::{command, control};

/// What the client wants of the serial line, in the order it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Send these bytes.
    Data(Vec<u8>),
    /// The modem lines are to be so.
    Lines {
        /// DTR is asserted.
        dtr: bool,
        /// RTS is asserted.
        rts: bool,
    },
    /// The line rate is to be so, in baud.
    Baud(u32),
    /// The client says what it is, or answers a challenge; without text it asks the same of this side.
    Signature(String),
    /// Drop bytes that wait.
    Purge {
        /// Those received and not yet passed to the client.
        received: bool,
        /// Those not yet sent.
        unsent: bool,
    },
}

/// Modem state: clear to send, data set ready, carrier (RFC 2217, section 3). Clients that poll it fail without one.
const READY: u8 = 0xb0;

/// One client's connection.
#[derive(Debug)]
pub struct Session {
    decoder: Decoder,
    dtr: bool,
    rts: bool,
    baud: u32,
    /// Outbound flow control, as the client set it.
    flow: u8,
    told_state: bool,
    /// Options that this side has said it will do or wants done.
    said: Vec<(Verb, u8)>,
}

impl Session {
    /// A new connection; `baud` is the line's rate before the client sets one.
    pub fn new(baud: u32) -> Self {
        Self {
            decoder: Decoder::default(),
            dtr: false,
            rts: false,
            baud,
            flow: control::FLOW_NONE,
            told_state: false,
            said: Vec::new(),
        }
    }

    /// What to send as soon as the client has connected.
    pub fn greeting(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        for (verb, option) in [
            (Verb::Will, option::BINARY),
            (Verb::Do, option::BINARY),
            (Verb::Will, option::SUPPRESS_GO_AHEAD),
            (Verb::Do, option::COM_PORT),
        ] {
            self.say(verb, option, &mut out);
        }
        out
    }

    /// Takes bytes from the client; what to answer is appended to `answer`.
    pub fn receive(&mut self, bytes: &[u8], answer: &mut Vec<u8>) -> Vec<Event> {
        let mut events = Vec::new();
        for item in self.decoder.push(bytes) {
            match item {
                Item::Data(data) => events.push(Event::Data(data)),
                Item::Negotiate(verb, option) => self.negotiate(verb, option, answer),
                Item::Sub(option::COM_PORT, body) => events.extend(self.ordered(&body, answer)),
                Item::Sub(..) => {}
            }
        }
        events
    }

    /// What this side says that it is, or its challenge.
    pub fn signature(text: &str) -> Vec<u8> {
        let mut body = vec![command::SIGNATURE + command::ANSWER];
        body.extend_from_slice(text.as_bytes());
        let mut out = Vec::new();
        telnet::sub(option::COM_PORT, &body, &mut out);
        out
    }

    /// Bytes of the serial line as they go to the client.
    pub fn encode(&self, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        telnet::escape(data, &mut out);
        out
    }

    fn say(&mut self, verb: Verb, option: u8, out: &mut Vec<u8>) {
        if !self.said.contains(&(verb, option)) {
            self.said.push((verb, option));
            telnet::negotiate(verb, option, out);
        }
    }

    fn negotiate(&mut self, verb: Verb, option: u8, answer: &mut Vec<u8>) {
        let known = [option::BINARY, option::SUPPRESS_GO_AHEAD, option::COM_PORT].contains(&option);
        match (verb, known) {
            (Verb::Will, true) => self.say(Verb::Do, option, answer),
            (Verb::Do, true) => self.say(Verb::Will, option, answer),
            (Verb::Will, false) => telnet::negotiate(Verb::Dont, option, answer),
            (Verb::Do, false) => telnet::negotiate(Verb::Wont, option, answer),
            (Verb::Wont | Verb::Dont, _) => {}
        }
        if option == option::COM_PORT && matches!(verb, Verb::Will | Verb::Do) && !self.told_state {
            self.told_state = true;
            telnet::sub(option::COM_PORT, &[command::NOTIFY_MODEMSTATE + command::ANSWER, READY], answer);
        }
    }

    fn ordered(&mut self, body: &[u8], answer: &mut Vec<u8>) -> Option<Event> {
        let (&order, value) = body.split_first()?;
        let mut confirm = |value: &[u8]| {
            let mut body = vec![order + command::ANSWER];
            body.extend_from_slice(value);
            telnet::sub(option::COM_PORT, &body, answer);
        };
        match (order, value) {
            (command::SIGNATURE, text) => Some(Event::Signature(String::from_utf8_lossy(text).into_owned())),
            (command::SET_BAUDRATE, _) => {
                let wanted = u32::from_be_bytes(value.try_into().ok()?);
                self.baud = if wanted == 0 { self.baud } else { wanted };
                confirm(&self.baud.to_be_bytes());
                (wanted != 0).then_some(Event::Baud(wanted))
            }
            // Eight bits, no parity, one stop bit is all that the chips speak: anything else is not taken.
            (command::SET_DATASIZE, [_]) => {
                confirm(&[8]);
                None
            }
            (command::SET_PARITY | command::SET_STOPSIZE, [_]) => {
                confirm(&[1]);
                None
            }
            (command::SET_CONTROL, [wanted]) => {
                let (now, event) = self.control(*wanted);
                confirm(&[now]);
                event
            }
            (command::PURGE_DATA, [which @ 1..=3]) => {
                confirm(&[*which]);
                Some(Event::Purge { received: which & 1 != 0, unsent: which & 2 != 0 })
            }
            (6 | 7 | 10 | 11, _) => {
                confirm(value); // line and modem state and their masks: nothing to report
                None
            }
            _ => None,
        }
    }

    /// Applies one control value; the state to confirm and what changes.
    fn control(&mut self, wanted: u8) -> (u8, Option<Event>) {
        match wanted {
            control::DTR_ON | control::DTR_OFF => self.dtr = wanted == control::DTR_ON,
            control::RTS_ON | control::RTS_OFF => self.rts = wanted == control::RTS_ON,
            control::DTR_QUERY => return (if self.dtr { control::DTR_ON } else { control::DTR_OFF }, None),
            control::RTS_QUERY => return (if self.rts { control::RTS_ON } else { control::RTS_OFF }, None),
            0 => return (self.flow, None),
            // RTS and CTS are not wired for it, as on most boards: what is set is kept and changes nothing.
            1..=3 => {
                self.flow = wanted;
                return (wanted, None);
            }
            4..=6 => return (6, None),    // no break
            13..=19 => return (14, None), // no inbound flow control either
            other => return (other, None),
        }
        (wanted, Some(Event::Lines { dtr: self.dtr, rts: self.rts }))
    }
}
