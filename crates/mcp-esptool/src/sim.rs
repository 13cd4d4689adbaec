//! `mcp-esptool sim`: a virtual chip in real time, for other people's tools, over TCP, RFC 2217 or a pseudo terminal.

use std::path::PathBuf;

use clap::ValueEnum;
use esp_model::chip::{self, Chip};
use esp_model::mac::Mac;
use esp_sim::timing::FlashTiming;
use esp_sim::{Config, Faults, Wiring, faults};
use esp_virtual::VirtualError;
use esp_virtual::server::single::{self, Options, Place, Stopper};

use crate::columns;

/// Why the simulator could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A parameter makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A file, socket or terminal failed.
    #[error(transparent)]
    Failed(VirtualError),
}

impl From<VirtualError> for SimError {
    fn from(error: VirtualError) -> Self {
        match error {
            VirtualError::Image(_) | VirtualError::FileInUse(_) | VirtualError::Option(_) => {
                Self::Usage(error.to_string())
            }
            error => Self::Failed(error),
        }
    }
}

/// Serve a virtual chip for esptool, espflash and others
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("line").args(["tcp", "rfc2217", "pty"])))]
pub struct Args {
    /// The chip: esp32, esp32c3 …
    #[arg(default_value = "")]
    pub chip: String,
    /// Serve the plain serial line on this address (`socket://` of pyserial); it has no modem lines
    #[arg(long, value_name = "HOST:PORT")]
    pub tcp: Option<String>,
    /// Serve RFC 2217 on this address (`rfc2217://` of pyserial), with DTR, RTS and line rate (default: any free port of
    /// loopback)
    #[arg(long, value_name = "HOST:PORT")]
    pub rfc2217: Option<String>,
    /// Make a pseudo terminal and let this link lead to it; it has no modem lines
    #[arg(long, value_name = "LINK")]
    pub pty: Option<PathBuf>,
    /// File with the flash content; made when it is missing, written as the flash is
    #[arg(long, value_name = "FILE")]
    pub flash: Option<PathBuf>,
    /// Size of the flash: 1MB, 2MB, 4MB, 8MB, 16MB …
    #[arg(long, value_name = "SIZE", default_value = "4MB")]
    pub flash_size: String,
    /// Size of a second flash, which answers on other pins (`esptool --spi-connection`)
    #[arg(long, value_name = "SIZE")]
    pub external_flash: Option<String>,
    /// JEDEC id of the flash: `ef4016`
    #[arg(long, value_name = "HEX")]
    pub flash_id: Option<String>,
    /// File with the eFuse words, block by block; made when it is missing, written when eFuses are burned
    #[arg(long, value_name = "FILE")]
    pub efuse: Option<PathBuf>,
    /// Base MAC address; made from the name otherwise
    #[arg(long, value_name = "MAC")]
    pub mac: Option<Mac>,
    /// A name that tells this device from others; the address where it listens otherwise
    #[arg(long, default_value = "")]
    pub name: String,
    /// Chip revision: `3.1`
    #[arg(long, value_name = "MAJOR.MINOR")]
    pub revision: Option<String>,
    /// Crystal in MHz
    #[arg(long, value_name = "MHZ")]
    pub crystal: Option<u32>,
    /// What answers in download mode: our imitation of the loaders, or the chip's own mask ROM
    #[arg(long, value_enum, default_value_t = Loader::Imitation)]
    pub engine: Loader,
    /// What firmware meets that waits for the radio's calibration: nothing, or values that let it go on without a network
    #[arg(long, value_enum, default_value_t = Radio::Absent)]
    pub radio: Radio,
    /// How the lines reach the chip
    #[arg(long, value_enum, default_value_t = Via::Bridge)]
    pub via: Via,
    /// Level of the boot pin when no modem line drives it. `low` leads every restart into download mode
    /// (default: low on lines without DTR and RTS, else high)
    #[arg(long, value_enum)]
    pub boot_pin: Option<Level>,
    /// Let bytes take as long as the line rate says
    #[arg(long)]
    pub baud_pacing: bool,
    /// Let flash operations take as long as on a usual part
    #[arg(long)]
    pub flash_timing: bool,
    /// Restart the chip when a client disconnects from the socket
    #[arg(long)]
    pub reset_on_disconnect: bool,
    /// Serve GDB (remote protocol) on this port of loopback, for firmware that runs; 0: any free port
    #[arg(long, value_name = "PORT")]
    pub gdb: Option<u16>,
    /// A fault; may be repeated. `--fault help` lists them
    #[arg(long = "fault", value_name = "FAULT")]
    pub faults: Vec<String>,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What answers in download mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Loader {
    /// The imitation: every chip, faults, timing of the flash
    Imitation,
    /// The mask ROM, and the stub that is uploaded to it
    Rom,
}

/// What firmware meets that waits for the radio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Radio {
    /// Nothing: it goes on waiting
    Absent,
    /// Its calibration ends, and it goes on without a network
    Finish,
}

