//! A real Chromium over its debugging pipe, and the station page in it: it loads, lives, reads well and stays at home.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::http::Server;
use crate::reference::{self, Skip, Stop, fail, trial};

/// Longest wait for anything that the page shall show.
const PATIENCE: Duration = Duration::from_secs(90);
/// Devices that are produced while the page is open.
const DEVICES: usize = 6;
/// Smallest contrast of text, as WCAG AA asks for.
const CONTRAST: f64 = 4.5;

pub fn trials() -> Vec<Trial> {
    vec![trial("station page: live in Chromium, light, dark and narrow", station_page)]
}

/// Chromium under any of its names.
fn chromium() -> Result<PathBuf, Stop> {
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let given = std::env::var_os("MCP_ESPTOOL_CHROMIUM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name)));
    let found = given.into_iter().chain(places).find(|place| place.is_file());
    found.ok_or_else(|| Skip("no Chromium (install it, or set MCP_ESPTOOL_CHROMIUM)".into()).into())
}

/// A browser with one page.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    next: u64,
    /// Addresses that were asked for.
    pub requests: BTreeSet<String>,
    /// Whatever the console, the log and scripts complained about.
    pub complaints: Vec<String>,
}

impl Browser {
    pub fn start(home: &Path) -> Result<Self, Stop> {
        let chromium = chromium()?;
        // The pipe is on the descriptors 3 and 4.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 >/dev/null 2>/dev/null"]).arg(chromium);
        command.args(["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
        command.args(["--disable-dev-shm-usage", "--disable-background-networking", "--force-device-scale-factor=1"]);
        command.arg(format!("--user-data-dir={}", home.join("profile").display())).arg("about:blank");
        let mut child = command.env("HOME", home).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else { return fail("no pipe") };
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let parts = BufReader::new(output).split(0);
            let read = parts.map_while(Result::ok).filter_map(|part| serde_json::from_slice(&part).ok());
            let _ = read.map(|message| sender.send(message)).all(|sent| sent.is_ok());
        });
        let (requests, complaints) = (BTreeSet::new(), Vec::new());
        let mut browser = Self { child, input, messages, session: None, next: 0, requests, complaints };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach)?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, Stop> {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input.write_all(message.to_string().as_bytes())?;
        self.input.write_all(&[0])?;
        loop {
            let Ok(message) = self.messages.recv_timeout(PATIENCE) else {
                return fail(format!("Chromium does not answer {method}"));
            };
            if message["id"] == self.next {
                return match message.get("error") {
                    Some(error) => fail(format!("{method}: {error}")),
                    None => Ok(message["result"].clone()),
                };
            }
            self.note(&message);
        }
    }

    fn note(&mut self, message: &Value) {
        let about = &message["params"];
        match message["method"].as_str().unwrap_or_default() {
            "Network.requestWillBeSent" => {
                self.requests.insert(about["request"]["url"].as_str().unwrap_or_default().to_owned());
            }
            "Runtime.exceptionThrown" => self.complaints.push(about["exceptionDetails"].to_string()),
            "Runtime.consoleAPICalled" => self.complaints.push(about.to_string()),
            "Log.entryAdded" => self.complaints.push(about["entry"].to_string()),
            _ => {}
        }
    }

    /// The value of an expression in the page.
    pub fn ask(&mut self, script: &str) -> Result<Value, Stop> {
        let params = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", params)?;
        match answer.get("exceptionDetails") {
            Some(details) => fail(format!("{script}: {details}")),
            None => Ok(answer["result"]["value"].clone()),
        }
    }

    pub fn wait_for(&mut self, script: &str) -> Result<(), Stop> {
        let begin = Instant::now();
        while self.ask(script)? != true {
            if begin.elapsed() > PATIENCE {
                let text = self.ask("document.body.innerText")?;
                return fail(format!("not seen: {script}; the page says: {text}"));
            }
            std::thread::sleep(Duration::from_millis(40));
        }
        Ok(())
    }

    pub fn size(&mut self, width: u32, height: u32) -> Result<(), Stop> {
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", screen).map(drop)
    }

    pub fn scheme(&mut self, scheme: &str) -> Result<(), Stop> {
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", media).map(drop)
    }

