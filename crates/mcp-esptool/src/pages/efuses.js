// A plan to burn eFuses, and its confirmation: who burns names the device by the end of its MAC address.
const at = { args: {} };

function burn(data, typed) {
  const wanted = (data.mac || "").replaceAll(":", "").slice(-4);
  if (typed.replaceAll(":", "").toLowerCase() !== wanted.toLowerCase()) return say("these are not the last four digits of this device's MAC address", true);
  return work("burning", async () => {
    const done = await call("esp_efuse_burn", { ...at.args, port: data.port, confirm_token: data.confirm_token });
    tell("The person confirmed plan " + data.plan + " on " + data.port + ": " + done.state);
    fill(done, at.args);
    return { burned: "burned and read back", burned_unreadable: "burned; it can no longer be read back", nothing_to_do: "all of it is burned already" }[done.state] || done.state;
  });
}

function confirming(data) {
  const form = el("form"), label = el("label", "Last four digits of this device's MAC address"), input = el("input"), go = el("button", "Burn permanently", "do grave");
  input.name = "mac_end"; input.autocomplete = "off"; input.required = true; label.append(input);
  form.append(label, go);
  whenSent(form, () => burn(data, input.value.trim()));
  return part("Confirm", el("p", "This cannot be undone. Only this plan on this device is confirmed; it stays valid for 15 minutes."), form);
}

function changed(one) {
  const name = el("td"); name.append(el("b", one.field), el("div", one.about, "other")); if (one.protects) name.append(el("div", "protects " + one.protects.join(", "), "other"));
  const bits = (value, raw) => { const c = el("td", value); if (raw && raw !== value) c.append(el("div", raw, "other")); return c; };
  return row(name, bits(one.before, one.before_hex), bits(one.after, one.after_hex));
}

const colours = { deny: "bad", warn: "warn", info: "none" };

function fill(data, args) {
  if (args) { at.args = { ...args }; delete at.args.confirm_token; }
  $("about").textContent = [data.chip, data.virtual ? "virtual" : "", data.port].filter(Boolean).join(" · ");
  const planned = data.state === "planned", out = [];
  out.push(part(planned ? "Planned" : "State: " + data.state.replaceAll("_", " "), tableOf(["field", "now", "afterwards"], data.changes || [], changed),
    el("p", data.rehearsed ? "Rehearsed on a virtual copy; it came out as planned." : "Not rehearsed.", data.rehearsed ? "good" : "warn")));
  const found = el("ul"); found.append(...(data.findings || []).map(one => el("li", one.severity + ": " + one.text, colours[one.severity] || "")));
  if (found.children.length) out.push(part("Findings", found));
  if ((data.becomes_impossible || []).length) out.push(part("Becomes impossible, permanently", listOf(data.becomes_impossible, "bad")));
  if (data.boot_check) out.push(part("Boot afterwards", el("p", data.boot_check)));
  if ((data.still_possible || []).length) out.push(part("Still possible for an attacker", listOf(data.still_possible)));
  if (data.burn_refused) out.push(part("Not allowed here", el("p", data.burn_refused.message, "bad"), el("p", "A person can change this in " + data.burn_refused.policy_file + ".")));
  else if (planned && data.confirm_token && data.mac) out.push(confirming(data));
  else if (planned) out.push(part("Confirm", el("p", data.next || "")));
  $("view").replaceChildren(...out);
}

view({ tool: "esp_efuse_burn", fields: [{ name: "port", label: "Board", kind: "port" }, { name: "efuse_name", label: "eFuse field", hint: "DIS_USB_JTAG" }, { name: "value", label: "Value", hint: "next bit" }], show: fill });
