//! What a tool is: one file, one type, one line in [`crate::tools::ALL`].
//!
//! The server, the command line, the generated documents and the snapshots all read the same list.

pub mod aliases;
pub mod schema;
pub mod surface;

use std::time::Instant;

use esp_link::port::PortUrl;
use esp_model::job::Job;
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::{Operation, Production, Risk};
use esp_ops::session::deadline::Deadline;
use esp_ops::session::overrides::Overrides;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ctx::Ctx;
use crate::render;

/// One tool. `In`'s field comments are the parameters' descriptions.
pub trait Tool {
    /// The name on the wire: `esp_flash_read`.
    const NAME: &'static str;
    /// The name for people: "Read flash".
    const TITLE: &'static str;
    /// What it does, when to use it, in one to three sentences.
    const ABOUT: &'static str;
    /// The worst that any call of it can do: the hints say this.
    const RISK: Risk;
    /// The least that a call of it does: the tool is offered where the policy allows this.
    const LEAST_RISK: Risk = Self::RISK;
    /// A call again with the same parameters changes nothing more.
    const IDEMPOTENT: bool = !matches!(Self::RISK, Risk::Irreversible);
    /// Its first call may return a plan that waits for a person's confirmation.
    const CONFIRMS: bool = matches!(Self::RISK, Risk::Irreversible);
    /// It may run for long: it then takes `background: true` and returns a job.
    const LONG: bool = false;
    /// It creates or changes files on this computer.
    const FILES: bool = false;
    /// What of it a line in production may do.
    const PRODUCTION: Production = Production::Closed;
    /// It works on flash alone: a flash image (`image:PATH`) will do for a device.
    const IMAGES: bool = false;
    /// Where it takes a port, it connects to the device's loader: it then takes `before`, `after`, `baud` … too.
    const CONNECTS: bool = true;
    /// Its parameters. Unknown ones are refused before this is read.
    type In: DeserializeOwned + JsonSchema;
    /// Its result; always a JSON object.
    type Out: Serialize + JsonSchema;

    /// What a call with these parameters can do at worst, between [`Self::LEAST_RISK`] and [`Self::RISK`]. The policy
    /// decides by this.
    fn risk(_: &Self::In) -> Risk {
        Self::RISK
    }

    /// Does the work. Blocks; checks `job` for cancellation and reports progress to it.
    fn run(ctx: &Ctx, job: &Job, input: Self::In) -> Result<Self::Out, ToolError>;

    /// The result in one to three lines, for people.
    fn summary(out: &Self::Out) -> String;

    /// Pictures that go with the result.
    fn pictures(_: &Self::Out) -> Vec<Picture> {
        Vec::new()
    }
}

/// The four hints that MCP knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Hints {
    /// Changes neither a device's persistent state nor files.
    pub read_only: bool,
    /// May overwrite or remove something.
    pub destructive: bool,
    /// Calling it again with the same parameters changes nothing more.
    pub idempotent: bool,
    /// Deals with more than the devices and files that it is given.
    pub open_world: bool,
}

/// A picture for people and models that can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// `image/png`
    pub mime: &'static str,
    /// The file's bytes.
    pub bytes: Vec<u8>,
}

/// What a call gives back.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The summary, and below it the facts of `data` in compact form.
    pub text: String,
    /// The same without limits, where `text` leaves something out and names the document that has it.
    pub whole: Option<String>,
    /// The result, as the tool's output schema says.
    pub data: Map<String, Value>,
    /// Pictures that go with it.
    pub pictures: Vec<Picture>,
}

impl Reply {
    /// A text and data that are complete.
    pub fn new(text: String, data: Map<String, Value>) -> Self {
        Self { text, whole: None, data, pictures: Vec::new() }
    }

    /// The same with further notes, in the text and in the result.
    fn with_notes(mut self, notes: &[String]) -> Self {
        if notes.is_empty() {
            return self;
        }
        let notes_text = notes.join("\n");
        for text in [Some(&mut self.text), self.whole.as_mut()].into_iter().flatten() {
            *text = format!("{}\n{notes_text}", text.trim_end());
        }
        let all = self.data.entry("notes").or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(all) = all {
            all.extend(notes.iter().map(|note| Value::from(note.as_str())));
        }
        self
    }
}