    pub fn picture(&mut self, file: &Path) -> Result<(), Stop> {
        let shot = self.call("Page.captureScreenshot", json!({"format": "png"}))?;
        let text = shot["data"].as_str().unwrap_or_default();
        fs::write(file, decoded(text))?;
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.call("Browser.close", json!({}));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Base64, for the pictures.
fn decoded(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let sixes = text.bytes().filter_map(|byte| alphabet.iter().position(|known| *known == byte));
    let (mut out, mut word, mut bits) = (Vec::new(), 0usize, 0);
    for six in sixes {
        word = (word << 6 | six) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits & 0xff) as u8);
        }
    }
    out
}

/// The least contrast of any text with its background, as WCAG computes it, and where that is.
const LEAST_CONTRAST: &str = r"(() => {
  const light = c => { const [r, g, b] = c.match(/[\d.]+/g).map(Number).map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\)$/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
  let least = [99, ''];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length || /SCRIPT|STYLE/.test(e.tagName)) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < least[0]) least = [ratio, e.className + ' ' + e.tagName + ': ' + e.textContent.slice(0, 40)];
  }
  return least; })()";

/// A folder with a recipe and pools.
fn folder() -> Result<PathBuf, Stop> {
    let dir = reference::scratch("browser");
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
        command.current_dir(&dir).env("MCP_ESPTOOL_STATE_DIR", dir.join("state"));
        reference::run(command.args(args)).map(drop)
    };
    run(&["recipe", "new", "blink.toml", "--chip", "esp32c3"])?;
    run(&["ledger", "add-pool", "pool=serials", "kind=serial", "prefix=SN-", "count=100"])?;
    run(&["ledger", "add-pool", "pool=macs", "kind=mac", "first=02:00:00:00:10:00", "step=4", "count=100"])?;
    Ok(dir)
}

fn produce(server: &Server, ports: &Value) {
    let batch = json!({"ports": ports, "firmware": "blink.toml", "timeout_s": 100, "retries": 0, "background": true});
    server.modern("tools/call", json!({"name": "esp_batch_program", "arguments": batch}));
}

fn station_page() -> Result<(), Stop> {
    let dir = folder()?;
    let mut browser = Browser::start(&dir)?;
    // Over HTTP a call reaches other addresses only when the configuration names them.
    let remote = "remote_ports=socket://127.0.0.1:9";
    let server = Server::start(&dir, &["--set", "station=line-3", "--set", remote]);
    let home = format!("http://{}/", server.address);
    browser.size(1280, 800)?;
    browser.scheme("light")?;
    // Without a token it says what to do, and shows nothing.
    browser.call("Page.navigate", json!({"url": home}))?;
    browser.wait_for("document.getElementById('live')?.textContent.includes('a token is needed')")?;
    browser.complaints.retain(|text| !text.contains("401"));
    browser.call("Page.navigate", json!({"url": format!("{home}station#token={}", server.token)}))?;
    browser.wait_for("document.getElementById('live')?.textContent === 'live'")?;
    if browser.ask("location.href")? != format!("{home}station") {
        return fail("the token stays in the address");
    }
    watch(&mut browser, &server)?;
    another_station(&mut browser, &dir)?;
    looks(&mut browser, &dir, "station")?;
    if let Some(strange) = browser.requests.iter().find(|url| !url.starts_with(&home) && !url.starts_with("about:")) {
        return fail(format!("the page asks elsewhere: {strange}"));
    }
    if !browser.complaints.is_empty() {
        return fail(browser.complaints.join("\n"));
    }
    drop(browser);
    if std::env::var_os("MCP_ESPTOOL_KEEP").is_none() {
        // The browser may still be writing to its profile.
        let _ = fs::remove_dir_all(&dir);
    }
    Ok(())
}

