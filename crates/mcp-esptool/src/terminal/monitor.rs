//! `mcp-esptool monitor`: a device's console, with the keys that people know from other monitors.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fmt::Write as _, fs, thread};

use esp_link::monitor::{CaptureOptions, Stopped};
use esp_model::console::{Catalogue, Decoder};
use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::boot::capture::{self, Crash, Names};
use esp_ops::boot::findings;
use esp_ops::console::session::{Order, State};
use esp_ops::console::view::GdbStub;
use esp_ops::console::{Link, Opening, lost};
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;

use super::defmt::{Frames, Printer};
use super::keys::{Act, HELP, Keys};
use super::screen::{Filter, Screen};
use crate::ctx::Ctx;

/// How often it is looked whether the console pauses.
const LOOK: Duration = Duration::from_millis(200);
/// A break of this length, in milliseconds, is one at every usual rate.
const BREAK_MS: u64 = 250;

/// Arguments of `monitor`.
#[derive(Debug, clap::Args)]
pub struct MonitorArgs {
    /// Port or URL (default: the only device there is)
    port: Option<PortUrl>,
    /// The same
    #[arg(short = 'p', long = "port", value_name = "PORT", conflicts_with = "port")]
    named_port: Option<PortUrl>,
    /// Line rate (default: 115200, or that of a console that is open already)
    #[arg(short = 'b', long)]
    baud: Option<u32>,
    /// Reset the device first
    #[arg(long)]
    reset: bool,
    /// An ELF file for names in crashes; may be repeated (default: searched by SHA-256 below the project roots)
    #[arg(long)]
    elf: Vec<String>,
    /// Stop after this many seconds
    #[arg(long)]
    seconds: Option<f64>,
    /// Print the time of each line
    #[arg(long)]
    timestamps: bool,
    /// Show only these log lines: `wifi:W main *:N`
    #[arg(long, value_name = "TAG:LEVEL")]
    filter: Option<String>,
    /// The ELF file of an app that logs with defmt: its frames are shown as text by `defmt-print`
    #[arg(long, value_name = "ELF")]
    defmt: Option<String>,
    /// Add everything that is received to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The project that Ctrl-T F flashes again (default: the current folder)
    #[arg(long, value_name = "DIR", default_value = ".")]
    project: String,
}

/// Flashes a project: port, folder; gives what is to be said.
pub type Flash<'f> = dyn Fn(&str, &str) -> Result<String, String> + Sync + 'f;

/// Shows a device's console until Ctrl-] or Ctrl-C.
pub fn run(ctx: &Ctx, args: &MonitorArgs, job: &Job, flash: &Flash<'_>) -> Result<(), ToolError> {
    let ctx = ctx.for_tool("monitor", false);
    let port = args.port.as_ref().or(args.named_port.as_ref());
    if args.reset {
        ctx.policy.allows_command("monitor --reset", Risk::Resets, false)?;
    }
    let filter = Filter::parse(args.filter.as_deref().unwrap_or_default());
    let filter = filter.map_err(|text| ToolError::new(Code::BadParameter, text))?;
    let catalogue = ctx.catalogue()?;
    let log = args.log.as_deref().map(append).transpose()?;
    let opening = Opening { baud: args.baud, reset: false, keep: false };
    let defmt = args.defmt.as_deref().map(|elf| Printer::start("defmt-print", elf)).transpose();
    let defmt = defmt.map_err(|error| ToolError::new(Code::FileNotFound, error.to_string()))?;
    let link = ctx.open_console(port, opening, job)?;
    let mut listener = capture::of_console(link.another().map_err(lost)?)?;
    let about = link.about().map_err(lost)?;
    let (typing, raw) = (ctx.policy.allows_command("typing to the device", Risk::Writes, false), Raw::begin());
    let keys = if raw.is_on { "Ctrl-] quits, Ctrl-T H helps" } else { "Ctrl-C ends" };
    let screen = Mutex::new(Screen::new(args.timestamps, colours(), filter));
    let (log, defmt) = (Mutex::new(log), Mutex::new(defmt));
    let desk = Desk { ctx: &ctx, args, link, raw: raw.is_on, screen, log, defmt };
    desk.say(&format!("listening to {} at {} baud; {keys}", listener.url, about.baud));
    if let Err(refused) = typing {
        desk.say(&refused.message);
    }
    if args.reset {
        desk.link.order(Order::Reset).map_err(lost)?;
    }
    let options = CaptureOptions {
        time: args.seconds.filter(|seconds| (0.0..=1e9).contains(seconds)).map(Duration::from_secs_f64),
        absence: Duration::from_secs(3600),
        ..CaptureOptions::default()
    };
    let (done, known) = (AtomicBool::new(false), Decoder::with(None, catalogue.clone()));
    let heard = thread::scope(|scope| {
        let typed = typed(raw.is_on);
        scope.spawn(|| desk.serve(typed, job, &done, flash));
        let heard = capture::hear(&mut listener.reader, known, &options, job, &mut desk.shower(catalogue));
        done.store(true, Ordering::Release);
        heard
    })?;
    drop(raw);
    let mut decoder = heard.decoder;
    decoder.finish();
    decoder.findings().iter().for_each(|finding| eprintln!("{}", findings::line(finding)));
    match &heard.capture.stopped {
        Stopped::Cancelled => eprintln!("{} bytes received", heard.capture.bytes),
        other => eprintln!("{} bytes received; ended by {}", heard.capture.bytes, capture::stopped(other)),
    }
    Ok(())
}

