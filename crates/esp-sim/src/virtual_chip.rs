//! The chip as its line sees it: levels and bytes in, bytes out, on a clock that the caller owns.

use std::collections::VecDeque;
use std::time::Duration;

use esp_model::chip::Chip;
use esp_model::wire::slip::{Decoder, Event};

use crate::app::AppFaults;
use crate::boot::{self, Cause};
use crate::circuit::{Circuit, Effect, Wiring};
use crate::config::Config;
use crate::core::{Core, Outcome};
use crate::efuse::Efuse;
use crate::faults::Faults;
use crate::firmware::{Firmware, MakeFirmware, Start};
use crate::machine::Machine;
use crate::nor::Nor;
use crate::rom::{Next, Rom};
use crate::stub::Stub;

mod engine;

/// Longest frame a loader takes: the stub's buffer holds 16 KiB of data, header and some room.
const MAX_FRAME: usize = 0x4000 + 64;
/// From reset to the ROM's first byte.
const ROM_START: Duration = Duration::from_millis(2);
/// From MEM_END to the stub's greeting.
const STUB_START: Duration = Duration::from_millis(3);
/// Frames that wait at most while a loader is busy. The stub has two buffers: one it works on, one it fills.
const STUB_WAITING: usize = 1;
const ROM_WAITING: usize = 64;
/// From the detector's message to the restart, enough for the message to leave.
const BROWN_OUT: Duration = Duration::from_millis(10);
/// From the app's first instruction to its crash, and from the panic handler's last word to the restart.
const CRASH: Duration = Duration::from_millis(40);
/// A chip whose image cannot be started is reset by its watchdog about this often.
const BOOT_LOOP: Duration = Duration::from_millis(350);
/// The chip's own code runs so long before its line is looked at.
const FIRMWARE_TURN: Duration = Duration::from_millis(1);
/// Instructions that a program carries out in one turn, and how long that takes.
const TURN: u32 = 20_000;
const TURN_TIME: Duration = Duration::from_micros(500);
/// A ROM that may not start its loader restarts this soon (logs of the ESP32-C3).
const DISABLED_LOOP: Duration = Duration::from_millis(45);

/// What the processor does.
#[derive(Debug)]
enum Program {
    /// EN is low.
    Held,
    /// EN is rising; the straps are read at this time.
    Rising {
        until: Duration,
        cause: Cause,
    },
    Rom(Rom),
    Stub(Stub),
    /// An app, or an uploaded program that came to its end: the loader is gone.
    App,
    /// An app that says this and then restarts.
    Crashing(Option<String>),
    /// An uploaded program at work.
    Running(Box<Core>),
    /// The chip's own code, since this time; `true` when it began in download mode, with its ROM's loader.
    Firmware(Duration, bool),
    /// Nothing could be started; the ROM tries again, and this is what it says each time.
    BootLoop(String),
}

/// A virtual chip.
#[derive(Debug)]
pub struct VirtualChip {
    chip: &'static Chip,
    machine: Machine,
    circuit: Circuit,
    program: Program,
    decoder: Decoder,
    /// Whole frames that arrived while the processor was busy.
    waiting: VecDeque<(Duration, Vec<u8>)>,
    /// The next line of the app, or the next turn of a boot loop.
    timer: Option<Duration>,
    /// When the supply fails.
    fails: Option<Duration>,
    /// Time between two turns of a boot loop.
    period: Duration,
    faults: Faults,
    boot_pin_low: bool,
    commands: u64,
    hung: bool,
    unplugged: bool,
    pacing: bool,
    now: Duration,
    /// Runs the chip's own code, where there is something that can.
    firmware: Option<Box<dyn Firmware>>,
    /// Makes it at the first start that it can take.
    make_firmware: Option<MakeFirmware>,
    loader_by_rom: bool,
    radio_finishes: bool,
    /// The flash may have been changed by others than the firmware.
    flash_touched: bool,
}

