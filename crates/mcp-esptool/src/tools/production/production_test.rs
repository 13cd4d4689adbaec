//! `esp_production_test`: the tests of a recipe, alone.

use std::collections::BTreeMap;

use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;
use esp_factory::prepared::Prepared;
use esp_factory::report::{Report, shown};
use esp_factory::steps;

/// The tool.
pub struct ProductionTest;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// The recipe file with the tests.
    test_suite: String,
    /// Only these tests, by name.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    only: Vec<String>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// Every test that counts was measured and right.
    passed: bool,
    /// What was measured.
    #[serde(flatten)]
    unit: Report,
}

impl Tool for ProductionTest {
    const NAME: &'static str = "esp_production_test";
    const TITLE: &'static str = "Test a unit";
    const ABOUT: &'static str = "Run a recipe's tests with their limits: revision, flash, regions, eFuses, NVS, \
         console, programs in RAM. Writes nothing; each result is pass, fail or unknown.";
    const RISK: Risk = Risk::Resets;
    const LONG: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let prepared = Prepared::load(&ctx.station(), &input.test_suite)?;
        // It may start programs in RAM.
        ctx.policy.allows_production(&prepared.hash, prepared.is_locked)?;
        let ctx = &ctx.with_pins(prepared.pins.clone());
        let tests = &prepared.recipe.tests;
        if let Some(name) = input.only.iter().find(|name| !tests.iter().any(|test| test.name == **name)) {
            let known = tests.iter().map(|test| test.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(ToolError::new(Code::BadParameter, format!("there is no test `{name}`")).seen("tests", known));
        }
        let chosen = || tests.iter().filter(|test| input.only.is_empty() || input.only.contains(&test.name));
        let mut unit = Report::new("");
        let mut values = Default::default();
        ctx.with_device(input.port.as_ref(), job, |connected| {
            unit = Report::new(&connected.url.to_string());
            unit.is_virtual = connected.is_virtual();
            if let Some(known) = connected.identify(job)? {
                let mac = known.mac.to_string();
                let own = ctx.app.desk.with(|ledger| ledger.of_unit(&esp_ledger::Unit::new(&mac)))?;
                let mut issued = BTreeMap::new();
                for (name, from) in &prepared.recipe.identity {
                    let live = own.iter().find(|one| one.pool == from.pool && one.state != esp_ledger::State::Void);
                    unit.identities.extend(live.map(|one| (name.clone(), shown(name, one))));
                    issued.extend(live.map(|one| (name.clone(), one.value.clone())));
                }
                values = prepared.recipe.values(&mac, &issued, None);
                (unit.chip, unit.mac) = (Some(known.description), Some(mac));
            }
            for test in chosen().filter(|test| !test.what.leaves_loader()) {
                unit.steps.push(steps::with_loader(connected, job, &prepared, test, &values)?);
            }
            Ok(())
        })?;
        for test in chosen().filter(|test| test.what.leaves_loader()) {
            let step = steps::with_console(&ctx.station(), job, &unit.port, &prepared, test, &values)?;
            unit.steps.push(step);
        }
        unit.judge();
        Ok(Out { passed: unit.passed(), unit })
    }

    fn summary(out: &Out) -> String {
        format!("{}; {}", out.unit.line(), counted(out.unit.steps.len(), "test"))
    }
}
