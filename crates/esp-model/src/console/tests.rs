use super::*;
use std::time::Duration;

const XTENSA: &str = "ets Jun  8 2016 00:22:57\r\n\r\nrst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\r\n\
I (27) boot: ESP-IDF v5.1 2nd stage bootloader\r\n\
\x1b[0;32mI (29) boot: chip revision: v3.0\x1b[0m\r\n\
I (140) boot: Loaded app from partition at offset 0x10000\r\n\
I (204) cpu_start: Project name:     blink\r\n\
I (221) cpu_start: ELF file SHA256:  1b43c5e74f2da138...\r\n\
I (260) main_task: Calling app_main()\r\n\
hello\r\n\
Guru Meditation Error: Core  1 panic'ed (LoadProhibited). Exception was unhandled.\r\n\r\n\
Core  1 register dump:\r\n\
PC      : 0x400d66b9  PS      : 0x00060830  A0      : 0x800d66d4  A1      : 0x3ffb4f60  \r\n\
EXCCAUSE: 0x0000001c  EXCVADDR: 0x00000004  LBEG    : 0x4000c349  LEND    : 0x4000c36b  \r\n\r\n\
Backtrace: 0x400d66b9:0x3ffb4f60 0x400d66d1:0x3ffb4f80 |<-CORRUPTED\r\n\r\n\
ELF file SHA256: 1b43c5e74f2da138\r\n\r\nRebooting...\r\n\
ets Jun  8 2016 00:22:57\r\n\r\nrst:0xc (SW_CPU_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\r\n";

fn decode(text: &str, piece: usize) -> Decoder {
    let mut decoder = Decoder::new(None);
    for (i, bytes) in text.as_bytes().chunks(piece).enumerate() {
        decoder.feed(Duration::from_millis(i as u64), bytes);
    }
    decoder.finish();
    decoder
}

fn panics(decoder: &Decoder) -> Vec<&Panic> {
    decoder
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::Panic(panic) => Some(&**panic),
            _ => None,
        })
        .collect()
}

#[test]
fn a_boot_a_crash_and_the_boot_after_it() {
    for piece in [1, 7, 10_000] {
        let decoder = decode(XTENSA, piece);
        let boots: Vec<&Boot> =
            decoder.events().iter().filter_map(|e| if let Event::Boot(boot) = e { Some(boot) } else { None }).collect();
        assert_eq!(boots.len(), 2, "{:?}", decoder.events());
        assert_eq!((boots[0].chip, boots[0].reset, boots[0].straps), (Some("esp32"), 1, 0x13));
        assert_eq!(boots[0].reset_kind, ResetKind::PowerOn);
        assert_eq!(boots[1].reset_kind, ResetKind::Software);
        let found = panics(&decoder);
        let [panic] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((panic.sort, panic.core, panic.reason.as_str()), ("exception", Some(1), "LoadProhibited"));
        assert_eq!(panic.registers.len(), 8);
        assert_eq!(panic.backtrace, [(0x400d_66b9, 0x3ffb_4f60), (0x400d_66d1, 0x3ffb_4f80)]);
        assert!(panic.backtrace_corrupted);
        assert_eq!(panic.elf_sha256.as_deref(), Some("1b43c5e74f2da138"));
        assert!(decoder.summary().app_started && !decoder.summary().boot_loop);
        let revision = decoder
            .events()
            .iter()
            .any(|e| matches!(e, Event::Start { what: "chip_revision", value, .. } if value == "v3.0"));
        assert!(revision);
    }
}

