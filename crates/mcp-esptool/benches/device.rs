//! Flash transfers beside esptool and espflash: whole processes against our simulator on a pseudo terminal, with
//! line pacing and flash timing on. Prints figures and ratios; judges nothing.
//!
//! `just bench`, or `cargo bench -p mcp-esptool --bench device [TOPIC …]` with any of `protocol`, `paced`, `unpaced`, `change`,
//! `connect`, `warm`, `memory`, `batch`. What the figures mean: docs/performance.md.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "../../../tests/support/reference.rs"]
mod reference;

#[path = "../tests/support/client.rs"]
mod client;

#[path = "device/cost.rs"]
mod cost;
#[path = "device/peers.rs"]
mod peers;
#[path = "device/sim.rs"]
mod sim;

use std::fs;
use std::path::Path;
use std::time::Instant;

use client::Client;
use cost::{Cost, cost, median, peak_memory};
use esp_link::flash::{Part, WriteOptions};
use esp_link::{ConnectOptions, Loader};
use esp_model::job::Job;
use peers::{espflash, esptool, ours};
use reference::{Skip, Stop};
use serde_json::{Value, json};
use sim::Sim;

/// Rate of the line in the paced measurements.
const BAUD: u32 = 921_600;
const MIB: usize = 1 << 20;

/// One measurement; it prints what it finds.
type Topic = fn(&Path) -> Result<(), Stop>;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let dir = reference::scratch("bench");
    let topics: [(&str, Topic); 8] = [
        ("protocol", protocol),
        ("paced", |dir| transfers(dir, true, [1, 2])),
        ("unpaced", |dir| transfers(dir, false, [1, 4])),
        ("change", one_sector),
        ("connect", connect),
        ("warm", warm_call),
        ("memory", memory),
        ("batch", batch),
    ];
    for (name, run) in topics {
        if !asked.is_empty() && !asked.iter().any(|word| word == name) {
            continue;
        }
        println!("\n{name}");
        match run(&dir) {
            Ok(()) => {}
            Err(Stop::Skipped(Skip(reason))) => println!("  skipped: {reason}"),
            Err(Stop::Failed(text)) => println!("  failed: {text}"),
        }
    }
    let _ = fs::remove_dir_all(&dir);
}

/// Our client alone, in virtual time: what the protocol costs beside the line, with no scheduler in between.
fn protocol(_: &Path) -> Result<(), Stop> {
    let chip = esp_model::chip::by_name("esp32").ok_or(Skip("no such chip".into()))?;
    let config = esp_sim::Config::new(chip, "bench");
    let device = esp_sim::SimDevice::new(&config, "sim://bench");
    let (job, options) = (Job::new(), ConnectOptions { baud: BAUD, ..ConnectOptions::default() });
    let mut loader = Loader::connect(Box::new(device.open()), &options, &job)?.0;
    println!("  connect and stub {:.3} s", loader.port().now().as_secs_f64());
    let bytes = firmware(4 * MIB - 0x1_0000, 31);
    let began = loader.port().now();
    let report = loader.write_flash(&job, &mut [Part::bytes(0x1_0000, bytes.clone())], &WriteOptions::default())?;
    let (took, bound) = ((loader.port().now() - began).as_secs_f64(), line_time(report.sent_bytes as usize));
    println!("  write {took:.3} s, line {bound:.3} s ({:.1} %)", 100.0 * bound / took);
    let began = loader.port().now();
    loader.read_flash_bytes(&job, 0x1_0000, bytes.len() as u32)?;
    let (took, bound) = ((loader.port().now() - began).as_secs_f64(), line_time(bytes.len()));
    println!("  read {took:.3} s, line {bound:.3} s ({:.1} %)", 100.0 * bound / took);
    Ok(())
}

