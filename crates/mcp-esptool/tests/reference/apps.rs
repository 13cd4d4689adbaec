//! The pages of MCP Apps in a real Chromium: shown by the host side of the SDK `@modelcontextprotocol/ext-apps`, and alone
//! over HTTP.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::browser::{Browser, looks};
use super::conformance::{node, node_packages};
use crate::http::Server;
use crate::reference::{self, Stop, fail, trial};

/// Longest wait for anything that a page shall show.
const PATIENCE: Duration = Duration::from_secs(60);
const PORT: &str = "sim://esp32c3-apps";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("MCP Apps: a host shows flash, NVS, eFuses and console, and passes calls on", in_a_host),
        trial("MCP Apps: size difference of two builds in a host", size_in_a_host),
        trial("pages over HTTP: flash, NVS, eFuses, console and size in light, dark and narrow", over_http),
    ]
}

/// The host, bundled for a browser. `name`: the trial, which has files of its own.
fn host_script(name: &str) -> Result<String, Stop> {
    static READY: OnceLock<Result<std::path::PathBuf, String>> = OnceLock::new();
    let packages = node_packages(&READY, "node-apps", "mcp-apps.json")?;
    let dir = reference::scratch(&format!("{name}-bundle"));
    // Beside the packages, where imports are looked for.
    let source = packages.join(format!("host-{}-{name}.mjs", std::process::id()));
    fs::copy(reference::root().join("tests/support/apps_host.mjs"), &source)?;
    let bundle = dir.join("host.js");
    let mut command = Command::new(node()?.join("bin/node"));
    command.arg(packages.join("node_modules/rolldown/bin/cli.mjs")).arg(&source);
    let made = reference::run(command.args(["--format", "iife", "--file"]).arg(&bundle));
    fs::remove_file(&source)?;
    made?;
    let text = fs::read_to_string(&bundle)?;
    let _ = fs::remove_dir_all(&dir);
    Ok(text)
}

/// A browser in which the SDK's host shows a page, and the server behind it.
struct Host {
    browser: Browser,
    server: Server,
}

impl Host {
    fn start(name: &str) -> Result<Self, Stop> {
        let dir = reference::scratch(name);
        let mut browser = Browser::start(&dir)?;
        browser.size(1280, 800)?;
        browser.ask(&format!("{}; true", host_script(name)?))?;
        Ok(Self { browser, server: Server::start(&dir, &[]) })
    }

    fn tool(&self, name: &str, arguments: Value) -> Value {
        self.server.modern("tools/call", json!({"name": name, "arguments": arguments})).result()
    }

    /// Calls a tool as the model would, and shows its page with the result.
    fn show(&mut self, tool: &str, arguments: Value) -> Result<(), Stop> {
        let result = self.tool(tool, arguments.clone());
        let page = self.page_of(tool)?;
        let script = format!(
            "window.shown = ''; show({}, 'dark', {arguments}, {result}).then(() => {{ shown = 'yes' }}, e => {{ shown = String(e) }}); true",
            json!(page)
        );
        self.browser.ask(&script)?;
        self.until("shown === 'yes'")
    }

