//! Who calls: over HTTP the subject of the token and the session. Over stdio and on the command line there is one
//! caller only.

use std::sync::Arc;

/// Who calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// It calls over HTTP: it may be on another computer.
    pub is_remote: bool,
    /// Whom its token names.
    subject: Arc<str>,
    /// Its session, where the server knows one.
    session: Option<Arc<str>>,
}

impl Caller {
    /// A caller over HTTP.
    pub fn remote(subject: &str, session: Option<&str>) -> Self {
        Self { is_remote: true, subject: subject.into(), session: session.map(Into::into) }
    }

    /// Both are the same client, as far as token and session tell: what one began, the other may list.
    pub fn is(&self, other: &Self) -> bool {
        self == other
    }

    /// Both have the right to the same things: who knows the id of what the other began may use it. A client that
    /// comes back has another session.
    pub fn may_use_what_is_of(&self, other: &Self) -> bool {
        self.subject == other.subject
    }
}
