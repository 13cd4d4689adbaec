//! The tasks extension: a long call that takes its time becomes a task, which the client polls. Behind it is the same
//! background job that `esp_job` shows to clients that do not know tasks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use esp_model::job::Job;
use rmcp::model::{
    CallToolResponse, CreateTaskResult, DetailedTask, ErrorData, GetTaskResult, Task, TaskPayload, TaskStatus,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Value, json};

use super::call::answer;
use crate::ctx::Ctx;
use crate::ctx::jobs::{JobView, State};
use crate::tool::Entry;
use crate::tools::error::ToolError;

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
    ctx: &Ctx,
    entry: &'static Entry,
    input: Value,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let mut input = if input.is_null() { json!({}) } else { input };
    let at_once = input.get("background").and_then(Value::as_bool).unwrap_or(false);
    if let Some(fields) = input.as_object_mut() {
        fields.insert("background".into(), true.into());
    }
    let started = entry.call(ctx, &Job::new(), input);
    let id = match started {
        Ok(reply) => reply.data.get("job_id").and_then(Value::as_str).unwrap_or_default().to_string(),
        Err(error) => return Ok(answer(Err(error)).into()),
    };
    if !at_once {
        let (waiting, job, of) = (ctx.clone(), Job::new(), id.clone());
        let stop = super::CancelOnDrop(job.clone());
        let mut wait = tokio::task::spawn_blocking(move || waiting.jobs.wait(&of, SHORT, &job));
        tokio::select! {
            _ = &mut wait => {}
            () = context.ct.cancelled() => {
                stop.0.cancel();
                let _ = ctx.jobs.cancel(&id);
            }
        }
    }
    match ctx.jobs.outcome(&id) {
        Ok(Some(result)) => Ok(answer(result).into()),
        _ => {
            let task = ctx.jobs.view(&id).map_err(|error| no_task(&error))?;
            Ok(CallToolResponse::Task(CreateTaskResult::new(task_of(&task))))
        }
    }
}

/// How far a task is, with its result at the end.
pub(super) fn get(ctx: &Ctx, id: &str) -> Result<GetTaskResult, ErrorData> {
    let view = ctx.jobs.view(id).map_err(|error| no_task(&error))?;
    let outcome = ctx.jobs.outcome(id).map_err(|error| no_task(&error))?;
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
    ctx.jobs.cancel(id).map(drop).map_err(|error| no_task(&error))
}

/// A task that waits for input does not exist here: questions are asked before the work begins.
pub(super) fn update(ctx: &Ctx, id: &str) -> Result<(), ErrorData> {
    ctx.jobs.view(id).map(drop).map_err(|error| no_task(&error))
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
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let began = now.saturating_sub(Duration::from_secs_f64(view.seconds.max(0.0)));
    let mut task = Task::new(&view.job_id, status, stamp(began), stamp(now)).with_poll_interval_ms(POLL_MS);
    task.status_message = view.message.clone();
    task
}

/// A time since 1970 as ISO 8601, in UTC.
fn stamp(since: Duration) -> String {
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Civil date from days, counted in eras of 400 years that begin in March (Howard Hinnant's algorithm).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_calendar_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_785_196_800, "2026-07-28T00:00:00.000Z"),
        ] {
            assert_eq!(stamp(Duration::from_secs(seconds)), text);
        }
    }
}
