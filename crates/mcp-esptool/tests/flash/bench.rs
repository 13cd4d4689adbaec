//! A project folder and simulated devices, whose flash and faults a test sets as it likes.

use std::path::PathBuf;

use esp_model::chip::{self, Chip};
use esp_model::job::Job;
use esp_model::partition::{Options, Table};
use esp_ops::config::{Config, Origin};
use esp_ops::error::ToolError;
use esp_ops::firmware::sample;
use esp_sim::SimDevice;
use mcp_esptool::ctx::Ctx;
use mcp_esptool::tool::Reply;
use mcp_esptool::tools;
use serde_json::{Map, Value};

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub ctx: Ctx,
}

/// A chip with a second-stage bootloader and a quad flash, as most have.
pub fn chip() -> &'static Chip {
    chip::all().iter().find(|chip| chip.chip_id == Some(0)).unwrap()
}

/// Another one.
pub fn other_chip() -> &'static Chip {
    chip::all().iter().find(|chip| chip.chip_id.is_some_and(|id| id > 4)).unwrap()
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.set("project_roots", dir.path().display().to_string(), Origin::Flag).unwrap();
        config.set("state_dir", dir.path().join("state").display().to_string(), Origin::Flag).unwrap();
        Self { ctx: Ctx::new(config).unwrap(), dir }
    }

    /// A simulated device under its own port.
    pub fn device(&self, name: &str, change: impl FnOnce(&mut esp_sim::Config)) -> (SimDevice, String) {
        self.device_of(chip(), name, change)
    }

    pub fn device_of(
        &self,
        chip: &'static Chip,
        name: &str,
        change: impl FnOnce(&mut esp_sim::Config),
    ) -> (SimDevice, String) {
        let port = format!("sim://{}-{name}", chip.id);
        let mut config = esp_sim::Config::new(chip, name);
        change(&mut config);
        let device = SimDevice::new(&config, port.clone());
        self.ctx.ports.add_simulated(device.clone());
        (device, port)
    }

    pub fn reply(&self, tool: &str, input: Value) -> Result<Reply, ToolError> {
        tools::find(tool).unwrap().call(&self.ctx, &Job::new(), input)
    }

    pub fn call(&self, tool: &str, input: Value) -> Map<String, Value> {
        self.reply(tool, input).unwrap_or_else(|error| panic!("{tool}: {error}")).data
    }

    pub fn fail(&self, tool: &str, input: Value) -> ToolError {
        match self.reply(tool, input) {
            Ok(reply) => panic!("{tool} did not fail: {}", reply.text),
            Err(error) => error,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Puts bytes into a device's flash.
pub fn load(device: &SimDevice, address: u32, bytes: &[u8]) {
    device.with(|chip, _| chip.flash().load(address, bytes));
}

/// A device's flash.
pub fn flash(device: &SimDevice, address: u32, length: usize) -> Vec<u8> {
    device.with(|chip, _| chip.flash().read(address, length).unwrap())
}

/// A firmware that the simulated chip boots, with a table at 0x8000.
pub fn firmware(device: &SimDevice) {
    for part in sample::make(chip()).unwrap() {
        load(device, part.address, &part.bytes);
    }
}

/// A binary table out of CSV.
pub fn table(csv: &str, table_offset: u32) -> Vec<u8> {
    let options = Options { table_offset, ..Options::default() };
    Table::from_csv(csv, &options).unwrap().to_binary(true).unwrap()
}

pub fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    next.take(len).collect()
}
