//! The transport over a pair of byte streams: one JSON-RPC message a line. Every request gets an answer: what is no
//! JSON, no request, too long, or has the id of a request that still runs is refused, not ignored.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::model::JsonRpcMessage;
use rmcp::service::{RoleServer, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

/// Longest line, in bytes.
const LONGEST: usize = 16 << 20;
/// JSON-RPC: the text is no JSON.
const PARSE_ERROR: i64 = -32700;
/// JSON-RPC: the JSON is no request.
const INVALID_REQUEST: i64 = -32600;

/// The lines of a client, and the answers to it.
pub(super) struct Lines<R, W> {
    input: BufReader<R>,
    /// What came of the present line; it outlives a wait that is given up.
    line: Vec<u8>,
    /// The present line is too long: the rest of it is dropped.
    dropping: bool,
    output: Arc<tokio::sync::Mutex<Option<W>>>,
    running: Arc<Running>,
    /// The client has sent its first request. A notification before it would end the server.
    opened: bool,
}

/// Ids of the requests that have no answer yet, as JSON text.
#[derive(Default)]
struct Running(Mutex<HashSet<String>>);

impl Running {
    fn begin(&self, id: &Value) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_string())
    }

    fn end(&self, id: &Value) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id.to_string());
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Send + Unpin + 'static> Lines<R, W> {
    pub(super) fn new(input: R, output: W) -> Self {
        Self {
            input: BufReader::new(input),
            line: Vec::new(),
            dropping: false,
            output: Arc::new(tokio::sync::Mutex::new(Some(output))),
            running: Arc::default(),
            opened: false,
        }
    }

    /// The next whole line is in `line`: true; it was too long: false; the client closed its end: `None`. May be given
    /// up at any point and called again.
    async fn next_line(&mut self) -> Option<bool> {
        loop {
            let there = self.input.fill_buf().await.ok().filter(|there| !there.is_empty())?;
            let end = there.iter().position(|byte| *byte == b'\n');
            let part = &there[..end.unwrap_or(there.len())];
            self.dropping |= self.line.len() + part.len() > LONGEST;
            if self.dropping {
                self.line.clear();
            } else {
                self.line.extend_from_slice(part);
            }
            let count = part.len() + usize::from(end.is_some());
            self.input.consume(count);
            if end.is_some() {
                return Some(!std::mem::take(&mut self.dropping));
            }
        }
    }

    /// A message, or what is wrong with the line; `None` where there is nothing to answer.
    fn message(&self) -> Option<Result<RxJsonRpcMessage<RoleServer>, (Value, i64, String)>> {
        let line = self.line.trim_ascii();
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        if line.is_empty() {
            return None;
        }
        let value: Value = match serde_json::from_slice(line) {
            Ok(value) => value,
            Err(error) => return Some(Err((Value::Null, PARSE_ERROR, format!("not JSON: {error}")))),
        };
        let (id, method) = (value["id"].clone(), value["method"].as_str().map(str::to_owned));
        if method.as_deref() == Some("notifications/cancelled") {
            self.running.end(&value["params"]["requestId"]);
        }
        let is_notification = id.is_null() && method.is_some();
        match serde_json::from_value::<RxJsonRpcMessage<RoleServer>>(value) {
            Ok(JsonRpcMessage::Request(_)) if !self.running.begin(&id) => {
                let text = format!("the request {id} has no answer yet: its id cannot be used again");
                Some(Err((id, INVALID_REQUEST, text)))
            }
            Ok(message) => Some(Ok(message)),
            Err(error) if is_notification => {
                tracing::debug!("a notification is not known: {error}");
                None
            }
            Err(error) => Some(Err((id, INVALID_REQUEST, format!("not a request: {error}")))),
        }
    }

    fn refuse(&self, id: Value, code: i64, message: &str) {
        let answer = json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } });
        let output = self.output.clone();
        // In a task of its own: this wait may be given up, and half an answer must not go out.
        tokio::spawn(async move { write(&output, answer.to_string()).await });
    }
}

async fn write<W: AsyncWrite + Unpin>(output: &tokio::sync::Mutex<Option<W>>, mut text: String) -> io::Result<()> {
    text.push('\n');
    let mut output = output.lock().await;
    let output = output.as_mut().ok_or(io::ErrorKind::NotConnected)?;
    output.write_all(text.as_bytes()).await?;
    output.flush().await
}

impl<R, W> Transport<RoleServer> for Lines<R, W>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let (output, running) = (self.output.clone(), self.running.clone());
        async move {
            let message = serde_json::to_value(&item).map_err(io::Error::other)?;
            if message.get("method").is_none() {
                running.end(&message["id"]);
            }
            write(&output, message.to_string()).await
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            let whole = self.next_line().await?;
            let message = if whole {
                self.message()
            } else {
                Some(Err((Value::Null, INVALID_REQUEST, format!("a message has at most {LONGEST} bytes"))))
            };
            self.line.clear();
            match message {
                Some(Ok(message)) => {
                    self.opened |= matches!(message, JsonRpcMessage::Request(_));
                    if self.opened {
                        return Some(message);
                    }
                }
                Some(Err((id, code, text))) => self.refuse(id, code, &text),
                None => {}
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        drop(self.output.lock().await.take());
        Ok(())
    }
}