/// Colours are for terminals, and for people who want them.
fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn append(path: &Path) -> Result<File, ToolError> {
    let file = fs::OpenOptions::new().append(true).create(true).open(path);
    file.map_err(|error| ToolError::of_io(Code::FileUnwritable, path.display(), &error))
}

/// The terminal gives single keys until this is dropped.
struct Raw {
    is_on: bool,
}

impl Raw {
    fn begin() -> Self {
        let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        Self { is_on: is_terminal && crossterm::terminal::enable_raw_mode().is_ok() }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if std::mem::take(&mut self.is_on) {
            let _ = crossterm::terminal::disable_raw_mode();
        }
    }
}

/// What is typed: keys as they are, or whole lines where standard input is no terminal. The thread ends with the
/// process: nothing wakes it.
fn typed(keys: bool) -> Receiver<Vec<u8>> {
    let (sender, typed) = channel();
    thread::spawn(move || {
        if !keys {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                if sender.send(format!("{line}\r\n").into_bytes()).is_err() {
                    return;
                }
            }
            return;
        }
        let mut buffer = [0; 256];
        while let Ok(count @ 1..) = io::stdin().lock().read(&mut buffer) {
            if sender.send(buffer.get(..count).unwrap_or_default().to_vec()).is_err() {
                return;
            }
        }
    });
    typed
}

