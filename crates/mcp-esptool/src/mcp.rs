//! The MCP server over stdio and HTTP. Only this file and its parts know the SDK.
//!
//! A call runs in a blocking thread of its own. Progress goes out strictly increasing; after a cancellation the
//! worker is waited for and nothing more is sent for the request.

mod call;
mod confirm;
#[cfg(feature = "http")]
mod http;
mod icons;
mod lazy;
mod lines;
mod list;
mod notify;
mod progress;
mod roots;
mod tasks;
mod texts;

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use esp_model::job::Job;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, CompleteRequestParams, CompleteResult, CompletionInfo,
    ErrorData, GetPromptRequestParams, GetPromptResponse, GetPromptResult, GetSkillRequestParams, GetSkillResult,
    GetTaskParams, GetTaskResult, Implementation, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListSkillsResult, ListToolsResult, PaginatedRequestParams, Prompt, PromptArgument, PromptMessage,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, Reference, Resource, ResourceContents,
    ResourceTemplate, Role, ServerCapabilities, ServerConfig, SubscribeRequestParams, SubscriptionFilter, Tool,
    UnsubscribeRequestParams, UpdateTaskParams,
};
use rmcp::service::{NotificationContext, RequestContext, RoleServer, SubscriptionContext};
use rmcp::{ServerHandler, ServiceExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(feature = "http")]
pub use http::{HttpSessions, http_routes, routes_of};
pub use list::{list_json, listed_json};

use crate::ctx::Ctx;
use crate::pages::PAGE_TYPE;
use crate::{completions, logs, prompts, resources, skills, tools};

/// What a client's model reads before its first call; below 1,000 characters.
pub const INSTRUCTIONS: &str = include_str!("instructions.txt");
/// Key of an error's machine-readable form in a result's `_meta`.
pub const ERROR_META: &str = "mcp-esptool/error";
/// Key of rules in a request's `_meta` that narrow the policy for this request.
pub const POLICY_META: &str = "mcp-esptool/policy";
/// The name under which the SDK logs.
pub const SDK: &str = "rmcp";
/// What resources are.
const JSON: &str = "application/json";
/// Serves MCP on standard input and output until the client closes them or the process is told to end. Calls are then
/// cancelled at their next safe point and waited for.
pub fn serve_stdio(ctx: Ctx) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let (input, output) = rmcp::transport::stdio_pipes();
        tokio::select! {
            served = serve(ctx.clone(), input, output) => served,
            () = crate::signals::told_to_end() => Ok(()),
        }
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
    let transport = lines::Lines::new(input, output);
    let server = Server { roots: Some(Arc::default()), ..Server::new(ctx) };
    match server.serve(transport).await {
        Ok(running) => running.waiting().await.map(drop).map_err(io::Error::other),
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(io::Error::other(error)),
    }
}

#[derive(Clone)]
struct Server {
    ctx: Ctx,
    wanted: Arc<notify::Wanted>,
    /// Tells the log lines of this client's calls from those of others.
    number: u64,
    /// The client's roots, where it may name some.
    roots: Option<Arc<roots::Roots>>,
}

impl Server {
    fn new(ctx: Ctx) -> Self {
        Self { ctx, wanted: Arc::default(), number: logs::new_number(), roots: None }
    }

    /// What a call may use; it knows the client by the name that it gave, and allows no more than the call asks for.
    async fn ctx_of(&self, context: &RequestContext<RoleServer>) -> Result<Ctx, ErrorData> {
        let ctx = self.called_by(context);
        let ctx = match context.client_info() {
            Some(client) => ctx.for_client(&client.name),
            None => ctx,
        };
        let ctx = self.with_roots(ctx, context).await;
        self.narrowed(ctx, context)
    }

    /// What is shared, for a call by whom the HTTP server let in.
    fn called_by(&self, context: &RequestContext<RoleServer>) -> Ctx {
        #[cfg(feature = "http")]
        if let Some(caller) = http::caller(context) {
            return self.ctx.for_caller(caller.clone());
        }
        let _ = context;
        self.ctx.clone()
    }

