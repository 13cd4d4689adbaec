//! Bad cables, pulled plugs, and what the policy of a line forbids.

use esp_sim::{Config, SimDevice};

use super::*;

fn board(bench: &Bench, name: &str, faults: impl FnOnce(&mut esp_sim::Faults)) -> String {
    let known = esp_model::chip::by_name(chip()).unwrap();
    let mut config = Config::new(known, name).unpaced();
    faults(&mut config.faults);
    bench.ctx.ports.add_simulated(SimDevice::new(&config, sim(name)));
    sim(name)
}

#[test]
fn a_bad_cable_slows_only_itself_and_a_pulled_plug_is_found_again() {
    let bench = Bench::with_recipe();
    // How many commands a unit takes: the plug is pulled after most of them.
    let whole = board(&bench, "whole", |_| ());
    bench.call("esp_factory_program", json!({"port": whole, "config": "blink.toml"}));
    let device = |name: &str| bench.ctx.ports.simulated().into_iter().find(|device| device.url() == sim(name)).unwrap();
    let most = device("whole").with(|chip, _| chip.commands()) * 3 / 4;
    let mut ports = vec![
        board(&bench, "good-1", |_| ()),
        board(&bench, "cable", |faults| faults.max_clean_baud = Some(200_000)),
        board(&bench, "noise", |faults| {
            // Some requests of a unit are hit.
            faults.to_chip.corrupt = 1e-5;
            faults.to_host.corrupt = 1e-5;
        }),
        board(&bench, "plug", |faults| faults.unplug_after = Some(most)),
        board(&bench, "good-2", |_| ()),
    ];
    let out = bench.call("esp_batch_program", json!({"ports": ports, "firmware": "blink.toml", "timeout_s": 120}));
    let unit = |out: &Map<String, Value>, name: &str| {
        let units = out["units"].as_array().unwrap();
        units.iter().find(|unit| unit["port"] == sim(name)).unwrap().clone()
    };
    for name in ["good-1", "good-2", "cable", "noise"] {
        assert_eq!(unit(&out, name)["verdict"], "pass", "{:?}", unit(&out, name));
    }
    let full = unit(&out, "good-1")["baud"].as_u64().unwrap();
    assert_eq!(
        (unit(&out, "good-2")["baud"].as_u64(), unit(&out, "good-2")["retries"].as_u64()),
        (Some(full), Some(0))
    );
    let slow = unit(&out, "cable")["baud"].as_u64().unwrap();
    assert!((115_200..=200_000).contains(&slow) && slow < full, "{slow} of {full}");
    let pulled = unit(&out, "plug");
    assert_eq!(pulled["verdict"], "fail", "{pulled:?}");
    assert!(pulled["error"].as_str().unwrap().starts_with("port_"), "{pulled:?}");
    let serial = pulled["identities"]["serial"].clone();
    assert!(serial.is_string(), "{pulled:?}");
    // The same board is plugged in again, as it is: it keeps what it was given.
    let flash = bench.flash(&sim("plug"));
    bench.ctx.devices.sessions.forget(&sim("plug"));
    ports = vec![board(&bench, "plug", |_| ())];
    device("plug").with(|chip, _| chip.flash().load(0, &flash));
    let again = bench.call("esp_batch_program", json!({"ports": ports, "firmware": "blink.toml"}));
    let found = unit(&again, "plug");
    assert_eq!((&found["verdict"], &found["identities"]["serial"]), (&json!("pass"), &serial), "{pulled:?} {found:?}");
    assert_eq!(bench.call("esp_ledger", json!({"action": "verify"}))["passed"], true);
}

#[test]
fn in_production_only_the_named_recipes_change_devices() {
    let bench = Bench::with_recipe();
    bench.recipe(&RecipeCommand::Lock { file: "blink.toml".into() });
    let hash = esp_factory::recipe::lock::sha256(&fs::read(bench.path("blink.toml")).unwrap());
    fs::write(bench.path("policy.toml"), format!("production_recipes = [\"{hash}\"]\n")).unwrap();
    let mut config = esp_ops::config::Config::default();
    for (name, value) in [("project_roots", ""), ("state_dir", "state"), ("policy_file", "policy.toml")] {
        config.set(name, bench.path(value).display().to_string(), Origin::Flag).unwrap();
    }
    let line = Bench { ctx: Ctx::new(config).unwrap(), dir: bench.dir };
    let input = json!({"port": sim("a"), "config": "blink.toml"});
    assert_eq!(line.call("esp_factory_program", input.clone())["verdict"], "pass");
    assert_eq!(line.call("esp_quality_control", input)["verdict"], "pass");
    let firmware = json!({"port": sim("a"), "files": [{"path": "app.bin", "address": "0x10000"}]});
    let batch = json!({"ports": [sim("a")], "files": [{"path": "app.bin", "address": "0x10000"}]});
    line.recipe(&RecipeCommand::New { file: "other/blink.toml".into(), chip: Some(chip().into()), project: None });
    for (tool, input) in [
        ("esp_flash_firmware", firmware),
        ("esp_flash_erase", json!({"port": sim("a")})),
        ("esp_efuse_burn", json!({"port": sim("a"), "efuse_name": "JTAG_DISABLE"})),
        ("esp_calibration_data_write", json!({"port": sim("a"), "cal_data": {"gain": 1}})),
        ("esp_factory_reset", json!({"port": sim("a")})),
        ("esp_batch_program", batch),
        ("esp_factory_program", json!({"port": sim("b"), "config": "other/blink.toml"})),
        ("esp_production_test", json!({"port": sim("b"), "test_suite": "other/blink.toml"})),
    ] {
        let refused = line.try_call(tool, input).unwrap_err();
        assert!(refused.contains("policy_refused"), "{tool}: {refused}");
    }
}
