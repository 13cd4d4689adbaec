//! The MCP server over stdio and HTTP. Only this file and its parts know the SDK.
//!
//! A call runs in a blocking thread of its own. Progress goes out strictly increasing; after a cancellation the
//! worker is waited for and nothing more is sent for the request.

use std::borrow::Cow;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use esp_model::job::{Job, Progress};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, GetPromptRequestParams,
    GetPromptResponse, GetPromptResult, Implementation, JsonRpcMessage, ListPromptsResult, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, MetaObject, PaginatedRequestParams, ProgressNotificationParam, ProgressToken,
    Prompt, PromptArgument, PromptMessage, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult,
    Resource, ResourceContents, ResourceTemplate, Role, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::{RequestContext, RoleServer, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ServerHandler, ServiceExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::ctx::Ctx;
use crate::tool::{Entry, Reply};
use crate::tools;
use crate::tools::error::ToolError;
use crate::tools::schema::listed::{self, Detail};
use crate::{prompts, resources};

/// What a client's model reads before its first call; below 1,000 characters.
pub const INSTRUCTIONS: &str = include_str!("instructions.txt");
/// Key of an error's machine-readable form in a result's `_meta`.
pub const ERROR_META: &str = "mcp-esptool/error";
/// What resources are.
const JSON: &str = "application/json";
/// Shortest time between two progress notifications of a call.
const PROGRESS_STEP: Duration = Duration::from_millis(50);

/// Serves MCP on standard input and output until the client closes them.
pub fn serve_stdio(ctx: Ctx) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let (input, output) = rmcp::transport::stdio_pipes();
        serve(ctx.clone(), input, output).await
    });
    ctx.close();
    // A pending read of standard input cannot be cancelled: do not wait for it.
    runtime.shutdown_background();
    result
}

/// Serves MCP on a pair of byte streams until the client closes them.
pub async fn serve<R, W>(ctx: Ctx, input: R, output: W) -> io::Result<()>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let transport = Opening { inner: AsyncRwTransport::new_server(input, output), opened: false };
    match (Server { ctx }).serve(transport).await {
        Ok(running) => running.waiting().await.map(drop).map_err(io::Error::other),
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// MCP at `/mcp`, for clients of all revisions. Those that begin with `initialize` get a session.
pub fn http_routes(ctx: Ctx, max_body_bytes: usize, stop: &CancellationToken) -> axum::Router {
    // Host and Origin are checked before a request comes here, by rules that the configuration may widen.
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .disable_allowed_origins()
        .with_max_request_body_bytes(max_body_bytes)
        .with_cancellation_token(stop.clone());
    let server = move || Ok(Server { ctx: ctx.clone() });
    let service = StreamableHttpService::new(server, Arc::new(LocalSessionManager::default()), config);
    axum::Router::new().route_service("/mcp", service)
}

/// The transport, without what a client must not send before its first request: a stray notification there would
/// end the server.
struct Opening<T> {
    inner: T,
    opened: bool,
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for Opening<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            let message = self.inner.receive().await?;
            self.opened |= matches!(message, JsonRpcMessage::Request(_));
            if self.opened {
                return Some(message);
            }
        }
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.close()
    }
}

struct Server {
    ctx: Ctx,
}

