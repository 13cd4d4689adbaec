// The console as it comes, with a panel for crashes and findings.
const at = { text: el("pre"), crashes: [], found: new Map(), cursor: "", following: false, run: 0 };
const LONGEST = 400000, WAIT_S = 2;

function crash(one) {
  const s = part("Crash" + (one.core === undefined ? "" : " on core " + one.core) + ": " + (one.culprit || one.sort), el("p", one.reason, "bad"), listOf([...(one.numbers || []), ...(one.details || [])]), el("pre", (one.backtrace || []).join("\n")));
  s.append(el("p", { verified: "ELF file: verified", unverifiable: "ELF file: not verifiable", foreign: "The ELF file is of another build; names are left out.", no_elf: "No ELF file: addresses without names." }[one.elf_match] || "", "none"));
  return s;
}

// A line that was not whole comes again, with what follows.
function add(text) {
  const shown = at.text.textContent, last = shown.slice(shown.lastIndexOf("\n", shown.length - 2) + 1).trimEnd();
  if (last && text.startsWith(last)) at.text.textContent = shown.slice(0, shown.length - last.length - 1);
  at.text.append(text.endsWith("\n") ? text : text + "\n");
}

function take(data) {
  at.port = data.port || at.port; at.cursor = data.cursor || at.cursor;
  const low = at.text.scrollTop + at.text.clientHeight >= at.text.scrollHeight - 8;
  if (data.lost_bytes) at.text.append("[" + data.lost_bytes + " bytes are no longer kept" + (data.log_file ? "; they are in " + data.log_file : "") + "]\n");
  if (data.text) add(data.text);
  if (at.text.textContent.length > LONGEST) at.text.textContent = at.text.textContent.slice(-LONGEST / 2);
  if (low) at.text.scrollTop = at.text.scrollHeight;
  for (const one of data.crashes || []) { at.crashes.push(one); $("crashes").prepend(crash(one)); }
  for (const one of data.findings || []) at.found.set(one.code, one);
  $("found").replaceChildren(...[...at.found.values()].map(one => part(one.cause, el("p", one.remedy), el("div", one.code + ", " + one.confidence + ", seen " + one.times + "×", "none"))));
  $("about").textContent = [at.port, data.state, data.why].filter(Boolean).join(" · ");
  at.state = data.state;
}

async function follow() {
  const run = ++at.run;
  at.following = true; at.toggle.textContent = "Pause";
  while (at.following && !stopped && run === at.run && at.state !== "closed") {
    try { take(await call("esp_console", { action: "read", port: at.port, cursor: at.cursor, timeout_s: WAIT_S })); say("live"); }
    catch (error) { blame(error); at.following = false; }
    if (document.hidden) await new Promise(seen => document.addEventListener("visibilitychange", seen, { once: true }));
    // A device that is away answers at once: ask it once a second.
    if (at.state !== "listening") await new Promise(later => setTimeout(later, 1000));
  }
  if (run === at.run) { at.following = false; at.toggle.textContent = "Follow"; }
}

function send(text) {
  return work("sending", async () => { take(await call("esp_console", { action: "send", port: at.port, send: text + "\n", cursor: at.cursor })); return "sent"; });
}

async function reset() {
  at.following = false; await at.loop;
  take(await call("esp_console", { action: "open", port: at.port, reset: true }));
  at.loop = follow();
  return "reset";
}

function layout() {
  const form = el("form"), label = el("label", "Send a line"), input = el("input"); input.name = "line"; input.autocomplete = "off"; label.append(input);
  form.append(label, el("button", "Send", "do main"));
  whenSent(form, () => { send(input.value); input.value = ""; });
  at.toggle = doing("Pause", () => { if (at.following) { at.following = false; say("paused here; the device goes on"); } else at.loop = follow(); });
  const buttons = el("div", undefined, "row");
  buttons.append(at.toggle, doing("Reset the device", () => work("resetting", reset)),
    doing("Close the console", () => work("closing", async () => { at.following = false; await at.loop; take(await call("esp_console", { action: "close", port: at.port })); return "closed"; })));
  at.text.tabIndex = 0; at.text.setAttribute("role", "log"); at.text.setAttribute("aria-label", "Console");
  const crashes = el("div"), found = el("div"); crashes.id = "crashes"; found.id = "found";
  $("view").replaceChildren(crashes, part("Console", at.text, buttons, form), found);
}

async function fill(data) {
  if (data.consoles && !data.cursor) {
    const list = tableOf(["port", "state", "#bytes", ""], data.consoles, one => row(one.port, one.state + (one.why ? ": " + one.why : ""), figure(one.bytes), doing("show", () => work("opening", async () => fill(await call("esp_console", { action: "read", port: one.port }))))));
    return void $("view").replaceChildren(part("Open consoles", list));
  }
  layout(); take(data);
  if (data.state !== "closed") at.loop = follow();
}

view({ tool: "esp_console", args: { action: "open" }, fields: [{ name: "port", label: "Board", kind: "port" }, { name: "elf_file", label: "ELF file of the app", hint: "found by its SHA-256" }], show: fill });
