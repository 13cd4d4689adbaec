//! The simulator as an engine: imitates loaders, flash, eFuses and boot messages of every chip, runs the firmware (and, when
//! asked, the loader in ROM) of those whose ROM is built in, and needs nothing installed.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use esp_machine::gdb::Session;
use esp_model::chip::{self, Chip};
use esp_sim::VirtualChip;

use super::chip_files::Files;
use super::{Debug, Engine, EngineState};
use crate::instance::{Config, Directory};
use crate::{BootMode, VirtualError};

/// Notes that are kept at most.
const MOST_NOTES: usize = 200;

/// A simulated chip and the files behind it.
pub struct Imitation {
    config: esp_sim::Config,
    flash: Option<PathBuf>,
    efuse: Option<PathBuf>,
    running: Option<(VirtualChip, Files)>,
    clock: Clock,
    /// What the chip has sent and nobody has taken yet.
    said: Vec<u8>,
    mode: BootMode,
    /// Shortest wait between two looks at the chip, where there is one at all.
    frame: Duration,
    reset_on_disconnect: bool,
    problem: Option<String>,
    /// What the firmware met that is not modelled.
    notes: Vec<String>,
    /// The debugger's session.
    session: Option<Session>,
    /// The chip's code waits for a debugger before its first instruction.
    wait_for_debugger: bool,
}

impl Imitation {
    /// The chip of a virtual device.
    pub(super) fn for_device(config: &Config, dir: &Directory) -> Result<Self, VirtualError> {
        let chip = chip::by_name(&config.chip).ok_or_else(|| VirtualError::NoEmulation(config.chip.clone()))?;
        let mut simulated = sim_config(chip, &config.id, config.flash_size)?;
        simulated.loader_by_rom = config.loader_by_rom;
        simulated.radio_finishes = config.radio_finishes;
        let wait_for_debugger = config.wait_for_gdb;
        Ok(Self {
            mode: config.boot_mode,
            wait_for_debugger,
            ..Self::new(simulated, Some(dir.flash()), Some(dir.efuse()))
        })
    }

    /// A chip whose flash and eFuses are kept in these files, where they are given.
    fn new(config: esp_sim::Config, flash: Option<PathBuf>, efuse: Option<PathBuf>) -> Self {
        Self {
            config,
            flash,
            efuse,
            running: None,
            clock: Clock::start(),
            said: Vec::new(),
            mode: BootMode::Normal,
            frame: Duration::ZERO,
            reset_on_disconnect: false,
            problem: None,
            notes: Vec::new(),
            session: None,
            wait_for_debugger: false,
        }
    }

    /// The part of the machine that a debugger sees, while code of the chip runs.
    fn with_machine<T>(&mut self, work: impl FnOnce(&mut esp_machine::firmware::Engine) -> T) -> Option<T> {
        let (chip, _) = self.running.as_mut()?;
        let (firmware, flash, efuse) = chip.engine()?;
        esp_machine::firmware::attach(firmware, flash, efuse, work)
    }

    /// A chip with power, behind the line of a USB bridge. It starts as `config` says, not in a mode of ours.
    pub(crate) fn powered(
        config: esp_sim::Config,
        flash: Option<PathBuf>,
        efuse: Option<PathBuf>,
        reset_on_disconnect: bool,
    ) -> Result<Self, VirtualError> {
        // A USB bridge passes on what came in a frame of the bus: what is not due now waits for the next.
        let frame = Duration::from_millis(1);
        let mut made = Self { frame, reset_on_disconnect, ..Self::new(config, flash, efuse) };
        made.start()?;
        if let Some((chip, _)) = &mut made.running {
            // It has begun with a blank flash: the files came later.
            chip.power_cycle(Duration::ZERO);
        }
        Ok(made)
    }

    /// Lets the chip live until now. One that runs code slower than real time is left as soon as it has said something, and
    /// when the line has waited long enough: hosts allow some answers no more than 200 ms. Returns the chip's time.
    fn drive(&mut self) -> Duration {
        let Some((chip, _)) = &mut self.running else { return self.clock.last };
        let bounded = chip.runs_firmware();
        let begun = self.clock.real();
        let end = self.clock.end(begun, bounded);
        let mut buf = [0; 4096];
        loop {
            self.clock.last = if bounded { end.min(self.clock.last + TURN) } else { end };
            let now = self.clock.last;
            loop {
                let count = chip.receive(now, &mut buf);
                self.said.extend_from_slice(buf.get(..count).unwrap_or_default());
                if count < buf.len() {
                    break;
                }
            }
            let waited = self.clock.real().saturating_sub(begun);
            if now >= end || !self.said.is_empty() || waited >= PATIENCE {
                return now;
            }
        }
    }

    fn start(&mut self) -> Result<(), VirtualError> {
        let (flash, efuse) = (self.flash.as_deref(), self.efuse.as_deref());
        let mut files = Files::open(flash, efuse, self.config.flash_size)?;
        let mut chip = VirtualChip::new(&self.config);
        let path = flash.or(efuse).unwrap_or("".as_ref());
        files.load(&mut chip).map_err(VirtualError::file(path))?;
        self.clock = Clock::start();
        self.running = Some((chip, files));
        Ok(())
    }
}

