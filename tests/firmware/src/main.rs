//! Uses the blocks that every program uses and says what it sees: serial line, clock, timer interrupts, pins, a bus with
//! nobody on it; then it panics on purpose, and its panic handler restarts the chip.
#![no_std]
#![no_main]

use core::cell::RefCell;
use core::fmt::Write as _;
use core::sync::atomic::{AtomicU32, Ordering};

use critical_section::Mutex;
use esp_hal::gpio::{DriveMode, Event, Flex, Io, OutputConfig};
use esp_hal::i2c::master::I2c;
use esp_hal::peripherals::UART0;
use esp_hal::time::{Duration, Instant};
use esp_hal::timer::PeriodicTimer;
use esp_hal::timer::timg::TimerGroup;
use esp_hal::uart::Uart;
use esp_hal::{Blocking, handler, main};

esp_bootloader_esp_idf::esp_app_desc!();

static TICKS: AtomicU32 = AtomicU32::new(0);
static EDGES: AtomicU32 = AtomicU32::new(0);
static TIMER: Mutex<RefCell<Option<PeriodicTimer<'static, Blocking>>>> = Mutex::new(RefCell::new(None));
static PIN: Mutex<RefCell<Option<Flex<'static>>>> = Mutex::new(RefCell::new(None));

#[main]
fn main() -> ! {
    let chip = esp_hal::init(esp_hal::Config::default());
    let Ok(mut line) = Uart::new(chip.UART0, esp_hal::uart::Config::default()) else { panic!("no serial line") };
    let _ = writeln!(line, "\nfirmware: hello from {}", esp_hal::chip!());

    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(20) {}
    let passed = start.elapsed().as_micros();
    let _ = writeln!(line, "clock: {}", if (20_000..20_100).contains(&passed) { "20 ms passed" } else { "wrong" });

    let mut timer = PeriodicTimer::new(TimerGroup::new(chip.TIMG0).timer0);
    timer.set_interrupt_handler(tick);
    timer.listen();
    let started = timer.start(Duration::from_millis(2)).is_ok();
    critical_section::with(|section| TIMER.borrow_ref_mut(section).replace(timer));
    let start = Instant::now();
    while TICKS.load(Ordering::SeqCst) < 5 && start.elapsed() < Duration::from_millis(100) {}
    let passed = start.elapsed().as_micros();
    let right = started && (9_900..10_300).contains(&passed);
    let _ = writeln!(line, "timer: {} interrupts, {}", TICKS.load(Ordering::SeqCst), if right { "in time" } else { "late" });

    Io::new(chip.IO_MUX).set_interrupt_handler(edge);
    let mut pin = Flex::new(chip.GPIO5);
    pin.apply_output_config(&OutputConfig::default().with_drive_mode(DriveMode::PushPull));
    pin.set_input_enable(true);
    pin.set_low();
    pin.set_output_enable(true);
    pin.listen(Event::AnyEdge);
    critical_section::with(|section| PIN.borrow_ref_mut(section).replace(pin));
    for _ in 0..4 {
        critical_section::with(|section| PIN.borrow_ref_mut(section).as_mut().map(Flex::toggle));
    }
    let level = critical_section::with(|section| PIN.borrow_ref(section).as_ref().is_some_and(Flex::is_high));
    let _ = writeln!(line, "pin: {} edges, {}", EDGES.load(Ordering::SeqCst), if level { "high" } else { "low" });

    if let Ok(bus) = I2c::new(chip.I2C0, esp_hal::i2c::master::Config::default()) {
        let mut bus = bus.with_sda(chip.GPIO2).with_scl(chip.GPIO3);
        match bus.write(0x44u8, &[0xfd]) {
            Ok(()) => drop(writeln!(line, "bus: somebody is there")),
            Err(error) => drop(writeln!(line, "bus: {error:?}")),
        }
    }
    let _ = line.flush();
    panic!("on purpose");
}

/// Some of the chips have no instruction that adds to memory; only one handler writes each counter.
fn add_one(counter: &AtomicU32) {
    counter.store(counter.load(Ordering::SeqCst) + 1, Ordering::SeqCst);
}

#[handler]
fn tick() {
    add_one(&TICKS);
    critical_section::with(|section| TIMER.borrow_ref_mut(section).as_mut().map(PeriodicTimer::clear_interrupt));
}

#[handler]
fn edge() {
    critical_section::with(|section| {
        if let Some(pin) = PIN.borrow_ref_mut(section).as_mut()
            && pin.is_interrupt_set()
        {
            add_one(&EDGES);
            pin.clear_interrupt();
        }
    });
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    // Whoever had the line will not use it again.
    if let Ok(mut line) = Uart::new(unsafe { UART0::steal() }, esp_hal::uart::Config::default()) {
        let _ = writeln!(line, "panic: {}", info.message());
        let _ = line.flush();
    }
    esp_hal::system::software_reset()
}
