//! Pages of the program's own: one kit of style and script, and the views that are made from it. A view shows one tool's result and
//! calls tools, through the MCP host that shows it (MCP Apps) or over HTTP. It loads nothing from elsewhere.

use serde_json::json;

/// The type of pages for MCP hosts.
pub const PAGE_TYPE: &str = "text/html;profile=mcp-app";
/// The name of the extension by which hosts say that they show pages.
pub const EXTENSION: &str = "io.modelcontextprotocol/ui";

const KIT_STYLE: &str = include_str!("kit.css");
const KIT: &str = include_str!("kit.js");
const FRAME: &str = include_str!("frame.html");
const VIEW_STYLE: &str = include_str!("view.css");
const VIEW: &str = include_str!("view.js");

/// A page about the result of a tool.
pub struct View {
    /// Its address for hosts.
    pub uri: &'static str,
    /// Its path over HTTP.
    pub path: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// The tools whose results it shows.
    pub tools: &'static [&'static str],
    script: &'static str,
}

/// All of them.
pub static VIEWS: &[View] = &[
    View {
        uri: "ui://mcp-esptool/flash",
        path: "/flash",
        title: "Flash map",
        about: "The flash in the order of addresses, and its partition table to edit: what becomes of the data is shown before anything is \
                written.",
        tools: &["esp_partition_read", "esp_partition_analyze"],
        script: include_str!("flash.js"),
    },
    View {
        uri: "ui://mcp-esptool/nvs",
        path: "/nvs",
        title: "NVS",
        about: "Keys and values of an NVS partition as a table to edit; secrets are hidden.",
        tools: &["esp_nvs"],
        script: include_str!("nvs.js"),
    },
    View {
        uri: "ui://mcp-esptool/efuses",
        path: "/efuses",
        title: "eFuse review",
        about: "A plan to burn eFuses: before and after, findings, what becomes impossible; a person confirms it there.",
        tools: &["esp_efuse_burn"],
        script: include_str!("efuses.js"),
    },
    View {
        uri: "ui://mcp-esptool/console",
        path: "/console",
        title: "Console",
        about: "The console as it comes, with crashes and findings; takes lines to send.",
        tools: &["esp_console"],
        script: include_str!("console.js"),
    },
    View {
        uri: "ui://mcp-esptool/size",
        path: "/size",
        title: "Size",
        about: "Memory use of a build, and the difference to another one.",
        tools: &["esp_size_analysis"],
        script: include_str!("size.js"),
    },
];

impl View {
    /// The page.
    pub fn html(&self) -> String {
        let text = FRAME.replace("/*TITLE*/", self.title).replace("/*VIEW_STYLE*/", VIEW_STYLE);
        with_kit(&text.replace("/*VIEW*/", VIEW).replace("/*SCRIPT*/", self.script))
    }
}

/// A page with the kit in the places that it leaves for it.
pub fn with_kit(page: &str) -> String {
    let station = [("/station", "Station")];
    let pages: Vec<_> = station.into_iter().chain(VIEWS.iter().map(|view| (view.path, view.title))).collect();
    let facts = format!("const VERSION = {}, PAGES = {};\n", json!(env!("CARGO_PKG_VERSION")), json!(pages));
    page.replace("/*KIT_STYLE*/", KIT_STYLE).replace("/*KIT*/", &(facts + KIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_whole_and_load_nothing() {
        for view in VIEWS {
            let html = view.html();
            assert!(!html.contains("/*VIEW") && !html.contains("/*KIT") && !html.contains("/*SCRIPT"), "{}", view.uri);
            assert_eq!(html.matches("</script>").count(), 1, "{}: a script ends early", view.uri);
            for outside in ["http://", "https://", "import ", "@import", "url("] {
                assert!(!html.contains(outside), "{}: {outside}", view.uri);
            }
            assert!(html.len() < 40_000, "{}: {} bytes", view.uri, html.len());
        }
    }
}
