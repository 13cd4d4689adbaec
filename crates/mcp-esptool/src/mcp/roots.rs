//! The client's own roots (older revisions, standard input and output): where nobody set project roots, they are the
//! project roots, for the client is who started the program. Over HTTP they would let a stranger choose folders.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rmcp::service::{Peer, RequestContext, RoleServer};
use tokio::sync::Mutex;

use super::Server;
use crate::ctx::Ctx;
use crate::resources;

/// Longest wait for the client's answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the client said, once it was asked.
#[derive(Debug, Default)]
pub(super) struct Roots(Mutex<Option<Arc<[PathBuf]>>>);

impl Roots {
    /// They have changed: the next call asks again.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

impl Server {
    /// The same, with the client's roots where they count.
    pub(super) async fn with_roots(&self, ctx: Ctx, context: &RequestContext<RoleServer>) -> Ctx {
        let Some(roots) = self.roots.as_ref().filter(|_| ctx.takes_roots()) else { return ctx };
        // Only the revisions that begin with `initialize` have them.
        let session = context.peer.peer_info().is_some_and(|client| client.capabilities.roots.is_some());
        if !session {
            return ctx;
        }
        let mut known = roots.0.lock().await;
        let list = match &*known {
            Some(list) => list.clone(),
            None => known.insert(ask(&context.peer).await).clone(),
        };
        if list.is_empty() { ctx } else { ctx.with_roots(list) }
    }
}

#[expect(deprecated, reason = "clients of the older revisions have roots")]
async fn ask(peer: &Peer<RoleServer>) -> Arc<[PathBuf]> {
    let asked = peer.list_roots();
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) => answer.roots.iter().filter_map(|root| path_of(&root.uri)).collect(),
        Ok(Err(error)) => {
            tracing::warn!("the client did not tell its roots: {error}");
            Arc::default()
        }
        Err(_) => {
            tracing::warn!("the client did not tell its roots in time");
            Arc::default()
        }
    }
}

/// The folder of a `file:` address on this computer.
fn path_of(uri: &str) -> Option<PathBuf> {
    let rest = uri.strip_prefix("file://")?;
    let path = resources::decode(rest.strip_prefix("localhost").unwrap_or(rest));
    let bytes = path.as_bytes();
    // `file:///C:/x` is `C:/x`.
    let drive = cfg!(windows) && bytes.first() == Some(&b'/') && bytes.get(2) == Some(&b':');
    let path = PathBuf::from(if drive { path.get(1..)? } else { path.as_str() });
    path.is_absolute().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn addresses_of_folders() {
        assert_eq!(path_of("file:///home/a%20b"), Some(PathBuf::from("/home/a b")));
        assert_eq!(path_of("file://localhost/x"), Some(PathBuf::from("/x")));
        assert!(path_of("file://host/x").is_none() && path_of("https://x").is_none() && path_of("file://").is_none());
    }
}