/// One line of the list of tools.
pub struct Entry {
    /// The name on the wire.
    pub name: &'static str,
    /// The name for people.
    pub title: &'static str,
    /// What it does.
    pub about: &'static str,
    /// The set it belongs to: `chip`, `flash` …
    pub set: &'static str,
    /// The worst that any call of it can do.
    pub risk: Risk,
    /// The least that a call of it does.
    pub least: Risk,
    /// A call again with the same parameters changes nothing more.
    pub idempotent: bool,
    /// Its first call may return a plan that waits for a person's confirmation.
    pub confirms: bool,
    /// It takes `background`.
    pub long: bool,
    /// It writes files on this computer.
    pub files: bool,
    /// What of it a line in production may do.
    production: Production,
    /// It works on flash images too.
    pub images: bool,
    input: fn() -> Map<String, Value>,
    output: fn() -> Map<String, Value>,
    risk_of: fn(&Value) -> Result<Risk, ToolError>,
    run: fn(&Ctx, &Job, Value) -> Result<Reply, ToolError>,
}

/// Makes the list's line for a tool.
pub const fn entry<T: Tool>(set: &'static str) -> Entry {
    Entry {
        name: T::NAME,
        title: T::TITLE,
        about: T::ABOUT,
        set,
        risk: T::RISK,
        least: T::LEAST_RISK,
        idempotent: T::IDEMPOTENT,
        confirms: T::CONFIRMS,
        long: T::LONG,
        files: T::FILES,
        production: T::PRODUCTION,
        images: T::IMAGES,
        input: || schema::of_input::<T::In>(T::LONG, T::CONNECTS),
        output: || render::address_schemas(schema::of_output::<T::Out>(T::LONG)),
        risk_of: risk_of::<T>,
        run: run::<T>,
    }
}

fn risk_of<T: Tool>(input: &Value) -> Result<Risk, ToolError> {
    if T::LEAST_RISK == T::RISK {
        return Ok(T::RISK);
    }
    let input = T::In::deserialize(input).map_err(|error| ToolError::new(Code::BadParameter, error.to_string()))?;
    Ok(T::risk(&input).clamp(T::LEAST_RISK, T::RISK))
}

fn run<T: Tool>(ctx: &Ctx, job: &Job, input: Value) -> Result<Reply, ToolError> {
    let input = serde_json::from_value(input).map_err(|error| ToolError::new(Code::BadParameter, error.to_string()))?;
    let out = T::run(ctx, job, input)?;
    let (summary, pictures) = (T::summary(&out), T::pictures(&out));
    let facts = render::facts(&out, &summary);
    let below = |facts: &str| {
        let parts = [summary.trim_end(), facts.trim_end()].into_iter().filter(|part| !part.is_empty());
        render::plain(&parts.collect::<Vec<_>>().join("\n"))
    };
    let (mut text, whole) = (below(&facts.text), facts.whole.as_deref().map(below));
    if let Some(whole) = &whole {
        text = format!("{text}\ncut; esp_docs name={} shows all", ctx.app.results.keep(whole));
    }
    let data = serde_json::to_value(&out).map(|mut data| {
        render::addresses_as_text(&mut data);
        data
    });
    match data {
        Ok(Value::Object(data)) => Ok(Reply { text, whole, data, pictures }),
        Ok(other) => Err(ToolError::new(Code::Internal, format!("the result is not an object: {other}"))),
        Err(error) => Err(ToolError::new(Code::Internal, format!("the result cannot be written as JSON: {error}"))),
    }
}

impl Entry {
    /// The schema of the parameters. Made anew each time: that takes microseconds, and keeping all of them megabytes.
    pub fn input_schema(&self) -> Map<String, Value> {
        (self.input)()
    }

    /// The schema of the result, with descriptions.
    pub fn output_schema(&self) -> Map<String, Value> {
        (self.output)()
    }

