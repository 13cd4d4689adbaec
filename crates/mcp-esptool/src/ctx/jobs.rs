//! Background jobs: the calls that were made with `background: true`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use esp_model::job::{Job, Progress};
use esp_ops::caller::Caller;
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::confirm::random_bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::ctx::Ctx;
use crate::logs;
use crate::tool::{Entry, Reply};

/// Finished jobs that are remembered.
const REMEMBERED: usize = 100;
/// Jobs that may run at once where no policy says how many.
const USUAL_LIMIT: u64 = 64;
/// Longest wait for running jobs when the server ends.
const CLOSING: Duration = Duration::from_secs(10);

/// All jobs of this server.
#[derive(Default)]
pub struct Jobs {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    last: u64,
    jobs: BTreeMap<u64, Record>,
}

struct Record {
    id: JobId,
    owner: Caller,
    tool: &'static str,
    job: Job,
    started: Timestamp,
    began: Instant,
    ended: Option<Instant>,
    progress: Option<Progress>,
    result: Option<Result<Reply, ToolError>>,
}

/// A job's name, which nobody can guess: 128 random bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct JobId(String);

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// At work.
    Running,
    /// Ended well.
    Done,
    /// Ended with an error.
    Failed,
    /// Stopped because somebody asked for it.
    Cancelled,
}

/// A job as `esp_job` shows it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct JobView {
    /// The job.
    pub job_id: JobId,
    /// The tool that runs in it.
    pub tool: String,
    /// Where it stands.
    pub state: State,
    /// Seconds since it began, or that it took.
    pub seconds: f64,
    /// What it does now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Units done of this phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    /// Units in this phase, 0 if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// When it began.
    #[serde(skip)]
    pub started: Timestamp,
    /// The result's summary, or the whole error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The tool's own result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Map<String, Value>>,
}

impl Jobs {
    /// Starts a tool in a thread of its own.
    pub fn start(&self, ctx: Ctx, entry: &'static Entry, input: Value) -> Result<Reply, ToolError> {
        let mut table = self.inner.lock();
        let running = table.jobs.values().filter(|record| record.ended.is_none()).count();
        let most = ctx.policy.limits().max_jobs.unwrap_or(USUAL_LIMIT);
        if running as u64 >= most {
            let text = format!("{running} background jobs run already; at most {most} are allowed");
            return Err(
                ToolError::new(Code::LimitReached, text).next("wait for one with esp_job action=wait, or cancel it")
            );
        }
        table.last += 1;
        let id = table.last;
        let inner = self.inner.clone();
        let job = Job::with_progress(move |progress| {
            if let Some(record) = inner.lock().jobs.get_mut(&id) {
                record.progress = Some(progress);
            }
        });
        let job_id = JobId::new()?;
        let record = Record {
            id: job_id.clone(),
            owner: ctx.caller.clone(),
            started: Timestamp::now(),
            tool: entry.name,
            job: job.clone(),
            began: Instant::now(),
            ended: None,
            progress: None,
            result: None,
        };
        table.jobs.insert(id, record);
        table.forget_old();
        drop(table);
        let inner = self.inner.clone();
        let client = logs::client();
        std::thread::spawn(move || {
            let result = logs::during(client, 0, || entry.call_checked(&ctx, &job, input));
            if let Some(record) = inner.lock().jobs.get_mut(&id) {
                record.ended = Some(Instant::now());
                record.result = Some(result);
            }
            inner.changed.notify_all();
        });
        let text = format!("{} runs as {job_id}; esp_job tells how far it is", entry.name);
        Ok(Reply::new(text, Map::from_iter([("job_id".to_string(), json!(job_id))])))
    }

    /// All jobs of this client, oldest first.
    pub fn list(&self, caller: &Caller) -> Vec<JobView> {
        let table = self.inner.lock();
        table.jobs.values().filter(|record| record.owner.is(caller)).map(Record::view).collect()
    }

    /// One job.
    pub fn view(&self, caller: &Caller, id: &JobId) -> Result<JobView, ToolError> {
        let table = self.inner.lock();
        table.get(caller, id).map(Record::view)
    }

    /// A job's result, once it has one.
    pub fn outcome(&self, caller: &Caller, id: &JobId) -> Result<Option<Result<Reply, ToolError>>, ToolError> {
        let table = self.inner.lock();
        table.get(caller, id).map(|record| record.result.clone())
    }

