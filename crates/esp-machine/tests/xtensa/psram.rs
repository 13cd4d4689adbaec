//! External RAM of S2 and S3: a part says what it is, by the controller's registers and by the ROM's driver for octal parts, and holds
//! what is written to it, in every window and through the controller.

use esp_machine::{Config, Machine};
use libtest_mimic::Trial;

use super::{MILLISECOND, run, trial};

const MEGABYTE: u32 = 1 << 20;
/// First register of all, PS, and its bit that windows are checked.
const AR0: usize = 1;
const PS: usize = 73;
const WINDOWS: u32 = 1 << 18;

/// Where things are on a chip.
#[derive(Clone, Copy)]
struct Place {
    id: &'static str,
    spi1: u32,
    table: u32,
    /// What makes an entry of the table one of external RAM.
    mark: u32,
    /// Windows: first address, first entry, megabytes.
    windows: &'static [(u32, u32, u32)],
}

const S2: Place = Place {
    id: "esp32s2",
    spi1: 0x3f40_2000,
    table: 0x6180_1000,
    mark: 1 << 16,
    windows: &[(0x3f50_0000, 336, 3), (0x3f80_0000, 256, 4), (0x3fc0_0000, 192, 3)],
};
const S3: Place =
    Place { id: "esp32s3", spi1: 0x6000_2000, table: 0x600c_5000, mark: 1 << 15, windows: &[(0x3c00_0000, 0, 32)] };

pub fn trials() -> Vec<Trial> {
    let each = |name: &str, test: fn(Place)| {
        [S2, S3].map(|place| trial(&format!("{name}_on_{}", place.id), &[], move || test(place)))
    };
    let mut trials = Vec::from(each("quad_external_ram_tells_its_size", quad));
    trials.extend(each("external_ram_holds_what_is_written_in_each_window", holds));
    trials.extend(each("external_ram_is_the_same_through_the_controller", by_controller));
    trials.push(trial("octal_external_ram_answers_the_driver_of_the_rom_of_esp32s3", &[], octal));
    trials
}

fn machine(place: Place, bytes: u32) -> Machine {
    let mut config = Config::new(place.id, 4 << 20).unwrap();
    config.psram = bytes;
    config.download = true;
    let mut machine = Machine::new(config).unwrap();
    run(&mut machine, 20 * MILLISECOND);
    machine
}

/// A transaction with the part at the second select: command, address of 24 bits, data that go out, bytes that come back.
fn transfer(machine: &mut Machine, place: Place, command: u32, address: u32, data: Option<u32>, wanted: u32) -> u32 {
    let soc = &mut machine.soc;
    let mut set = |offset: u32, value: u32| soc.store(place.spi1 + offset, 4, value).unwrap();
    set(0x34, 1);
    set(0x18, 1 << 31 | 1 << 30 | u32::from(wanted > 0) << 28 | u32::from(data.is_some()) << 27);
    set(0x1c, 23 << 26);
    set(0x20, 7 << 28 | command);
    set(0x04, address);
    set(0x24, 31);
    set(0x28, (8 * wanted).saturating_sub(1));
    set(0x58, data.unwrap_or(0));
    set(0, 1 << 18);
    soc.load(place.spi1 + 0x58, 4).unwrap()
}

/// ESP-IDF's driver: bits 15 to 8 are 0x5d for a good part, bits 23 to 21 its size.
fn quad(place: Place) {
    for (megabytes, code) in [(2, 0), (4, 1), (8, 2)] {
        let id = transfer(&mut machine(place, megabytes * MEGABYTE), place, 0x9f, 0, None, 3);
        assert_eq!((id >> 8 & 0xff, id >> 21 & 7), (0x5d, code), "{megabytes} MB: {id:#x}");
        // Marks of parts for which the driver has ways of its own.
        assert!(![0x20, 0x26].contains(&(id >> 16 & 0xff)), "{id:#x}");
    }
    assert_eq!(transfer(&mut machine(place, 0), place, 0x9f, 0, None, 3), 0xff_ffff, "no part");
}

/// Maps the first pages of external RAM into a window.
fn map(machine: &mut Machine, place: Place, window: (u32, u32, u32), first: u32) {
    for page in 0..window.2 * 16 {
        machine.soc.store(place.table + 4 * (window.1 + page), 4, place.mark | (first + page)).unwrap();
    }
}

