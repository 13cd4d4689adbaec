//! The manufacturing execution system (MES) of the site: it says whether a unit may be worked on, and hears what became of it.
//!
//! The report is a record of the ledger that leaves by the outbox: it is committed with the end of the run, and sent until
//! the MES has confirmed it.

use esp_ops::config::Config;
use esp_ops::error::{Code, ToolError};
use serde::Deserialize;
use serde_json::Value as Json;

use super::http::Poster;
use super::{Message, Sink};

/// Largest answer, in bytes.
const LARGEST_ANSWER: u64 = 64 * 1024;
/// Characters of a reason that are passed on.
const LONGEST_REASON: usize = 300;

/// The MES of the setting `mes_url`.
pub struct Mes {
    base: String,
    name: String,
    poster: Poster,
}

/// What it says about a unit.
#[derive(Debug, Deserialize)]
struct Answer {
    allowed: bool,
    #[serde(default)]
    reason: String,
}

impl Mes {
    /// The one at this address; requests are signed with the secret of events.
    pub fn new(config: &Config, url: &str) -> Result<Self, String> {
        let poster = Poster::new(url, config.path("events_secret_file").as_deref())?;
        let base = url.trim_end_matches('/').to_owned();
        Ok(Self { name: format!("mes {base}"), base, poster })
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{}", self.base, path.trim_start_matches('/'))
    }

    /// Asks whether this unit may be worked on. Only a clear yes is one.
    pub fn may_work(&self, path: &str, key: &str, question: &Json) -> Result<(), ToolError> {
        let url = self.url(path);
        let failed = |text: String| ToolError::new(Code::MesUnreachable, format!("{url}: {text}"));
        let mut answer = self.poster.post(&url, key, &question.to_string()).map_err(failed)?;
        if !answer.status().is_success() {
            return Err(failed(format!("HTTP {}", answer.status().as_u16())));
        }
        let text = answer.body_mut().with_config().limit(LARGEST_ANSWER).read_to_string();
        let text = text.map_err(|error| failed(error.to_string()))?;
        let said: Answer = serde_json::from_str(&text)
            .map_err(|error| failed(format!("not an answer of the form {{\"allowed\": true}}: {error}")))?;
        match said.allowed {
            true => Ok(()),
            false => {
                let reason: String = said.reason.chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect();
                let reason = if reason.is_empty() { "it gave no reason".into() } else { reason };
                Err(ToolError::new(Code::MesRefused, format!("the MES does not allow work on this unit: {reason}")))
            }
        }
    }
}

impl Sink for Mes {
    fn name(&self) -> &str {
        &self.name
    }

    /// Records whose recipe asks for a report leave; everything else is no business of the MES.
    fn deliver(&mut self, message: &Message) -> Result<(), String> {
        let event: Json = serde_json::from_str(&message.body).map_err(|error| error.to_string())?;
        match event["data"]["mes"]["report"].as_str().filter(|_| event["kind"] == "record") {
            Some(path) => self.poster.deliver(&self.url(path), &message.key, &message.body),
            None => Ok(()),
        }
    }
}
