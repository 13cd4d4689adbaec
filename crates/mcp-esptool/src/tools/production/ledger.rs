//! `esp_ledger`: the station's ledger: pools, units, leases, labels, export, checks.

use esp_factory::{desk, openhtf};
use esp_ledger::{Identity, Lease, Ledger, LedgerError, Pool, State, Unit, Values};
use esp_model::job::Job;
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::{Production, Risk};
use esp_ops::own_file;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct LedgerTool;

/// What to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Pools, runs and where the ledger is.
    #[default]
    Status,
    /// Put values into a pool: a series (`prefix`, `first`, `width`, `count`), addresses (`first`, `step`, `count`) or
    /// the lines of `file`.
    AddPool,
    /// Take the values of `pool` that were never issued nor lent out again.
    RemovePool,
    /// All that is known of a `unit`.
    Unit,
    /// Write everything to `file` (.csv, .json, or runs as .openhtf.json).
    Export,
    /// Check the chain of events, and that nothing was issued twice.
    Verify,
    /// Copy a SQLite ledger to `file`.
    Backup,
    /// The label of a `unit`; counts the print.
    Label,
    /// Take `value` of `kind` out of use permanently, with a `reason`.
    Void,
    /// Take a `unit` out of production, with a `reason`.
    Quarantine,
    /// At the centre: lend `count` values of `pool` to `station`, into `file`.
    Lend,
    /// At the station: take the block in `file`.
    Borrow,
    /// At the station: what became of `pool`, into `file`.
    Report,
    /// At the centre: take over the report in `file` of `lease`.
    Merge,
    /// At the centre: end `lease`; `lost`: what is left is void.
    EndLease,
}

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// What to do (default status).
    #[serde(default)]
    action: Action,
    /// Pool name, for add_pool, lend.
    pool: Option<String>,
    /// For add_pool, void: serial, mac …
    kind: Option<String>,
    /// For add_pool: text before a serial's number.
    prefix: Option<String>,
    /// For add_pool: first number (default 1) or MAC address.
    #[schemars(extend("x-rare" = true))]
    first: Option<String>,
    /// For add_pool: digits of a number (default 5).
    #[schemars(extend("x-rare" = true))]
    width: Option<u32>,
    /// For add_pool, lend: how many values.
    count: Option<u64>,
    /// For add_pool of MACs: distance between addresses (default 1; a chip derives up to 4 from one).
    #[schemars(extend("x-rare" = true))]
    step: Option<u64>,
    /// For unit, label, quarantine: a unit's base MAC.
    unit: Option<String>,
    /// For unit, void: a serial or MAC.
    value: Option<String>,
    /// For void, quarantine: why.
    reason: Option<String>,
    /// File to read or write; for export, backup, label, borrow, report, merge.
    file: Option<String>,
    /// For lend: name of the station that borrows.
    #[schemars(extend("x-rare" = true))]
    station: Option<String>,
    /// For lend: hours until it must come back (default 72).
    #[schemars(extend("x-rare" = true))]
    hours: Option<u32>,
    /// For end_lease: number of the lease.
    #[schemars(extend("x-rare" = true))]
    lease: Option<u32>,
    /// For end_lease: the station is lost; its values are void.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    lost: bool,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// What was done.
    action: Action,
    /// Where the ledger is.
    ledger: String,
    /// Nothing is wrong.
    passed: bool,
    /// In words.
    text: String,
    /// What came of it.
    data: Json,
}

impl Tool for LedgerTool {
    const NAME: &'static str = "esp_ledger";
    const TITLE: &'static str = "Production ledger";
    const ABOUT: &'static str = "Manage the production ledger: pools of serials and MACs, units with history, \
         labels, leases for offline stations, export, check, backup. A value is issued once only.";
    const RISK: Risk = Risk::Irreversible;
    const PRODUCTION: Production = Production::KeepsBooks;
    const LEAST_RISK: Risk = Risk::Reads;
    const CONFIRMS: bool = false;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn risk(input: &In) -> Risk {
        match input.action {
            Action::Status | Action::Unit | Action::Export | Action::Verify | Action::Backup | Action::Report => {
                Risk::Reads
            }
            Action::AddPool
            | Action::RemovePool
            | Action::Label
            | Action::Quarantine
            | Action::Lend
            | Action::Borrow
            | Action::Merge => Risk::Writes,
            Action::EndLease if !input.lost => Risk::Writes,
            Action::Void | Action::EndLease => Risk::Irreversible,
        }
    }

