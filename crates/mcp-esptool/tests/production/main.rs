//! Production on simulated devices: identities, crashes, hangs, acceptance, batches.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod efuse;
mod encrypted;
mod line;
mod lock;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use esp_factory::junit;
use esp_model::job::Job;
use esp_model::nvs;
use esp_ops::config::{Config, Origin};
use mcp_esptool::ctx::Ctx;
use mcp_esptool::factory::cli::{RecipeCommand, recipe};
use mcp_esptool::tools;
use serde_json::{Map, Value, json};

/// Place and size of the factory data in the example's table.
const FCTRY: (usize, usize) = (0xd000, 0x3000);

struct Bench {
    dir: tempfile::TempDir,
    ctx: Ctx,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { ctx: Self::open(&dir), dir }
    }

    /// A program of its own on the same files.
    fn open(dir: &tempfile::TempDir) -> Ctx {
        let mut config = Config::default();
        for (name, value) in [("project_roots", ""), ("state_dir", "state")] {
            config.set(name, dir.path().join(value).display().to_string(), Origin::Flag).unwrap();
        }
        config.set("station", "test".into(), Origin::Flag).unwrap();
        Ctx::new(config).unwrap()
    }

    /// With the example recipe and full pools.
    fn with_recipe() -> Self {
        Self::with_recipe_for(chip())
    }

    fn with_recipe_for(chip: &str) -> Self {
        let bench = Self::new();
        let chip = chip.to_owned();
        bench.recipe(&RecipeCommand::New { file: "blink.toml".into(), chip: Some(chip), project: None });
        bench.call(
            "esp_ledger",
            json!({"action": "add_pool", "pool": "serials", "kind": "serial", "prefix": "SN-", "count": 100}),
        );
        let macs = json!({"action": "add_pool", "pool": "macs", "kind": "mac", "first": "02:00:00:00:10:00", "step": 4, "count": 100});
        bench.call("esp_ledger", macs);
        bench
    }

    fn recipe(&self, command: &RecipeCommand) -> (String, bool) {
        recipe(&self.ctx, &Job::new(), command).unwrap()
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.path(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    fn call(&self, tool: &str, input: Value) -> Map<String, Value> {
        self.try_call(tool, input).unwrap()
    }

    fn try_call(&self, tool: &str, input: Value) -> Result<Map<String, Value>, String> {
        let reply = tools::find(tool).unwrap().call(&self.ctx, &Job::new(), input);
        reply.map(|reply| reply.data).map_err(|error| error.to_string())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The flash of a simulated device, as it is.
    fn flash(&self, port: &str) -> Vec<u8> {
        let device = self.ctx.ports.simulated().into_iter().find(|device| device.url() == port).unwrap();
        device.with(|chip, _| chip.flash().read(0, 4 << 20).unwrap())
    }

    fn factory_value(&self, port: &str, key: &str) -> Option<nvs::Value> {
        let flash = self.flash(port);
        nvs::read(&flash[FCTRY.0..FCTRY.0 + FCTRY.1]).get("device", key).cloned()
    }
}

/// A chip that has an id in its images.
fn chip() -> &'static str {
    esp_model::chip::all().iter().find(|chip| chip.chip_id.is_some()).unwrap().id
}

fn sim(name: &str) -> String {
    format!("sim://{}-{name}", chip())
}

#[test]
fn a_unit_is_produced_once_and_stays_what_it_is() {
    let bench = Bench::with_recipe();
    let input = json!({"port": sim("a"), "config": "blink.toml"});
    let first = bench.call("esp_factory_program", input.clone());
    assert_eq!(first["verdict"], "pass", "{first:?}");
    assert_eq!(first["identities"]["serial"], "SN-00001");
    assert_eq!(first["label"], "SN:SN-00001 MAC:02:00:00:00:10:00");
    assert_eq!(bench.factory_value(&sim("a"), "serial"), Some(nvs::Value::Text("SN-00001".into())));
    let again = bench.call("esp_factory_program", input);
    assert_eq!((&again["identities"], &again["written_bytes"]), (&first["identities"], &json!(0)));
    let other = bench.call("esp_factory_program", json!({"port": sim("b"), "config": "blink.toml"}));
    assert_eq!(other["identities"]["serial"], "SN-00002");
    let accepted = bench.call("esp_quality_control", json!({"port": sim("a"), "config": "blink.toml"}));
    assert_eq!(accepted["verdict"], "pass", "{accepted:?}");
    let printed = bench.call("esp_ledger", json!({"action": "label", "unit": first["mac"]}));
    assert_eq!((&printed["data"]["label"], &printed["data"]["prints"]), (&first["label"], &json!(1)));
    let printed = bench.call("esp_ledger", json!({"action": "label", "unit": first["mac"]}));
    assert_eq!(printed["data"]["prints"], 2);
    assert_eq!(bench.call("esp_ledger", json!({"action": "verify"}))["passed"], true);
    bench.call("esp_ledger", json!({"action": "export", "file": "units.csv"}));
    let csv = fs::read_to_string(bench.path("units.csv")).unwrap();
    assert!(csv.contains(",serials,serial,SN-00001,LABELLED,2,"), "{csv}");
    assert!(csv.contains(",serials,serial,SN-00002,VERIFIED,0,"), "{csv}");
}

#[test]
fn what_the_device_holds_counts_not_the_record() {
    let bench = Bench::with_recipe();
    bench.call("esp_factory_program", json!({"port": sim("a"), "config": "blink.toml"}));
    bench.call("esp_flash_erase", json!({"port": sim("a"), "region": "0x20000+0x1000"}));
    let found = bench.call("esp_quality_control", json!({"port": sim("a"), "config": "blink.toml"}));
    assert_eq!(found["verdict"], "fail");
    bench.call("esp_flash_erase", json!({"port": sim("a"), "region": "fctry"}));
    let found = bench.call("esp_quality_control", json!({"port": sim("a"), "config": "blink.toml"}));
    let values = found["steps"].as_array().unwrap().iter().find(|step| step["name"] == "values in fctry").unwrap();
    assert_eq!(values["verdict"], "fail");
    // Produced again, it gets what it had.
    let again = bench.call("esp_factory_program", json!({"port": sim("a"), "config": "blink.toml"}));
    assert_eq!((&again["verdict"], &again["identities"]["serial"]), (&json!("pass"), &json!("SN-00001")));
    assert!(again["written_bytes"].as_u64().unwrap() <= 0x4000, "{again:?}");
    let stranger = bench.call("esp_quality_control", json!({"port": sim("z"), "config": "blink.toml"}));
    assert_eq!(stranger["passed"], false);
}

#[test]
fn a_crash_at_any_command_is_repaired_by_the_next_run() {
    let bench = Bench::with_recipe();
    let known = esp_model::chip::by_name(chip()).unwrap();
    for (number, commands) in [3u64, 12, 20, 26, 31, 34, 37, 40, 45, 50].into_iter().enumerate() {
        let url = sim(&format!("crash-{number}"));
        let mut config = esp_sim::Config::new(known, &format!("crash-{number}")).unpaced();
        config.faults.hang_after = Some(commands);
        bench.ctx.ports.add_simulated(esp_sim::SimDevice::new(&config, url.clone()));
        let broken = bench.try_call("esp_factory_program", json!({"port": url, "config": "blink.toml", "retries": 0}));
        let reserved = bench.call("esp_ledger", json!({}))["data"]["pools"].clone();
        bench.ctx.devices.sessions.forget(&url);
        // The same board, healthy again, with what is in its flash.
        let before = bench.flash(&url);
        config.faults.hang_after = None;
        let healthy = esp_sim::SimDevice::new(&config, url.clone());
        healthy.with(|chip, _| chip.flash().load(0, &before));
        bench.ctx.ports.add_simulated(healthy);
        let done = bench.call("esp_factory_program", json!({"port": url, "config": "blink.toml"}));
        assert_eq!(done["verdict"], "pass", "{commands}: {broken:?} {reserved} {done:?}");
        assert_eq!(done["identities"]["serial"], format!("SN-{:05}", number + 1), "a crash used a value up");
    }
    assert_eq!(bench.call("esp_ledger", json!({"action": "verify"}))["passed"], true);
}

#[test]
fn fifty_devices_side_by_side_and_one_that_hangs() {
    let bench = Bench::with_recipe();
    bench.recipe(&RecipeCommand::Lock { file: "blink.toml".into() });
    // A line that takes everything and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hung = format!("socket://{}", silent.local_addr().unwrap());
    let known = esp_model::chip::by_name(chip()).unwrap();
    for number in 1..=50 {
        let url = sim(&number.to_string());
        let config = esp_sim::Config::new(known, &number.to_string()).unpaced();
        bench.ctx.ports.add_simulated(esp_sim::SimDevice::new(&config, url));
    }
    let ports = json!([format!("sim://{}-[1-50]", chip()), hung]);
    let began = Instant::now();
    let input =
        json!({"ports": ports, "firmware": "blink.toml", "timeout_s": 60, "retries": 0, "report_file": "all.json"});
    let out = bench.call("esp_batch_program", input);
    assert!(began.elapsed() < Duration::from_secs(90));
    assert_eq!((&out["passed"], &out["stats"]["passed"]), (&json!(false), &json!(50)), "{}", out["stats"]);
    let units = out["units"].as_array().unwrap();
    assert_eq!(units[50]["port"], hung);
    assert_ne!(units[50]["verdict"], "pass");
    let mut serials = BTreeSet::new();
    let mut macs = BTreeSet::new();
    for unit in &units[..50] {
        let port = unit["port"].as_str().unwrap();
        // Read from the flash itself.
        let Some(nvs::Value::Text(serial)) = bench.factory_value(port, "serial") else { panic!("{port}") };
        let Some(nvs::Value::Blob(mac)) = bench.factory_value(port, "mac") else { panic!("{port}") };
        assert_eq!(unit["identities"]["serial"], serial);
        serials.insert(serial);
        macs.insert(mac);
    }
    assert_eq!((serials.len(), macs.len()), (50, 50));
    let whole: Value = serde_json::from_slice(&fs::read(bench.path("all.json")).unwrap()).unwrap();
    assert_eq!(whole["units"].as_array().unwrap().len(), 51);
    let xml = junit::report("esp_batch_program", Ok(whole.as_object().unwrap()));
    assert_eq!((xml.matches("<testsuite ").count(), xml.matches("<failure").count()), (51, 1), "{xml}");
    assert_eq!(bench.call("esp_ledger", json!({"action": "verify"}))["passed"], true);
    let status = mcp_esptool::factory::station::status(&bench.ctx);
    assert_eq!(status["slots"].as_array().unwrap().len(), 51);
}

#[test]
fn a_board_with_another_boards_identity_is_set_aside() {
    let bench = Bench::with_recipe();
    bench.call("esp_factory_program", json!({"port": sim("a"), "config": "blink.toml"}));
    let known = esp_model::chip::by_name(chip()).unwrap();
    let copy = esp_sim::SimDevice::new(&esp_sim::Config::new(known, "copy").unpaced(), sim("copy"));
    let flash = bench.flash(&sim("a"));
    copy.with(|chip, _| chip.flash().load(0, &flash));
    bench.ctx.ports.add_simulated(copy);
    let input = json!({"port": sim("copy"), "config": "blink.toml"});
    assert!(bench.try_call("esp_factory_program", input.clone()).unwrap_err().contains("error[identity_conflict]"));
    assert!(bench.try_call("esp_factory_program", input).unwrap_err().contains("error[unit_quarantined]"));
}

#[test]
fn locked_recipes_flash_the_bytes_that_were_checked() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let bench = Bench::with_recipe();
    bench.recipe(&RecipeCommand::Lock { file: "blink.toml".into() });
    let good = fs::read(bench.path("app.bin")).unwrap();
    let mut other = good.clone();
    *other.last_mut().unwrap() ^= 1;
    let (path, part, stop) = (bench.path("app.bin"), bench.path("app.part"), AtomicBool::new(false));
    let mut loaded = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                fs::write(&part, if turn % 2 == 0 { &other } else { &good }).unwrap();
                fs::rename(&part, &path).unwrap();
            }
        });
        for _ in 0..200 {
            let Ok(prepared) = esp_factory::prepared::Prepared::load(&bench.ctx.station(), "blink.toml") else {
                continue;
            };
            let app = prepared.images.iter().find(|image| image.name == "app.bin").unwrap();
            loaded += usize::from(*app.bytes == good);
            if *app.bytes != good {
                stop.store(true, Ordering::Relaxed);
                panic!("the other file would be flashed");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(loaded > 0);
}

#[test]
fn a_recipe_is_bound_to_its_files() {
    let bench = Bench::with_recipe();
    let check =
        || bench.recipe(&RecipeCommand::Check { file: "blink.toml".into(), values: vec!["serial=SN-99999".into()] });
    let (text, good) = check();
    assert!(good && text.contains("SN:SN-99999") && text.contains("a second run writes 0 bytes"), "{text}");
    bench.recipe(&RecipeCommand::Lock { file: "blink.toml".into() });
    let app = fs::read(bench.path("app.bin")).unwrap();
    fs::write(bench.path("app.bin"), &app[..app.len() - 1]).unwrap();
    let input = json!({"port": sim("a"), "config": "blink.toml"});
    let refused = bench.try_call("esp_factory_program", input.clone()).unwrap_err();
    assert!(refused.contains("error[recipe_changed]") && refused.contains("app.bin"), "{refused}");
    fs::write(bench.path("app.bin"), app).unwrap();
    bench.edit("blink.toml", "min = 2097152", "min = 99999999");
    assert!(bench.try_call("esp_factory_program", input.clone()).unwrap_err().contains("the recipe itself"));
    bench.recipe(&RecipeCommand::Lock { file: "blink.toml".into() });
    // A limit that is not met: the identity is on the unit, the unit has not passed, there is no label.
    let failed = bench.call("esp_factory_program", input);
    assert_eq!((&failed["verdict"], failed.get("label")), (&json!("fail"), None));
    bench.edit("blink.toml", "{serial}", "{serail}");
    let text = fs::read_to_string(bench.path("blink.toml")).unwrap();
    fs::write(bench.path("bad.toml"), esp_factory::recipe::lock::body(&text)).unwrap();
    let (text, good) = bench.recipe(&RecipeCommand::Check { file: "bad.toml".into(), values: Vec::new() });
    assert!(!good && text.contains("nothing is called {serail}"), "{text}");
}

#[test]
fn a_reset_keeps_identity_and_calibration() {
    let bench = Bench::with_recipe();
    let port = sim("a");
    bench.call("esp_factory_program", json!({"port": port, "config": "blink.toml"}));
    let user = json!({"port": port, "partition": "nvs", "namespace": "app", "cal_data": {"volume": 7}});
    bench.call("esp_calibration_data_write", user);
    let written =
        bench.call("esp_calibration_data_write", json!({"port": port, "cal_data": {"gain": 1004, "offset": -3}}));
    assert_eq!(written["written"], json!(["gain", "offset"]));
    let out = bench.call("esp_factory_reset", json!({"port": port}));
    let how = |name: &str| {
        let all = out["partitions"].as_array().unwrap();
        all.iter().find(|done| done["partition"] == name).unwrap()["how"].clone()
    };
    assert_eq!((how("nvs"), how("fctry")), (json!("erased"), json!("kept")));
    assert_eq!(out["copies"].as_array().unwrap().len(), 1);
    let flash = bench.flash(&port);
    assert!(flash[0x9000..0xd000].iter().all(|byte| *byte == 0xff));
    let kept = nvs::read(&flash[FCTRY.0..FCTRY.0 + FCTRY.1]);
    assert_eq!(kept.get("cal", "gain"), Some(&nvs::Value::I32(1004)));
    assert_eq!(kept.get("device", "serial"), Some(&nvs::Value::Text("SN-00001".into())));
}

#[test]
fn values_come_from_the_ledger_and_within_limits() {
    let bench = Bench::with_recipe();
    let port = sim("a");
    bench.call("esp_factory_program", json!({"port": port, "config": "blink.toml"}));
    bench.call(
        "esp_ledger",
        json!({"action": "add_pool", "pool": "boards", "kind": "board", "prefix": "B-", "count": 5}),
    );
    let out = bench.call(
        "esp_manufacturing_data_write",
        json!({"port": port, "mfg_data": {"board_sn": {"pool": "boards"}, "line": 4}}),
    );
    assert_eq!(out["identities"]["board_sn"], "B-00001");
    for (tool, input, code) in [
        ("esp_manufacturing_data_write", json!({"mfg_data": {"serial": "SN-77777"}}), "identity_not_issued"),
        ("esp_manufacturing_data_write", json!({"mfg_data": {"note": "SN-00005"}}), "identity_conflict"),
        ("esp_manufacturing_data_write", json!({"mfg_data": {"x": 1}, "partition": "nope"}), "unknown_partition"),
        (
            "esp_calibration_data_write",
            json!({"cal_data": {"gain": 2}, "limits": {"gain": [0.5, 1.5]}}),
            "outside_limits",
        ),
        ("esp_calibration_data_write", json!({"cal_data": {"cal_mac": 2}, "namespace": "phy"}), "radio_calibration"),
    ] {
        let mut input = input;
        input["port"] = json!(port);
        assert!(bench.try_call(tool, input).unwrap_err().contains(code), "{code}");
    }
    bench.call("esp_manufacturing_data_write", json!({"port": port, "mfg_data": {"serial": "SN-00001"}}));
}

#[test]
fn provisioning_leaves_the_firmware() {
    let bench = Bench::with_recipe();
    let port = sim("a");
    bench.call("esp_partition_create", json!({"layout": "partitions.csv", "output_file": "t.bin"}));
    bench.call("esp_flash_firmware", json!({"port": port, "files": [{"path": "t.bin", "address": "0x8000"}]}));
    let out = bench.call("esp_provision_device", json!({"port": port, "config": "blink.toml"}));
    assert_eq!(out["verdict"], "pass", "{out:?}");
    assert!(bench.flash(&port)[0x1_0000..0x2_0000].iter().all(|byte| *byte == 0xff));
}

#[test]
fn efuses_certificates_rows_and_consoles_are_part_of_a_recipe() {
    let bench = Bench::new();
    let chip_id = chip().to_owned();
    bench.recipe(&RecipeCommand::New { file: "blink.toml".into(), chip: Some(chip_id), project: None });
    bench.edit("partitions.csv", "0x10000, 1M\n", "0x10000, 1M\nesp_secure_cert, 0x3f, 0, 0x110000, 0x2000\n");
    bench.call("esp_partition_create", json!({"layout": "partitions.csv", "output_file": "partition-table.bin"}));
    fs::write(bench.path("units.csv"), "serial,gain\nSN-00001,7\nSN-00002,9\n").unwrap();
    fs::write(bench.path("SN-00001.pem"), "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n").unwrap();
    let more = "hw_rev = { type = \"u8\", value = 1 }\ngain = { type = \"u16\", value = \"{csv.gain}\" }\n\
                [units]\nfile = \"units.csv\"\nkey = \"serial\"\n\
                [secure_cert]\ndevice_cert = \"{serial}.pem\"\n\
                [efuse]\nprofile = \"development\"\n[[efuse.burn]]\nkind = \"custom_mac\"\nmac = \"{mac}\"\n\
                [[test]]\nname = \"self test\"\nkind = \"console\"\nexpect = \"SELFTEST OK\"\nseconds = 1\noptional = true\n";
    bench.edit("blink.toml", "hw_rev = { type = \"u8\", value = 1 }\n", more);
    bench.call(
        "esp_ledger",
        json!({"action": "add_pool", "pool": "serials", "kind": "serial", "prefix": "SN-", "count": 9}),
    );
    let macs = json!({"action": "add_pool", "pool": "macs", "kind": "mac", "first": "24:0a:c4:10:00:00", "step": 4, "count": 9});
    bench.call("esp_ledger", macs);
    bench.recipe(&RecipeCommand::Lock { file: "blink.toml".into() });
    let input = json!({"port": sim("demo"), "config": "blink.toml"});
    let first = bench.call("esp_factory_program", input.clone());
    assert_eq!(first["verdict"], "pass", "{first:?}");
    let step = |out: &Map<String, Value>, name: &str| {
        let steps = out["steps"].as_array().unwrap().clone();
        steps.into_iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("{name}: {out:?}"))
    };
    assert_eq!(step(&first, "eFuses")["value"], "burned");
    // This device imitates the boot: not run is not passed.
    assert_eq!(step(&first, "self test")["verdict"], "unknown");
    assert_eq!(bench.factory_value(&sim("demo"), "gain"), Some(nvs::Value::U16(7)));
    let flash = bench.flash(&sim("demo"));
    let entries = esp_model::secure_cert::read(&flash[0x11_0000..0x11_2000]).unwrap();
    assert_eq!((entries.len(), entries[0].kind), (1, esp_model::secure_cert::kind::DEVICE_CERT));
    let macs = bench.call("esp_mac_address_read", json!({"port": sim("demo")}));
    assert!(json!(macs).to_string().to_lowercase().contains("24:0a:c4:10:00:00"), "{macs:?}");
    let again = bench.call("esp_factory_program", input.clone());
    assert_eq!((&again["verdict"], &again["written_bytes"]), (&json!("pass"), &json!(0)), "{again:?}");
    let accepted = bench.call("esp_quality_control", input);
    assert_eq!(step(&accepted, "eFuses")["verdict"], "pass", "{accepted:?}");
    assert_eq!(accepted["verdict"], "pass", "{accepted:?}");
    // The next one has a row, but no certificate.
    let error = bench.try_call("esp_factory_program", json!({"port": sim("b"), "config": "blink.toml"})).unwrap_err();
    assert!(error.contains("error[file_not_found]") && error.contains("SN-00002.pem"), "{error}");
}
