//! Uses what a board has around the chip, in tasks of an async executor, and says what it sees: a button, voltages, devices
//! on SPI by buffer and by DMA, a dimmed LED, a train of pulses, and a counter of them.
#![no_std]
#![no_main]

use core::fmt::Write as _;
use core::sync::atomic::{AtomicU32, Ordering};

use embassy_executor::Spawner;
use embassy_time::{Duration, Instant, Timer};
use esp_hal::Blocking;
use esp_hal::analog::adc::{Adc, AdcConfig, Attenuation};
use esp_hal::gpio::{Input, InputConfig, Level, Output, OutputConfig};
use esp_hal::peripherals::UART0;
use esp_hal::spi::master::{Config, Spi};
use esp_hal::time::Rate;
use esp_hal::timer::timg::TimerGroup;
use esp_hal::uart::Uart;

esp_bootloader_esp_idf::esp_app_desc!();

static BLINKS: AtomicU32 = AtomicU32::new(0);

#[embassy_executor::task]
async fn blink(mut pin: Output<'static>) {
    loop {
        pin.toggle();
        BLINKS.store(BLINKS.load(Ordering::SeqCst) + 1, Ordering::SeqCst);
        Timer::after(Duration::from_millis(10)).await;
    }
}

#[esp_rtos::main]
async fn main(spawner: Spawner) {
    let chip = esp_hal::init(esp_hal::Config::default());
    esp_rtos::start(TimerGroup::new(chip.TIMG0).timer0, chip.FROM_CPU_INTR0);
    let Ok(mut line) = Uart::new(chip.UART0, esp_hal::uart::Config::default()) else { panic!("no serial line") };
    let _ = writeln!(line, "\nboard: hello from {}", esp_hal::chip!());

    if let Ok(task) = blink(Output::new(chip.GPIO8, Level::Low, OutputConfig::default())) {
        spawner.spawn(task);
    }
    let mut button = Input::new(chip.GPIO10, InputConfig::default());
    button.wait_for_falling_edge().await;
    let blinks = BLINKS.load(Ordering::SeqCst);
    let _ = writeln!(line, "button: pressed, {}", if blinks > 10 { "it blinks" } else { "it does not blink" });

    // The pin is read again when the script says that its voltage is another one.
    let mut config = AdcConfig::new();
    let mut pin = config.enable_pin(chip.GPIO2, Attenuation::_11dB);
    let mut adc = Adc::new(chip.ADC1, config);
    let first = nb::block!(adc.read_oneshot(&mut pin)).unwrap_or(0);
    let mut adc = adc.into_async();
    Timer::after(Duration::from_millis(200)).await;
    let second = adc.read_oneshot(&mut pin).await;
    let ground = AdcConfig::<esp_hal::peripherals::ADC1>::adc_calibrate(
        Attenuation::_11dB,
        esp_hal::analog::adc::AdcCalSource::Gnd,
    );
    let _ = writeln!(line, "adc: {first}, then {second}, ground {ground}");

    spi(&mut line, chip.SPI2, chip.DMA_CH0, Output::new(chip.GPIO0, Level::High, OutputConfig::default())).await;
    #[cfg(not(feature = "esp32c5"))]
    led(&mut line, chip.LEDC, chip.GPIO5).await;
    #[cfg(not(feature = "esp32c2"))]
    pulses(&mut line, chip.RMT, chip.GPIO4).await;
    #[cfg(not(any(feature = "esp32c2", feature = "esp32c3")))]
    count(&mut line, chip.PCNT, chip.GPIO3);
    let _ = writeln!(line, "board: done");
    let _ = line.flush();
    loop {
        Timer::after(Duration::from_secs(1)).await;
    }
}

/// A device that is selected by a pin, then a long answer of the one that is always there, by DMA.
async fn spi(
    line: &mut Uart<'static, Blocking>,
    controller: esp_hal::peripherals::SPI2<'static>,
    channel: esp_hal::peripherals::DMA_CH0<'static>,
    mut select: Output<'static>,
) {
    let Ok(mut bus) = Spi::new(controller, Config::default().with_frequency(Rate::from_mhz(1))) else { return };
    let mut id = [0xd0, 0, 0];
    select.set_low();
    let read = bus.transfer(&mut id).is_ok();
    select.set_high();
    select.set_low();
    let written = bus.write(&[0x51, 0x77]).is_ok();
    select.set_high();
    let mut again = [0xd1, 0];
    select.set_low();
    let reread = bus.transfer(&mut again).is_ok();
    select.set_high();
    let _ = writeln!(line, "spi: {} {id:02x?}, then {again:02x?}", read && written && reread);

    let (Ok(into), Ok(out)) = (esp_hal::dma_rx_buffer!(512), esp_hal::dma_tx_buffer!(512)) else { return };
    let mut bus = bus.with_dma(channel).with_buffers(into, out).into_async();
    let mut long = [0u8; 300];
    let started = Instant::now();
    let done = bus.transfer_in_place_async(&mut long).await.is_ok();
    let sum: u32 = long.iter().map(|byte| u32::from(*byte)).sum();
    let time = started.elapsed().as_micros();
    let timely = if (2400..2700).contains(&time) { "in time" } else { "late" };
    let _ = writeln!(line, "spi: {done}, 300 bytes by DMA, sum {sum}, {timely}");
}

