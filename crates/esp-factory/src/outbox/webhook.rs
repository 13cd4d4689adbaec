//! Events as HTTP requests: one POST each, signed with a shared secret.

use std::path::Path;

use super::http::Poster;
use super::{Message, Sink};

/// A web server that takes events.
pub struct Webhook {
    url: String,
    name: String,
    poster: Poster,
}

impl Webhook {
    pub fn new(url: &str, secret_file: Option<&Path>) -> Result<Self, String> {
        let poster = Poster::new(url, secret_file)?;
        let name = format!("webhook {}", url.split('?').next().unwrap_or(url));
        Ok(Self { url: url.into(), name, poster })
    }
}

impl Sink for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn deliver(&mut self, message: &Message) -> Result<(), String> {
        self.poster.deliver(&self.url, &message.key, &message.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_name_holds_no_parameters() {
        assert_eq!(Webhook::new("https://mes.example/e?key=1", None).unwrap().name(), "webhook https://mes.example/e");
    }
}