/// What the two threads of a monitor share.
struct Desk<'d> {
    ctx: &'d Ctx,
    args: &'d MonitorArgs,
    link: Link,
    raw: bool,
    screen: Mutex<Screen>,
    log: Mutex<Option<File>>,
    defmt: Mutex<Option<Printer>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk<'_> {
    /// Writes to the screen; a raw terminal does not go back to the first column by itself.
    fn write(&self, text: &str) -> bool {
        let text = if self.raw { text.replace('\n', "\r\n") } else { text.into() };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
    }

    /// Says something that is not of the device.
    fn say(&self, text: &str) {
        let end = if self.raw { "\r\n" } else { "\n" };
        for line in text.lines() {
            eprint!("--- {line}{end}");
        }
    }

    /// Takes what comes, shows it and explains crashes when they happen.
    fn shower(&self, catalogue: Arc<Catalogue>) -> impl FnMut(Duration, &[u8], &[esp_model::console::Line]) -> bool {
        // A decoder of its own, so that a crash is explained at once and not at the end.
        let mut decoder = Decoder::with(None, catalogue);
        let mut names = Names::among(self.ctx, &self.args.elf);
        let (mut explained, mut stub, mut frames) = (0, GdbStub::default(), Frames::default());
        let coloured = colours();
        move |at, bytes, _| {
            let first = frames.count == 0;
            let (plain, found) = frames.part(bytes);
            let mut text = lock(&self.screen).take(at, &plain);
            decoder.feed(at, &plain);
            text.push_str(&self.of_defmt(&found, first));
            if decoder.events().len() > explained {
                let crashes = capture::crashes(&decoder, explained, &mut names).unwrap_or_default();
                crashes.shown.iter().for_each(|crash| text.push_str(&crash_text(crash, coloured)));
                explained = decoder.events().len();
            }
            if stub.is_in(bytes) {
                text.push_str("\n--- the program has stopped in its GDB stub: quit, then connect GDB to this port (target remote PORT), or reset with Ctrl-R\n");
            }
            let mut log = lock(&self.log);
            if let Some(file) = log.as_mut()
                && let Err(error) = file.write_all(bytes)
            {
                self.say(&format!("the log file cannot be written: {error}"));
                *log = None;
            }
            self.write(&text)
        }
    }

    /// What is to be shown of frames of defmt.
    fn of_defmt(&self, frames: &[Vec<u8>], first: bool) -> String {
        let mut printer = lock(&self.defmt);
        let Some(printer) = printer.as_mut() else {
            if first && !frames.is_empty() {
                self.say("this program logs with defmt: --defmt ELF shows what it says");
            }
            return String::new();
        };
        for frame in frames {
            if let Err(error) = printer.take(frame) {
                self.say(&format!("defmt-print has ended: {error}"));
                break;
            }
        }
        printer.lines().map(|line| format!("{line}\n")).collect()
    }

    /// Does what the keys ask for, and says when other work takes the port.
    fn serve(&self, typed: Receiver<Vec<u8>>, job: &Job, done: &AtomicBool, flash: &Flash<'_>) {
        let (mut keys, mut state, mut looked) = (Keys::default(), State::Listening, Instant::now());
        while !done.load(Ordering::Acquire) {
            match typed.recv_timeout(LOOK) {
                Ok(bytes) if self.raw => {
                    keys.take(&bytes).into_iter().for_each(|act| self.act(act, job, flash));
                }
                Ok(bytes) => self.act(Act::Send(bytes), job, flash),
                Err(RecvTimeoutError::Disconnected) => thread::sleep(LOOK),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.write(&self.of_defmt(&[], false));
                let now = self.link.about().map_or(State::Closed, |about| about.state);
                if now != state {
                    self.say(&told(&now));
                    state = now;
                }
            }
        }
    }

    fn act(&self, act: Act, job: &Job, flash: &Flash<'_>) {
        match act {
            Act::Quit => job.cancel(),
            Act::Help => drop(self.write(HELP)),
            Act::Echo(text) => drop(self.write(&text)),
            Act::Send(bytes) => self.order("typing to the device", Risk::Writes, Order::Write(bytes)),
            Act::Reset => self.order("reset", Risk::Resets, Order::Reset),
            Act::Bootloader => self.order("reset", Risk::Resets, Order::Bootloader),
            Act::Break => self.order("sending a break", Risk::Writes, Order::Break(BREAK_MS)),
            Act::Timestamps => {
                let mut screen = lock(&self.screen);
                screen.timestamps = !screen.timestamps;
            }
            Act::Pause => {
                let mut screen = lock(&self.screen);
                screen.is_paused = !screen.is_paused;
                let text = if screen.is_paused { "nothing is shown until Ctrl-T Y" } else { "shown again" };
                self.say(text);
            }
            Act::Filter(text) => {
                self.write("\n");
                match Filter::parse(&text) {
                    Ok(filter) => lock(&self.screen).set_filter(filter),
                    Err(error) => self.say(&error),
                }
            }
            Act::Log => self.toggle_log(),
            Act::Flash => {
                let Ok(about) = self.link.about() else { return };
                self.say(&format!("flashing the project in {} …", self.args.project));
                match flash(&about.url, &self.args.project) {
                    Ok(text) | Err(text) => self.say(&text),
                }
            }
        }
    }

    fn order(&self, what: &str, risk: Risk, order: Order) {
        let allowed = self.ctx.policy.allows_command(what, risk, false).map_err(|refused| refused.message);
        if let Err(text) = allowed.and_then(|()| self.link.order(order).map_err(|error| error.to_string())) {
            self.say(&format!("{what}: {text}"));
        }
    }

    fn toggle_log(&self) {
        let mut log = lock(&self.log);
        if log.take().is_some() {
            return self.say("the log file has ended");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let path = self.args.log.clone().unwrap_or_else(|| PathBuf::from(format!("console-{now}.log")));
        match append(&path) {
            Ok(file) => {
                *log = Some(file);
                self.say(&format!("everything goes to {} too", path.display()));
            }
            Err(error) => self.say(&error.message),
        }
    }
}

/// A change of the console's state, for people.
fn told(state: &State) -> String {
    match state {
        State::Listening => "listening again".into(),
        State::Paused { by } => format!("paused: {by} uses the port"),
        State::Gone { why } => format!("the device has left ({why}); waiting for it"),
        State::Closed => "the console was closed".into(),
    }
}

/// A crash explained, set off from what the device sent.
fn crash_text(crash: &Crash, colours: bool) -> String {
    let names = match crash.elf_match.as_str() {
        "no_elf" => "names need --elf FILE",
        "foreign" => "the ELF file is another program's",
        "unverifiable" => "ELF file: not verified",
        _ => "ELF file: verified",
    };
    let mut text = format!("--- {}: {} ({names})\n", crash.sort, crash.reason);
    for line in crash.backtrace.iter().chain(&crash.numbers) {
        let _ = writeln!(text, "---   {line}");
    }
    if colours { format!("\x1b[0;36m{}\x1b[0m\n", text.trim_end()) } else { text }
}
