//! What a locked recipe writes is what it was locked to, each unit's own files too; secrets stay out of reports.

use esp_factory::Scope;
use esp_factory::prepared::Prepared;
use esp_factory::unit::{Order, produce};

use super::*;

/// A recipe with a file for all units and one of each unit (a key), named by its row. The row of the chip that the tests
/// produce comes first.
fn bench() -> Bench {
    let bench = Bench::with_recipe();
    let found = bench.call("esp_mac_address_read", json!({"port": sim("a")}));
    let mac = found["mac"].as_str().unwrap_or_else(|| panic!("{found:?}"));
    fs::write(bench.path("units.csv"), format!("base_mac,name\n{mac},one\n02:00:00:00:99:99,two\n")).unwrap();
    fs::write(bench.path("cal.bin"), b"right calibration").unwrap();
    for name in ["one", "two"] {
        fs::write(bench.path(&format!("{name}.key")), format!("right key {name}")).unwrap();
    }
    let units = "[units]\nfile = \"units.csv\"\nkey = \"base_mac\"\n\n[[test]]\nname = \"flash size\"";
    bench.edit("blink.toml", "[[test]]\nname = \"flash size\"", units);
    let values = "hw_rev = { type = \"u8\", value = 1 }\ncal = { type = \"binary\", file = \"cal.bin\" }\n\
                  own = { type = \"binary\", file = \"{csv.name}.key\" }";
    bench.edit("blink.toml", "hw_rev = { type = \"u8\", value = 1 }", values);
    bench
}

fn lock(bench: &Bench) -> String {
    bench.recipe(&RecipeCommand::Lock { file: "blink.toml".into() }).0
}

fn order(bench: &Bench) -> Order {
    let prepared = Prepared::load(&bench.ctx.station(), "blink.toml").unwrap().checked().unwrap();
    let order = Order::new(prepared, Scope::Full, 0);
    order.register(&bench.ctx.app.desk).unwrap();
    order
}