fn holds(place: Place) {
    let mut machine = machine(place, 8 * MEGABYTE);
    for window in place.windows {
        map(&mut machine, place, *window, 0);
        let size = (window.2 * MEGABYTE).min(8 * MEGABYTE);
        let values = |seed: u32| (0..size).step_by(4096 - 32).map(move |at| (at, at.wrapping_mul(0x9e37_79b9) ^ seed));
        for (at, value) in values(window.0) {
            machine.soc.store(window.0 + (at & !3), 4, value).unwrap();
        }
        for (at, value) in values(window.0) {
            assert_eq!(machine.soc.load(window.0 + (at & !3), 4).unwrap(), value, "{:#x} + {at:#x}", window.0);
        }
    }
    // The same page in two places.
    let first = *place.windows.first().unwrap();
    let last = *place.windows.last().unwrap();
    let view = (last.0 + (last.2 - 1) * MEGABYTE, last.1 + (last.2 - 1) * 16, 1);
    map(&mut machine, place, first, 0);
    map(&mut machine, place, view, 3);
    machine.soc.store(first.0 + 0x3_0010, 4, 0x1234_5678).unwrap();
    assert_eq!(machine.soc.load(view.0 + 0x10, 4).unwrap(), 0x1234_5678);
    if place.windows.iter().any(|window| window.2 > 8) {
        assert!(machine.soc.store(first.0 + 8 * MEGABYTE, 4, 1).is_err(), "nothing is behind its end");
    }
}

fn by_controller(place: Place) {
    let mut machine = machine(place, 8 * MEGABYTE);
    let window = place.windows[0];
    map(&mut machine, place, window, 0);
    machine.soc.store(window.0 + 0x2_0100, 4, 0xa5a5_0001).unwrap();
    // The address of 24 bits stands in the register as it is.
    assert_eq!(transfer(&mut machine, place, 0xeb, 0x2_0100, None, 4), 0xa5a5_0001);
    transfer(&mut machine, place, 0x38, 0x2_0104, Some(0x0bad_cafe), 0);
    assert_eq!(machine.soc.load(window.0 + 0x2_0104, 4).unwrap(), 0x0bad_cafe);
}

/// ESP-IDF's driver for octal parts reads the mode registers by this function of the ROM.
fn octal() {
    for (megabytes, density) in [(4, 1), (8, 3), (16, 5), (32, 7)] {
        let mut machine = machine(S3, megabytes * MEGABYTE);
        let find = |wanted: &str| machine.rom().functions.iter().find(|(_, name)| *name == wanted).map(|(at, _)| *at);
        let function = find("esp_rom_opiflash_exec_cmd").unwrap();
        let (code, stack, answer) = (0x4038_0000, 0x3fca_0000, 0x3fca_4000);
        // L32R a8, function; CALLX8 a8; J .
        machine.poke(code, &function.to_le_bytes());
        machine.poke(code + 4, &[0x81, 0xff, 0xff, 0xe0, 0x08, 0x00, 0x06, 0xff, 0xff]);
        for register in [0, 2] {
            // SPI1, double rate, command and its bits, register and its bits; on the stack: waiting cycles, nothing to send, the
            // answer's place and bits, the second select, no program or erase.
            let arguments = [1, 7, 0x4040, 16, register, 32];
            for (index, value) in [8, 0, 0, answer, 16, 2, 0u32].iter().enumerate() {
                machine.poke(stack + 4 * index as u32, &value.to_le_bytes());
            }
            let core = machine.cores[0].get_mut();
            for (index, value) in [(1, stack)].into_iter().chain((10..).zip(arguments)) {
                core.set_register(AR0 + index, value);
            }
            core.set_register(PS - 4, 0);
            core.set_register(PS - 3, 1);
            core.set_register(PS, WINDOWS | 15);
            core.set_pc(code + 4);
            let end = machine.now() + 50 * MILLISECOND;
            run(&mut machine, end);
            assert_eq!(machine.cores[0].get().pc(), code + 10, "it comes back");
            let bytes = machine.peek(answer, 2);
            if register == 0 {
                assert_eq!(bytes[1] & 0x1f, 0x0d, "the maker: {bytes:x?}");
            } else {
                assert_eq!((bytes[0] & 7, bytes[0] >> 7), (density, 1), "{megabytes} MB: {bytes:x?}");
            }
        }
    }
}
