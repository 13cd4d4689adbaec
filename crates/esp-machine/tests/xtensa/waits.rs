//! Loops that wait for a time cost little, end when they should, and end at the same cycle however a run is cut into pieces;
//! loops that do something are executed.

use esp_machine::device::CoreRequest;
use esp_machine::{Config, Machine};
use libtest_mimic::Trial;

use super::{MILLISECOND, SECOND, run, trial};

/// A chip, and where its code and its data may lie.
#[derive(Clone, Copy)]
struct Place {
    id: &'static str,
    code: u32,
    stack: u32,
}

const PLACES: [Place; 3] = [
    Place { id: "esp32", code: 0x4008_0000, stack: 0x3ffb_8000 },
    Place { id: "esp32s2", code: 0x4002_c000, stack: 0x3ffd_0000 },
    Place { id: "esp32s3", code: 0x4038_0000, stack: 0x3fca_0000 },
];

/// Registers as GDB numbers them.
const AR0: usize = 1;
const WINDOW_BASE: usize = 69;
const PS: usize = 73;
/// PS: windows are checked; no interrupt is taken.
const WINDOWS: u32 = 1 << 18;
const MASKED: u32 = 15;
/// J .
const STAY: u32 = 0xff_ff06;
const RSR_CCOUNT_A2: u32 = 0x03_ea20;

pub fn trials() -> Vec<Trial> {
    let each = |name: &str, test: fn(Place), two_cores: bool| {
        let places = PLACES.iter().filter(|place| !two_cores || place.id != "esp32s2");
        places.map(|place| trial(&format!("{name}_on_{}", place.id), &[], move || test(*place))).collect::<Vec<_>>()
    };
    let mut trials = each("a_delay_of_the_rom_costs_little_and_ends_in_time", delays, false);
    trials.extend(each("a_loop_that_counts_its_rounds_is_executed", counts, false));
    trials.extend(each("a_core_waits_at_little_cost_while_the_other_ticks", waits_beside_ticks, true));
    trials
}

/// A chip whose ROM waits for a download; its first core begins at this code, which stays where it ends.
fn machine(place: Place, code: &[u32], literals: [u32; 2]) -> Machine {
    let mut config = Config::new(place.id, 1 << 20).unwrap();
    // In download mode no watchdog guards the start.
    config.download = true;
    let mut machine = Machine::new(config).unwrap();
    run(&mut machine, 20 * MILLISECOND);
    let literals: Vec<u8> = literals.into_iter().flat_map(u32::to_le_bytes).collect();
    assert!(machine.poke(place.code, &literals));
    poke_code(&mut machine, place.code + 8, code);
    let core = machine.cores[0].get_mut();
    core.set_register(WINDOW_BASE, 0);
    core.set_register(WINDOW_BASE + 1, 1);
    core.set_register(AR0 + 1, place.stack);
    core.set_register(PS, WINDOWS | MASKED);
    core.set_pc(place.code + 8);
    machine
}

fn poke_code(machine: &mut Machine, address: u32, code: &[u32]) {
    for (index, word) in code.iter().enumerate() {
        assert!(machine.poke(address + 3 * index as u32, &word.to_le_bytes()[..3]));
    }
}

/// A register of the first core's window.
fn a(machine: &Machine, number: usize) -> u32 {
    let core = machine.cores[0].get();
    let base = core.register(WINDOW_BASE).unwrap() as usize * 4;
    core.register(AR0 + (base + number) % 64).unwrap()
}

/// Lets the ROM wait for so many microseconds.
fn delay(place: Place, microseconds: u32) -> (Machine, u32) {
    let fresh = Machine::new(Config::new(place.id, 1 << 20).unwrap()).unwrap();
    let find = |wanted: &str| fresh.rom().functions.iter().find(|(_, name)| *name == wanted).map(|(at, _)| *at);
    let function = find("ets_delay_us").unwrap();
    // ENTRY a1, 32; L32R a8, function; L32R a10, microseconds; CALLX8 a8; RSR.CCOUNT a2; J .
    let code = [0x00_4136, 0xff_fd81, 0xff_fda1, 0x00_08e0, RSR_CCOUNT_A2, STAY];
    (machine(place, &code, [function, microseconds]), place.code + 8 + 3 * 5)
}

/// The cycle count behind the wait less that before it, and the instructions that it took, in pieces of this length.
fn ended(place: Place, microseconds: u32, piece: u64) -> (u32, u64) {
    let (mut machine, end) = delay(place, microseconds);
    let before = machine.instructions();
    let mut executed = 0;
    while machine.cores[0].get().pc() != end {
        executed = machine.instructions() - before;
        let until = machine.now() + piece;
        assert!(until < 10 * SECOND, "{}: {:#x}", place.id, machine.cores[0].get().pc());
        run(&mut machine, until);
    }
    (a(&machine, 2), executed)
}

