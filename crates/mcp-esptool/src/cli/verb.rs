//! A verb's call: who is asked, what is printed, and the console afterwards.

use std::io::{self, IsTerminal};

use clap::{ArgMatches, Parser};
use esp_ops::error::ToolError;
use serde_json::{Value, json};

use super::call::{answer, cancel_when_told_to_end, job_with_bar, verdict};
use super::{Cli, Command, Failure, Globals, load_config, print};
use crate::ctx::Ctx;
use crate::tool::Reply;
use crate::{logs, mcp, verbs};

/// Runs a verb.
pub(super) fn run(globals: &Globals, name: &str, matches: &ArgMatches) -> Result<(), Failure> {
    let around = verbs::Surroundings {
        variable: &|name| std::env::var(name).ok(),
        esptool_cfg: &|key| esp_faces::config_value(key),
    };
    let mut line = verbs::read(name, matches, &around).map_err(Failure::Usage)?;
    let log = ["warn", "info", "debug"][usize::from(line.verbose.min(2))];
    let mut usual = vec![("keep_virtual", "true")];
    usual.extend((line.verbose > 0).then_some(("log", log)));
    let config = load_config(globals, &usual)?;
    logs::start(config.text("log"), mcp::SDK);
    let ctx = Ctx::new(config)?.of_person().sharing(false);
    let asks = io::stdin().is_terminal() && io::stderr().is_terminal();
    if line.lacks_port()
        && asks
        && let Some(port) = verbs::pick(&ctx)
    {
        line.input.insert("port".into(), port.into());
    }
    let mut reply = call(&ctx, &line);
    if asks
        && !line.json
        && let Ok(planned) = &reply
        && let Some(token) = confirmed(&ctx, planned)?
    {
        line.input.insert("confirm_token".into(), token.into());
        reply = call(&ctx, &line);
    }
    match reply {
        Ok(reply) if line.quiet => verdict(&reply.data)?,
        reply => answer(reply, line.json, Some(line.verb))?,
    }
    if line.watch { watch(&ctx, &line) } else { Ok(()) }
}

fn call(ctx: &Ctx, line: &verbs::Line) -> Result<Reply, ToolError> {
    let (job, bar) = job_with_bar();
    cancel_when_told_to_end(job.clone());
    let reply = line.entry.call(ctx, &job, Value::Object(line.input.clone()));
    bar.finish_and_clear();
    reply
}

/// Shows a plan that cannot be undone and asks the person at the terminal; gives the token once they have approved it.
fn confirmed(ctx: &Ctx, planned: &Reply) -> Result<Option<String>, Failure> {
    let text = |name: &str| planned.data.get(name).and_then(Value::as_str);
    let (Some(plan), Some(token)) = (text("plan"), text("confirm_token")) else { return Ok(None) };
    let (_, offer) = ctx.confirmations.find(plan)?;
    print(&planned.text)?;
    print(&format!("\n{}", offer.question(plan)))?;
    let mut typed = String::new();
    io::stdin().read_line(&mut typed)?;
    ctx.confirmations.approve(plan, typed.trim())?;
    ctx.audit.append(json!({ "event": "approved", "mac": offer.mac, "plan": plan }))?;
    Ok(Some(token.into()))
}

/// The console after flashing, from the first byte of the application's start.
fn watch(ctx: &Ctx, line: &verbs::Line) -> Result<(), Failure> {
    ctx.devices.sessions.close();
    let mut words = vec!["mcp-esptool", "monitor", "--reset"];
    words.extend(line.input.get("port").and_then(Value::as_str));
    if let Some(elf) = &line.elf {
        words.extend(["--elf", elf]);
    }
    match Cli::try_parse_from(words).map(|cli| cli.command) {
        Ok(Some(Command::Monitor(args))) => super::monitor(ctx, &args),
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Other(error.to_string())),
    }
}