    /// The page that the list of tools names for a client which shows pages.
    fn page_of(&self, tool: &str) -> Result<String, Stop> {
        let tools = self.server.modern_as(&shows_pages(), "tools/list", json!({})).result();
        let named = tools["tools"].as_array().into_iter().flatten().find(|one| one["name"] == tool);
        let uri = named.map(|one| one["_meta"]["ui"]["resourceUri"].clone()).unwrap_or_default();
        let page = self.server.modern("resources/read", json!({"uri": uri})).result();
        let content = &page["contents"][0];
        if content["mimeType"] != "text/html;profile=mcp-app" {
            return fail(format!("{tool}: {uri}: {}", content["mimeType"]));
        }
        Ok(content["text"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits, and meanwhile passes the page's requests on to the server, as a host does.
    fn until(&mut self, script: &str) -> Result<(), Stop> {
        let begin = Instant::now();
        while self.browser.ask(script)? != true {
            let asked = self.browser.ask("asked.shift() ?? null")?;
            if begin.elapsed() > PATIENCE {
                let text = self.browser.ask("document.querySelector('iframe')?.contentDocument.body.innerText")?;
                return fail(format!("not seen: {script}; the page says: {text}"));
            }
            if let (Some(method), Some(id)) = (asked["method"].as_str(), asked["id"].as_u64()) {
                let result = self.server.modern(method, asked["params"].clone()).result();
                self.browser.ask(&format!("answered({id}, {result}); true"))?;
            } else {
                std::thread::sleep(Duration::from_millis(30));
            }
        }
        Ok(())
    }

    /// The same for an expression about the page's own document.
    fn page(&mut self, script: &str) -> Result<(), Stop> {
        self.until(&within(script))
    }

    fn act(&mut self, script: &str) -> Result<(), Stop> {
        self.browser.ask(&within(&format!("({script}, true)"))).map(drop)
    }

    /// Presses a button as soon as it can be pressed.
    fn press(&mut self, button: &str) -> Result<(), Stop> {
        self.page(&format!(
            "[...document.querySelectorAll('button')].some(b => b.textContent === '{button}' && !b.disabled)"
        ))?;
        self.act(&format!("[...document.querySelectorAll('button')].find(b => b.textContent === '{button}').click()"))
    }

    fn says(&mut self, words: &str) -> Result<(), Stop> {
        self.page(&format!("document.getElementById('live').textContent.includes('{words}')"))
    }
}

fn within(script: &str) -> String {
    format!("(document => {{ return {script}; }})(document.querySelector('iframe').contentDocument)")
}

/// What a client that shows pages says of itself.
fn shows_pages() -> Value {
    json!({"extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}}})
}

/// A virtual device with a partition table and settings.
fn prepare(server: &Server) {
    let tool = |name: &str, arguments: Value| {
        server.modern("tools/call", json!({"name": name, "arguments": arguments}));
    };
    tool("esp_partition_create", json!({"layout": "two_ota", "output_file": "table.bin", "flash_size": "4MB"}));
    tool("esp_partition_flash", json!({"port": PORT, "partition_file": "table.bin"}));
    let data = json!({"wifi": {"ssid": "Home", "password": "not-shown"}, "app": {"count": 7}});
    tool("esp_nvs", json!({"port": PORT, "action": "set", "data": data}));
}

fn in_a_host() -> Result<(), Stop> {
    let mut host = Host::start("apps")?;
    prepare(&host.server);
    flash_map(&mut host)?;
    nvs_table(&mut host)?;
    efuse_review(&mut host)?;
    live_console(&mut host)?;
    station(&mut host)?;
    // The sandbox is that of the test's host, whose page is of the same origin; the SDK writes down each message.
    let noise = ["can escape its sandboxing", "\"type\":\"debug\""];
    host.browser.complaints.retain(|text| noise.iter().all(|part| !text.contains(part)));
    match host.browser.complaints.is_empty() {
        true => Ok(()),
        false => fail(host.browser.complaints.join("\n")),
    }
}

/// A border is moved, the change is checked and then written.
fn flash_map(host: &mut Host) -> Result<(), Stop> {
    host.show("esp_partition_read", json!({"port": PORT}))?;
    host.page("document.querySelectorAll('.map .app').length === 3")?;
    host.act("document.querySelectorAll('.edge')[3].dispatchEvent(new document.defaultView.KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))")?;
    host.press("Check")?;
    host.says("nothing is written yet")?;
    host.page("/factory\\s+resized\\s+ota_0\\s+moved\\s+ota_1\\s+stays/.test(document.body.innerText)")?;
    let offset = |host: &Host| {
        let table = host.tool("esp_partition_read", json!({"port": PORT}))["structuredContent"].take();
        table["partitions"][4]["offset"].as_str().unwrap_or_default().to_owned()
    };
    if offset(host) != "0x110000" {
        return fail("the check has written");
    }
    host.press("Write to the device")?;
    host.says("written and verified")?;
    if offset(host) != "0x120000" {
        return fail(format!("ota_0 is at {}", offset(host)));
    }
    // The model hears of it, the host of the page's size; the page wears the host's theme.
    host.until("told.length === 1 && told[0].content[0].text.includes('ota_0 0x120000') && sizes.length > 0")?;
    host.page("getComputedStyle(document.body).backgroundColor === 'rgb(16, 21, 27)'")
}

fn nvs_table(host: &mut Host) -> Result<(), Stop> {
    host.show("esp_nvs", json!({"port": PORT}))?;
    let rows = |count: u32| format!("document.querySelectorAll('tbody tr').length === {count}");
    host.page(&rows(3))?;
    host.page("!document.body.innerHTML.includes('not-shown')")?;
    host.act("document.querySelector('[aria-label=\"value of wifi/ssid\"]').value = 'Office'")?;
    host.act("document.querySelector('[aria-label=\"set wifi/ssid\"]').click()")?;
    host.says("read back")?;
    host.act("document.querySelector('[aria-label=\"delete app/count\"]').click()")?;
    host.page(&rows(2))?;
    for (name, value) in [("namespace", "app"), ("key", "mode"), ("value", "12")] {
        host.act(&format!("document.querySelector('[name={name}]').value = '{value}'"))?;
    }
    host.press("Add")?;
    host.page(&rows(3))?;
    let entries = host.tool("esp_nvs", json!({"port": PORT}))["structuredContent"]["entries"].to_string();
    let wanted = entries.contains("Office") && entries.contains("\"value\":12") && !entries.contains("count");
    if wanted { Ok(()) } else { fail(entries) }
}

/// Only who names the device burns.
fn efuse_review(host: &mut Host) -> Result<(), Stop> {
    let plan = json!({"port": PORT, "efuse_name": "DIS_USB_JTAG", "value": "1"});
    let state = |host: &Host| host.tool("esp_efuse_burn", plan.clone())["structuredContent"]["state"].clone();
    host.show("esp_efuse_burn", plan.clone())?;
    host.page("/DIS_USB_JTAG disables debugging permanently/.test(document.body.innerText)")?;
    let typed = |digits: &str| {
        format!(
            "document.querySelector('[name=mac_end]').value = '{digits}', document.querySelector('button.grave').click()"
        )
    };
    host.act(&typed("0000"))?;
    host.says("not the last four digits")?;
    if state(host) != "planned" {
        return fail("a wrong address has burned");
    }
    // The plan was made again by the line above; the page shows a fresh one.
    host.show("esp_efuse_burn", plan.clone())?;
    host.page("document.querySelector('[name=mac_end]') !== null")?;
    let mac = host.tool("esp_mac_address_read", json!({"port": PORT}))["structuredContent"]["mac"].take();
    let mac = mac.as_str().unwrap_or_default().replace(':', "");
    host.act(&typed(&mac[mac.len().saturating_sub(4)..]))?;
    host.says("burned and read back")?;
    if state(host) == "nothing_to_do" { Ok(()) } else { fail(state(host).to_string()) }
}

fn live_console(host: &mut Host) -> Result<(), Stop> {
    host.show("esp_console", json!({"port": PORT, "action": "open"}))?;
    host.press("Reset the device")?;
    host.page("document.querySelector('pre').textContent.includes('rst:0x')")?;
    host.page("/invalid header|blank flash/.test(document.body.innerText)")?;
    host.press("Close the console")?;
    host.page("document.getElementById('about').textContent.includes('closed')")
}

/// The station's page asks through the host.
fn station(host: &mut Host) -> Result<(), Stop> {
    host.show("esp_batch_program", json!({"ports": ["sim://esp32c3-x"], "firmware": "none.toml"}))?;
    host.says("live")?;
    host.page("document.getElementById('empty').hidden === false")
}

fn size_in_a_host() -> Result<(), Stop> {
    let corpus = reference::corpus()?;
    let mut host = Host::start("apps-size")?;
    let dir = reference::scratch("apps-size-files");
    for (name, build) in [("new.map", "hello-c3"), ("old.map", "sht40-c2")] {
        fs::copy(corpus.join("build").join(build).join("bootloader_bootloader.map"), dir.join(name))?;
    }
    host.server = Server::start(&dir, &[]);
    host.show("esp_size_analysis", json!({"map_file": "new.map", "diff": "old.map"}))?;
    host.page("/libbootloader_support\\.a\\s+16,069\\s+16,208\\s+\\+139/.test(document.body.innerText)")?;
    host.act("(s => { s.value = 'symbols'; s.onchange(); })(document.querySelector('select'))")?;
    host.page("document.querySelectorAll('#details tbody tr').length > 5")
}

fn over_http() -> Result<(), Stop> {
    let dir = reference::scratch("apps-http");
    let mut browser = Browser::start(&dir)?;
    let server = Server::start(&dir, &[]);
    prepare(&server);
    let home = format!("http://{}", server.address);
    browser.call("Page.navigate", json!({"url": format!("{home}/flash#token={}", server.token)}))?;
    type Page<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    let pages: [Page<'_>; 4] = [
        ("flash", &[], "document.querySelectorAll('.map .app').length === 3"),
        ("nvs", &[], "document.querySelectorAll('tbody tr').length === 3"),
        (
            "efuses",
            &[("efuse_name", "DIS_PAD_JTAG"), ("value", "1")],
            "document.querySelector('[name=mac_end]') !== null",
        ),
        ("console", &[], "document.querySelector('pre') !== null"),
    ];
    for (name, fields, seen) in pages {
        browser.size(1280, 800)?;
        if name != "flash" {
            browser.call("Page.navigate", json!({"url": format!("{home}/{name}")}))?;
        }
        browser
            .wait_for(&format!("location.pathname === '/{name}' && document.querySelector('select')?.value !== ''"))?;
        browser.wait_for(&format!(
            "[...(document.querySelector('select')?.options ?? [])].some(o => o.value === '{PORT}')"
        ))?;
        browser.ask(&format!("document.querySelector('select').value = '{PORT}'"))?;
        for (field, value) in fields {
            browser.ask(&format!("document.getElementById('of-{field}').value = '{value}'"))?;
        }
        browser.ask("document.querySelector('#choose button').click()")?;
        browser.wait_for(seen)?;
        browser.wait_for("document.getElementById('live').className !== 'off'")?;
        looks(&mut browser, &dir, name)?;
    }
    size_form(&mut browser, &home, &dir)?;
    stays_home(&mut browser, &home)
}

/// A page without a board; a file that is not there is reported with its next step.
fn size_form(browser: &mut Browser, home: &str, dir: &Path) -> Result<(), Stop> {
    browser.size(1280, 800)?;
    browser.call("Page.navigate", json!({"url": format!("{home}/size")}))?;
    browser.wait_for("document.getElementById('of-elf_file') !== null")?;
    browser.ask(
        "document.getElementById('of-elf_file').value = 'none.elf', document.querySelector('#choose button').click()",
    )?;
    browser.wait_for("/none\\.elf.* Next: /.test(document.getElementById('live').textContent)")?;
    looks(browser, dir, "size")
}

fn stays_home(browser: &mut Browser, home: &str) -> Result<(), Stop> {
    let own = |url: &&String| url.starts_with(home) || url.starts_with("about:");
    let strange: BTreeSet<&String> = browser.requests.iter().filter(|url| !own(url)).collect();
    if !strange.is_empty() {
        return fail(format!("a page asks elsewhere: {strange:?}"));
    }
    browser.complaints.retain(|text| !text.contains("favicon.ico"));
    if browser.complaints.is_empty() { Ok(()) } else { fail(browser.complaints.join("\n")) }
}