impl Server {
    /// What a call may use; it knows the client by the name that it gave.
    fn ctx_of(&self, context: &RequestContext<RoleServer>) -> Ctx {
        match context.client_info() {
            Some(client) => self.ctx.for_client(&client.name),
            None => self.ctx.clone(),
        }
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let mut info = Implementation::new("mcp-esptool", env!("CARGO_PKG_VERSION"));
        info.title = Some("mcp-esptool".into());
        info.description = Some("Espressif chips: flash, partitions, security, production, diagnostics".into());
        info.website_url = Some(env!("CARGO_PKG_REPOSITORY").into());
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_resources().enable_prompts().build())
            .with_server_info(info)
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(list(&self.ctx)))
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let listed = resources::offered(&self.ctx).map(|found| {
            let resource = Resource::new(found.uri, found.title).with_title(found.title);
            resource.with_description(found.about).with_mime_type(JSON)
        });
        Ok(ListResourcesResult::with_all_items(listed.collect()))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let listed = resources::offered(&self.ctx).filter(|found| found.per_device).map(|found| {
            let title = format!("{} of one device", found.title);
            let template = ResourceTemplate::new(format!("{}/{{port}}", found.uri), title.clone()).with_title(title);
            template.with_description(found.about).with_mime_type(JSON)
        });
        Ok(ListResourceTemplatesResult::with_all_items(listed.collect()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let job = Job::new();
        let stop = CancelOnDrop(job.clone());
        let (ctx, uri) = (self.ctx.clone(), request.uri.clone());
        let mut worker = tokio::task::spawn_blocking(move || resources::read(&ctx, &job, &uri));
        let read = tokio::select! {
            read = &mut worker => read,
            () = context.ct.cancelled() => {
                stop.0.cancel();
                worker.await
            }
        };
        let uri = request.uri;
        match read {
            Ok(Some(Ok(data))) => {
                let text = ResourceContents::text(Value::Object(data).to_string(), uri).with_mime_type(JSON);
                Ok(ReadResourceResult::new(vec![text]).into())
            }
            Ok(Some(Err(error))) => Err(ErrorData::internal_error(error.to_string(), Some(json!(error)))),
            Ok(None) => {
                Err(ErrorData::resource_not_found(format!("there is no resource {uri}"), Some(json!({ "uri": uri }))))
            }
            Err(error) => Err(ErrorData::internal_error(error.to_string(), None)),
        }
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let listed = prompts::all().iter().map(|(name, prompt)| {
            let arguments = prompt.arguments.iter().map(|(name, argument)| {
                PromptArgument::new(name).with_description(&argument.about).with_required(argument.default.is_none())
            });
            Prompt::new(name, Some(&prompt.about), Some(arguments.collect())).with_title(&prompt.title)
        });
        Ok(ListPromptsResult::with_all_items(listed.collect()))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let found = prompts::all().get(&request.name);
        let prompt =
            found.ok_or_else(|| ErrorData::invalid_params(format!("there is no prompt {}", request.name), None))?;
        let text = prompt.fill(&request.arguments.unwrap_or_default());
        let text = text.map_err(|error| ErrorData::invalid_params(error, None))?;
        Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, text)]).with_description(&prompt.about).into())
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::offered(&self.ctx).find(|entry| entry.name == name).map(|entry| show(entry, Detail::Full))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let entry = tools::find(&request.name).filter(|entry| self.ctx.surface.has(entry));
        let entry = entry.ok_or_else(|| unknown_tool(&request.name))?;
        let sender = context.meta.get_progress_token().map(|token| Arc::new(ProgressSender::new(token)));
        let job = match sender.clone() {
            Some(sender) => Job::with_progress(move |progress| sender.note(progress)),
            None => Job::new(),
        };
        // If this future is dropped, nobody waits for the answer any more: the worker stops too.
        let stop = CancelOnDrop(job.clone());
        let (ctx, input) = (self.ctx_of(&context), request.arguments.map_or(Value::Null, Value::Object));
        let mut worker = tokio::task::spawn_blocking(move || entry.call(&ctx, &job, input));
        let mut cancelled = false;
        let result = loop {
            tokio::select! {
                biased;
                () = context.ct.cancelled(), if !cancelled => {
                    stop.0.cancel();
                    cancelled = true;
                }
                result = &mut worker => break result,
                () = forward(sender.as_deref(), &context), if !cancelled && sender.is_some() => {}
            }
        };
        if let (Some(sender), false) = (&sender, cancelled || context.ct.is_cancelled()) {
            sender.send_latest(&context).await;
        }
        let result = result.unwrap_or_else(|error| Err(ToolError::new("internal", format!("the tool broke: {error}"))));
        Ok(answer(result).into())
    }
}

/// Longest list, in bytes of JSON; it says as much of each tool as fits.
const LONGEST: usize = 60 * 1024;
/// The same for a chosen part of the tools.
const LONGEST_CHOICE: usize = 15 * 1024;

/// The tools that are offered, in their order.
fn list(ctx: &Ctx) -> Vec<Tool> {
    let limit = if ctx.surface.is_choice() { LONGEST_CHOICE } else { LONGEST };
    let mut list = Vec::new();
    for detail in Detail::ALL {
        list = tools::offered(ctx).map(|entry| show(entry, detail)).collect();
        if serde_json::to_vec(&list).is_ok_and(|bytes| bytes.len() <= limit) {
            break;
        }
    }
    list
}

/// One tool as `tools/list` shows it.
fn show(entry: &'static Entry, detail: Detail) -> Tool {
    let hints = entry.hints();
    let annotations = ToolAnnotations::new()
        .read_only(hints.read_only)
        .destructive(hints.destructive)
        .idempotent(hints.idempotent)
        .open_world(hints.open_world);
    Tool::new(entry.name, entry.about, Arc::new(listed::input(entry.input_schema(), detail)))
        .with_title(entry.title)
        .with_raw_output_schema(Arc::new(listed::output(entry.output_schema(), detail)))
        .with_annotations(annotations)
}

