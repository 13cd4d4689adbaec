//! What an argument of a prompt or a resource template may be: ports, chips, partitions, eFuse names.

use esp_model::chip;
use esp_model::job::Job;
use serde_json::{Value, json};

use crate::ctx::Ctx;
use crate::tools;

/// All values that begin with `prefix`, in order. `given` holds the arguments that are already chosen.
pub fn values(ctx: &Ctx, name: &str, prefix: &str, given: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let chip = given("chip").or_else(|| given("chip_type")).and_then(|name| chip::by_name(&name));
    let all: Vec<String> = match name {
        "port" => ports(ctx),
        "name" => tools::offered(ctx).map(|entry| entry.name.to_string()).collect(),
        "chip" | "chip_type" => chip::all().iter().map(|chip| chip.id.to_string()).collect(),
        "partition" | "region" => partitions(ctx, given("port").as_deref()),
        "efuse" | "efuse_name" => {
            let chips = chip.map_or_else(|| chip::all().iter().collect(), |chip| vec![chip]);
            let names =
                chips.into_iter().flat_map(|chip| chip.efuse().fields.iter().map(|field| field.name.to_string()));
            let mut names: Vec<String> = names.collect();
            names.sort_unstable();
            names.dedup();
            names
        }
        _ => Vec::new(),
    };
    let begin = prefix.to_lowercase();
    all.into_iter().filter(|value| value.to_lowercase().starts_with(&begin)).collect()
}

/// The ports that are there, and a simulated chip of each kind.
fn ports(ctx: &Ctx) -> Vec<String> {
    let found = ctx.ports.candidates().into_iter().map(|found| found.url);
    let found = found.filter(|url| ctx.ports.allowed(url, &ctx.policy));
    let simulated = chip::all().iter().map(|chip| format!("sim://{}", chip.id));
    let mut all: Vec<String> = found.chain(simulated).collect();
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|url| seen.insert(url.clone()));
    all
}

/// The partitions of a virtual device. A real one is not reset for a suggestion: for it, the usual names.
fn partitions(ctx: &Ctx, port: Option<&str>) -> Vec<String> {
    let is_virtual = |port: &&str| port.starts_with("sim://") || port.starts_with("qemu://");
    let read = port.filter(is_virtual).and_then(|port| {
        let reply = tools::find("esp_partition_read")?.call(ctx, &Job::new(), json!({ "port": port })).ok()?;
        let rows = reply.data.get("partitions")?.as_array()?.clone();
        Some(rows.iter().filter_map(|row| row.get("name").and_then(Value::as_str).map(str::to_string)).collect())
    });
    let usual = ["nvs", "otadata", "phy_init", "factory", "ota_0", "ota_1", "coredump", "storage"];
    read.filter(|names: &Vec<String>| !names.is_empty()).unwrap_or_else(|| usual.map(str::to_string).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use esp_ops::config::Config;

    #[test]
    fn names_of_all_kinds_are_found_by_their_beginning() {
        let ctx = Ctx::new(Config::default()).unwrap();
        let none = |_: &str| None;
        assert!(values(&ctx, "port", "SIM://esp32c", &none).contains(&"sim://esp32c3".to_string()));
        assert!(values(&ctx, "chip", "esp32s", &none).len() > 1);
        assert_eq!(values(&ctx, "partition", "ota_", &none), ["ota_0", "ota_1"]);
        let c3 = |name: &str| (name == "chip").then(|| "esp32c3".to_string());
        assert!(values(&ctx, "efuse_name", "SPI_BOOT", &c3).contains(&"SPI_BOOT_CRYPT_CNT".to_string()));
        assert!(values(&ctx, "anything", "", &none).is_empty());
    }
}