    /// The same, as narrow as the request asks for.
    fn narrowed(&self, ctx: Ctx, context: &RequestContext<RoleServer>) -> Result<Ctx, ErrorData> {
        let Some(rules) = context.meta.0.get(POLICY_META) else { return Ok(ctx) };
        let bad = |error: String| ErrorData::invalid_params(format!("{POLICY_META}: {error}"), None);
        let rules = serde_json::from_value(rules.clone()).map_err(|error| bad(error.to_string()))?;
        ctx.narrowed(rules).map_err(|error| bad(error.message))
    }
}

/// The client shows pages beside results (MCP Apps).
fn shows_pages(context: &RequestContext<RoleServer>) -> bool {
    list::shows_pages(context.client_capabilities().as_ref())
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let mut info = Implementation::new("mcp-esptool", env!("CARGO_PKG_VERSION"));
        info.title = Some("mcp-esptool".into());
        info.description = Some("Espressif chips: flash, partitions, security, production, diagnostics".into());
        info.website_url = Some(env!("CARGO_PKG_REPOSITORY").into());
        info.icons = Some(vec![icons::server()]);
        #[expect(deprecated, reason = "clients of the older revisions ask for log lines")]
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_prompts()
            .enable_completions()
            .enable_logging()
            .enable_tasks()
            .enable_skills();
        ServerConfig::new(capabilities.build()).with_server_info(info).with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let ctx = self.narrowed(self.ctx.clone(), &context)?;
        let (items, next) = list::page(&ctx, list::list(&ctx, shows_pages(&context)), request)?;
        let mut result = ListToolsResult::with_all_items(items);
        result.next_cursor = next;
        Ok(result)
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let listed = resources::offered(&self.ctx).map(|found| {
            let resource = Resource::new(found.uri, found.title).with_title(found.title);
            resource.with_description(found.about).with_mime_type(JSON)
        });
        let pages = resources::pages(&self.ctx).filter(|_| shows_pages(&context)).map(|page| {
            let resource = Resource::new(page.uri, page.title).with_title(page.title);
            resource.with_description(page.about).with_mime_type(PAGE_TYPE)
        });
        let all = listed.chain(pages).chain(self.texts()).collect();
        let (items, next) = list::page(&self.ctx, all, request)?;
        let mut result = ListResourcesResult::with_all_items(items);
        result.next_cursor = next;
        Ok(result)
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let listed = resources::offered(&self.ctx).filter(|found| found.per_device).map(|found| {
            let title = format!("{} of one device", found.title);
            let template = ResourceTemplate::new(format!("{}/{{port}}", found.uri), title.clone()).with_title(title);
            template.with_description(found.about).with_mime_type(JSON)
        });
        let all = listed.chain([texts::template()]).collect();
        let (items, next) = list::page(&self.ctx, all, request)?;
        let mut result = ListResourceTemplatesResult::with_all_items(items);
        result.next_cursor = next;
        Ok(result)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let job = Job::new();
        let stop = CancelOnDrop(job.clone());
        if let Some((text, kind)) = self.text(&request.uri) {
            let text = ResourceContents::text(text, request.uri).with_mime_type(kind);
            return Ok(ReadResourceResult::new(vec![text]).into());
        }
        let (ctx, uri) = (self.ctx_of(&context).await?, request.uri.clone());
        if uri.starts_with("ui:") {
            let own = uri.clone();
            let page = tokio::task::spawn_blocking(move || resources::read_page(&ctx, &own)).await;
            if let Ok(Some((page, kind))) = page {
                let text = ResourceContents::text(page, uri).with_mime_type(kind);
                return Ok(ReadResourceResult::new(vec![text]).into());
            }
            return Err(ErrorData::resource_not_found(format!("there is no resource {uri}"), None));
        }
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

    async fn list_skills(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListSkillsResult, ErrorData> {
        let entries = skills::ALL.iter().map(texts::entry).collect::<Result<Vec<_>, _>>()?;
        let (items, next) = list::page(&self.ctx, entries, request)?;
        let mut result = ListSkillsResult::with_all_items(items);
        result.next_cursor = next;
        Ok(result)
    }

    async fn get_skill(
        &self,
        request: GetSkillRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetSkillResult, ErrorData> {
        texts::skill(&request.uri)
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let listed = prompts::all().iter().map(|(name, prompt)| {
            let arguments = prompt.arguments.iter().map(|(name, argument)| {
                PromptArgument::new(name).with_description(&argument.about).with_required(argument.default.is_none())
            });
            Prompt::new(name, Some(&prompt.about), Some(arguments.collect())).with_title(&prompt.title)
        });
        let (items, next) = list::page(&self.ctx, listed.collect(), request)?;
        let mut result = ListPromptsResult::with_all_items(items);
        result.next_cursor = next;
        Ok(result)
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

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let known = match &request.r#ref {
            Reference::Prompt(prompt) => prompts::all().contains_key(&prompt.name),
            Reference::Resource(template) => {
                template.uri == texts::TOOL_TEMPLATE
                    || resources::offered(&self.ctx).any(|found| template.uri == format!("{}/{{port}}", found.uri))
            }
            _ => false,
        };
        if !known {
            return Err(ErrorData::invalid_params("there is no such prompt or template", None));
        }
        let (ctx, argument, context) = (self.ctx.clone(), request.argument, request.context.unwrap_or_default());
        let found = tokio::task::spawn_blocking(move || {
            let given = |name: &str| context.get_argument(name).cloned();
            completions::values(&ctx, &argument.name, &argument.value, &given)
        });
        let mut values = found.await.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        let total = u32::try_from(values.len()).ok();
        let more = values.len() > CompletionInfo::MAX_VALUES;
        values.truncate(CompletionInfo::MAX_VALUES);
        let found = CompletionInfo::with_pagination(values, total, more);
        Ok(CompleteResult::new(found.map_err(|error| ErrorData::internal_error(error, None))?))
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(self.accepted(requested))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.tell(context).await;
        Ok(())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.subscribe_to(request.uri, &context.peer)
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.unsubscribe_from(&request.uri);
        Ok(())
    }

    #[expect(deprecated, reason = "clients of the older revisions ask for log lines")]
    async fn set_level(
        &self,
        request: rmcp::model::SetLevelRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.log_from(request.level, &context.peer);
        Ok(())
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        tasks::get(&self.called_by(&context), &request.task_id)
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        tasks::update(&self.called_by(&context), &request.task_id)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        tasks::cancel(&self.called_by(&context), &request.task_id)
    }

    async fn on_roots_list_changed(&self, _: NotificationContext<RoleServer>) {
        if let Some(roots) = &self.roots {
            roots.forget().await;
        }
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::offered(&self.ctx).find(|entry| entry.name == name).map(|entry| list::show(entry, list::Form::FULL))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let entry = tools::find(&request.name).filter(|entry| self.ctx.app.surface.has(entry));
        let entry = entry.ok_or_else(|| unknown_tool(&request.name))?;
        let mut request = request;
        if request.name != entry.name {
            let input = request.arguments.take().map_or(Value::Null, Value::Object);
            request.arguments = crate::tool::aliases::translate(&request.name, input).as_object().cloned();
        }
        self.call(entry, request, &context).await
    }
}

fn unknown_tool(name: &str) -> ErrorData {
    let near = esp_ops::nearest(name, tools::ALL.iter().map(|entry| entry.name));
    let advice = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
    ErrorData::invalid_params(Cow::from(format!("unknown tool: {name}{advice}")), None)
}

/// Cancels a job when nobody waits for it any more.
struct CancelOnDrop(Job);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_short() {
        assert!(INSTRUCTIONS.len() < 1000, "{} characters", INSTRUCTIONS.len());
    }
}