/// How many cycles the ROM takes for a microsecond. Waits as short as these are executed.
fn rate(place: Place) -> u32 {
    let count = |microseconds| ended(place, microseconds, MILLISECOND / 100).0;
    (count(1000).wrapping_sub(count(0)) + 500) / 1000
}

fn delays(place: Place) {
    let (start, _) = ended(place, 0, MILLISECOND / 100);
    let (long, executed) = ended(place, 1_000_000, MILLISECOND / 10);
    let (waited, wanted) = (long.wrapping_sub(start), rate(place) * 1_000_000);
    assert!(waited.abs_diff(wanted) < wanted / 1000, "{}: {waited} of {wanted} cycles", place.id);
    assert!(executed < 1_000_000, "{}: {executed} instructions", place.id);
    for piece in [MILLISECOND / 7, 300 * MILLISECOND, 1500 * MILLISECOND] {
        assert_eq!(ended(place, 1_000_000, piece).0, long, "{} in pieces of {piece} ps", place.id);
    }
}

fn counts(place: Place) {
    // RSR.CCOUNT a2; ADDI a3, a3, 1; BLTU a2, a4 to the start.
    let code = [RSR_CCOUNT_A2, 0x01_c332, 0xf6_3247];
    let mut machine = machine(place, &code, [0, 0]);
    let core = machine.cores[0].get_mut();
    core.set_register(AR0 + 3, 0);
    core.set_register(AR0 + 4, u32::MAX);
    let (before, cycles) = (machine.instructions(), machine.cycles());
    let until = machine.now() + 100 * MILLISECOND;
    run(&mut machine, until);
    assert_eq!(machine.instructions() - before, machine.cycles() - cycles, "nothing is passed over");
    let rounds = u64::from(a(&machine, 3));
    assert!((3 * rounds).abs_diff(machine.cycles() - cycles) < 4, "{rounds} rounds");
}

/// The second core sleeps between interrupts of its own timer, one each millisecond, while the first one waits.
fn waits_beside_ticks(place: Place) {
    let mhz = delay(place, 0).0.soc.shared.cpu_mhz;
    // Half a second, in the ROM's microseconds.
    let (mut machine, end) = delay(place, mhz * 500_000 / rate(place));
    let (code, vectors) = (place.code + 0x200, place.code + 0x400);
    // WAITI 0; J to it.
    poke_code(&mut machine, code, &[0x00_7000, 0xff_fe46]);
    // RSR.CCOMPARE0 a2; ADD a2, a2, a3; WSR.CCOMPARE0 a2; ADDI a5, a5, 1; RFE.
    poke_code(&mut machine, vectors + 0x340, &[0x03_f020, 0x80_2230, 0x13_f020, 0x01_c552, 0x00_3000]);
    // WSR.VECBASE a6; WSR.CCOMPARE0 a3; WSR.INTENABLE a7; WSR.PS a8; RSYNC; J to the loop.
    let jump = 0x06 | (0x200u32.wrapping_sub(0x300 + 15 + 4) & 0x3_ffff) << 6;
    poke_code(&mut machine, place.code + 0x300, &[0x13_e760, 0x13_f030, 0x13_e470, 0x13_e680, 0x00_2010, jump]);
    machine.soc.shared.second_core = Some(CoreRequest::Start(place.code + 0x300));
    let until = machine.now() + MILLISECOND / 1000;
    run(&mut machine, until);
    assert!(machine.is_running(1));
    let period = machine.soc.shared.cpu_mhz * 1000;
    let core = machine.cores[1].get_mut();
    for (register, value) in [(3, period), (5, 0), (6, vectors), (7, 1 << 6), (8, 0x20)] {
        core.set_register(AR0 + register, value);
    }
    core.set_pc(place.code + 0x300);
    let (began, before) = (machine.now(), machine.instructions());
    while machine.cores[0].get().pc() != end {
        let until = machine.now() + MILLISECOND / 10;
        run(&mut machine, until);
        assert!(until < 10 * SECOND);
    }
    let waited = (machine.now() - began) / MILLISECOND;
    assert!((499..=502).contains(&waited), "{waited} ms");
    let executed = machine.instructions() - before;
    assert!(executed < 1_000_000, "{executed} instructions");
    let ticks = machine.cores[1].get().register(AR0 + 5).unwrap();
    assert!(u64::from(ticks).abs_diff(waited) <= 1, "{ticks} ticks in {waited} ms");
}