    /// Asks a job to stop at its next safe point.
    pub fn cancel(&self, caller: &Caller, id: &JobId) -> Result<JobView, ToolError> {
        let table = self.inner.lock();
        let record = table.get(caller, id)?;
        record.job.cancel();
        Ok(record.view())
    }

    /// Waits for a job's end, at most `timeout`, or until `call` is cancelled.
    pub fn wait(&self, caller: &Caller, id: &JobId, timeout: Duration, call: &Job) -> Result<JobView, ToolError> {
        let until = Instant::now() + timeout;
        let mut table = self.inner.lock();
        loop {
            let record = table.get(caller, id)?;
            let left = until.saturating_duration_since(Instant::now());
            if record.ended.is_some() || left.is_zero() {
                return Ok(record.view());
            }
            if let Some(progress) = &record.progress {
                call.progress(progress.done, progress.total, progress.message.clone());
            }
            call.check()?;
            table = self.inner.wait(table, left.min(Duration::from_millis(100)));
        }
    }

    /// Waits until no job runs any more.
    pub fn wait_all(&self) {
        let mut table = self.inner.lock();
        while table.jobs.values().any(|record| record.ended.is_none()) {
            table = self.inner.wait(table, Duration::from_millis(100));
        }
    }

    /// Cancels all running jobs and waits a little until they have stopped.
    pub fn close(&self) {
        let until = Instant::now() + CLOSING;
        let mut table = self.inner.lock();
        table.jobs.values().for_each(|record| record.job.cancel());
        while table.jobs.values().any(|record| record.ended.is_none()) && Instant::now() < until {
            table = self.inner.wait(table, Duration::from_millis(100));
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, table: MutexGuard<'a, Table>, time: Duration) -> MutexGuard<'a, Table> {
        self.changed.wait_timeout(table, time).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl JobId {
    fn new() -> Result<Self, ToolError> {
        let mut bytes = [0; 16];
        random_bytes(&mut bytes)?;
        Ok(Self(format!("job-{:032x}", u128::from_be_bytes(bytes))))
    }
}

impl From<&str> for JobId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Table {
    /// The job of this id, where the caller may use it. Another client's job does not exist for it.
    fn get(&self, caller: &Caller, id: &JobId) -> Result<&Record, ToolError> {
        let found = self.jobs.values().find(|record| record.id == *id && caller.may_use_what_is_of(&record.owner));
        found.ok_or_else(|| {
            let own = self.jobs.values().filter(|record| record.owner.is(caller));
            let known: Vec<&str> = own.map(|record| record.id.0.as_str()).collect();
            ToolError::new(Code::UnknownJob, format!("there is no job `{id}`")).seen("known", known.join(", "))
        })
    }

    fn forget_old(&mut self) {
        while self.jobs.len() > REMEMBERED {
            let oldest = self.jobs.iter().find(|(_, record)| record.ended.is_some()).map(|(id, _)| *id);
            match oldest {
                Some(id) => self.jobs.remove(&id),
                None => return,
            };
        }
    }
}

impl Record {
    fn view(&self) -> JobView {
        let ended = self.ended.unwrap_or_else(Instant::now);
        let state = match &self.result {
            None => State::Running,
            Some(Ok(_)) => State::Done,
            Some(Err(error)) if error.code == Code::Cancelled => State::Cancelled,
            Some(Err(_)) => State::Failed,
        };
        let progress = self.progress.as_ref().filter(|_| state == State::Running);
        JobView {
            job_id: self.id.clone(),
            started: self.started,
            tool: self.tool.into(),
            state,
            seconds: (ended - self.began).as_millis() as f64 / 1000.0,
            message: progress.map(|progress| progress.message.clone()),
            done: progress.map(|progress| progress.done),
            total: progress.map(|progress| progress.total),
            summary: self.result.as_ref().map(|result| match result {
                Ok(reply) => reply.text.clone(),
                Err(error) => error.to_string(),
            }),
            result: self.result.as_ref().and_then(|result| result.as_ref().ok()).map(|reply| reply.data.clone()),
        }
    }
}

impl fmt::Display for JobView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Running => "running",
            State::Done => "done",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        };
        write!(f, "{} {}: {state} ({:.1} s)", self.job_id, self.tool, self.seconds)?;
        if let Some(message) = &self.message {
            write!(f, ", {message}")?;
        }
        match &self.summary {
            Some(summary) => write!(f, ": {summary}"),
            None => Ok(()),
        }
    }
}
