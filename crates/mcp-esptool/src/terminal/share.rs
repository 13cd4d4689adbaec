//! `mcp-esptool share`: a board for other computers.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::own_file;
use esp_ops::share::Share;

use crate::ctx::Ctx;

/// Arguments of `share`.
#[derive(Debug, clap::Args)]
pub struct ShareArgs {
    /// Port or URL (default: the only device there is)
    port: Option<PortUrl>,
    /// Serve RFC 2217 on this address
    #[arg(long, value_name = "HOST:PORT")]
    rfc2217: String,
    /// File with the token that clients must have; made with a new one when it is missing (default: share_token_file)
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Let everybody use the board who can reach the address (esptool and pyserial know no tokens)
    #[arg(long)]
    without_token: bool,
}

/// Shares the board until told to end.
pub fn run(ctx: &Ctx, args: &ShareArgs, job: &Job) -> Result<(), ToolError> {
    let ctx = ctx.for_tool("share", false);
    // Who has the line can do anything but burn by plan.
    ctx.policy.allows_command("share", Risk::Writes, false)?;
    let failed = |error: std::io::Error| ToolError::new(Code::PortFailed, format!("{}: {error}", args.rfc2217));
    let listener = TcpListener::bind(&args.rfc2217).map_err(failed)?;
    let here = listener.local_addr().map_err(failed)?;
    let file = args.token_file.clone().or_else(|| ctx.config.path("share_token_file"));
    let token = file.filter(|_| !args.without_token).map(|file| token(&file)).transpose()?;
    if token.is_none() && !args.without_token && !here.ip().is_loopback() {
        let text = format!("{here} can be reached from other computers, and no token is set");
        return Err(ToolError::new(Code::BadParameter, text).next(
            "name a token file (--token-file FILE; clients name it in share_token_file), listen on 127.0.0.1 and use an SSH tunnel, or let everybody in with --without-token",
        ));
    }
    let share = Share::new(&ctx, args.port.as_ref(), token, job)?;
    eprintln!("{} shared on rfc2217://{here}", share.name());
    share.serve(&listener, job, &mut |text| eprintln!("{text}")).map_err(failed)
}

/// The token in this file; a new one where there is no file.
fn token(path: &Path) -> Result<String, ToolError> {
    let unreadable = |error: std::io::Error| ToolError::of_io(Code::FileUnreadable, path.display(), &error);
    if !own_file::is_there(path).map_err(unreadable)? {
        let bytes = esp_ops::random::with(|fill| {
            let mut bytes = [0; 24];
            fill(&mut bytes);
            bytes
        })?;
        own_file::private(path).map_err(unreadable)?;
        std::fs::write(path, format!("{}\n", esp_model::hex::encode(bytes))).map_err(unreadable)?;
    }
    let text = own_file::read_text(path).map_err(unreadable)?.trim().to_owned();
    match text.len() {
        16.. => Ok(text),
        length => {
            let text = format!("{}: a token has 16 characters or more, not {length}", path.display());
            Err(ToolError::new(Code::BadParameter, text))
        }
    }
}