    fn run(ctx: &Ctx, _: &Job, input: In) -> Result<Out, ToolError> {
        let (text, data) = match input.action {
            Action::Status => status(ctx)?,
            Action::AddPool => add_pool(ctx, &input)?,
            Action::RemovePool => remove_pool(ctx, &input)?,
            Action::Unit => unit(ctx, &input)?,
            Action::Export => export(ctx, &input)?,
            Action::Verify => return verify(ctx),
            Action::Backup => backup(ctx, &input)?,
            Action::Label => label(ctx, &input)?,
            Action::Void | Action::Quarantine => retire(ctx, &input)?,
            Action::Lend | Action::Borrow | Action::Report | Action::Merge | Action::EndLease => lease(ctx, &input)?,
        };
        Ok(Out { action: input.action, ledger: ctx.app.desk.place(), passed: true, text, data })
    }

    fn summary(out: &Out) -> String {
        out.text.clone()
    }
}

fn needed<'a, T>(value: &'a Option<T>, name: &str) -> Result<&'a T, ToolError> {
    value.as_ref().ok_or_else(|| ToolError::new(Code::MissingParameter, format!("{name} is needed for this action")))
}

fn status(ctx: &Ctx) -> Result<(String, Json), ToolError> {
    let (pools, runs, last) =
        ctx.app.desk.with(|ledger| Ok((ledger.pools()?, ledger.run_counts()?, ledger.runs(None, 10)?)))?;
    let mut text = format!("{} at {}", ctx.app.desk.station, ctx.app.desk.place());
    for pool in &pools {
        let counts: Vec<String> = pool.counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
        text += &format!("\npool {} ({}): {}{}", pool.name, pool.kind, counts.join(", "), range(pool));
    }
    let counts: Vec<String> = runs.iter().map(|(state, count)| format!("{count} {state}")).collect();
    text += &format!("\nruns: {}", if counts.is_empty() { "none".into() } else { counts.join(", ") });
    Ok((text, json!({"station": ctx.app.desk.station, "pools": pools, "runs": runs, "last_runs": last})))
}

fn add_pool(ctx: &Ctx, input: &In) -> Result<(String, Json), ToolError> {
    let (pool, kind) = (needed(&input.pool, "pool")?, needed(&input.kind, "kind")?);
    let values = values(ctx, input)?;
    let added = ctx.app.desk.with(|ledger| ledger.add_pool(pool, kind, &values))?;
    let found = ctx.app.desk.with(Ledger::pools)?.into_iter().find(|known| known.name == *pool);
    let about = found.as_ref().map_or_else(String::new, range);
    let text = format!("{} added to pool {pool}{about}", counted(added, "value"));
    Ok((text, json!({"pool": pool, "added": added, "now": found})))
}

/// First, last and next value of a pool.
fn range(pool: &Pool) -> String {
    let Some((first, last)) = pool.first.as_ref().zip(pool.last.as_ref()) else { return String::new() };
    let next = pool.next.as_ref().map_or_else(String::new, |next| format!(", next {next}"));
    format!("; {first} … {last}{next}")
}

fn remove_pool(ctx: &Ctx, input: &In) -> Result<(String, Json), ToolError> {
    let pool = needed(&input.pool, "pool")?;
    let removed = ctx.app.desk.with(|ledger| ledger.remove_unused(pool))?;
    let left = ctx.app.desk.with(Ledger::pools)?.iter().any(|known| known.name == *pool);
    let rest = if left { "what was issued or lent stays" } else { "the pool is gone" };
    let text = format!("{removed} unused values of pool {pool} removed; {rest}");
    Ok((text, json!({"pool": pool, "removed": removed, "gone": !left})))
}

fn values(ctx: &Ctx, input: &In) -> Result<Values, ToolError> {
    if let Some(file) = &input.file {
        let text = ctx.files.read_text(file)?;
        let lines = text.lines().map(|line| line.split(',').next().unwrap_or_default().trim().trim_matches('"'));
        let list: Vec<String> = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
        return match list.is_empty() {
            true => Err(ToolError::new(Code::FileEmpty, format!("`{file}` holds no values"))),
            false => Ok(Values::List(list)),
        };
    }
    let count = *needed(&input.count, "count (or file)")?;
    if !(1..=10_000_000).contains(&count) {
        return Err(ToolError::new(Code::BadParameter, "count is from 1 to 10000000"));
    }
    let first = input.first.as_deref().unwrap_or("1");
    let bytes: Option<Vec<u8>> = first.split([':', '-']).map(|part| u8::from_str_radix(part, 16).ok()).collect();
    if let Some(first) = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok()) {
        let step = input.step.unwrap_or(1).max(1);
        let base = first.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let last = (count - 1).checked_mul(step).and_then(|distance| base.checked_add(distance));
        if first[0] & 1 != 0 || last.is_none_or(|last| last >> 24 != base >> 24) {
            let text = "the addresses leave their block of 2^24, or are multicast addresses";
            return Err(ToolError::new(Code::BadParameter, text));
        }
        return Ok(Values::Mac { first, step, count });
    }
    let number = first
        .parse()
        .map_err(|_| ToolError::new(Code::BadParameter, format!("`{first}` is neither a number nor an address")))?;
    let width = input.width.unwrap_or(5).min(20) as usize;
    Ok(Values::Serial { prefix: input.prefix.clone().unwrap_or_default(), first: number, width, count })
}

