//! `esp_job`: what became of work that was started with `background: true`.

use std::time::Duration;

use esp_model::job::Job;
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::ctx::jobs::{JobId, JobView};
use crate::tool::Tool;

/// The tool.
pub struct JobTool;

/// What to do with a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// List all jobs.
    List,
    /// Say how far it is.
    #[default]
    Status,
    /// Wait for its end.
    Wait,
    /// Stop it at the next safe point.
    Cancel,
}

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// The job; not needed for list.
    job_id: Option<JobId>,
    /// What to do (default status).
    #[serde(default)]
    action: Action,
    /// Longest wait in seconds (default 30, at most 600).
    #[schemars(extend("x-rare" = true))]
    timeout_s: Option<u64>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The jobs asked for, oldest first.
    jobs: Vec<JobView>,
}

impl Tool for JobTool {
    const NAME: &'static str = "esp_job";
    const TITLE: &'static str = "Background jobs";
    const ABOUT: &'static str = "Poll, wait for, cancel or list jobs started with background: true.";
    const RISK: Risk = Risk::Resets;
    const LEAST_RISK: Risk = Risk::Reads;
    type In = In;
    type Out = Out;

    fn risk(input: &In) -> Risk {
        // A job that is cut off is not always one's own.
        if input.action == Action::Cancel { Risk::Resets } else { Risk::Reads }
    }

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let Some(id) = &input.job_id else {
            return match input.action {
                Action::List => Ok(Out { jobs: ctx.app.jobs.list(&ctx.caller) }),
                _ => Err(ToolError::new(Code::MissingParameter, "the parameter `job_id` is missing")),
            };
        };
        let view = match input.action {
            Action::List | Action::Status => ctx.app.jobs.view(&ctx.caller, id)?,
            Action::Cancel => ctx.app.jobs.cancel(&ctx.caller, id)?,
            Action::Wait => {
                let timeout = Duration::from_secs(input.timeout_s.unwrap_or(30).min(600));
                ctx.app.jobs.wait(&ctx.caller, id, timeout, job)?
            }
        };
        Ok(Out { jobs: vec![view] })
    }

    fn summary(out: &Out) -> String {
        if out.jobs.is_empty() {
            return "no jobs".into();
        }
        out.jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}
