//! The keys of `monitor`: those of idf_monitor (Ctrl-], Ctrl-T …) and of espflash (Ctrl-C, Ctrl-R).

/// What a key, or several, ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// End.
    Quit,
    /// Bytes for the device.
    Send(Vec<u8>),
    /// Restart the application.
    Reset,
    /// Restart into the loader.
    Bootloader,
    /// Flash the project again.
    Flash,
    /// Stop showing, or go on.
    Pause,
    /// Write the log, or stop.
    Log,
    /// Show times, or not.
    Timestamps,
    /// Send a break.
    Break,
    /// Use this filter from now on.
    Filter(String),
    /// Show this on the screen: what is typed of a filter.
    Echo(String),
    /// Say what the keys are.
    Help,
}

/// What the menu shows.
pub const HELP: &str = "\
--- Ctrl-] or Ctrl-C  quit                 Ctrl-R  reset
--- Ctrl-T, then:
---   H  this help                         R  reset
---   P  reset into the bootloader         F  flash the project again
---   Y  stop showing, and go on           G  filter: `wifi:W *:I`, empty for all
---   I  times on and off                  L  log file on and off
---   B  send a break                      X  quit
---   T, ], C  send Ctrl-T, Ctrl-], Ctrl-C to the device
";

const CTRL_C: u8 = 3;
const CTRL_R: u8 = 18;
const CTRL_T: u8 = 20;
const ESCAPE: u8 = 27;
const CTRL_CLOSE: u8 = 29;

/// Where the keys are: in the menu, in the line of a filter, or with the device.
#[derive(Debug, Default)]
pub enum Keys {
    /// What is typed goes to the device.
    #[default]
    Device,
    /// After Ctrl-T.
    Menu,
    /// A filter is typed.
    Filter(String),
}

impl Keys {
    /// Takes what was typed.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Act> {
        let mut acts = Vec::new();
        for byte in bytes {
            let act = match std::mem::take(self) {
                Self::Device => self.of_device(*byte),
                Self::Menu => self.of_menu(*byte),
                Self::Filter(text) => self.of_filter(text, *byte),
            };
            match (acts.last_mut(), act) {
                // One write for what is pasted.
                (Some(Act::Send(before)), Some(Act::Send(more))) => before.extend(more),
                (_, act) => acts.extend(act),
            }
        }
        acts
    }

    fn of_device(&mut self, byte: u8) -> Option<Act> {
        match byte {
            CTRL_CLOSE | CTRL_C => Some(Act::Quit),
            CTRL_R => Some(Act::Reset),
            CTRL_T => {
                *self = Self::Menu;
                None
            }
            other => Some(Act::Send(vec![other])),
        }
    }

    /// A letter, with Ctrl or without.
    fn of_menu(&mut self, byte: u8) -> Option<Act> {
        Some(match byte & 0x1f {
            8 => Act::Help,
            18 => Act::Reset,
            16 => Act::Bootloader,
            6 | 1 => Act::Flash,
            25 => Act::Pause,
            12 => Act::Log,
            9 => Act::Timestamps,
            2 => Act::Break,
            24 => Act::Quit,
            CTRL_T | CTRL_CLOSE | CTRL_C => Act::Send(vec![byte & 0x1f]),
            7 => {
                *self = Self::Filter(String::new());
                Act::Echo("--- filter: ".into())
            }
            _ => Act::Help,
        })
    }

    fn of_filter(&mut self, mut text: String, byte: u8) -> Option<Act> {
        match byte {
            b'\r' | b'\n' => return Some(Act::Filter(text)),
            ESCAPE | CTRL_C => return Some(Act::Echo("\n".into())),
            8 | 127 => {
                let echo = text.pop().map(|_| Act::Echo("\u{8} \u{8}".into()));
                *self = Self::Filter(text);
                return echo;
            }
            b' '..=b'~' => {
                text.push(char::from(byte));
                *self = Self::Filter(text);
                return Some(Act::Echo(char::from(byte).into()));
            }
            _ => {}
        }
        *self = Self::Filter(text);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_goes_to_the_device_except_the_keys() {
        let mut keys = Keys::default();
        assert_eq!(keys.take(b"help\r"), [Act::Send(b"help\r".to_vec())]);
        assert_eq!(keys.take(b"a\x12b"), [Act::Send(b"a".to_vec()), Act::Reset, Act::Send(b"b".to_vec())]);
        assert_eq!(keys.take(b"\x1d"), [Act::Quit]);
        assert_eq!(keys.take(b"\x03"), [Act::Quit]);
    }

    #[test]
    fn the_menu_takes_letters_with_and_without_ctrl() {
        let mut keys = Keys::default();
        assert_eq!(keys.take(b"\x14"), []);
        assert_eq!(keys.take(b"r"), [Act::Reset]);
        assert_eq!(keys.take(b"\x14\x12"), [Act::Reset]);
        assert_eq!(keys.take(b"\x14P\x14f\x14y\x14B"), [Act::Bootloader, Act::Flash, Act::Pause, Act::Break]);
        let sent = [b"\x14\x14".as_slice(), b"\x14]", b"\x14c"].map(|typed| keys.take(typed));
        assert_eq!(sent.concat(), [20, 29, 3].map(|byte| Act::Send(vec![byte])));
        assert_eq!(keys.take(b"\x14?x"), [Act::Help, Act::Send(b"x".to_vec())]);
    }

    #[test]
    fn a_filter_is_typed_with_corrections() {
        let mut keys = Keys::default();
        let acts = keys.take(b"\x14gwifx\x7fi:W\rls");
        assert_eq!(
            acts.get(acts.len() - 2..),
            Some([Act::Filter("wifi:W".into()), Act::Send(b"ls".to_vec())].as_slice())
        );
        assert_eq!(keys.take(b"\x14g\x1bx").last(), Some(&Act::Send(b"x".to_vec())));
    }
}
