use std::fs;

use esp_model::mac::Mac;

use super::*;
use crate::config::Origin;
use crate::error::Code;

fn policy(layers: &[(&str, bool)]) -> Policy {
    let mut policy = Policy::default();
    for (text, grants) in layers {
        policy.add("test".into(), toml::from_str(text).unwrap(), *grants).unwrap();
    }
    policy
}

fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

#[test]
fn denied_wins_over_allowed() {
    let policy = policy(&[("allow_ports = [\"sim://*\"]\ndeny_ports = [\"sim://gold\"]", true)]);
    assert!(policy.allows_port(&["sim://a".to_string()], &[]).is_ok());
    assert_eq!(policy.allows_port(&["sim://gold".to_string()], &[]).unwrap_err().code, Code::PolicyRefused);
    assert_eq!(policy.allows_port(&["/dev/ttyUSB0".to_string()], &[]).unwrap_err().code, Code::PolicyRefused);
    let both = ["sim://a".to_string(), "sim://gold".to_string()];
    assert!(policy.allows_port(&both, &[]).is_err(), "another name of a denied port is denied too");
}

#[test]
fn real_devices_are_not_burned_unless_named() {
    let none = Policy::default();
    assert!(none.allows_burn(mac("24:0a:c4:00:00:01"), true).is_ok());
    assert_eq!(none.allows_burn(mac("24:0a:c4:00:00:01"), false).unwrap_err().code, Code::BurnNotAllowed);
    assert!(toml::from_str::<Rules>("max_rsk = 1").is_err() && toml::from_str::<Rules>("[limits]\nbaud = 1").is_err());
    assert!(policy(&[("burn_macs = [\"24:0a:*\"]", true)]).allows_burn(mac("24:0a:c4:00:00:01"), false).is_ok());
}

#[test]
fn every_layer_must_allow() {
    let both = policy(&[
        ("max_risk = \"destroys\"\nallow_ports = [\"/dev/tty*\"]\nburn_macs = [\"*\"]\nvouch = [\"ota_proven\"]", true),
        ("max_risk = \"reads\"\nallow_ports = [\"*\"]\nburn_macs = [\"24:*\"]\n[limits]\nmax_baud = 115200", false),
    ]);
    assert_eq!((both.max_risk(), both.limits().max_baud), (Risk::Reads, Some(115_200)));
    assert!(
        both.allows_port(&["sim://a".to_string()], &[]).is_err()
            && both.allows_port(&["/dev/ttyS0".to_string()], &[]).is_ok()
    );
    assert!(
        both.allows_burn(mac("24:00:00:00:00:01"), false).is_ok()
            && both.allows_burn(mac("25:00:00:00:00:01"), false).is_err()
    );
    assert!(both.vouches("ota_proven") && !both.vouches("flash_voltage"));
}

#[test]
fn what_is_no_file_grants_nothing() {
    let asked =
        policy(&[("burn_macs = [\"*\"]\nburn_recipes = [\"*\"]\nvouch = [\"*\"]\nmax_risk = \"irreversible\"", false)]);
    assert!(
        asked.allows_burn(mac("24:00:00:00:00:01"), false).is_err()
            && !asked.allows_recipe("ab")
            && !asked.vouches("ota_proven")
    );
    let file = policy(&[("max_risk = \"writes\"", true)]);
    let wider = file.narrowed("call", toml::from_str("max_risk = \"irreversible\"").unwrap()).unwrap();
    assert_eq!(wider.max_risk(), Risk::Writes);
}

