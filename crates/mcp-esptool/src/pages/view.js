// A page about one tool's result: a host hands it over; without a host, a form asks for the parameters.
function field(one) {
  const label = el("label", one.label), input = el(one.kind === "port" ? "select" : "input");
  input.name = one.name; input.id = "of-" + one.name; if (one.hint) input.placeholder = one.hint;
  label.append(input);
  return label;
}

async function ports(select) {
  try {
    const found = await call("esp_scan_ports", {}), named = (found.ports || []).map(port => port.port);
    select.replaceChildren(...named.map(name => { const o = el("option", name); o.value = name; return o; }));
    say(named.length ? "" : "no board was found; connect one and load this page again", !named.length);
  } catch (error) { blame(error); }
}

async function view({ tool, fields, args: fixed, show }) {
  nav();
  let args = {};
  const load = given => work("reading", async () => show(await call(tool, { ...fixed, ...given }), given));
  if (hosted) {
    host.heard["ui/notifications/tool-input"] = input => { args = input.arguments || {}; };
    host.heard["ui/notifications/tool-result"] = async result => { try { const done = show(content(result), args); say((await done) || ""); } catch (error) { blame(error); } };
    host.heard["ui/notifications/tool-cancelled"] = () => say("the call was cancelled", true);
    await host.start("mcp-esptool " + document.title);
    return;
  }
  const form = el("form"), go = el("button", "Show", "do main"); form.id = "choose";
  form.append(...fields.map(field), go);
  whenSent(form, given => {
    args = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== ""));
    load(args);
  });
  $("view").before(form);
  const select = form.querySelector("select");
  if (select) { say("looking for boards …"); await ports(select); }
}