#[test]
fn the_lone_line_before_the_handler_names_the_crash() {
    let text = "abort() was called at PC 0x42009351 on core 0\r\nCore  0 register dump:\r\n\
                MEPC    : 0x40380698  RA      : 0x4038368e  SP      : 0x3fc8ea70  GP      : 0x3fc8a600  \r\n\
                S0/FP   : 0x00000004  MCAUSE  : 0x00000007\r\n\r\nStack memory:\r\n\
                3fc8ea70: 0xa5a5a5a5 0xa5a5a5a5 0x3fc8ead0 0x403887b8\r\n\
                3fc8ea80: 0xa5a5a5a5 0xa5a5a5a5\r\n\r\nELF file SHA256: 7d946a8e8\r\nRebooting...\r\n";
    let decoder = decode(text, 11);
    let found = panics(&decoder);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].sort, found[0].core), ("abort", Some(0)));
    assert_eq!(found[0].registers.len(), 6);
    assert_eq!(found[0].stack.len(), 2);
    assert_eq!(found[0].stack[1], (0x3fc8_ea80, vec![0xa5a5_a5a5, 0xa5a5_a5a5]));
}

#[test]
fn chains_of_older_releases_are_whole() {
    let text = "Guru Meditation Error: Core  0 panic'ed (IllegalInstruction). Exception was unhandled.\n\
                Backtrace:0x40081d75:0x3ffb1f60 0x400d1f43:0x3ffb1f80\nRebooting...\n";
    assert_eq!(panics(&decode(text, 3))[0].backtrace, [(0x4008_1d75, 0x3ffb_1f60), (0x400d_1f43, 0x3ffb_1f80)]);
}

#[test]
fn watchdogs_of_riscv_print_registers_and_stack() {
    let text = "E (5274) task_wdt: Task watchdog got triggered. The following tasks/users did not reset the watchdog in time:\r\n\
                E (5274) task_wdt:  - IDLE (CPU 0)\r\nE (5274) task_wdt: Tasks currently running:\r\n\
                E (5274) task_wdt: CPU 0: main\r\nE (5274) task_wdt: Print CPU 0 (current core) registers\r\n\
                Core  0 register dump:\r\nMEPC    : 0x42006d54  RA      : 0x42006d5e  SP      : 0x40810f50  GP      : 0x4080d000\r\n\
                \r\nStack memory:\r\n40810f50: 0x00000000 0x42006d5e\r\nI (5300) main: on\r\n";
    let decoder = decode(text, 19);
    let [Event::TaskWatchdog(report)] = decoder.events() else { panic!("{:?}", decoder.events()) };
    assert_eq!((report.state.registers.len(), report.state.stack.len()), (4, 1));
}

#[test]
fn an_esp8266_prints_other_registers_and_its_stack_bare() {
    let text = "\r\nException (28):\r\nepc1=0x4020105c epc2=0x00000000 epc3=0x00000000 excvaddr=0x00000000 depc=0x00000000\r\n\
                \r\n>>>stack>>>\r\n\r\nctx: cont\r\nsp: 3ffffdf0 end: 3fffffc0 offset: 0190\r\n\
                3ffffe80:  3fffdad0 00000000 3ffee3f0 40201f3d  \r\n3ffffe90:  feefeffe feefeffe 3ffee44c 402010ec  \r\n\
                <<<stack<<<\r\n\r\n ets Jan  8 2013,rst cause:2, boot mode:(3,6)\r\n";
    let decoder = decode(text, 7);
    let found = panics(&decoder);
    assert_eq!((found.len(), found[0].sort), (1, "fatal_exception"));
    assert_eq!(found[0].registers[0], ("epc1".into(), 0x4020_105c));
    assert_eq!(found[0].registers.len(), 5);
    assert_eq!(found[0].stack[1], (0x3fff_fe90, vec![0xfeef_effe, 0xfeef_effe, 0x3ffe_e44c, 0x4020_10ec]));
    assert_eq!(found[0].details, ["ctx: cont"]);
    assert_eq!(found[0].fault, "load");
}