/// One tool in the fullest form of `tools/list`, as JSON.
pub fn listed_json(entry: &'static Entry) -> Value {
    serde_json::to_value(show(entry, Detail::Full)).unwrap_or_default()
}

/// The list as a client gets it, as JSON.
pub fn list_json(ctx: &Ctx) -> Value {
    serde_json::to_value(list(ctx)).unwrap_or_default()
}

fn unknown_tool(name: &str) -> ErrorData {
    let near = tools::nearest(name, tools::ALL.iter().map(|entry| entry.name));
    let advice = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
    ErrorData::invalid_params(Cow::from(format!("unknown tool: {name}{advice}")), None)
}

/// Errors go out as text, with the machine form beside it: a strict client would check `structuredContent` against
/// the schema of a success and drop the whole answer.
fn answer(result: Result<Reply, ToolError>) -> CallToolResult {
    match result {
        Ok(reply) => {
            let pictures = reply.pictures.iter();
            let pictures = pictures.map(|picture| ContentBlock::image(BASE64.encode(&picture.bytes), picture.mime));
            let mut result =
                CallToolResult::success([ContentBlock::text(reply.text)].into_iter().chain(pictures).collect());
            result.structured_content = Some(Value::Object(reply.data));
            result
        }
        Err(error) => {
            let mut result = CallToolResult::error(vec![ContentBlock::text(error.to_string())]);
            let mut meta = MetaObject::new();
            meta.0.insert(ERROR_META.into(), json!(error));
            result.meta = Some(meta);
            result
        }
    }
}

struct CancelOnDrop(Job);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Turns a job's progress, which starts anew with each phase, into one strictly increasing count.
struct ProgressSender {
    token: ProgressToken,
    state: Mutex<Counted>,
    changed: Notify,
}

#[derive(Default)]
struct Counted {
    base: u64,
    done: u64,
    total: u64,
    message: String,
    sent: Option<f64>,
    waiting: bool,
}

impl Counted {
    fn note(&mut self, progress: Progress) {
        if progress.done < self.done || progress.total != self.total {
            self.base += self.done.max(self.total.min(self.done + 1));
        }
        (self.done, self.total, self.message) = (progress.done, progress.total, progress.message);
        self.waiting = true;
    }

    /// What to send now, if it is more than what was sent before.
    fn take(&mut self) -> Option<(f64, Option<f64>, String)> {
        self.waiting = false;
        let value = (self.base + self.done) as f64;
        if self.sent.is_some_and(|sent| value <= sent) {
            return None;
        }
        self.sent = Some(value);
        let total = (self.total > 0).then(|| (self.base + self.total.max(self.done)) as f64);
        Some((value, total, self.message.clone()))
    }
}

impl ProgressSender {
    fn new(token: ProgressToken) -> Self {
        Self { token, state: Mutex::default(), changed: Notify::new() }
    }

    fn note(&self, progress: Progress) {
        self.lock().note(progress);
        self.changed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send_latest(&self, context: &RequestContext<RoleServer>) {
        let taken = {
            let mut state = self.lock();
            if state.waiting { state.take() } else { None }
        };
        let Some((value, total, message)) = taken else { return };
        let mut param = ProgressNotificationParam::new(self.token.clone(), value).with_message(message);
        param.total = total;
        if let Err(error) = context.peer.notify_progress(param).await {
            tracing::debug!("progress was not sent: {error}");
        }
    }
}

/// Waits for progress, lets a little more gather, sends the newest.
async fn forward(sender: Option<&ProgressSender>, context: &RequestContext<RoleServer>) {
    let Some(sender) = sender else { return std::future::pending().await };
    sender.changed.notified().await;
    sender.send_latest(context).await;
    tokio::time::sleep(PROGRESS_STEP).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_short() {
        assert!(INSTRUCTIONS.len() < 1000, "{} characters", INSTRUCTIONS.len());
    }

    #[test]
    fn progress_is_strictly_increasing_over_phases() {
        let mut counted = Counted::default();
        let mut last = -1.0;
        for (done, total) in [(0, 10), (5, 10), (10, 10), (0, 100), (100, 100), (100, 100), (0, 0), (3, 0), (1, 4)] {
            counted.note(Progress { done, total, message: String::new() });
            if let Some((value, total, _)) = counted.take() {
                assert!(value > last, "{value} after {last}");
                assert!(total.is_none_or(|total| total >= value));
                last = value;
            }
        }
        assert!(last >= 113.0, "{last}");
    }
}
