//! Whole processes beside the reference tools, in turn: ELF to image, a merged file of 16 MB, analysis of an image, NVS with
//! 5,000 entries, partition tables, core dumps, and addresses to source lines.
//!
//! `cargo bench -p mcp-esptool --bench firmware` (needs the corpus, see `tests/support/reference.rs`). Prints processor time
//! and elapsed time (the median); fails when we are slower than a reference.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

#[path = "../../../tests/support/reference.rs"]
mod reference;

use esp_debug::symbols::Program;
use reference::{Skip, Stop};

const RUNS: u32 = 20;

fn main() -> ExitCode {
    match compare() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Stop::Skipped(Skip(reason))) => {
            println!("skipped: {reason}");
            ExitCode::SUCCESS
        }
        Err(Stop::Failed(text)) => {
            println!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Result<bool, Stop> {
    let folder = reference::scratch("bench");
    let elf = copy(&reference::corpus()?.join("build/blink-s3/blink.elf"), &folder, "app.elf")?;
    let image = copy(&reference::corpus()?.join("build/blink-s3/blink.bin"), &folder, "app.bin")?;
    let esptool = reference::tool("esptool")?;
    let espflash = reference::fast_espflash()?;

    // Another build of the program can be measured.
    let program = std::env::var_os("MCP_ESPTOOL_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_mcp-esptool").into());
    let out = |name: &str| folder.join(name).display().to_string();
    let ours = |args: &[String]| {
        let mut command = Command::new(&program);
        command.env("MCP_ESP_PROJECT_DIR", &folder).arg("call").args(args);
        command
    };
    let theirs = |args: &[&str]| {
        let mut command = Command::new(&esptool);
        command.args(args);
        command
    };
    let text = |path: &Path| path.display().to_string();
    let mut fast = true;

    let build = ours(&[
        "esp_elf_to_binary".into(),
        format!("elf_file={}", text(&elf)),
        "chip_type=esp32s3".into(),
        format!("output_file={}", out("ours.bin")),
    ]);
    let reference = theirs(&["--chip", "esp32s3", "elf2image", "-o", &out("theirs.bin"), &text(&elf)]);
    let mut flasher = Command::new(&espflash);
    flasher.args(["save-image", "--chip", "esp32s3", &text(&elf), &out("espflash.bin")]);
    fast &= row("ELF to image", build, reference, Some(flasher))?;

    let merge = ours(&[
        "esp_binary_merge".into(),
        format!("files=[{{\"path\":\"{}\",\"address\":\"0x10000\"}}]", text(&image)),
        "chip_type=esp32s3".into(),
        "pad_to_size=16MB".into(),
        format!("output_file={}", out("merged.bin")),
    ]);
    let args = ["--chip", "esp32s3", "merge-bin", "--pad-to-size", "16MB", "-o"];
    let mut reference = theirs(&args);
    reference.args([&out("merged2.bin"), "0x10000", &text(&image)]);
    fast &= row("merge, 16 MB", merge, reference, None)?;

    let analyse = ours(&["esp_firmware_analyze".into(), format!("binary_file={}", text(&image))]);
    fast &= row("analyse an image", analyse, theirs(&["image-info", &text(&image)]), None)?;

    let rows = (0..5000).map(|index| format!("key{index},data,u32,{}\n", index * 7));
    let csv = String::from("key,type,encoding,value\nstore,namespace,,\n") + &rows.collect::<String>();
    std::fs::write(folder.join("nvs.csv"), csv)?;
    let nvs = ours(&[
        "esp_nvs_partition_create".into(),
        format!("data={}", out("nvs.csv")),
        "size=0x40000".into(),
        format!("output_file={}", out("nvs.bin")),
    ]);
    let mut generator = Command::new(reference::tool("python")?);
    generator.args(["-m", "esp_idf_nvs_partition_gen", "generate"]);
    generator.args([out("nvs.csv"), out("nvs2.bin"), "0x40000".into()]);
    fast &= row("NVS, 5,000 entries", nvs, generator, None)?;

    let table = "nvs,data,nvs,0x9000,24K\nphy_init,data,phy,,4K\notadata,data,ota,,8K\nota_0,app,ota_0,,1M\nota_1,app,ota_1,,1M\n";
    std::fs::write(folder.join("table.csv"), table)?;
    let partition = |output: &str| {
        ours(&[
            "esp_partition_create".into(),
            format!("layout={}", out("table.csv")),
            format!("output_file={}", out(output)),
        ])
    };
    let generator =
        std::env::var_os("IDF_PATH").map(|idf| Path::new(&idf).join("components/partition_table/gen_esp32part.py"));
    let mut flasher = Command::new(&espflash);
    flasher.args(["partition-table", "--to-binary", "-o", &out("table2.bin"), &out("table.csv")]);
    match generator.filter(|script| script.is_file()) {
        Some(script) => {
            let mut python = Command::new(reference::tool("python")?);
            python.arg(script).args(["-q", &out("table.csv"), &out("table3.bin")]);
            fast &= row("partition table", partition("table.bin"), python, Some(flasher))?;
        }
        None => fast &= row("partition table (espflash; no IDF_PATH)", partition("table.bin"), flasher, None)?,
    }

    let dump = copy(&reference::corpus()?.join("coredump/esp32.b64"), &folder, "core.b64")?;
    let crashed = copy(&reference::corpus()?.join("coredump/esp32.elf"), &folder, "core.elf")?;
    let decode = ours(&[
        "esp_core_dump_analyze".into(),
        format!("dump_file={}", text(&dump)),
        format!("elf_file={}", text(&crashed)),
    ]);
    // Debian's gdb-multiarch reads Xtensa dumps well enough for the tool to run through.
    let gdb = std::env::var_os("ESP_GDB").unwrap_or_else(|| "gdb-multiarch".into());
    let mut reference = Command::new(reference::tool("esp-coredump")?);
    reference
        .args(["--chip", "esp32", "info_corefile", "--core", &text(&dump), "--core-format", "b64", "--gdb"])
        .arg(&gdb);
    match Command::new(&gdb).arg("--version").output() {
        Ok(_) => {
            reference.arg(&crashed);
            fast &= row_by("core dump", decode, reference, None, 20.0)?
        }
        Err(_) => println!("core dump: not compared ({} is missing; set ESP_GDB)", gdb.display()),
    }
    fast &= symbolise(&folder)?;
    Ok(fast)
}

