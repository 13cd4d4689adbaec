//! One tool call: in a blocking thread of its own, with progress, cancellation, a question to the user where the tool
//! plans something irreversible, and a task instead of an answer where it takes long and the client knows tasks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use esp_model::job::Job;
use esp_ops::error::{Code, ToolError};
use rmcp::model::{CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, MetaObject};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Value, json};
use std::sync::Arc;

use super::notify::CallLog;
use super::progress::{ProgressSender, forward};
use super::{CancelOnDrop, ERROR_META, Server, confirm, tasks};
use crate::ctx::Ctx;
use crate::logs;
use crate::tool::{Entry, Reply};

impl Server {
    pub(super) async fn call(
        &self,
        entry: &'static Entry,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let ctx = self.ctx_of(context).await?;
        let mut input = request.arguments.map_or(Value::Null, Value::Object);
        if entry.confirms
            && let Some(state) = request.request_state
        {
            match confirm::resume(&ctx, &state, request.input_responses, &mut input) {
                confirm::Resumed::Confirmed => {}
                confirm::Resumed::AskAgain(question) => return Ok(question.as_result()?.into()),
                confirm::Resumed::Refused(error) => return Ok(answer(Err(error)).into()),
            }
        }
        if entry.long && tasks::wanted(context) {
            return tasks::run((&ctx, self.number), entry, input, context).await;
        }
        let sender = context.meta.get_progress_token().map(|token| Arc::new(ProgressSender::new(token)));
        let result = run((&ctx, self.number), entry, input.clone(), sender.as_ref(), context).await;
        let question = match &result {
            Ok(reply) if entry.confirms => confirm::Question::of(&ctx, reply),
            _ => None,
        };
        match (question, confirm::way(context)) {
            (Some(question), Some(confirm::Way::Return)) => Ok(question.as_result()?.into()),
            (Some(question), Some(confirm::Way::Ask)) => match question.ask(&ctx, context).await {
                Ok(true) => {
                    question.confirm(&mut input);
                    Ok(answer(run((&ctx, self.number), entry, input, sender.as_ref(), context).await).into())
                }
                // Nobody could be asked: the plan goes back as to a client that cannot ask.
                Ok(false) => Ok(answer(result).into()),
                Err(error) => Ok(answer(Err(error)).into()),
            },
            _ => Ok(answer(result).into()),
        }
    }
}

/// Runs the tool to its end. After a cancellation the worker is waited for, and no progress is sent any more.
async fn run(
    (ctx, client): (&Ctx, u64),
    entry: &'static Entry,
    input: Value,
    sender: Option<&Arc<ProgressSender>>,
    context: &RequestContext<RoleServer>,
) -> Result<Reply, ToolError> {
    let job = match sender.cloned() {
        Some(sender) => Job::with_progress(move |progress| sender.note(progress)),
        None => Job::new(),
    };
    // If this future is dropped, nobody waits for the answer any more: the worker stops too.
    let stop = CancelOnDrop(job.clone());
    let ctx = ctx.clone();
    let mut log = CallLog::wanted(context);
    let call = log.as_ref().map_or(0, |log| log.call);
    let mut worker = tokio::task::spawn_blocking(move || logs::during(client, call, || entry.call(&ctx, &job, input)));
    let mut cancelled = false;
    let result = loop {
        tokio::select! {
            biased;
            () = context.ct.cancelled(), if !cancelled => {
                stop.0.cancel();
                cancelled = true;
            }
            result = &mut worker => break result,
            () = forward(sender.map(Arc::as_ref), context), if !cancelled && sender.is_some() => {}
            () = lines(log.as_mut(), context), if !cancelled && log.is_some() => {}
        }
    };
    if let (Some(sender), false) = (sender, cancelled || context.ct.is_cancelled()) {
        sender.send_latest(context).await;
    }
    if let (Some(log), false) = (&mut log, cancelled || context.ct.is_cancelled()) {
        log.rest(context).await;
    }
    result.unwrap_or_else(|error| {
        Err(ToolError::new(Code::Internal, format!("internal error in {}: {error}", entry.name)))
    })
}

async fn lines(log: Option<&mut CallLog>, context: &RequestContext<RoleServer>) {
    match log {
        Some(log) => log.forward(context).await,
        None => std::future::pending().await,
    }
}

/// Errors go out as text, with the machine form beside it: a strict client would check `structuredContent` against
/// the schema of a success and drop the whole answer.
pub(super) fn answer(result: Result<Reply, ToolError>) -> CallToolResult {
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
