//! A device and its partition table, for `parttool` and `otatool`.

use clap::Arg;
use esp_model::chip;
use esp_model::partition::{Partition, TABLE_LENGTH, Table};

use super::gen_esp32part::{Given, table_options};
use crate::command::{Call, flag, option};
use crate::esptool::session::{Session, failed};
use crate::fault::Fault;
use crate::files;

/// Options that both tools share.
pub fn options() -> Vec<Arg> {
    let chips = std::iter::once("auto").chain(chip::all().iter().map(|chip| chip.id));
    let chips = clap::builder::PossibleValuesParser::new(chips);
    let many = |name: &'static str| {
        Arg::new(name)
            .long(name)
            .num_args(0..)
            .allow_hyphen_values(true)
            .help("Options of esptool; accepted and not used")
    };
    let mut all = vec![
        option("chip", "Chip").value_parser(chips).default_value("auto"),
        option("port", "Port").short('p'),
        option("baud", "Rate, in baud").short('b'),
        option("before", "Reset before connecting")
            .value_parser(["default-reset", "usb-reset", "no-reset", "no-reset-no-sync"])
            .default_value("default-reset"),
        option("after", "Reset when done")
            .value_parser(["hard-reset", "soft-reset", "no-reset", "no-reset-stub", "watchdog-reset"])
            .default_value("hard-reset"),
        option("partition-table-offset", "Flash offset of the table").short('o').default_value("0x8000"),
        option("partition-table-file", "Table in a file instead of the device's").short('f'),
        flag("quiet", "No messages").short('q'),
        many("esptool-args"),
        many("esptool-write-args"),
        many("esptool-read-args"),
        many("esptool-erase-args"),
    ];
    all.extend(table_options());
    all
}

/// A device with its table.
pub struct Target {
    /// The table.
    pub table: Table,
    session: Option<Session>,
}

impl Target {
    /// Reads the table from the file or the device.
    pub fn open(call: &Call<'_>) -> Result<Self, Fault> {
        let whole = Call { arguments: call.options, ..call.copy() };
        let given = Given::read(&whole, "partition-table-offset")?;
        let options = given.options()?;
        if let Some(path) = call.option("partition-table-file") {
            let bytes = files::read(path, "--partition-table-file")?;
            let table = Table::read(&bytes, &options).map_err(Fault::fatal)?;
            return Ok(Self { table, session: None });
        }
        let mut session = connect(call)?;
        let read = session.loader.read_flash_bytes(&session.job, given.offset(), TABLE_LENGTH as u32);
        let bytes = read.map_err(failed)?;
        let table = Table::from_binary(&bytes, true)
            .map_err(|error| Fault::Fatal(format!("no partition table at {:#x}: {error}", given.offset())))?;
        Ok(Self { table, session: Some(session) })
    }

    /// The device; it is connected when it is first needed.
    pub fn device(&mut self, call: &Call<'_>) -> Result<&mut Session, Fault> {
        if self.session.is_none() {
            self.session = Some(connect(call)?);
        }
        self.session.as_mut().ok_or(Fault::Exit(2))
    }

    /// The app that is started when nothing else is chosen: factory, else the first slot.
    pub fn default_app(&self) -> Option<&Partition> {
        let app = |subtype| self.table.find_kind(0, subtype);
        app(0).or_else(|| self.table.ota_slots().into_iter().next())
    }

    /// Leaves the device without a word.
    pub fn close_quietly(self) {
        if let Some(mut session) = self.session {
            // The answer is printed already; a device that does not restart changes nothing about it.
            let _ = session.loader.hard_reset();
        }
    }

    /// Resets the device when one was used.
    pub fn close(self, call: &Call<'_>) -> Result<(), Fault> {
        match self.session {
            Some(mut session) => session.reset(call),
            None => Ok(()),
        }
    }
}

fn connect(call: &Call<'_>) -> Result<Session, Fault> {
    let (mut session, ..) = Session::connect(call, call.host.stubs())?;
    session.loader.attach_flash(&session.job, None).map_err(failed)?;
    Ok(session)
}

/// Erases and writes a partition from its start.
pub fn write(session: &mut Session, partition: &Partition, data: Vec<u8>) -> Result<(), Fault> {
    let part = esp_link::flash::Part::bytes(partition.offset, data);
    session.loader.write_flash(&session.job, &mut [part], &Default::default()).map_err(failed).map(drop)
}