    /// The four hints, from the risk.
    pub fn hints(&self) -> Hints {
        Hints {
            read_only: self.risk == Risk::Reads && !self.files,
            destructive: self.risk >= Risk::Writes,
            idempotent: self.idempotent,
            open_world: false,
        }
    }

    /// As the policy sees it.
    pub fn operation(&self) -> Operation {
        Operation { name: self.name, least: self.least, files: self.files, production: self.production }
    }

    /// Checks the parameters against the schema, then the policy, then runs the tool (or starts it as a job).
    ///
    /// `input` may hold texts where numbers, lists or objects are wanted (`"0x10000"`, `"[1, 2]"`).
    pub fn call(&'static self, ctx: &Ctx, job: &Job, input: Value) -> Result<Reply, ToolError> {
        let mut input = schema::check(input, self.input_schema()).map_err(|error| self.pointed(error))?;
        // Here and not by the parameters' own type: a bad port has a code of its own.
        if let Some(port) = input.get("port").and_then(Value::as_str) {
            port.parse::<PortUrl>()?;
        }
        // What no call may do is refused before this one's parameters are looked at.
        ctx.policy.allows_call(&self.operation(), self.least)?;
        let background = self.long && take_background(&mut input);
        let overrides = self.take_overrides(&mut input).map_err(|error| self.pointed(error))?;
        if let Some(baud) = overrides.baud {
            ctx.policy.allows_baud(baud)?;
        }
        let ctx = ctx.with_overrides(overrides);
        let risk = (self.risk_of)(&input)?;
        ctx.policy.allows_call(&self.operation(), risk)?;
        let ctx = if ctx.is_shared() { ctx.sharing(risk != Risk::Reads) } else { ctx };
        if background {
            return ctx.app.jobs.start(ctx.clone(), self, input);
        }
        self.call_checked(&ctx, job, input)
    }

    /// An error whose next step names this tool's document.
    fn pointed(&self, mut error: ToolError) -> ToolError {
        error.next_step = error.next_step.replace("esp://docs/tools/NAME", &format!("esp://docs/tools/{}", self.name));
        error
    }

    /// What the call says about the connection, where the tool does not read that itself.
    fn take_overrides(&self, input: &mut Value) -> Result<Overrides, ToolError> {
        let schema = self.input_schema();
        let shared = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let shared = shared.filter(|(_, of)| of.get(schema::SHARED).is_some()).map(|(name, _)| name.as_str());
        match input.as_object_mut() {
            Some(fields) => Overrides::take(fields, shared),
            None => Ok(Overrides::default()),
        }
    }

    /// Runs the tool with parameters that are known to fit its schema.
    pub(crate) fn call_checked(&self, ctx: &Ctx, job: &Job, input: Value) -> Result<Reply, ToolError> {
        let _span = tracing::info_span!("tool", name = self.name).entered();
        let port = input.get("port").and_then(Value::as_str).map(str::to_string);
        let _running = ctx.app.calls.begin(job);
        let began = Instant::now();
        let deadline = ctx.policy.max_call().map(|limit| Deadline::start(job.clone(), limit));
        let call = ctx.for_tool(self.name, self.images);
        let result = (self.run)(&call, job, input).map(|reply| reply.with_notes(&call.images.notes()));
        let result = result.map_err(|error| self.pointed(error));
        let result = match deadline {
            Some(deadline) => deadline.explain(result),
            None => result,
        };
        let took = began.elapsed().as_secs_f64();
        match &result {
            Ok(reply) => {
                tracing::info!("{} took {took:.1} s", self.name);
                ctx.app.events.after_call(self, port.as_deref(), Some(&reply.data));
            }
            Err(error) => {
                tracing::info!("{} failed after {took:.1} s: {}", self.name, error.code);
                ctx.app.events.after_call(self, port.as_deref(), None);
            }
        }
        result
    }
}

fn take_background(input: &mut Value) -> bool {
    let taken = input.as_object_mut().and_then(|fields| fields.remove("background"));
    taken.and_then(|value| value.as_bool()).unwrap_or(false)
}