impl VirtualChip {
    /// A chip whose power comes at time 0.
    pub fn new(config: &Config) -> Self {
        let mut chip = Self {
            chip: config.chip,
            machine: Machine::new(config),
            circuit: match config.faults.slow_en {
                Some(rise) => Circuit::new(config.wiring).with_rise(rise),
                None => Circuit::new(config.wiring),
            },
            program: Program::Held,
            decoder: Decoder::new(MAX_FRAME),
            waiting: VecDeque::new(),
            timer: None,
            fails: None,
            period: BOOT_LOOP,
            faults: config.faults.clone(),
            boot_pin_low: config.boot_pin_low,
            commands: 0,
            hung: false,
            unplugged: false,
            pacing: config.pacing,
            now: Duration::ZERO,
            firmware: None,
            make_firmware: config.firmware,
            loader_by_rom: config.loader_by_rom,
            radio_finishes: config.radio_finishes,
            flash_touched: true,
        };
        if config.wiring != Wiring::Bridge {
            chip.machine.uart.host_baud = None;
            chip.machine.uart.usb = true;
        }
        chip.restart(Duration::ZERO, Cause::PowerOn);
        chip
    }

    /// What kind of chip it is.
    pub fn chip(&self) -> &'static Chip {
        self.chip
    }

    /// How the lines reach it.
    pub fn wiring(&self) -> Wiring {
        self.circuit.wiring()
    }

    /// Its flash.
    pub fn flash(&mut self) -> &mut Nor {
        self.flash_touched = true;
        self.machine.own_flash()
    }

    /// Commands that its loaders have handled so far.
    pub fn commands(&self) -> u64 {
        self.commands
    }

    /// Its eFuses.
    pub fn efuse(&mut self) -> &mut Efuse {
        &mut self.machine.efuse
    }

    /// Its line rate in baud.
    pub fn baud(&self) -> u32 {
        self.machine.uart.baud
    }

    /// A loader runs, ROM or stub.
    pub fn in_loader(&self) -> bool {
        matches!(self.program, Program::Rom(_) | Program::Stub(_) | Program::Firmware(_, true))
    }

    /// Its line is gone (a fault).
    pub fn is_unplugged(&self) -> bool {
        self.unplugged
    }

    /// Somebody holds the boot button (or a jumper does), or lets go of it.
    pub fn hold_boot_pin(&mut self, low: bool) {
        self.boot_pin_low = low;
    }

    /// Power goes and comes again; nothing holds the boot pin unless the lines do.
    pub fn power_cycle(&mut self, now: Duration) {
        self.advance(now);
        self.restart(now, Cause::PowerOn);
    }

    /// The host sets both modem lines (`true` asserts).
    pub fn set_lines(&mut self, now: Duration, dtr: bool, rts: bool) {
        self.advance(now);
        let held = matches!(self.program, Program::Held | Program::Rising { .. });
        match self.circuit.set(dtr, rts, held) {
            _ if self.faults.no_reset => {}
            Effect::None => {}
            Effect::Hold => {
                self.stop();
                self.program = Program::Held;
            }
            Effect::Release(_) | Effect::Reset if self.faults.unplug_at_reset => self.unplugged = true,
            Effect::Release(time) => self.program = Program::Rising { until: now + time, cause: Cause::PowerOn },
            Effect::Reset => self.restart(now, Cause::Usb),
        }
    }

    /// The host changes its line rate; `None` for a line without a rate.
    pub fn set_host_baud(&mut self, now: Duration, baud: Option<u32>) {
        self.advance(now);
        if self.circuit.wiring() == Wiring::Bridge {
            self.machine.uart.host_baud = baud;
        }
    }

    /// For a line without a rate (a socket, a pseudo terminal): host and chip always agree, and `baud` is the rate
    /// that the host believes in. Only pacing and the clock divider register show it.
    pub fn agree_baud(&mut self, now: Duration, baud: u32) {
        self.set_host_baud(now, None);
        self.machine.uart.baud = baud;
    }

    /// The host sends bytes. Returns when the last of them will have left the host.
    pub fn send(&mut self, now: Duration, bytes: &[u8]) -> Duration {
        self.advance(now);
        let left = self.machine.uart.host_sends(now, bytes);
        self.advance(now);
        left
    }

    /// Fills `buf` with what has reached the host by `now`.
    pub fn receive(&mut self, now: Duration, buf: &mut [u8]) -> usize {
        self.advance(now);
        self.machine.uart.host_takes(now, buf)
    }

    /// When something will happen next without the host's doing: a byte reaches the host, or the chip has work.
    /// `None`: nothing ever.
    pub fn next_event(&self) -> Option<Duration> {
        [self.machine.uart.next_for_host(), self.next_work()].into_iter().flatten().min()
    }

    /// Lets the chip live until `now`.
    pub fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
        while let Some(when) = self.next_work().filter(|&when| when <= now) {
            self.step(when);
        }
    }

    /// When the chip itself has something to do next.
    fn next_work(&self) -> Option<Duration> {
        let rising = match self.program {
            Program::Rising { until, .. } => Some(until),
            _ => None,
        };
        let frame = self.waiting.front().map(|&(arrived, _)| arrived.max(self.machine.time));
        [rising, frame, self.timer, self.machine.watchdog.fires(), self.machine.uart.next_for_chip()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due at `when`.
    fn step(&mut self, when: Duration) {
        if let Program::Rising { until, cause } = self.program
            && until <= when
        {
            return self.restart(until, cause);
        }
        if let Some(fires) = self.machine.watchdog.fires().filter(|&fires| fires <= when) {
            return self.restart(fires, Cause::Watchdog);
        }
        if let Some(due) = self.timer.filter(|&due| due <= when) {
            return self.tick(due);
        }
        let ready = self.waiting.front().is_some_and(|&(arrived, _)| arrived.max(self.machine.time) <= when);
        if ready && let Some((arrived, frame)) = self.waiting.pop_front() {
            return self.execute(arrived, &frame);
        }
        if let Some((arrived, bytes)) = self.machine.uart.chip_takes(when) {
            self.take(arrived, &bytes);
        }
    }

    /// Bytes reached the chip.
    fn take(&mut self, arrived: Duration, bytes: &[u8]) {
        let room = match self.program {
            Program::Rom(_) => ROM_WAITING,
            Program::Stub(_) => STUB_WAITING + usize::from(self.machine.time <= arrived),
            Program::Firmware(..) => {
                if let Some(firmware) = &mut self.firmware {
                    firmware.receive(bytes);
                }
                return;
            }
            _ => return,
        };
        self.flash_touched = true;
        let waiting = &mut self.waiting;
        self.decoder.push(bytes, |event| {
            if let Event::Frame(frame) = event
                && waiting.len() < room
            {
                waiting.push_back((arrived, frame));
            }
        });
    }

    /// A whole frame is carried out.
    fn execute(&mut self, arrived: Duration, frame: &[u8]) {
        if self.hung {
            return;
        }
        self.commands += 1;
        let crashes = self.faults.crash_after.take_if(|limit| self.commands > *limit).is_some();
        self.hung = crashes || self.faults.hang_after.is_some_and(|limit| self.commands > limit);
        self.unplugged |= self.faults.unplug_after.is_some_and(|limit| self.commands > limit);
        if self.faults.brown_out_after == Some(self.commands) {
            self.faults.brown_out_after = None;
            return self.restart(arrived, Cause::BrownOut);
        }
        if self.hung || self.unplugged {
            return;
        }
        self.machine.wake(arrived);
        let next = match &mut self.program {
            Program::Rom(rom) => rom.handle(&mut self.machine, frame),
            Program::Stub(stub) => stub.handle(&mut self.machine, frame),
            _ => Next::Stay,
        };
        match next {
            Next::Stay => {}
            Next::Stub if self.faults.stub_dies => self.leave(),
            Next::Gone => self.leave(),
            Next::Stub => {
                self.pause(STUB_START);
                self.program = Program::Stub(Stub::start(&mut self.machine));
            }
            Next::Program(entry) => {
                self.stop();
                self.program = Program::Running(Box::new(Core::new(&self.machine, entry)));
                self.next_turn(Some(self.machine.time + STUB_START));
            }
            Next::Restart => {
                let now = self.machine.time;
                self.restart(now, Cause::Software);
            }
        }
    }

    fn pause(&mut self, time: Duration) {
        if self.pacing {
            self.machine.time += time;
        }
    }

    /// No loader answers any more.
    fn leave(&mut self) {
        self.stop();
        self.program = Program::App;
    }

    fn stop(&mut self) {
        self.waiting.clear();
        self.decoder.reset();
        self.timer = None;
        self.fails = None;
    }

    /// Restarts with the boot pin as the lines have it.
    fn restart(&mut self, at: Duration, cause: Cause) {
        let low = self.boot_pin_low || self.circuit.wants_download();
        self.start(at, cause, low && !self.faults.no_boot_pin);
    }

    fn start(&mut self, at: Duration, cause: Cause, download: bool) {
        self.stop();
        self.hung = false;
        let chip = self.machine.chip;
        let strap = if download { chip.boot.download_strap } else { chip.boot.flash_strap };
        let unit = match self.circuit.wiring() {
            Wiring::Bridge => Some(0),
            Wiring::UsbSerialJtag => chip.usb.serial_jtag.and_then(|unit| unit.buf_no),
            Wiring::UsbOtg => chip.usb.otg.and_then(|unit| unit.buf_no),
        };
        self.machine.time = at;
        self.machine.uart.chip_stops(at);
        self.machine.reset(strap, cause.number(chip), unit);
        if self.firmware_answers(download) {
            return self.enter_firmware(at, cause, download);
        }
        let disabled = self.download_disabled();
        self.machine.uart.baud = chip.uart.boot_baud;
        self.machine.uart.auto_baud = download && !disabled;
        self.pause(ROM_START);
        self.machine.say(&boot::banner(chip, cause, strap));
        match (download, disabled) {
            (false, _) => self.boot(),
            (true, true) => {
                self.machine.say(boot::DOWNLOAD_DISABLED);
                self.loops(boot::banner(chip, Cause::Software, strap) + boot::DOWNLOAD_DISABLED, DISABLED_LOOP);
            }
            (true, false) => {
                self.machine.say(&boot::waiting(chip, self.machine.secure_download));
                self.program = Program::Rom(Rom::default());
            }
        }
    }

    /// The engine takes this start: there is something to run, and no fault that only the imitation has.
    fn firmware_answers(&mut self, download: bool) -> bool {
        let faults = &self.faults;
        let imitated = faults.app_log.is_some() || faults.brown_out_ms.is_some() || faults.app != AppFaults::default();
        let possible = self.firmware.is_some() || self.make_firmware.is_some();
        if imitated || !possible {
            return false;
        }
        let wanted =
            if download { self.loader_by_rom } else { boot::walk(self.chip, &self.machine, &faults.app).started };
        if wanted && let Some(make) = self.make_firmware.take() {
            self.firmware = make(self.chip, self.machine.revision);
        }
        wanted && self.firmware.is_some()
    }

    fn enter_firmware(&mut self, at: Duration, cause: Cause, download: bool) {
        let Some(firmware) = &mut self.firmware else { return };
        let start = Start {
            cause: cause.number(self.machine.chip),
            download,
            pin_is_held: self.boot_pin_low,
            usb: self.circuit.wiring() != Wiring::Bridge,
            flash_changed: std::mem::take(&mut self.flash_touched),
            radio_finishes: self.radio_finishes,
        };
        firmware.start(&mut self.machine.nor, &mut self.machine.efuse, start);
        self.machine.uart.baud = self.machine.chip.uart.boot_baud;
        self.machine.uart.auto_baud = download;
        self.program = Program::Firmware(at, download);
        self.next_turn(Some(at + FIRMWARE_TURN));
    }

    fn run_firmware(&mut self, since: Duration, due: Duration) {
        let Some(firmware) = &mut self.firmware else { return };
        let until = due.saturating_sub(since);
        let sent = firmware.run(&mut self.machine.nor, &mut self.machine.efuse, until);
        if !sent.is_empty() {
            self.machine.uart.chip_sends(due, sent);
        }
        self.next_turn(Some(due + FIRMWARE_TURN));
    }

    /// The ROM says this again and again.
    fn loops(&mut self, text: String, period: Duration) {
        self.program = Program::BootLoop(text);
        self.period = period;
        self.next_turn(Some(self.machine.time + period));
    }

    /// The program has something to say then, unless the supply fails before.
    fn next_turn(&mut self, at: Option<Duration>) {
        self.timer = self.fails.into_iter().chain(at).min();
    }

    /// DIS_DOWNLOAD_MODE and its older form keep the chip out of its loader.
    fn download_disabled(&self) -> bool {
        ["DIS_DOWNLOAD_MODE", "UART_DOWNLOAD_DIS"].iter().any(|name| self.machine.efuse.number(name) != 0)
    }

    fn boot(&mut self) {
        let walk = boot::walk(self.chip, &self.machine, &self.faults.app);
        self.machine.say(&walk.text);
        let wait = self.faults.app_log.filter(|_| walk.started || self.faults.no_boot_pin);
        self.fails = self.faults.brown_out_ms.map(|after| self.machine.time + after);
        if let Some(text) = walk.crash {
            self.program = Program::Crashing(Some(text));
            return self.next_turn(Some(self.machine.time + CRASH));
        }
        if walk.started || wait.is_some() {
            self.program = Program::App;
            self.next_turn(wait.map(|wait| self.machine.time + wait));
            return;
        }
        let chip = self.machine.chip;
        // Nothing but a loader changes the flash: the walk would come to the same.
        self.loops(boot::banner(chip, Cause::Watchdog, chip.boot.flash_strap) + &walk.text, BOOT_LOOP);
    }

    /// The app's next line, or the next turn of the boot loop.
    fn tick(&mut self, due: Duration) {
        self.machine.time = self.machine.time.max(due);
        if self.fails.is_some_and(|at| at <= due) {
            self.machine.say("\r\nBrownout detector was triggered\r\n\r\n");
            return self.restart(due + BROWN_OUT, Cause::BrownOut);
        }
        if let Program::Firmware(since, _) = self.program {
            return self.run_firmware(since, due);
        }
        if let Program::Running(core) = &mut self.program {
            match core.run(&mut self.machine, TURN) {
                Outcome::Says(text) => {
                    // The transmitter takes a byte when the one before it has left: the program waits for it.
                    let time = Duration::from_secs(10) * text.len() as u32 / self.machine.uart.baud.max(1);
                    self.machine.say(&text);
                    self.next_turn(Some(due + time.max(TURN_TIME)));
                }
                Outcome::Works => self.next_turn(Some(due + TURN_TIME)),
                Outcome::Stops => {
                    self.timer = None;
                    self.program = Program::App;
                }
            }
            return;
        }
        match (&mut self.program, self.faults.app_log) {
            (Program::Crashing(text), _) => match text.take() {
                Some(text) => {
                    let said = self.machine.say(&text);
                    self.next_turn(Some(said + CRASH));
                }
                None => self.restart(due, Cause::Panic),
            },
            (Program::BootLoop(turn), _) => {
                let turn = turn.clone();
                self.machine.say(&turn);
                self.next_turn(Some(due + self.period));
            }
            (Program::App, Some(wait)) => {
                let line = format!("I ({}) app: working\r\n", due.as_millis());
                self.machine.say(&line);
                self.next_turn(Some(due + wait));
            }
            _ => self.timer = None,
        }
    }
}
