//! The tasks extension: a long call that takes its time becomes a task, which the client polls. Behind it is the same
//! background job that `esp_job` shows to clients that do not know tasks.

use std::time::Duration;

use esp_model::job::Job;
use esp_ops::error::ToolError;
use jiff::{SignedDuration, Timestamp};
use rmcp::model::{
    CallToolResponse, CreateTaskResult, DetailedTask, ErrorData, GetTaskResult, Task, TaskPayload, TaskStatus,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Value, json};

use super::call::answer;
use crate::ctx::Ctx;
use crate::ctx::jobs::{JobId, JobView, State};
use crate::logs;
use crate::tool::Entry;

/// A call that takes longer becomes a task.
const SHORT: Duration = Duration::from_secs(3);
/// How often a client should ask, in milliseconds.
const POLL_MS: u64 = 500;

/// The client knows tasks, and does not watch this call's progress.
pub(super) fn wanted(context: &RequestContext<RoleServer>) -> bool {
    let declared = context.client_capabilities().is_some_and(|capabilities| capabilities.supports_tasks());
    declared && context.meta.get_progress_token().is_none()
}

/// Runs a long tool as a job: its result when it is quick, else a task.
pub(super) async fn run(
    (ctx, client): (&Ctx, u64),
    entry: &'static Entry,
    input: Value,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let mut input = if input.is_null() { json!({}) } else { input };
    let at_once = input.get("background").and_then(Value::as_bool).unwrap_or(false);
    if let Some(fields) = input.as_object_mut() {
        fields.insert("background".into(), true.into());
    }
    let started = logs::during(client, 0, || entry.call(ctx, &Job::new(), input));
    let id = match started {
        Ok(reply) => JobId::from(reply.data.get("job_id").and_then(Value::as_str).unwrap_or_default()),
        Err(error) => return Ok(answer(Err(error)).into()),
    };
    if !at_once {
        let (waiting, job, of) = (ctx.clone(), Job::new(), id.clone());
        let stop = super::CancelOnDrop(job.clone());
        let mut wait = tokio::task::spawn_blocking(move || waiting.app.jobs.wait(&waiting.caller, &of, SHORT, &job));
        tokio::select! {
            _ = &mut wait => {}
            () = context.ct.cancelled() => {
                stop.0.cancel();
                let _ = ctx.app.jobs.cancel(&ctx.caller, &id);
            }
        }
    }
    match ctx.app.jobs.outcome(&ctx.caller, &id) {
        Ok(Some(result)) => Ok(answer(result).into()),
        _ => {
            let task = ctx.app.jobs.view(&ctx.caller, &id).map_err(|error| no_task(&error))?;
            Ok(CallToolResponse::Task(CreateTaskResult::new(task_of(&task))))
        }
    }
}

/// How far a task is, with its result at the end.
pub(super) fn get(ctx: &Ctx, id: &str) -> Result<GetTaskResult, ErrorData> {
    let view = ctx.app.jobs.view(&ctx.caller, &id.into()).map_err(|error| no_task(&error))?;
    let outcome = ctx.app.jobs.outcome(&ctx.caller, &id.into()).map_err(|error| no_task(&error))?;
    let payload = match (view.state, outcome) {
        (State::Cancelled, _) => TaskPayload::Cancelled,
        (_, Some(result)) => match serde_json::to_value(answer(result)) {
            Ok(Value::Object(result)) => TaskPayload::Completed { result },
            _ => return Err(ErrorData::internal_error("the result cannot be written as JSON", None)),
        },
        (_, None) => TaskPayload::Working,
    };
    Ok(GetTaskResult::new(DetailedTask::new(task_of(&view), payload)))
}

/// Asks a task to stop.
pub(super) fn cancel(ctx: &Ctx, id: &str) -> Result<(), ErrorData> {
    ctx.app.jobs.cancel(&ctx.caller, &id.into()).map(drop).map_err(|error| no_task(&error))
}

/// A task that waits for input does not exist here: questions are asked before the work begins.
pub(super) fn update(ctx: &Ctx, id: &str) -> Result<(), ErrorData> {
    ctx.app.jobs.view(&ctx.caller, &id.into()).map(drop).map_err(|error| no_task(&error))
}

fn no_task(error: &ToolError) -> ErrorData {
    ErrorData::invalid_params(error.message.clone(), None)
}

fn task_of(view: &JobView) -> Task {
    let status = match view.state {
        State::Running => TaskStatus::Working,
        State::Cancelled => TaskStatus::Cancelled,
        State::Done | State::Failed => TaskStatus::Completed,
    };
    let (began, now) = (view.started, Timestamp::now());
    // Once it has ended, it changes no more.
    let took = SignedDuration::try_from(Duration::from_secs_f64(view.seconds.max(0.0))).unwrap_or_default();
    let changed = if view.state == State::Running { now } else { began.saturating_add(took).unwrap_or(now) };
    let stamp = |time: Timestamp| format!("{time:.3}");
    let mut task =
        Task::new(view.job_id.to_string(), status, stamp(began), stamp(changed)).with_poll_interval_ms(POLL_MS);
    task.status_message = view.message.clone();
    task
}
