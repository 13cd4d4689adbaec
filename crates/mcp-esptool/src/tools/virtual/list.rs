//! `esp_qemu_list`: the virtual devices, and what could emulate more.

use esp_model::job::Job;
use esp_ops::error::ToolError;
use esp_ops::guard::Risk;
use esp_virtual::discover;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::View;
use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct List;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// Also report which QEMUs are installed and what they emulate.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    emulators: bool,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The devices, whoever started them.
    devices: Vec<View>,
    /// The installed QEMUs, the best of each kind first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    emulators: Vec<Emulator>,
}

/// An installed QEMU.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Emulator {
    /// The program.
    path: String,
    /// Its version, where its folder tells.
    version: String,
    /// The machines it emulates.
    machines: Vec<String>,
    /// Why it does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Tool for List {
    const NAME: &'static str = "esp_qemu_list";
    const TITLE: &'static str = "List virtual devices";
    const ABOUT: &'static str = "List the virtual devices of this user, running or stopped, with their ports.";
    const RISK: Risk = Risk::Reads;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, _: &Job, input: In) -> Result<Out, ToolError> {
        let devices = ctx.virtuals.manager.list()?.iter().map(View::of).collect();
        let emulators = if input.emulators { ctx.virtuals.emulators() } else { Vec::new() };
        let emulators = emulators.into_iter().map(|found| {
            let (machines, problem) = match discover::probe(&found) {
                Ok(abilities) => (abilities.machines, None),
                Err(error) => (Vec::new(), Some(error.to_string())),
            };
            Emulator { path: found.path.display().to_string(), version: found.version, machines, problem }
        });
        Ok(Out { devices, emulators: emulators.collect() })
    }

    fn summary(out: &Out) -> String {
        if out.devices.is_empty() {
            return "no virtual devices; start one with esp_qemu_start".into();
        }
        out.devices.iter().map(View::to_string).collect::<Vec<_>>().join("\n")
    }
}