/// How the simulator makes this device.
fn sim_config(chip: &'static Chip, name: &str, flash_size: u64) -> Result<esp_sim::Config, VirtualError> {
    let possible = (256 << 10..=64 << 20).contains(&flash_size) && flash_size.is_power_of_two();
    let flash_size = u32::try_from(flash_size).ok().filter(|_| possible).ok_or(VirtualError::FlashSize(flash_size))?;
    Ok(esp_sim::Config {
        flash_size,
        // Firmware in flash runs.
        firmware: Some(esp_machine::firmware::firmware),
        ..esp_sim::Config::new(chip, name).unpaced()
    })
}

/// A chip that runs code is driven so far at once.
const TURN: Duration = Duration::from_millis(1);
/// As long as the line waits for a chip that is slower than real time.
const PATIENCE: Duration = Duration::from_millis(5);

/// The chip's time: real time, as far as its code can keep up with it.
struct Clock {
    born: Instant,
    /// Real time that was not given to the chip.
    lost: Duration,
    last: Duration,
}

impl Clock {
    /// As much as a chip that runs code may be late; what goes beyond is lost.
    const LATEST: Duration = Duration::from_millis(20);

    fn start() -> Self {
        Self { born: Instant::now(), lost: Duration::ZERO, last: Duration::ZERO }
    }

    fn real(&self) -> Duration {
        self.born.elapsed()
    }

    /// Up to where the chip should live at this real time.
    fn end(&mut self, real: Duration, bounded: bool) -> Duration {
        let wanted = real.saturating_sub(self.lost).max(self.last);
        let end = if bounded { wanted.min(self.last + Self::LATEST) } else { wanted };
        self.lost += wanted - end;
        end
    }

    /// How far the chip is behind.
    fn behind(&self) -> Duration {
        self.real().saturating_sub(self.lost + self.last)
    }
}

impl Engine for Imitation {
    fn boot(&mut self, mode: BootMode) -> Result<(), VirtualError> {
        if self.running.is_none() {
            self.start()?;
        }
        self.mode = mode;
        let now = self.drive();
        if let Some((chip, _)) = &mut self.running {
            chip.hold_boot_pin(mode == BootMode::Download);
            chip.power_cycle(now);
            chip.hold_boot_pin(false); // the next reset is the modem lines' own
        }
        if self.wait_for_debugger {
            self.with_machine(esp_machine::firmware::Engine::halt);
        }
        Ok(())
    }

    fn halt(&mut self) {
        if let Some((mut chip, mut files)) = self.running.take() {
            self.problem = files.save(&mut chip).err().map(|error| error.to_string());
        }
    }

    fn agree_baud(&mut self, baud: u32) {
        let now = self.drive();
        if let Some((chip, _)) = &mut self.running {
            chip.agree_baud(now, baud);
        }
    }

    fn left(&mut self) {
        let now = self.drive();
        if let Some((chip, _)) = self.running.as_mut().filter(|_| self.reset_on_disconnect) {
            chip.power_cycle(now);
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let now = self.drive();
        if let Some((chip, _)) = &mut self.running {
            chip.send(now, bytes);
        }
        Ok(())
    }

    fn set_lines(&mut self, dtr: bool, rts: bool) -> Result<(), VirtualError> {
        let now = self.drive();
        if let Some((chip, _)) = &mut self.running {
            chip.set_lines(now, dtr, rts);
        }
        Ok(())
    }

    fn set_baud(&mut self, baud: u32) {
        let now = self.drive();
        if let Some((chip, _)) = &mut self.running {
            chip.set_host_baud(now, Some(baud));
        }
    }

    fn poll(&mut self, sent: &mut Vec<u8>) -> Duration {
        const LONG: Duration = Duration::from_secs(60);
        let now = self.drive();
        sent.append(&mut self.said);
        let behind = self.clock.behind();
        let Some((chip, files)) = &mut self.running else { return LONG };
        self.problem = files.save(chip).err().map(|error| error.to_string());
        let wait = chip.next_event().map_or(LONG, |next| next.saturating_sub(now + behind));
        if wait.is_zero() { wait } else { wait.max(self.frame) }
    }

    fn debug(&mut self, what: Debug<'_>) -> Option<Vec<u8>> {
        let mut session = self.session.take().filter(|session| !session.is_over());
        let answer = self.with_machine(|machine| match what {
            Debug::Join => {
                session = Some(Session::new(machine));
                Some(Vec::new())
            }
            Debug::Bytes(bytes) => session.as_mut().map(|session| session.receive(machine, bytes)),
            Debug::Poll => session.as_mut().map(|session| session.poll(machine)),
            Debug::Leave => None,
        });
        self.session = session.filter(|_| what != Debug::Leave);
        answer.flatten()
    }

    fn state(&mut self) -> EngineState {
        let standing = self.with_machine(|machine| machine.halted().map(|_| machine.place()));
        if let Some((chip, _)) = &mut self.running {
            let room = MOST_NOTES.saturating_sub(self.notes.len());
            self.notes.extend(chip.firmware_notes().into_iter().take(room));
        }
        EngineState {
            running: self.running.is_some(),
            boot_mode: Some(match &self.running {
                Some((chip, _)) if chip.in_loader() => BootMode::Download,
                Some(_) => BootMode::Normal,
                None => self.mode,
            }),
            emulator_pid: None,
            version: Some(env!("CARGO_PKG_VERSION").into()),
            problem: self.problem.clone(),
            notes: self.notes.iter().cloned().chain(standing.flatten()).collect(),
        }
    }

    fn is_gone(&self) -> bool {
        self.running.as_ref().is_some_and(|(chip, _)| chip.is_unplugged())
    }
}