fn unit(ctx: &Ctx, input: &In) -> Result<(String, Json), ToolError> {
    let named = needed(if input.unit.is_some() { &input.unit } else { &input.value }, "unit")?;
    let found = ctx.app.desk.with(|ledger| match desk::find_unit(ledger, named)? {
        Some(unit) => Ok(Some(unit.clone()).zip(desk::history(ledger, &unit)?)),
        None => Ok(None),
    })?;
    let (unit, found) = found.ok_or_else(|| {
        ToolError::new(Code::LedgerUnknown, format!("the ledger has no unit {named}"))
            .next("esp_ledger action=status shows the last units, esp_ledger action=export file=units.csv all of them")
    })?;
    let shown = |one: &Json| {
        format!(
            "{} {} {}",
            one["kind"].as_str().unwrap_or(""),
            one["value"].as_str().unwrap_or(""),
            one["state"].as_str().unwrap_or("")
        )
    };
    let identities: Vec<String> = found["identities"].as_array().into_iter().flatten().map(shown).collect();
    let runs = found["runs"].as_array().map_or(0, Vec::len);
    let text = format!("unit {}: {}; {}", unit.base_mac, identities.join(", "), counted(runs, "run"));
    Ok((text, found))
}

fn export(ctx: &Ctx, input: &In) -> Result<(String, Json), ToolError> {
    let file = needed(&input.file, "file")?;
    let bytes = match file.rsplit_once('.').map(|(_, end)| end) {
        Some("csv") => ctx.app.desk.with(Ledger::export_csv)?,
        Some("json") if file.ends_with(".openhtf.json") => {
            format!("{:#}\n", Json::from(openhtf::records(&ctx.app.desk.with(Ledger::export_json)?)))
        }
        Some("json") => format!("{:#}\n", ctx.app.desk.with(Ledger::export_json)?),
        _ => return Err(ToolError::new(Code::BadParameter, "the export's name ends in .csv, .json or .openhtf.json")),
    };
    let written = ctx.files.keep(file, bytes.as_bytes())?.display().to_string();
    Ok((format!("exported to {written}"), json!({"file": written, "size_bytes": bytes.len()})))
}

fn verify(ctx: &Ctx) -> Result<Out, ToolError> {
    let (problems, events) = ctx.app.desk.with(|ledger| Ok((ledger.verify()?, ledger.events(None)?.len())))?;
    let lines: Vec<String> = problems.iter().map(|one| format!("{}: {}", one.what, one.problem)).collect();
    let text = match lines.is_empty() {
        true => format!("{} in unbroken chains, no value and no unit used twice", counted(events, "event")),
        false => lines.join("\n"),
    };
    let data = json!({"problems": problems, "events": events});
    Ok(Out { action: Action::Verify, ledger: ctx.app.desk.place(), passed: lines.is_empty(), text, data })
}

fn backup(ctx: &Ctx, input: &In) -> Result<(String, Json), ToolError> {
    let file = needed(&input.file, "file")?;
    // The database makes its copy beside the ledger's state; it goes where it shall as any other output does.
    let failed = |error: std::io::Error| ToolError::of_io(Code::FileUnwritable, format!("`{file}`"), &error);
    let state = ctx.config.state_dir();
    own_file::private_dir(&state).map_err(failed)?;
    let folder = tempfile::Builder::new().prefix("backup-").tempdir_in(state).map_err(failed)?;
    let copy = folder.path().join("ledger.db");
    ctx.app.desk.with(|ledger| ledger.backup(&copy))?;
    let mut output = ctx.files.create(file)?;
    std::fs::File::open(&copy).and_then(|mut copy| std::io::copy(&mut copy, &mut output)).map_err(failed)?;
    let path = output.finish_secret()?;
    Ok((format!("copied to {}", path.display()), json!({"file": path.display().to_string()})))
}