/// Writes and reads of `sizes` MiB by the three programs: each whole process, and what a further MiB costs, with the
/// share of what the line allows. Each finds a chip in its ROM.
fn transfers(dir: &Path, paced: bool, sizes: [usize; 2]) -> Result<(), Stop> {
    let files = firmware_files(dir, sizes)?;
    let packed = [packed_length(&fs::read(&files[0])?), packed_length(&fs::read(&files[1])?)];
    println!("  {sizes:?} MiB that compress to {packed:?} bytes");
    let bound = |bytes: [usize; 2]| paced.then_some(bytes.map(line_time));
    let write = |who: &str, run: &dyn Fn(&Sim, &str) -> Result<Cost, Stop>| {
        let costs = [0, 1].map(|size| run(&Sim::start(dir, "16MB", paced)?, &files[size]));
        rows("write", who, sizes, costs, bound(packed));
    };
    write("ours", &|sim, file| Ok(ours(sim, "esp_flash_firmware", &[one_file(file)])?.0));
    write("esptool", &|sim, file| cost(&mut esptool(sim, &["write-flash", "0x10000", file])?));
    write("espflash", &|sim, file| cost(&mut espflash(sim, &["write-bin", "0x10000", file])?));

    let out = dir.join("out.bin").display().to_string();
    let content = firmware(16 * MIB, 77);
    let read = |who: &str, run: &dyn Fn(&Sim, &str) -> Result<Cost, Stop>| {
        let costs = sizes.map(|size| {
            let _ = fs::remove_file(&out);
            run(&Sim::filled(dir, &content, paced)?, &format!("{:#x}", size * MIB))
        });
        rows("read", who, sizes, costs, bound(sizes.map(|size| size * MIB)));
    };
    read("ours", &|sim, length| {
        let arguments = ["address=0x10000".into(), format!("size={length}"), format!("output_file={out}")];
        Ok(ours(sim, "esp_flash_read", &arguments)?.0)
    });
    read("esptool", &|sim, length| cost(&mut esptool(sim, &["read-flash", "0x10000", length, &out])?));
    read("espflash", &|sim, length| cost(&mut espflash(sim, &["read-flash", "0x10000", length, &out])?));
    Ok(())
}

/// The second write of a 4 MiB image of which one sector changed.
fn one_sector(dir: &Path) -> Result<(), Stop> {
    let sim = Sim::start(dir, "8MB", true)?;
    let image = dir.join("image.bin");
    let mut bytes = firmware(4 * MIB, 11);
    fs::write(&image, &bytes)?;
    let files = one_file(&image.display().to_string());
    let (full, first) = ours(&sim, "esp_flash_firmware", std::slice::from_ref(&files))?;
    bytes[2 * MIB + 5] ^= 1;
    fs::write(&image, &bytes)?;
    let (again, second) = ours(&sim, "esp_flash_firmware", &[files])?;
    let sent = |result: &Value| result["sent_bytes"].as_f64().unwrap_or_default();
    println!("  full write {:.2} s, {} bytes sent", full.wall, sent(&first));
    println!(
        "  one sector {:.2} s ({:.1} % of the time), {} bytes sent ({:.2} %)",
        again.wall,
        100.0 * again.wall / full.wall,
        sent(&second),
        100.0 * sent(&second) / sent(&first)
    );
    Ok(())
}

/// From the start of the process to a chip that is known, through ROM and stub.
fn connect(dir: &Path) -> Result<(), Stop> {
    // Each run finds the ROM: a chip of its own, restarted between the runs.
    let fresh = |dir: &Path| Sim::start(dir, "4MB", true);
    let mine = median(|| Ok(ours(&fresh(dir)?, "esp_connect_advanced", &[format!("baud={BAUD}")])?.0));
    row("connect + stub", "ours", mine, None);
    row("connect + stub", "esptool", median(|| cost(&mut esptool(&fresh(dir)?, &["flash-id"])?)), None);
    row("connect + stub", "espflash", median(|| cost(&mut espflash(&fresh(dir)?, &["board-info"])?)), None);
    Ok(())
}

/// A call on a warm session, beyond the device's own time: a device that answers at once.
fn warm_call(dir: &Path) -> Result<(), Stop> {
    let sim = Sim::start(dir, "4MB", false)?;
    let mut client = Client::initialized(dir, &[]);
    for (tool, arguments) in [
        ("esp_job", json!({"action": "list"})),
        ("esp_mac_address_read", json!({"port": sim.url()})),
        ("esp_detect_chip", json!({"port": sim.url()})),
        ("esp_memory_dump", json!({"port": sim.url(), "address": "0x3ff5a000", "size": 64})),
    ] {
        let mut call = || {
            let began = Instant::now();
            let answer = client.call(tool, arguments.clone());
            (began.elapsed().as_secs_f64() * 1e3, answer)
        };
        call();
        let mut times: Vec<f64> = (0..21).map(|_| call().0).collect();
        times.sort_by(f64::total_cmp);
        println!("  {tool:<24} {:6.2} ms (median of 21, {:.2} to {:.2})", times[10], times[0], times[20]);
    }
    Ok(())
}