#[test]
fn rust_and_protection_faults_say_where() {
    let text = "====================== PANIC ======================\r\npanicked at src/main.rs:20:5:\r\nno more cheese\r\n\r\n\
                Backtrace:\r\n\r\n0x4200ab12\r\n0x42001234\r\n";
    let decoder = decode(text, 9);
    let found = panics(&decoder);
    assert_eq!((found[0].sort, found[0].details.as_slice()), ("rust_panic", ["no more cheese".to_owned()].as_slice()));
    assert_eq!(found[0].backtrace, [(0x4200_ab12, 0), (0x4200_1234, 0)]);

    let text = "Guru Meditation Error: Core  0 panic'ed (Stack protection fault). \r\n\r\nDetected in task \"main\" at 0x42006f2e\r\n\
                Stack pointer: 0x3fc91ff0\r\nStack bounds: 0x3fc92000 - 0x3fc92e00\r\n\r\nCore  0 register dump:\r\n\
                MEPC    : 0x42006f2e  RA      : 0x42006f30  SP      : 0x3fc91ff0  GP      : 0x3fc8b600\r\n";
    let decoder = decode(text, 8);
    let found = panics(&decoder);
    assert_eq!((found[0].details.len(), found[0].registers.len()), (3, 4), "{found:?}");
}

/// Numbers as ESP-IDF's `soc/reset_reasons.h` of the chips has them, whatever their ROMs call them.
#[test]
fn resets_of_all_chips_are_sorted() {
    for chip in crate::chip::all().iter().filter(|chip| chip.chip_id.is_some()) {
        for (number, name) in &chip.boot.reset_names {
            let usb: &[&str] =
                if name.contains("USB") || name.contains("JTAG") { &["22", "23", "21", "24"] } else { &[] };
            let kind = match number.as_str() {
                "1" => ResetKind::PowerOn,
                "3" | "12" => ResetKind::Software,
                "5" => ResetKind::DeepSleep,
                "7" | "8" | "9" | "11" | "13" | "16" | "17" | "18" => ResetKind::Watchdog,
                "15" => ResetKind::BrownOut,
                number if usb.contains(&number) => ResetKind::Usb,
                "23" | "25" => ResetKind::BrownOut,
                _ => continue,
            };
            assert_eq!(ResetKind::of_name(name), kind, "{} {number} {name}", chip.id);
        }
    }
    assert_eq!(ResetKind::of_name("software restart"), ResetKind::Software);
    assert_eq!(ResetKind::of_name("normal"), ResetKind::PowerOn);
}

#[test]
fn all_sorts_of_trouble_are_told_apart() {
    for (text, sort) in [
        ("Guru Meditation Error: Core  0 panic'ed (Interrupt wdt timeout on CPU0). \n", "interrupt_watchdog"),
        (
            "Guru Meditation Error: Core  0 panic'ed (Cache disabled but cached memory region accessed). \n",
            "cache_error",
        ),
        ("Guru Meditation Error: Core  0 panic'ed (Stack protection fault). \n", "stack_overflow"),
        (
            "Guru Meditation Error: Core  1 panic'ed (Unhandled debug exception). \nDebug exception reason: Stack canary watchpoint triggered (main) \n",
            "stack_overflow",
        ),
        (
            "ESP_ERROR_CHECK failed: esp_err_t 0x110d at 0x400d2a5c\nfile: \"main.c\" line 57\nfunc: app_main\nexpression: f()\n\nabort() was called at PC 0x4008 on core 0\n",
            "error_check",
        ),
        ("assertion \"a == 1\" failed: file \"../main/x.c\", line 12, function: f\n", "assert"),
        ("assert failed: xQueueReceive queue.c:1480 (pxQueue)\n", "assert"),
        ("Stack smashing protect failure!\n\nabort() was called at PC 0x400d2138 on core 0\n", "stack_smash"),
        ("***ERROR*** A stack overflow in task main has been detected.\n", "stack_overflow"),
        (
            "CORRUPT HEAP: Bad head at 0x3ffe270a. Expected 0xabba1234 got 0xac6b1234\nassert failed: x y.c:1 (z)\n",
            "heap_corruption",
        ),
        ("Fatal exception 29(StoreProhibitedCause):\nepc1=0x40229fa2, epc2=0x00000000, epc3=0x0\n", "fatal_exception"),
        ("thread 'main' panicked at src/main.rs:9:5:\n", "rust_panic"),
    ] {
        let decoder = decode(text, 5);
        let found = panics(&decoder);
        assert_eq!(found.iter().map(|panic| panic.sort).collect::<Vec<_>>(), [sort], "{text}");
    }
}