fn copy(from: &Path, folder: &Path, name: &str) -> Result<PathBuf, Stop> {
    let to = folder.join(name);
    std::fs::copy(from, &to)?;
    Ok(to)
}

/// 1,000 addresses of a program of 10 MB or more, in this process: at most 200 ms.
fn symbolise(folder: &Path) -> Result<bool, Stop> {
    let (source, elf) = (folder.join("large.c"), folder.join("large.elf"));
    let function = |index: usize| {
        format!(
            "struct s{index} {{ int a, b[{index} + 1]; const char *name; }};\n\
             static inline int mix{index}(struct s{index} *s, int x) {{ return s->a * x + s->b[x & 1]; }}\n\
             int function{index}(struct s{index} *s, int x) {{\n  int sum = x;\n  for (int i = 0; i < x; i++)\n    \
             sum += mix{index}(s, i ^ {index});\n  return sum * {index};\n}}\n"
        )
    };
    std::fs::write(&source, (0..12_000).map(function).collect::<String>())?;
    let mut compiler = Command::new("riscv64-unknown-elf-gcc");
    compiler.args([
        "-march=rv32imc",
        "-mabi=ilp32",
        "-O1",
        "-g3",
        "-nostdlib",
        "-Wl,-e0",
        "-Wl,-Ttext=0x42000000",
        "-o",
    ]);
    if compiler.arg(&elf).arg(&source).output().is_err() {
        println!("symbols: not measured (riscv64-unknown-elf-gcc is missing)");
        return Ok(true);
    }
    let bytes = std::fs::read(&elf)?;
    let start = Instant::now();
    let program = Program::parse(&bytes)?;
    let ranges = program.code();
    let total: usize = ranges.iter().map(|(_, size)| *size as usize).sum();
    let (first, _) = ranges.first().copied().unwrap_or_default();
    let named =
        (0..1000).filter(|index| !program.locate((first + (total / 1000 * index) as u32) & !1).is_empty()).count();
    let took = start.elapsed();
    let megabytes = bytes.len() as f64 / 1e6;
    println!(
        "symbols: 1,000 addresses of {megabytes:.1} MB in {:.0} ms, {named} with a line",
        took.as_secs_f64() * 1e3
    );
    Ok(took <= Duration::from_millis(200) && named > 900)
}

/// What some runs of a command took.
struct Took {
    /// Elapsed, the median.
    wall: Duration,
    /// Processor time a run, user and system.
    cpu: Duration,
}

/// One line of the table; false when a reference is faster.
fn row(name: &str, ours: Command, reference: Command, espflash: Option<Command>) -> Result<bool, Stop> {
    row_by(name, ours, reference, espflash, 1.0)
}

/// The same; false when we are not this many times faster.
fn row_by(
    name: &str,
    mut ours: Command,
    mut reference: Command,
    espflash: Option<Command>,
    times: f64,
) -> Result<bool, Stop> {
    let mut runs = vec![(&mut ours, Vec::new(), Duration::ZERO), (&mut reference, Vec::new(), Duration::ZERO)];
    let mut espflash = espflash;
    if let Some(command) = &mut espflash {
        runs.push((command, Vec::new(), Duration::ZERO));
    }
    // The first round warms the caches and does not count.
    for round in 0..=RUNS {
        for (command, walls, cpu) in &mut runs {
            let (before, start) = (children()?, Instant::now());
            reference::run(command)?;
            if round > 0 {
                walls.push(start.elapsed());
                *cpu += children()?.saturating_sub(before);
            }
        }
    }
    let took: Vec<Took> =
        runs.into_iter().map(|(_, walls, cpu)| Took { wall: median(walls), cpu: cpu / RUNS }).collect();
    let [ours, rest @ ..] = took.as_slice() else { return Ok(false) };
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let mut line = format!("{name}: {:.1} ms of processor, {:.1} ms elapsed", ms(ours.cpu), ms(ours.wall));
    for (who, took) in ["reference", "espflash"].iter().zip(rest) {
        let factors = (ms(took.cpu) / ms(ours.cpu), ms(took.wall) / ms(ours.wall));
        let _ = write!(
            line,
            "; {who} {:.1} and {:.1} ms ({:.1} and {:.1} times)",
            ms(took.cpu),
            ms(took.wall),
            factors.0,
            factors.1
        );
    }
    println!("{line}");
    Ok(rest.iter().all(|took| ours.cpu.mul_f64(times) <= took.cpu))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Processor time of all children that ended. Linux counts in hundredths of a second: the sum of many runs is exact enough.
fn children() -> Result<Duration, Stop> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    // Behind the command's name: state is field 0, cutime 13, cstime 14.
    Ok(Duration::from_millis(10 * (ticks(13) + ticks(14))))
}