#[cfg(not(feature = "esp32c5"))]
async fn led(
    line: &mut Uart<'static, Blocking>,
    ledc: esp_hal::peripherals::LEDC<'static>,
    pin: esp_hal::peripherals::GPIO5<'static>,
) {
    use esp_hal::gpio::DriveMode;
    use esp_hal::ledc::channel::{self, ChannelIFace as _};
    use esp_hal::ledc::timer::{self, TimerIFace as _};
    use esp_hal::ledc::{LSGlobalClkSource, Ledc, LowSpeed};

    let mut ledc = Ledc::new(ledc);
    ledc.set_global_slow_clock(LSGlobalClkSource::APBClk);
    let mut clock = ledc.timer::<LowSpeed>(timer::Number::Timer1);
    let duty = timer::config::Duty::Duty8Bit;
    let config = timer::config::Config { duty, clock_source: timer::LSClockSource::APBClk, frequency: Rate::from_khz(5) };
    let timed = clock.configure(config).is_ok();
    let mut dimmer = ledc.channel(channel::Number::Channel2, pin);
    let config = channel::config::Config { timer: &clock, duty_pct: 25, drive_mode: DriveMode::PushPull };
    let set = dimmer.configure(config).is_ok();
    Timer::after(Duration::from_millis(5)).await;
    let fades = dimmer.start_duty_fade(25, 75, 100).is_ok();
    while dimmer.is_duty_fade_running() {
        Timer::after(Duration::from_millis(1)).await;
    }
    let _ = writeln!(line, "led: {}, faded", timed && set && fades);
    let dark = dimmer.set_duty(0).is_ok();
    let _ = writeln!(line, "led: {dark}");
}

/// More pulses than the memory holds: it is refilled while they are sent.
#[cfg(not(feature = "esp32c2"))]
async fn pulses(
    line: &mut Uart<'static, Blocking>,
    rmt: esp_hal::peripherals::RMT<'static>,
    pin: esp_hal::peripherals::GPIO4<'static>,
) {
    use esp_hal::rmt::{PulseCode, Rmt, TxChannelConfig, TxChannelCreator as _};

    let mhz = if cfg!(feature = "esp32h2") { 32 } else { 80 };
    let Ok(rmt) = Rmt::new(rmt, Rate::from_mhz(mhz)) else { return };
    let config = TxChannelConfig::default().with_clk_divider(mhz as u8);
    let Ok(channel) = rmt.channel0.configure_tx(&config) else { return };
    let channel = channel.with_pin(pin);
    let mut data = [PulseCode::new(Level::High, 100, Level::Low, 50); 200];
    data[199] = PulseCode::end_marker();
    let started = Instant::now();
    let done = match channel.transmit(&data) {
        Ok(sending) => sending.wait().is_ok(),
        Err(_) => false,
    };
    let time = started.elapsed().as_micros();
    let timely = if (29_840..30_100).contains(&time) { "in time" } else { "late" };
    let _ = writeln!(line, "pulses: {done}, 199 sent {timely}");
}

#[cfg(not(any(feature = "esp32c2", feature = "esp32c3")))]
fn count(
    line: &mut Uart<'static, Blocking>,
    pcnt: esp_hal::peripherals::PCNT<'static>,
    pin: esp_hal::peripherals::GPIO3<'static>,
) {
    use esp_hal::gpio::Flex;
    use esp_hal::pcnt::Pcnt;
    use esp_hal::pcnt::channel::EdgeMode;

    let mut pin = Flex::new(pin);
    pin.set_input_enable(true);
    pin.set_output_enable(true);
    pin.set_low();
    let counter = Pcnt::new(pcnt).unit1;
    let _ = counter.set_high_limit(Some(100));
    counter.set_threshold0(Some(3));
    counter.clear();
    counter.channel0.set_edge_signal(pin.peripheral_input());
    counter.channel0.set_input_mode(EdgeMode::Increment, EdgeMode::Hold);
    counter.resume();
    for _ in 0..10 {
        pin.toggle();
    }
    let threshold = counter.interrupt_is_set() && counter.events().threshold0;
    let _ = writeln!(line, "count: {}, threshold {threshold}", counter.value());
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