/// Slots come, run and end while somebody looks; one of them fails.
fn watch(browser: &mut Browser, server: &Server) -> Result<(), Stop> {
    // From now on the page keeps what it showed of each slot.
    browser.ask(
        "window.seen = {}; new MutationObserver(() => { for (const e of document.querySelectorAll('.slot')) \
         (seen[e.dataset.port] ||= new Set()).add(e.className.slice(5)).add(e.querySelector('.what').textContent.split(':')[0]); }).observe(document.getElementById('slots'), \
         {childList: true, subtree: true, attributes: true, characterData: true}); true",
    )?;
    produce(server, &json!([format!("sim://esp32c3-[1-{DEVICES}]"), "socket://127.0.0.1:9"]));
    let count = |class: &str| format!("document.querySelectorAll('.slot.{class}').length");
    browser.wait_for(&format!("{} === {DEVICES} && {} === 1", count("pass"), count("fail")))?;
    let states =
        browser.ask("Object.values(seen).filter(s => s.has('running') && s.has('write') && s.has('pass')).length")?;
    if states.as_u64().unwrap_or(0) == 0 {
        return fail("no slot was seen running and writing");
    }
    // Every device counts, also the one that never said who it is.
    browser.wait_for(&format!(
        "/\\b{DEVICES}\\s*passed[^]*\\b1\\s*not passed[^]*85.7 %/.test(document.getElementById('numbers').innerText)"
    ))?;
    browser.wait_for("document.querySelector('.slot.fail .next').textContent.length > 10")?;
    browser.wait_for(
        "[...document.querySelectorAll('.slot .head b')].map(e => e.textContent).join() === '1,2,3,4,5,6,7'",
    )?;
    browser.wait_for("/^Slot \\d: /.test(document.getElementById('said').textContent)")?;
    browser.wait_for("/^Slot \\d: .*Station line-3/.test(document.title)")?;
    // The unit's history is one click away.
    browser.ask("document.querySelector('.slot.pass .id button').click()")?;
    let history = "document.getElementById('history').innerText";
    browser.wait_for(&format!("document.getElementById('unit').open && /SN-0000\\d · VERIFIED/.test({history})"))?;
    accessible(browser, "a unit's history")?;
    browser.ask("document.getElementById('unit').close()")?;
    // A serial number leads to its unit too, and its label can be printed.
    browser.ask("document.getElementById('named').value = 'sn-00003'; document.getElementById('find').requestSubmit(); window.print = () => { window.printed = document.getElementById('label').textContent; }")?;
    browser.wait_for(&format!("document.getElementById('unit').open && /SN-00003/.test({history})"))?;
    browser.ask("document.querySelector('#history button').click()")?;
    browser.wait_for("/SN:SN-00003 MAC:/.test(window.printed)")?;
    browser.ask("document.getElementById('unit').close()").map(drop)
}

/// What another station does with the same ledger is shown here.
fn another_station(browser: &mut Browser, dir: &Path) -> Result<(), Stop> {
    browser.wait_for("document.getElementById('others').hidden")?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    command.current_dir(dir).env("MCP_ESPTOOL_STATE_DIR", dir.join("state"));
    command.args(["call", "esp_batch_program", "firmware=blink.toml", "ports=[\"sim://esp32c3-other\"]"]);
    reference::run(command.args(["--set", "station=line-4"]))?;
    browser.wait_for("/line-4\\s+1 of 1\\s+PASSED/.test(document.getElementById('stations').innerText)")?;
    browser.wait_for("document.getElementById('stations').innerText.includes('this one')")
}

/// axe-core finds nothing.
pub fn accessible(browser: &mut Browser, what: &str) -> Result<(), Stop> {
    let axe = super::conformance::packages()?.join("node_modules/axe-core/axe.min.js");
    browser.ask(&format!("{}; true", fs::read_to_string(axe)?))?;
    let run = "axe.run().then(found => found.violations.map(one => one.id + ': ' + one.nodes.map(node => node.html).join(' | ')))";
    let found = browser.ask(run)?;
    if found.as_array().is_none_or(|found| !found.is_empty()) {
        return fail(format!("{what}: axe-core found {found}"));
    }
    Ok(())
}

/// It fits, and can be read, in light, dark and on a telephone.
pub fn looks(browser: &mut Browser, dir: &Path, what: &str) -> Result<(), Stop> {
    for (scheme, width, height) in [("light", 1280, 800), ("dark", 1280, 800), ("light", 360, 740)] {
        browser.scheme(scheme)?;
        browser.size(width, height)?;
        browser
            .wait_for(&format!("innerWidth === {width} && matchMedia('(prefers-color-scheme: {scheme})').matches"))?;
        browser.picture(&dir.join(format!("{what}-{scheme}-{width}.png")))?;
        accessible(browser, &format!("{what}, {scheme} {width}"))?;
        let over = browser.ask("document.documentElement.scrollWidth - innerWidth")?;
        if over.as_i64().unwrap_or(1) > 0 {
            return fail(format!("{what}, {scheme} {width}: {over} pixels too wide"));
        }
        let least = browser.ask(LEAST_CONTRAST)?;
        if least[0].as_f64().unwrap_or(0.0) < CONTRAST {
            return fail(format!("{what}, {scheme} {width}: too little contrast: {least}"));
        }
        let dark = browser.ask("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] < 128")?;
        if dark != (scheme == "dark") {
            return fail(format!("{scheme}: the background is of the other scheme"));
        }
    }
    Ok(())
}