#[test]
fn files_of_computer_and_configuration_both_count() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let system = put("system.toml", "deny_ports = [\"/dev/gold\"]\n[limits]\nmax_jobs = 4");
    let own = put("own.toml", "burn_macs = [\"*\"]\nproject_roots = [\".\"]");
    let mut config = Config::default();
    let load = |config: &Config| Policy::load_with(config, Some(&system));
    assert_eq!(load(&config).unwrap().layers().count(), 1);
    config.set("policy_file", own.display().to_string(), Origin::Flag).unwrap();
    config.set("narrow", "max_risk = \"resets\"".into(), Origin::Flag).unwrap();
    let policy = load(&config).unwrap();
    assert!(
        policy.allows_port(&["/dev/gold".to_string()], &[]).is_err()
            && policy.allows_burn(mac("24:00:00:00:00:01"), false).is_ok()
    );
    assert_eq!((policy.max_risk(), policy.limits().max_jobs, policy.bounds().len()), (Risk::Resets, Some(4), 1));
    config.set("narrow", "max_risk = 7".into(), Origin::Flag).unwrap();
    assert_eq!(load(&config).unwrap_err().code, Code::BadConfiguration);
    put("system.toml", "[limits]\nmax_baud = 300");
    assert_eq!(load(&Config::default()).unwrap_err().code, Code::BadConfiguration);
    put("system.toml", "nonsense");
    assert_eq!(load(&Config::default()).unwrap_err().code, Code::BadConfiguration);
}

#[test]
fn a_device_is_denied_in_any_spelling_of_its_mac() {
    let golden = "24:0a:c4:00:11:22";
    for spelling in ["24-0A-C4-00-11-22", "240ac4001122", "24:0a:c4:00:11:22 ", "24-0a-c4-*"] {
        let policy = policy(&[(&format!("deny_macs = [\"{spelling}\"]"), false)]);
        assert_eq!(policy.allows_mac(mac(golden)).unwrap_err().code, Code::PolicyRefused, "{spelling}");
        assert!(policy.allows_mac(mac("02:00:00:00:00:01")).is_ok());
    }
    for rule in ["deny_macs", "allow_macs", "burn_macs"] {
        let rules = toml::from_str(&format!("{rule} = [\"nonsense\"]")).unwrap();
        let error = Policy::default().narrowed("call", rules).unwrap_err();
        assert!(error.code == Code::BadConfiguration && error.message.contains(rule), "{error}");
    }
}

#[test]
fn a_client_approves_only_where_a_file_says_so() {
    let default = Policy::default();
    assert!(default.client_approves(true) && !default.client_approves(false));
    let client = policy(&[("approval = \"client\"", true)]);
    assert!(client.client_approves(true) && client.client_approves(false));
    let asked = policy(&[("approval = \"client\"", false)]);
    assert!(!asked.client_approves(false), "what is not a file grants nothing");
    let terminal = client.narrowed("call", toml::from_str("approval = \"terminal\"").unwrap()).unwrap();
    assert!(!terminal.client_approves(true) && !terminal.client_approves(false));
}

#[cfg(unix)]
#[test]
fn a_policy_that_cannot_be_seen_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::default();
    let load = |path: PathBuf| Policy::load_with(&config, Some(&path));
    assert_eq!(load(dir.path().join("none.toml")).unwrap().layers().count(), 0);
    let link = dir.path().join("link.toml");
    std::os::unix::fs::symlink(dir.path().join("gone.toml"), &link).unwrap();
    assert_eq!(load(link).unwrap_err().code, Code::BadConfiguration);
    // As a folder that may not be searched: the error is another one than "not found".
    fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(load(dir.path().join("file/policy.toml")).unwrap_err().code, Code::BadConfiguration);
    let hidden = dir.path().join("hidden");
    fs::create_dir(&hidden).unwrap();
    fs::write(hidden.join("policy.toml"), "max_risk = \"reads\"").unwrap();
    fs::set_permissions(&hidden, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    // Root sees into it all the same, and then reads it.
    match load(hidden.join("policy.toml")) {
        Ok(policy) => assert_eq!(policy.max_risk(), Risk::Reads),
        Err(error) => assert_eq!(error.code, Code::BadConfiguration),
    }
    fs::set_permissions(&hidden, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
}
