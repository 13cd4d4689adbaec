//! Resources: what a client may read without calling a tool. Each is a reading tool's result under an address.

use esp_model::job::Job;
use esp_ops::error::ToolError;
use serde_json::{Map, Value, json};

use crate::ctx::Ctx;
use crate::ctx::events::Event;
use crate::pages::{PAGE_TYPE, VIEWS};
use crate::tool::Entry;
use crate::tools;

/// A resource: with a device, `URI/PORT`; without one, the only device there is.
pub struct Resource {
    /// Its address.
    pub uri: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it holds.
    pub about: &'static str,
    /// The tool whose result it is.
    tool: &'static str,
    /// It is about one device.
    pub per_device: bool,
}

/// A page that hosts which show them (MCP Apps) put beside a tool's result.
pub struct Page {
    /// Its address.
    pub uri: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// The tools whose work it shows.
    pub tools: &'static [&'static str],
}

/// The station's page, which lives by data of its own.
#[cfg(feature = "http")]
static STATION: Page = Page {
    uri: "ui://mcp-esptool/station",
    title: "Station",
    about: "Production at this station: slots with progress and verdict, yield, failures, pools, last runs.",
    tools: &["esp_batch_program", "esp_factory_program"],
};

/// What the station's page shows, as JSON.
#[cfg(feature = "http")]
const STATION_STATUS: &str = "ui://mcp-esptool/station/status";

fn all_pages() -> impl Iterator<Item = Page> {
    let views =
        VIEWS.iter().map(|view| Page { uri: view.uri, title: view.title, about: view.about, tools: view.tools });
    #[cfg(feature = "http")]
    let views = views.chain([Page { ..STATION }]);
    views
}

/// The pages whose tools are offered.
pub fn pages(ctx: &Ctx) -> impl Iterator<Item = Page> + '_ {
    all_pages().filter(|page| tools::offered(ctx).any(|entry| page.tools.contains(&entry.name)))
}

/// The page that belongs to a tool.
pub fn page_of(tool: &str) -> Option<Page> {
    all_pages().find(|page| page.tools.contains(&tool))
}

/// A page as HTML, or what it asks for later, each with its type; `None` when there is nothing at this address.
pub fn read_page(ctx: &Ctx, uri: &str) -> Option<(String, &'static str)> {
    #[cfg(feature = "http")]
    if uri == STATION_STATUS && pages(ctx).any(|page| page.uri == STATION.uri) {
        return Some((crate::factory::station::status(ctx).to_string(), "application/json"));
    }
    let page = pages(ctx).find(|page| page.uri == uri)?;
    #[cfg(feature = "http")]
    if page.uri == STATION.uri {
        return Some((crate::factory::station::snapshot(ctx), PAGE_TYPE));
    }
    VIEWS.iter().find(|view| view.uri == page.uri).map(|view| (view.html(), PAGE_TYPE))
}

const fn of_device(uri: &'static str, title: &'static str, about: &'static str, tool: &'static str) -> Resource {
    Resource { uri, title, about, tool, per_device: true }
}

/// The console's address.
const CONSOLE: &str = "esp://console";

static ALL: &[Resource] = &[
    Resource {
        uri: "esp://chips",
        title: "Connected devices",
        about: "Serial ports, virtual devices and configured remote ports; nothing is opened or reset.",
        tool: "esp_scan_ports",
        per_device: false,
    },
    of_device("esp://flash/status", "Flash", "Id, maker and size of the flash.", "esp_flash_size_detect"),
    of_device("esp://security/info", "Security", "Security state of the device.", "esp_security_info"),
    of_device("esp://partitions", "Partitions", "The partition table on the device.", "esp_partition_read"),
    of_device("esp://firmware/info", "Boot chain", "What the device would boot, step by step.", "esp_boot_check"),
    of_device(CONSOLE, "Console", "The newest text of the device's open console (esp_console).", "esp_console"),
    of_device("esp://diagnostics", "Diagnostics", "Chip, package, revision, crystal, MACs, flash.", "esp_detect_chip"),
];