/// The payload that the unit's last passed run recorded: the same for every print.
fn label(ctx: &Ctx, input: &In) -> Result<(String, Json), ToolError> {
    let unit = Unit::new(needed(&input.unit, "unit")?);
    let record = ctx.app.desk.with(|ledger| ledger.last_event(&unit, "record"))?;
    let record: Option<Json> = record.and_then(|event| serde_json::from_str(&event.body).ok());
    let payload = record.as_ref().and_then(|record| record["label"].as_str()).map(str::to_owned);
    let payload = payload.ok_or_else(|| {
        ToolError::new(
            Code::NoLabel,
            format!("the last run of unit {} did not pass, or its recipe has no label", unit.base_mac),
        )
    })?;
    let prints = ctx.app.desk.with(|ledger| {
        let mut prints = 0;
        for identity in
            ledger.of_unit(&unit)?.into_iter().filter(|one| one.state >= State::Verified && one.state != State::Void)
        {
            let after = match identity.state {
                State::Labelled => ledger.reprint(identity.id)?,
                _ => ledger.advance(identity.id, &unit, State::Labelled)?,
            };
            prints = prints.max(after.labels);
        }
        Ok(prints)
    })?;
    Ok((format!("{payload}\nprint {prints}"), json!({"label": payload, "prints": prints})))
}

fn retire(ctx: &Ctx, input: &In) -> Result<(String, Json), ToolError> {
    let reason = needed(&input.reason, "reason")?;
    if input.action == Action::Quarantine {
        let key = Unit::new(needed(&input.unit, "unit")?).key()?;
        ctx.app.desk.with(|ledger| ledger.quarantine(&key, reason))?;
        return Ok((format!("unit {key} is quarantined"), json!({"unit": key})));
    }
    let (kind, value) = (needed(&input.kind, "kind")?, needed(&input.value, "value")?);
    let void = ctx.app.desk.with(|ledger| {
        let found = ledger.find(kind, value)?.ok_or_else(|| LedgerError::Unknown(format!("{kind} {value}")))?;
        ledger.void(found.id, reason)
    })?;
    Ok((format!("{kind} {value} is VOID"), json!(void)))
}

fn lease(ctx: &Ctx, input: &In) -> Result<(String, Json), ToolError> {
    let bad = |error: serde_json::Error| ToolError::new(Code::FileUnreadable, error.to_string());
    let number = || needed(&input.lease, "lease").map(|number| i64::from(*number));
    match input.action {
        Action::Lend => {
            let (pool, station) = (needed(&input.pool, "pool")?, needed(&input.station, "station")?);
            let (count, file) = (*needed(&input.count, "count")?, needed(&input.file, "file")?);
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            let hours = i64::from(input.hours.unwrap_or(72));
            let lease = ctx.app.desk.with(|ledger| ledger.lend(pool, station, count, hours))?;
            let text = serde_json::to_string_pretty(&lease).map_err(bad)?;
            let file = ctx.files.keep(file, text.as_bytes())?.display().to_string();
            Ok((format!("lease {}: {count} of {pool} for {station}, in {file}", lease.id), json!(lease)))
        }
        Action::Borrow => {
            let lease: Lease =
                serde_json::from_str(&ctx.files.read_text(needed(&input.file, "file")?)?).map_err(bad)?;
            let added = ctx.app.desk.with(|ledger| ledger.borrow(&lease))?;
            Ok((
                format!("{} of {} from lease {}", counted(added, "value"), lease.pool, lease.id),
                json!({"added": added}),
            ))
        }
        Action::Report => {
            let (pool, file) = (needed(&input.pool, "pool")?, needed(&input.file, "file")?);
            let report = ctx.app.desk.with(|ledger| ledger.report(pool))?;
            let text = serde_json::to_string_pretty(&report).map_err(bad)?;
            let file = ctx.files.keep(file, text.as_bytes())?.display().to_string();
            Ok((format!("{} in {file}", counted(report.len(), "value")), json!({"file": file, "values": report.len()})))
        }
        Action::Merge => {
            let report: Vec<Identity> =
                serde_json::from_str(&ctx.files.read_text(needed(&input.file, "file")?)?).map_err(bad)?;
            let lease = number()?;
            let steps = ctx.app.desk.with(|ledger| ledger.merge(lease, &report))?;
            Ok((format!("{} taken over", counted(steps, "step")), json!({"steps": steps})))
        }
        _ => {
            let lease = number()?;
            let void = ctx.app.desk.with(|ledger| ledger.end_lease(lease, input.lost))?;
            Ok((format!("lease {lease} has ended; {void} values are void"), json!({"void": void})))
        }
    }
}
