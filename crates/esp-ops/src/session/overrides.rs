//! How one call wants its device connected: parameters that every tool with a device takes beside its own.

use std::time::Duration;

use esp_link::ConnectOptions;
use esp_link::options::{Before, StubSource};
use esp_link::reset::Sequence;
use serde_json::{Map, Value, json};

use crate::error::{Code, ToolError};

/// Longest wait for a port, in seconds.
const MAX_WAIT_S: f64 = 600.0;

/// What the call says about the connection; nothing where it says nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// Reset sequence before connecting.
    pub before: Option<Before>,
    /// Rate to work at, in baud.
    pub baud: Option<u32>,
    /// The ROM loader alone.
    pub no_stub: Option<bool>,
    /// Reset into the application when the connection goes.
    pub reset_at_end: Option<bool>,
    /// How long to wait for the port to appear.
    pub wait: Duration,
}

impl Overrides {
    /// The parameters: name, type and meaning.
    pub const PARAMETERS: [(&'static str, &'static str, &'static str); 5] = [
        ("before", "string", BEFORE),
        ("after", "string", "When the connection closes: hard-reset (default) or no-reset."),
        ("baud", "integer", "Baud rate to work at (default 460800, or what this line is known to carry)."),
        ("stub", "string", "auto (default) or none: use the ROM loader alone."),
        ("wait_s", "number", "Seconds to wait for the port to appear (default 0)."),
    ];

    /// Takes those of `names` out of a call's parameters and reads them.
    pub fn take<'a>(input: &mut Map<String, Value>, names: impl Iterator<Item = &'a str>) -> Result<Self, ToolError> {
        let mut found = Self::default();
        for name in names {
            match input.remove(name) {
                Some(Value::Null) | None => {}
                Some(value) => found.set(name, &value)?,
            }
        }
        Ok(found)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), ToolError> {
        let text = value.as_str().unwrap_or_default();
        match name {
            "before" => self.before = Some(before(text)?),
            "after" => self.reset_at_end = Some(reset_at_end(text)?),
            "stub" => self.no_stub = Some(no_stub(text)?),
            "baud" => {
                let baud = value.as_u64().and_then(|baud| u32::try_from(baud).ok()).filter(|baud| *baud > 0);
                self.baud =
                    Some(baud.ok_or_else(|| bad("baud", &value.to_string(), "a rate in baud, such as 115200"))?);
            }
            "wait_s" => {
                let seconds = value.as_f64().filter(|seconds| (0.0..=MAX_WAIT_S).contains(seconds));
                let seconds = seconds.ok_or_else(|| bad("wait_s", &value.to_string(), "0 to 600 seconds"))?;
                self.wait = Duration::from_secs_f64(seconds);
            }
            _ => {}
        }
        Ok(())
    }

    /// A connection made for `other` serves this call too.
    pub fn is_served_by(&self, other: &Self) -> bool {
        let fits = |wanted: bool, same: bool| !wanted || same;
        fits(self.before.is_some(), self.before == other.before)
            && fits(self.baud.is_some(), self.baud == other.baud)
            && fits(self.no_stub.is_some(), self.no_stub == other.no_stub)
    }

    /// The options with what the call says.
    pub fn applied(&self, mut options: ConnectOptions) -> ConnectOptions {
        if let Some(before) = &self.before {
            options.before = before.clone();
        }
        if let Some(baud) = self.baud {
            options.baud = baud;
        }
        if self.no_stub == Some(true) {
            options.stub = StubSource::None;
        }
        options
    }
}

const BEFORE: &str = "Reset before connecting: ladder (default), no-reset (BOOT held by hand), classic, tight, \
     usb-serial-jtag, or a sequence such as \"D0|R1|W0.1|D1|R0|W0.05|D0\".";

/// The schema of the parameters, as `name: schema`.
pub fn schemas() -> impl Iterator<Item = (&'static str, Value)> {
    Overrides::PARAMETERS.into_iter().map(|(name, kind, about)| (name, json!({"type": kind, "description": about})))
}

/// Reads a reset sequence.
pub fn before(text: &str) -> Result<Before, ToolError> {
    Ok(match text {
        "ladder" | "default-reset" => Before::Ladder,
        "no-reset" => Before::NoReset,
        "classic" => Before::Only(Sequence::classic(50)),
        "tight" => Before::Only(Sequence::tight(50)),
        "usb-serial-jtag" | "usb-reset" => Before::Only(Sequence::usb_serial_jtag()),
        custom => {
            let known = "ladder, no-reset, classic, tight, usb-serial-jtag, D0|R1|W0.1|…";
            Before::Only(Sequence::custom(custom).map_err(|error| bad("before", &error.to_string(), known))?)
        }
    })
}

/// Reads whether the device is reset when the connection closes.
pub fn reset_at_end(text: &str) -> Result<bool, ToolError> {
    match text {
        "hard-reset" => Ok(true),
        "no-reset" => Ok(false),
        other => Err(bad("after", other, "hard-reset, no-reset")),
    }
}

/// Reads whether the ROM loader is used alone.
pub fn no_stub(text: &str) -> Result<bool, ToolError> {
    match text {
        "auto" => Ok(false),
        "none" | "false" => Ok(true),
        other => Err(bad("stub", other, "auto, none")),
    }
}

fn bad(name: &str, value: &str, known: &str) -> ToolError {
    ToolError::new(Code::BadParameter, format!("`{name}`: {value}"))
        .seen("known", known)
        .next(format!("pass one of the known values for `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(input: Value) -> Result<(Overrides, Value), ToolError> {
        let Value::Object(mut input) = input else { unreachable!() };
        let found = Overrides::take(&mut input, Overrides::PARAMETERS.iter().map(|(name, ..)| *name))?;
        Ok((found, Value::Object(input)))
    }

    #[test]
    fn connection_parameters_are_taken_out_of_a_call() {
        let given = json!({"port": "p", "before": "no-reset", "after": "no-reset", "baud": 115_200, "stub": "none",
            "wait_s": 2.5});
        let (found, left) = take(given).unwrap();
        assert_eq!(left, json!({"port": "p"}));
        let wanted = Overrides {
            before: Some(Before::NoReset),
            baud: Some(115_200),
            no_stub: Some(true),
            reset_at_end: Some(false),
            wait: Duration::from_millis(2500),
        };
        assert_eq!(found, wanted);
        assert!(Overrides::default().is_served_by(&found) && !found.is_served_by(&Overrides::default()));
    }

    #[test]
    fn wrong_values_name_the_known_ones() {
        for (given, known) in [
            (json!({"before": "reset please"}), "no-reset"),
            (json!({"after": "x"}), "hard-reset"),
            (json!({"baud": 0}), "115200"),
            (json!({"stub": "x"}), "none"),
            (json!({"wait_s": -1}), "600"),
        ] {
            let error = take(given.clone()).unwrap_err();
            assert!(error.evidence["known"].as_str().unwrap().contains(known), "{given}: {error}");
        }
    }
}
