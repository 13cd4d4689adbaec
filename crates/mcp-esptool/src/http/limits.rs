//! How many requests each client has open. A request is open until its response's last byte, streams included.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;

/// Open requests by client.
#[derive(Debug, Clone)]
pub struct Limits {
    open: Arc<Mutex<HashMap<String, usize>>>,
    most: usize,
}

/// One open request; closed when dropped.
#[derive(Debug)]
pub struct Open {
    limits: Limits,
    client: String,
}

impl Limits {
    /// Each client may have `most` open requests.
    pub fn new(most: usize) -> Self {
        Self { open: Arc::default(), most }
    }

    /// Opens a request, unless the client has too many.
    pub fn open(&self, client: &str) -> Option<Open> {
        let mut open = self.lock();
        let count = open.entry(client.to_string()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Open { limits: self.clone(), client: client.into() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.limits.lock();
        if let Some(count) = open.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.client);
            }
        }
    }
}

/// Keeps the request open until the response's body ends.
pub fn hold(response: Response, open: Open) -> Response {
    response.map(|body| Body::new(Held { body, _open: open }))
}

struct Held {
    body: Body,
    _open: Open,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_share() {
        let limits = Limits::new(2);
        let (first, second) = (limits.open("a").unwrap(), limits.open("a").unwrap());
        assert!(limits.open("a").is_none() && limits.open("b").is_some());
        drop(first);
        let held = hold(Response::new(Body::from("text")), limits.open("a").unwrap());
        assert!(limits.open("a").is_none());
        drop((held, second));
        assert!(limits.lock().is_empty());
    }
}