/// How the lines reach the chip.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Via {
    /// A USB-UART bridge with the usual reset circuit
    Bridge,
    /// The chip's USB-Serial/JTAG unit
    UsbSerialJtag,
    /// The chip's USB-OTG unit
    UsbOtg,
}

/// A pin's level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    Low,
    High,
}

impl Args {
    fn place(&self) -> Place {
        match (&self.tcp, &self.rfc2217, &self.pty) {
            (Some(at), _, _) => Place::Socket(at.clone()),
            (_, _, Some(link)) => Place::Terminal(link.clone()),
            // The line that other programs can do most with, on any free port.
            (_, at, _) => Place::Rfc2217(at.clone().unwrap_or_else(|| "127.0.0.1:0".into())),
        }
    }

    /// Chips that nobody named are told apart by their addresses: boards of one batch need MAC addresses of their own.
    fn identity(&self) -> &str {
        let address = self.tcp.as_deref().or(self.rfc2217.as_deref()).filter(|at| !at.ends_with(":0"));
        if self.name.is_empty() { address.unwrap_or_default() } else { &self.name }
    }

    /// A dump of another chip would be taken for this one's.
    fn efuse_fits(&self, chip: &Chip) -> Result<(), SimError> {
        let Some(path) = &self.efuse else { return Ok(()) };
        let wanted: u64 = chip.efuse().blocks.iter().map(|block| u64::from(block.words) * 4).sum();
        match std::fs::metadata(path).map(|about| about.len()) {
            Ok(found) if found != 0 && found != wanted => Err(SimError::Usage(format!(
                "{}: {found} bytes are not an eFuse dump of {}, which has {wanted}",
                path.display(),
                chip.name
            ))),
            _ => Ok(()),
        }
    }

    /// The chip that is asked for.
    pub fn config(&self) -> Result<Config, SimError> {
        let usage = |text: String| SimError::Usage(text);
        let chip = chip::by_name(&self.chip).ok_or_else(|| {
            let known: Vec<_> = chip::all().iter().map(|chip| chip.id).collect();
            usage(format!("unknown chip {:?} (known: {})", self.chip, known.join(", ")))
        })?;
        self.efuse_fits(chip)?;
        let mut config = Config::new(chip, self.identity());
        config.flash_size = size(&self.flash_size)?;
        config.external_flash_size = self.external_flash.as_deref().map(size).transpose()?;
        config.flash_id = self.flash_id.as_deref().map(flash_id).transpose()?;
        if let Some(mac) = self.mac {
            config.mac = mac;
        }
        config.revision = self.revision.as_deref().map(revision).transpose()?;
        config.crystal_mhz = self.crystal;
        config.wiring = match self.via {
            Via::Bridge => Wiring::Bridge,
            Via::UsbSerialJtag => Wiring::UsbSerialJtag,
            Via::UsbOtg => Wiring::UsbOtg,
        };
        config.boot_pin_low =
            self.boot_pin.map_or(self.tcp.is_some() || self.pty.is_some(), |level| level == Level::Low);
        config.pacing = self.baud_pacing;
        config.flash_timing = if self.flash_timing { FlashTiming::typical() } else { FlashTiming::NONE };
        config.seed = self.seed;
        config.firmware = Some(esp_machine::firmware::firmware);
        config.loader_by_rom = self.engine == Loader::Rom;
        config.radio_finishes = self.radio == Radio::Finish;
        if config.loader_by_rom && !esp_machine::firmware::runs(chip) {
            return Err(usage(format!(
                "no mask ROM of the {} is built in: its loader can only be imitated",
                chip.name
            )));
        }
        let mut faults = Faults::default();
        for fault in &self.faults {
            faults.add(fault).map_err(|e| usage(e.to_string()))?;
        }
        config.faults = faults;
        Ok(config)
    }
}