#[test]
fn watchdog_brown_out_loop_and_download_mode() {
    let watchdog = "E (10299) task_wdt: Task watchdog got triggered. The following tasks/users did not reset the watchdog in time:\r\n\
                    E (10299) task_wdt:  - IDLE (CPU 0)\r\nE (10299) task_wdt: Tasks currently running:\r\n\
                    E (10299) task_wdt: CPU 0: main\r\nE (10299) task_wdt: Print CPU 0 (current core) backtrace\r\n\
                    Backtrace: 0x400d1234:0x3ffb0000\r\nI (1) app: on\r\n";
    let decoder = decode(watchdog, 9);
    let [Event::TaskWatchdog(report)] = decoder.events() else { panic!("{:?}", decoder.events()) };
    assert_eq!((report.late.as_slice(), report.running.len()), (["IDLE (CPU 0)".to_owned()].as_slice(), 1));
    assert_eq!(report.state.backtrace, [(0x400d_1234, 0x3ffb_0000)]);
    assert!(report.as_panic().reason.contains("IDLE (CPU 0)"));

    let brown = "ESP-ROM:esp32c3-api1-20210207\nrst:0xf (BROWNOUT_RST),boot:0xc (SPI_FAST_FLASH_BOOT)\nBrownout detector was triggered\n";
    let summary = decode(&brown.repeat(3), 13).summary();
    assert_eq!((summary.boots, summary.brown_outs, summary.boot_loop), (3, 6, true));

    let wait =
        "ESP-ROM:esp32c3-api1-20210207\nrst:0x1 (POWERON),boot:0x4 (DOWNLOAD(USB/UART0/1))\nwaiting for download\n";
    let decoder = decode(wait, 3);
    assert!(decoder.summary().download_mode);
    let Some(Event::Boot(boot)) = decoder.events().first() else { panic!() };
    assert_eq!((boot.mode.as_deref(), boot.download), (Some("DOWNLOAD(USB/UART0/1)"), true));

    let other_name = decode("ESP-ROM:esp8684-api2-20220127\nrst:0x1 (POWERON),boot:0xc (SPI_FAST_FLASH_BOOT)\n", 50);
    assert_eq!(other_name.chip().map(|chip| chip.id), Some("esp32c2"));

    let old = decode(" ets Jan  8 2013,rst cause:2, boot mode:(3,6)\n", 4);
    let Some(Event::Boot(boot)) = old.events().first() else { panic!() };
    assert_eq!((boot.reset, boot.straps), (2, 3));
}

#[test]
fn any_bytes_do_no_harm() {
    let mut size = 0;
    crate::testing::mutate(&[XTENSA.as_bytes().to_vec()], 10_000, |bytes| {
        let mut decoder = Decoder::new(None);
        for piece in bytes.chunks(61) {
            decoder.feed(Duration::ZERO, piece);
        }
        decoder.finish();
        size += decoder.events().len();
    });
    assert!(size > 10_000, "{size}");
}

#[test]
fn noise_and_escape_sequences_are_cleaned() {
    let mut lines = Lines::default();
    let got = lines.feed(Duration::ZERO, b"\x00\xff\x1b[0;31mE (1) a: b\x1b[0m\r\r\n\x07x\n");
    let texts: Vec<&str> = got.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["\u{fffd}E (1) a: b", "x"]);
    assert_eq!(lines.feed(Duration::ZERO, &vec![b'a'; 10_000]).len(), 2);
}
