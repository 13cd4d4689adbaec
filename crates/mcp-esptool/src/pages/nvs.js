// An NVS partition as a table; values are changed one by one, as the device does it.
const at = {};

const where = () => ({ port: at.port, ...(at.partition ? { partition: at.partition } : {}), ...at.keys });
const shown = value => typeof value === "string" ? value : JSON.stringify(value);

async function list(secrets) {
  return fill(await call("esp_nvs", { ...where(), action: "list", ...(secrets ? { show_values: true } : {}) }));
}

function change(what, args) {
  return work(what, async () => {
    const done = await call("esp_nvs", { ...where(), ...args });
    tell("The person changed NVS on " + at.port + ": " + args.action + " " + args.namespace + "/" + args.key);
    await list(at.secrets);
    return (done.verified ? "done and read back" : "done") + (done.copy ? "; the partition as it was: " + done.copy.file : "");
  });
}

function valueOf(text, type) {
  if (/^[iu]\d+$/.test(type) || type === "") {
    if (/^-?\d+$/.test(text.trim())) return Number.isSafeInteger(Number(text)) ? Number(text) : text.trim();
    if (type) throw new Error(type + " takes a whole number, not " + text);
  }
  return text;
}

function entry(one) {
  const input = el("input"), name = one.namespace + "/" + one.key, plain = !one.hidden && one.type !== "binary";
  input.setAttribute("aria-label", "value of " + name); input.value = one.hidden ? "" : shown(one.value ?? "");
  if (one.hidden) input.placeholder = "hidden";
  const keep = doing("set", () => { try { change("writing", { action: "set", namespace: one.namespace, key: one.key, value: valueOf(input.value, one.type) }); } catch (error) { blame(error); } });
  const drop = doing("delete", () => change("deleting", { action: "delete", namespace: one.namespace, key: one.key }), "grave");
  keep.setAttribute("aria-label", "set " + name); drop.setAttribute("aria-label", "delete " + name);
  const buttons = el("span"); if (one.type !== "binary") buttons.append(keep, " "); buttons.append(drop);
  return row(one.namespace, one.key, one.type, plain || one.hidden ? input : el("code", shown(one.value ?? "") + (one.size_bytes > 64 ? " …" : "")), buttons);
}

function adding() {
  const form = el("form");
  for (const [name, text] of [["namespace", "Namespace"], ["key", "Key"], ["value", "Value"]]) { const l = el("label", text), i = el("input"); i.name = name; i.required = name !== "value"; l.append(i); form.append(l); }
  form.append(el("button", "Add", "do"));
  whenSent(form, given => change("writing", { action: "set", namespace: given.namespace, key: given.key, value: valueOf(given.value, "") }));
  return form;
}

async function fill(data, args) {
  if (args) at.keys = Object.fromEntries(["key_file", "hmac_key_file"].filter(name => args[name]).map(name => [name, args[name]]));
  at.port = data.port || at.port; at.partition = data.partition || at.partition;
  if (data.action && data.action !== "list") return list(false);
  $("about").textContent = [data.chip, data.mac, data.port].filter(Boolean).join(" · ");
  const entries = data.entries || [], hidden = entries.some(one => one.hidden), out = [];
  const title = (data.partition || "nvs") + " at " + data.address + ", " + data.size + (data.encrypted ? ", encrypted" : "");
  const about = el("div", data.entry_count + " entries, " + data.free_entries + " places of 32 bytes free" + (entries.length < data.entry_count ? "; the first " + entries.length + " are shown" : ""), "none");
  const secrets = doing(at.secrets ? "Hide secrets" : "Show secrets", () => { at.secrets = !at.secrets; work("reading", () => list(at.secrets)); });
  const buttons = el("div", undefined, "row"); buttons.append(doing("Read again", () => work("reading", () => list(at.secrets)))); if (hidden || at.secrets) buttons.append(secrets);
  out.push(part(title, tableOf(["namespace", "key", "type", "value", ""], entries, entry), about, buttons), part("Add a value", adding()));
  if ((data.findings || []).length) out.push(part("Findings", listOf(data.findings.map(one => one.severity + ": " + one.text))));
  $("view").replaceChildren(...out);
}

view({ tool: "esp_nvs", args: { action: "list" }, fields: [{ name: "port", label: "Board", kind: "port" }, { name: "partition", label: "Partition", hint: "nvs" }], show: fill });
