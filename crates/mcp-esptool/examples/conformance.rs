//! The fixtures that the protocol's conformance suite asks of a server (`conformance.json`), over this program's own HTTP
//! transport, guard and router. For tests only: `cargo run --example conformance` prints its address.
#![allow(deprecated, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use esp_ops::config::{Config, Origin};
use mcp_esptool::{http, mcp};
use rmcp::ServerHandler;
use rmcp::model::*;
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

static DATA: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(include_str!("conformance.json")).unwrap());
static CHANGES: LazyLock<broadcast::Sender<&'static str>> = LazyLock::new(|| broadcast::channel(16).0);

struct Fixture;

type Answer<T> = Result<T, ErrorData>;

fn of<T: DeserializeOwned>(value: Value) -> Answer<T> {
    serde_json::from_value(value).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn text(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text.into())])
}

/// A state that only this server can have made.
fn sealed(name: &str, round: usize) -> String {
    let seal = Sha256::digest(format!("conformance fixture\n{name}\n{round}"));
    format!("{round}.{}", seal.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// The questions that are still to be asked; `None` when all are answered.
fn ask(
    name: &str,
    responses: Option<&InputResponses>,
    state: Option<&str>,
    context: &RequestContext<RoleServer>,
) -> Answer<Option<InputRequiredResult>> {
    let rounds = DATA["rounds"][name].as_array().cloned().unwrap_or_default();
    let with_state = !DATA["stateless"].as_array().unwrap().contains(&name.into());
    let begun = (0..rounds.len()).find(|round| state == Some(&sealed(name, *round)));
    if state.is_some() && with_state && begun.is_none() {
        return Err(ErrorData::invalid_params("the request state is not one of this server", None));
    }
    let round = begun.unwrap_or(0);
    let answered = rounds[round]
        .as_object()
        .unwrap()
        .keys()
        .all(|key| responses.and_then(|given| given.get(key)).is_some_and(|answer| answer.is_object()));
    let next = if answered { round + 1 } else { round };
    let Some(wanted) = rounds.get(next) else { return Ok(None) };
    let mut requests: BTreeMap<String, Value> = of(wanted.clone())?;
    let can = context.client_capabilities().unwrap_or_default();
    if name.ends_with("_capabilities") {
        requests.retain(|_, request| match request["method"].as_str() {
            Some("elicitation/create") => can.elicitation.is_some(),
            _ => can.sampling.is_some(),
        });
    }
    let state = with_state.then(|| sealed(name, next));
    Ok(Some(InputRequiredResult::new(Some(of(json!(requests))?), state)))
}

impl Fixture {
    async fn elicit(&self, params: Value, context: &RequestContext<RoleServer>) -> Answer<ElicitResult> {
        let request = ServerRequest::ElicitRequest(ElicitRequest::new(of(params)?));
        match context.peer.send_request(request).await {
            Ok(ClientResult::ElicitResult(result)) => Ok(result),
            other => Err(ErrorData::internal_error(format!("{other:?}"), None)),
        }
    }

    async fn steps(&self, context: &RequestContext<RoleServer>) -> CallToolResult {
        for step in 0..3 {
            if let Some(token) = context.meta.get_progress_token() {
                let progress = ProgressNotificationParam::new(token, f64::from(step * 50)).with_total(100.0);
                let _ = context.peer.notify_progress(progress).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        text("done")
    }

    async fn logs(&self, context: &RequestContext<RoleServer>) -> CallToolResult {
        for line in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
            let message = LoggingMessageNotificationParam::new(LoggingLevel::Info, line.into());
            let _ = context.peer.notify_logging_message(message).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        text("done")
    }
}

impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_completions()
            .enable_logging();
        ServerConfig::new(capabilities.build()).with_server_info(Implementation::new("conformance", "1"))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Answer<ListToolsResult> {
        Ok(ListToolsResult::with_all_items(of(DATA["tools"].clone())?))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Answer<CallToolResponse> {
        let name = request.name.as_ref();
        let given =
            |name: &str| request.arguments.as_ref().and_then(|fields| fields.get(name)).cloned().unwrap_or_default();
        if let Some(result) = DATA["results"].get(name) {
            let mut result = result.clone();
            result["resultType"] = json!("complete");
            return Ok(of::<CallToolResult>(result)?.into());
        }
        if let Some(params) = DATA["elicitations"].get(name) {
            let mut params = params.clone();
            if name == "test_elicitation" {
                params["message"] = given("message");
            }
            let result = self.elicit(params, &context).await?;
            let (action, content) = (json!(result.action), json!(result.content));
            let begin = if name == "test_elicitation" { "User response" } else { "Elicitation completed" };
            return Ok(text(format!("{begin}: action={}, content={content}", action.as_str().unwrap())).into());
        }
        if DATA["rounds"].get(name).is_some() {
            let asked = ask(name, request.input_responses.as_ref(), request.request_state.as_deref(), &context)?;
            return Ok(match asked {
                Some(question) => question.into(),
                None => text(format!("state-ok, with {}", json!(request.input_responses))).into(),
            });
        }
        Ok(match name {
            "test_tool_with_logging" => self.logs(&context).await,
            "test_tool_with_progress" => self.steps(&context).await,
            "test_sampling" => {
                let message = json!({"role": "user", "content": {"type": "text", "text": given("prompt")}});
                let params = of(json!({"messages": [message], "maxTokens": 100}))?;
                let answer = context.peer.create_message(params).await;
                let answer = answer.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
                text(format!("LLM response: {}", json!(answer)["content"]["text"]))
            }
            "test_missing_capability" => {
                let wanted = ClientCapabilities::builder().enable_sampling().build();
                if context.client_capabilities().is_none_or(|can| can.sampling.is_none()) {
                    return Err(ErrorData::missing_required_client_capability(wanted));
                }
                text("has it")
            }
            "test_trigger_tool_change" => {
                let _ = CHANGES.send("tools");
                text("changed")
            }
            "test_trigger_prompt_change" => {
                let _ = CHANGES.send("prompts");
                text("changed")
            }
            _ => return Err(ErrorData::invalid_params(format!("unknown tool: {name}"), None)),
        }
        .into())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Answer<()> {
        let mut changes = CHANGES.subscribe();
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                change = changes.recv() => drop(match change {
                    Ok("tools") => context.sink().notify_tool_list_changed().await,
                    Ok(_) => context.sink().notify_prompt_list_changed().await,
                    Err(_) => return Ok(()),
                }),
            }
        }
    }

    async fn subscribe(&self, _: SubscribeRequestParams, _: RequestContext<RoleServer>) -> Answer<()> {
        Ok(())
    }

    async fn unsubscribe(&self, _: UnsubscribeRequestParams, _: RequestContext<RoleServer>) -> Answer<()> {
        Ok(())
    }

    async fn set_level(&self, _: SetLevelRequestParams, _: RequestContext<RoleServer>) -> Answer<()> {
        Ok(())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Answer<ListResourcesResult> {
        let listed = DATA["resources"].as_object().unwrap().iter().map(
            |(uri, about)| json!({"uri": uri, "name": uri, "description": "A fixture", "mimeType": about["mimeType"]}),
        );
        Ok(ListResourcesResult::with_all_items(of(listed.collect())?))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Answer<ListResourceTemplatesResult> {
        let template =
            json!({"uriTemplate": "test://template/{id}/data", "name": "template", "mimeType": "application/json"});
        Ok(ListResourceTemplatesResult::with_all_items(vec![of(template)?]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Answer<ReadResourceResponse> {
        let uri = request.uri.as_str();
        let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
        let mut content = match (DATA["resources"].get(uri), id) {
            (Some(content), _) => content.clone(),
            (None, Some(id)) => {
                let data = json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
                json!({"mimeType": "application/json", "text": data.to_string()})
            }
            (None, None) => {
                return Err(ErrorData::resource_not_found("Resource not found", Some(json!({ "uri": uri }))));
            }
        };
        content["uri"] = uri.into();
        Ok(ReadResourceResult::new(vec![of(content)?]).into())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Answer<ListPromptsResult> {
        let listed = DATA["prompts"].as_object().unwrap().iter().map(|(name, prompt)| {
            let arguments = prompt["arguments"].as_array().into_iter().flatten();
            let arguments: Vec<Value> = arguments.map(|name| json!({"name": name, "required": true})).collect();
            json!({"name": name, "description": "A fixture", "arguments": arguments})
        });
        Ok(ListPromptsResult::with_all_items(of(listed.collect())?))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Answer<GetPromptResponse> {
        let name = request.name.as_str();
        let unknown = || ErrorData::invalid_params(format!("unknown prompt: {name}"), None);
        let mut messages = DATA["prompts"].get(name).ok_or_else(unknown)?["messages"].to_string();
        if DATA["rounds"].get(name).is_some()
            && let Some(question) =
                ask(name, request.input_responses.as_ref(), request.request_state.as_deref(), &context)?
        {
            return Ok(question.into());
        }
        for (name, value) in request.arguments.unwrap_or_default() {
            messages = messages.replace(&format!("{{{name}}}"), value.as_str().unwrap_or_default());
        }
        let messages =
            serde_json::from_str(&messages).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok(GetPromptResult::new(messages).into())
    }
}

fn main() -> std::io::Result<()> {
    let mut config = Config::default();
    config.set("http_auth", "none".into(), Origin::Flag).unwrap();
    let options = http::Options::new(&config, "127.0.0.1:0").unwrap();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(options.address).await?;
        options.announce(listener.local_addr()?);
        let stop = CancellationToken::new();
        let sessions = mcp::HttpSessions::default();
        let routes = mcp::routes_of(|| Fixture, &sessions, options.max_body_bytes, &stop);
        http::run_router(http::guarded(&options, sessions, routes), options.connections, listener, stop).await
    })
}
