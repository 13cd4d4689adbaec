//! What the configuration says about HTTP.

use std::io::IsTerminal;
use std::net::{SocketAddr, ToSocketAddrs};

use esp_ops::config::Config;
use esp_ops::error::{Code, ToolError};

use crate::http::oauth::OAuth;
use crate::http::token;

/// Who may call.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Everybody who reaches the address.
    None,
    /// Who sends this token.
    Token(String),
    /// Who sends a token of an authorization server.
    OAuth(Box<OAuth>),
}

/// What the server needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens.
    pub address: SocketAddr,
    /// Who may call.
    pub auth: Auth,
    /// Names that a request may address, beside those of the loopback addresses.
    pub hosts: Vec<String>,
    /// Origins that may call, beside the server's own pages.
    pub origins: Vec<String>,
    /// Largest body of a request, in bytes.
    pub max_body_bytes: usize,
    /// Requests that one client may have open at once.
    pub client_requests: usize,
    /// Sessions that there may be at once.
    pub sessions: usize,
    /// Connections that may be open at once.
    pub connections: usize,
    token_note: Option<String>,
    token_is_new: bool,
}

impl Options {
    /// Reads the configuration. Makes the token's file where there is none yet.
    pub fn new(config: &Config, address: &str) -> Result<Self, ToolError> {
        let bad = |text: String| ToolError::new(Code::BadConfiguration, text);
        let with_port = if address.parse::<u16>().is_ok() { format!("127.0.0.1:{address}") } else { address.into() };
        let found =
            with_port.to_socket_addrs().map_err(|error| bad(format!("{address} is not an address: {error}")))?;
        let address = found.into_iter().next().ok_or_else(|| bad(format!("{address} is not an address")))?;
        let (mut token_note, mut token_is_new) = (None, false);
        let auth = match config.text("http_auth") {
            "token" => {
                let file = config.path("http_token_file").unwrap_or_else(|| config.state_dir().join("http-token"));
                let (token, made) = token::read_or_make(&file)?;
                token_is_new = made;
                let place = file.display();
                token_note = Some(if made { format!("{token} (kept in {place})") } else { format!("in {place}") });
                Auth::Token(token)
            }
            "oauth" => Auth::OAuth(Box::new(OAuth::new(config)?)),
            "none" if address.ip().is_loopback() => Auth::None,
            "none" => return Err(bad(format!("without a token, {address} would be open to the network"))),
            other => return Err(bad(format!("`http_auth` is token, oauth or none, not `{other}`"))),
        };
        Ok(Self {
            address,
            auth,
            hosts: config.list("http_hosts"),
            origins: config.list("http_origins"),
            max_body_bytes: config.number("http_max_body_bytes"),
            client_requests: config.number("http_client_requests").max(1),
            sessions: config.number("http_sessions").max(1),
            connections: config.number("http_connections").max(1),
            token_note,
            token_is_new,
        })
    }

    /// The token behind the page's address: shown once, when it was made, and to a person at a terminal. Elsewhere standard
    /// error is a log, where a token does not belong.
    fn page_token(&self) -> String {
        match &self.auth {
            Auth::Token(token) if self.token_is_new || std::io::stderr().is_terminal() => format!("#token={token}"),
            Auth::Token(_) => "#token=TOKEN".into(),
            Auth::None | Auth::OAuth(_) => String::new(),
        }
    }

    /// Says on stderr where it listens and where the token is.
    pub fn announce(&self, address: SocketAddr) {
        eprintln!("MCP over HTTP: http://{address}/mcp");
        eprintln!("station page: http://{address}/station{}", self.page_token());
        if let Some(note) = &self.token_note {
            eprintln!("token: {note}");
        }
        if !address.ip().is_loopback() {
            eprintln!("this address is not a loopback address: put a reverse proxy with TLS in front of it");
        }
    }
}