impl Resource {
    fn entry(&self, ctx: &Ctx) -> Option<&'static Entry> {
        tools::offered(ctx).find(|entry| entry.name == self.tool)
    }
}

/// All resources.
pub fn all() -> &'static [Resource] {
    ALL
}

/// The resources whose tools are offered.
pub fn offered(ctx: &Ctx) -> impl Iterator<Item = &'static Resource> + '_ {
    ALL.iter().filter(|resource| resource.entry(ctx).is_some())
}

/// Reads a resource; `None` when there is none of this address.
pub fn read(ctx: &Ctx, job: &Job, uri: &str) -> Option<Result<Map<String, Value>, ToolError>> {
    let (resource, port) = find(uri)?;
    let entry = resource.entry(ctx)?;
    let input = match (port, resource.per_device) {
        (Some(port), true) => json!({ "port": port }),
        (None, _) => json!({}),
        (Some(_), false) => return None,
    };
    Some(entry.call(ctx, job, input).map(|reply| reply.data))
}

/// There is a resource of this address, and its tool is offered.
pub fn known(ctx: &Ctx, uri: &str) -> bool {
    find(uri).is_some_and(|(resource, port)| resource.entry(ctx).is_some() && (resource.per_device || port.is_none()))
}

/// The resource of this address may be another one after this.
pub fn concerns(uri: &str, event: &Event) -> bool {
    match (find(uri), event) {
        (Some((resource, _)), Event::Ports) => !resource.per_device,
        (Some((resource, named)), Event::Console(port)) => {
            resource.uri == CONSOLE && named.is_none_or(|named| named == *port)
        }
        (Some((resource, named)), Event::Device(port)) => {
            resource.per_device && (named.is_none() || port.is_none() || named == *port)
        }
        (None, _) => false,
    }
}

/// The resource of an address and the port that follows it.
fn find(uri: &str) -> Option<(&'static Resource, Option<String>)> {
    ALL.iter().find_map(|resource| match uri.strip_prefix(resource.uri)? {
        "" => Some((resource, None)),
        rest => rest.strip_prefix('/').filter(|port| !port.is_empty()).map(|port| (resource, Some(decode(port)))),
    })
}

/// Percent-encoded text; a `%` without two digits stays.
pub(crate) fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_a_resource_and_a_port() {
        let found = |uri| find(uri).map(|(resource, port)| (resource.uri, port));
        assert_eq!(found("esp://chips"), Some(("esp://chips", None)));
        assert_eq!(found("esp://partitions/sim%3A%2F%2Fa-1"), Some(("esp://partitions", Some("sim://a-1".into()))));
        assert_eq!(found("esp://flash/status//dev/ttyUSB0"), Some(("esp://flash/status", Some("/dev/ttyUSB0".into()))));
        assert_eq!(found("esp://partitionsx"), None);
        assert_eq!(found("esp://partitions/"), None);
        assert_eq!(decode("a%zz%2"), "a%zz%2");
    }

    #[test]
    fn a_console_that_says_something_concerns_its_own_resource() {
        let said = Event::Console("sim://a".into());
        assert!(concerns("esp://console", &said) && concerns("esp://console/sim%3A%2F%2Fa", &said));
        assert!(!concerns("esp://console/sim%3A%2F%2Fb", &said) && !concerns("esp://partitions/sim%3A%2F%2Fa", &said));
    }

    #[test]
    fn an_event_concerns_its_device() {
        let of = |port: &str| Event::Device(Some(port.into()));
        assert!(concerns("esp://chips", &Event::Ports) && !concerns("esp://chips", &of("sim://a")));
        assert!(concerns("esp://partitions", &of("sim://a")) && concerns("esp://partitions/x", &Event::Device(None)));
        assert!(concerns("esp://partitions/sim%3A%2F%2Fa", &of("sim://a")));
        assert!(!concerns("esp://partitions/sim%3A%2F%2Fb", &of("sim://a")) && !concerns("esp://x", &Event::Ports));
    }
}