fn holds(bench: &Bench, text: &str) -> bool {
    bench.flash(&sim("a")).windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn locks_cover_the_files_of_all_units() {
    let bench = bench();
    let said = lock(&bench);
    assert!(!said.contains("not covered"), "{said}");
    let text = fs::read_to_string(bench.path("blink.toml")).unwrap();
    for file in ["one.key", "two.key", "cal.bin"] {
        assert!(text.contains(&format!("\"{file}\" = \"")), "{file}: {text}");
    }
    let input = json!({"port": sim("a"), "config": "blink.toml"});
    assert_eq!(bench.call("esp_factory_program", input.clone())["verdict"], "pass");
    // A file of another unit stops the recipe too.
    fs::write(bench.path("two.key"), "wrong key two").unwrap();
    let error = bench.try_call("esp_factory_program", input).unwrap_err();
    assert!(error.contains("recipe_changed") && error.contains("two.key"), "{error}");
}

#[test]
fn files_exchanged_after_the_lock_was_checked_are_not_used() {
    let bench = bench();
    lock(&bench);
    let order = order(&bench);
    fs::write(bench.path("cal.bin"), b"wrong calibration").unwrap();
    let report = produce(&bench.ctx.station(), &bench.ctx.app.desk, &Job::new(), &sim("a"), &order);
    assert!(report.passed(), "{report:?}");
    assert!(holds(&bench, "right calibration") && !holds(&bench, "wrong calibration"));

    fs::write(bench.path("one.key"), "wrong key one").unwrap();
    let report = produce(&bench.ctx.station(), &bench.ctx.app.desk, &Job::new(), &sim("a"), &order);
    assert!(report.error.as_deref().is_some_and(|error| error.contains("recipe_changed")), "{report:?}");
    assert!(holds(&bench, "right key one") && !holds(&bench, "wrong key one"));
}

#[test]
fn unit_files_that_the_lock_does_not_cover_are_named_and_not_used() {
    let bench = bench();
    fs::remove_file(bench.path("one.key")).unwrap();
    let said = lock(&bench);
    assert!(said.contains("not covered by the lock: one.key"), "{said}");
    fs::write(bench.path("one.key"), "later key one").unwrap();
    // One that came after the lock is a change of the locked set.
    let error = bench.try_call("esp_factory_program", json!({"port": sim("a"), "config": "blink.toml"})).unwrap_err();
    assert!(error.contains("recipe_changed") && error.contains("one.key"), "{error}");
    fs::remove_file(bench.path("one.key")).unwrap();
    let order = order(&bench);
    fs::write(bench.path("one.key"), "later key one").unwrap();
    let report = produce(&bench.ctx.station(), &bench.ctx.app.desk, &Job::new(), &sim("a"), &order);
    assert!(report.error.as_deref().is_some_and(|error| error.contains("recipe_changed")), "{report:?}");
    assert!(!holds(&bench, "later key one"));
}

#[test]
fn secrets_of_a_unit_are_checked_and_not_shown() {
    let bench = Bench::with_recipe();
    let list = "hunter2-one\nhunter2-two\n";
    fs::write(bench.path("passwords.txt"), list).unwrap();
    let pool = json!({"action": "add_pool", "pool": "passwords", "kind": "password", "file": "passwords.txt"});
    bench.call("esp_ledger", pool);
    bench.edit("blink.toml", "[identity]\n", "[identity]\nadmin = { pool = \"passwords\" }\n");
    bench.edit(
        "blink.toml",
        "serial = \"{serial}\"",
        "serial = \"{serial}\"\nwifi_pass = \"{admin}\"\napi_key = \"s3cr3t-f1x3d\"",
    );
    let test = |key: &str, equals: &str| {
        format!(
            "[[test]]\nname = \"{key}\"\nkind = \"nvs\"\npartition = \"fctry\"\nnamespace = \"device\"\nkey = \"{key}\"\n\
             equals = \"{equals}\"\n\n"
        )
    };
    let tests = test("wifi_pass", "{admin}") + &test("api_key", "s3cr3t-f1x3d");
    bench.edit("blink.toml", "[[test]]\nname = \"flash size\"", &format!("{tests}[[test]]\nname = \"flash size\""));
    let secret = |text: &str| text.contains("hunter2") || text.contains("s3cr3t");

    let said = bench.call("esp_factory_program", json!({"port": sim("a"), "config": "blink.toml"}));
    assert_eq!((&said["verdict"], &said["identities"]["admin"]), (&json!("pass"), &json!("(secret)")), "{said:?}");
    assert_eq!(bench.factory_value(&sim("a"), "wifi_pass"), Some(nvs::Value::Text("hunter2-one".into())));
    assert!(!secret(&json!(said).to_string()), "{said:?}");
    for (tool, more) in [
        ("esp_quality_control", json!({"config": "blink.toml"})),
        ("esp_production_test", json!({"test_suite": "blink.toml"})),
    ] {
        let mut input = more;
        input["port"] = json!(sim("a"));
        let found = bench.call(tool, input);
        assert_eq!(found["verdict"], "pass", "{tool}: {found:?}");
        assert!(!secret(&json!(found).to_string()), "{tool}: {found:?}");
    }
    let history = bench.call("esp_ledger", json!({"action": "unit", "unit": said["mac"]}));
    assert!(!secret(&json!(history).to_string()), "{history:?}");
    // A wrong one fails, and is not shown either.
    bench.edit("blink.toml", "equals = \"s3cr3t-f1x3d\"", "equals = \"s3cr3t-0th3r\"");
    let said = bench.call("esp_production_test", json!({"port": sim("a"), "test_suite": "blink.toml"}));
    assert_eq!(said["verdict"], "fail", "{said:?}");
    assert!(!secret(&json!(said).to_string()), "{said:?}");
    let (text, good) =
        bench.recipe(&RecipeCommand::Check { file: "blink.toml".into(), values: vec!["admin=hunter2-three".into()] });
    assert!(!good && !secret(&text), "{text}");
}