/// All faults with what they do; none unless they are asked for.
pub fn fault_help(args: &Args, width: usize) -> Option<String> {
    args.faults.iter().any(|fault| fault == "help").then(|| {
        let names = faults::ALL.iter().map(|(form, _)| form.len()).max().unwrap_or(0);
        let lines = faults::ALL.iter().map(|(form, about)| columns::entry(form, about, names, width));
        format!(
            "Faults of a simulated device (--fault NAME or NAME=VALUE, also several):\n{}",
            lines.collect::<String>()
        )
    })
}

/// Serves one virtual chip until it is told to stop (Ctrl-C, SIGTERM). Says on standard error where it listens.
pub fn run(args: &Args) -> Result<(), SimError> {
    let options = Options {
        chip: args.config()?,
        place: args.place(),
        flash: args.flash.clone(),
        efuse: args.efuse.clone(),
        reset_on_disconnect: args.reset_on_disconnect,
        gdb_port: args.gdb,
    };
    let name = &options.chip.chip.name;
    let ready = move |place: &str, stopper: Stopper| {
        std::thread::spawn(move || {
            wait_for_signal();
            stopper.stop();
        });
        eprintln!("{name} ready on {place}");
    };
    Ok(single::serve(options, ready)?)
}

/// Returns at Ctrl-C or SIGTERM.
fn wait_for_signal() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
    runtime.block_on(async {
        #[cfg(unix)]
        if let Ok(mut term) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = term.recv() => {}
            }
            return;
        }
        let _ = tokio::signal::ctrl_c().await;
    });
}

/// `4MB`, `512KB` or bytes; a power of two of at least one sector.
fn size(text: &str) -> Result<u32, SimError> {
    let upper = text.to_ascii_uppercase();
    let (digits, unit) = match (upper.strip_suffix("MB"), upper.strip_suffix("KB")) {
        (Some(digits), _) => (digits.to_owned(), 1 << 20),
        (_, Some(digits)) => (digits.to_owned(), 1 << 10),
        _ => (upper.clone(), 1),
    };
    let bytes = digits.parse::<u32>().ok().and_then(|count| count.checked_mul(unit));
    bytes
        .filter(|bytes| bytes.is_power_of_two() && (4096..=128 << 20).contains(bytes))
        .ok_or_else(|| SimError::Usage(format!("{text:?} is not a flash size (1MB, 2MB, 4MB … 128MB)")))
}

fn flash_id(text: &str) -> Result<[u8; 3], SimError> {
    let number = u32::from_str_radix(text.trim_start_matches("0x"), 16).ok().filter(|_| text.len() >= 6);
    let [_, a, b, c] = number.ok_or_else(|| SimError::Usage(format!("{text:?} is not a flash id")))?.to_be_bytes();
    Ok([a, b, c])
}

fn revision(text: &str) -> Result<u16, SimError> {
    let parts = text.trim_start_matches('v').split_once('.').unwrap_or((text, "0"));
    let (major, minor) = (parts.0.parse::<u16>().ok(), parts.1.parse::<u16>().ok().filter(|minor| *minor < 100));
    let number = major.zip(minor).and_then(|(major, minor)| major.checked_mul(100)?.checked_add(minor));
    number.ok_or_else(|| SimError::Usage(format!("{text:?} is not a revision (3.1)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_or_refused() {
        assert_eq!(size("4MB").unwrap(), 4 << 20);
        assert_eq!(size("512kb").unwrap(), 512 << 10);
        assert!(size("3MB").is_err() && size("x").is_err() && size("999999MB").is_err());
        assert_eq!(flash_id("ef4016").unwrap(), [0xef, 0x40, 0x16]);
        assert_eq!(revision("v3.1").unwrap(), 301);
        assert!(revision("700000.1").is_err());
    }

    #[test]
    fn chips_that_nobody_named_have_addresses_of_their_own() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let mac = |words: &[&str]| {
            let line = ["sim", "esp32c3"].iter().chain(words);
            <Line as clap::Parser>::parse_from(line).args.config().unwrap().mac
        };
        let first = mac(&["--rfc2217", "127.0.0.1:4000"]);
        assert_eq!(first, mac(&["--rfc2217", "127.0.0.1:4000"]));
        assert_ne!(first, mac(&["--rfc2217", "127.0.0.1:4001"]));
        assert_eq!(mac(&["--name", "a"]), mac(&["--name", "a", "--tcp", "127.0.0.1:4000"]));
    }
}