/// Peak memory of whole calls against the size of what they move.
fn memory(dir: &Path) -> Result<(), Stop> {
    for megabytes in [1, 4, 15] {
        let sim = Sim::start(dir, "16MB", false)?;
        let (file, out, backup) = (dir.join("memory.bin"), dir.join("memory.out"), dir.join("memory.backup"));
        fs::write(&file, firmware(megabytes * MIB, 5))?;
        let (_, _) = (fs::remove_file(&out), fs::remove_dir_all(&backup));
        let files = one_file(&file.display().to_string());
        let size = megabytes * MIB;
        let region = format!("region=0x10000+{size:#x}");
        let read = vec!["address=0x10000".into(), format!("size={size}"), format!("output_file={}", out.display())];
        let calls: [(&str, &str, Vec<String>); 6] = [
            ("write", "esp_flash_firmware", vec![files.clone()]),
            ("verify", "esp_flash_verify", vec![files]),
            ("read", "esp_flash_read", read),
            ("backup", "esp_flash_backup", vec![format!("output_dir={}", backup.display())]),
            ("erase", "esp_flash_erase", vec![region, "no_backup=true".into()]),
            ("restore", "esp_flash_restore", vec![format!("backup_dir={}", backup.display()), "no_backup=true".into()]),
        ];
        let mut found = Vec::new();
        for (name, tool, arguments) in calls {
            let most = peak_memory(&mut peers::command(&sim, tool, &arguments))?;
            found.push(format!("{name} {most:.1}"));
        }
        println!("  {megabytes:>2} MiB: {} MB resident at most", found.join(", "));
    }
    Ok(())
}

/// Many devices side by side in one process against one, with pacing on.
fn batch(dir: &Path) -> Result<(), Stop> {
    let chip = esp_model::chip::by_name("esp32").ok_or(Skip("no such chip".into()))?;
    let mut files = Vec::new();
    for part in esp_ops::firmware::sample::make(chip).map_err(Stop::Failed)? {
        let path = dir.join(part.name);
        fs::write(&path, &part.bytes)?;
        files.push(json!({ "path": path, "address": part.address }));
    }
    let files = format!("files={}", json!(files));
    let mut base = None;
    for count in [1, 50] {
        let sims = (0..count).map(|index| Sim::named(dir, &format!("slot{index}"), "4MB", true));
        let sims: Vec<Sim> = sims.collect::<Result<_, _>>()?;
        let ports: Vec<String> = sims.iter().map(Sim::url).collect();
        let arguments = [format!("ports={}", json!(ports)), files.clone()];
        let spent = cost(&mut peers::plain("esp_batch_program", &arguments))?;
        let base = *base.get_or_insert(spent.wall);
        println!(
            "  {count:>2} devices {:.2} s ({:.2} times one), {:.2} s cpu",
            spent.wall,
            spent.wall / base,
            spent.cpu
        );
    }
    Ok(())
}

fn row(what: &str, who: &str, cost: Result<Cost, Stop>, bound: Option<f64>) {
    match cost {
        Ok(cost) => {
            let share =
                bound.map_or(String::new(), |bound| format!("  {:5.1} % of the line", 100.0 * bound / cost.wall));
            println!("  {what:<15} {who:<9} {:8.3} s  {:7.3} s cpu{share}", cost.wall, cost.cpu);
        }
        Err(Stop::Skipped(Skip(reason))) => println!("  {what:<15} {who:<9} skipped: {reason}"),
        Err(Stop::Failed(text)) => println!("  {what:<15} {who:<9} failed: {text}"),
    }
}

/// A row for each size and one for what a further MiB costs.
fn rows(what: &str, who: &str, sizes: [usize; 2], costs: [Result<Cost, Stop>; 2], bound: Option<[f64; 2]>) {
    let further = match &costs {
        [Ok(small), Ok(large)] => Some(large.less(*small).over((sizes[1] - sizes[0]) as f64)),
        _ => None,
    };
    for (index, cost) in costs.into_iter().enumerate() {
        row(&format!("{what} {} MiB", sizes[index]), who, cost, bound.map(|bound| bound[index]));
    }
    if let Some(further) = further {
        let bound = bound.map(|[small, large]| (large - small) / (sizes[1] - sizes[0]) as f64);
        row(&format!("{what}, further MiB"), who, Ok(further), bound);
    }
}

fn one_file(path: &str) -> String {
    format!(r#"files=[{{"path":"{path}","address":"0x10000"}}]"#)
}

/// Seconds that so many bytes take on the line: ten bits each.
fn line_time(bytes: usize) -> f64 {
    bytes as f64 * 10.0 / f64::from(BAUD)
}

fn packed_length(bytes: &[u8]) -> usize {
    use std::io::Write;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap().len()
}

/// A file of each size, with different content.
fn firmware_files(dir: &Path, sizes: [usize; 2]) -> Result<[String; 2], Stop> {
    let files = sizes.map(|size| dir.join(format!("firmware-{size}.bin")).display().to_string());
    for (size, file) in sizes.iter().zip(&files) {
        fs::write(file, firmware(size * MIB, *size as u64 + 2))?;
    }
    Ok(files)
}

/// Bytes that compress about as well as code does, to six or seven tenths.
fn firmware(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let byte = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let value = (state >> 33) as u8;
        if state >> 60 < 7 { 0 } else { value }
    };
    (0..length).map(byte).collect()
}
