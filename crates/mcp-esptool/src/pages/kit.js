"use strict";
// What all pages share: small helpers, and calls of tools, either through the MCP host that shows the page (MCP Apps), or
// over HTTP with the token behind the page's address.
const $ = id => document.getElementById(id);
// Text from devices goes in as text, never as markup.
const el = (name, text, cls) => { const e = document.createElement(name); if (text !== undefined) e.textContent = text; if (cls) e.className = cls; return e; };
const hosted = parent !== window;
const hash = new URLSearchParams(location.hash.slice(1)).get("token");
let token = hash || "";
try { token = hash || sessionStorage.getItem("token") || ""; if (hash) sessionStorage.setItem("token", hash); } catch {}
if (hash) history.replaceState(null, "", location.pathname);
const headers = token ? { Authorization: "Bearer " + token } : {};
const NEEDS_TOKEN = "a token is needed: open the address that the server printed at its start, /station#token=TOKEN (the token is in the file http-token of its state folder)";
// A token that is added to the address of the open page.
if (!hosted) addEventListener("hashchange", () => location.reload());

const host = {
  number: 0, waiting: new Map(), heard: {},
  post(message) { parent.postMessage({ jsonrpc: "2.0", ...message }, "*"); },
  ask(method, params) {
    return new Promise((done, failed) => { const id = ++host.number; host.waiting.set(id, { done, failed }); host.post({ id, method, params }); });
  },
  take(message) {
    if (message.method === undefined) {
      const asked = host.waiting.get(message.id); host.waiting.delete(message.id);
      if (asked) message.error ? asked.failed(new Error(message.error.message)) : asked.done(message.result);
    } else if (message.id !== undefined) {
      if (message.method === "ui/resource-teardown") stopped = true;
      const known = ["ping", "ui/resource-teardown"].includes(message.method);
      host.post(known ? { id: message.id, result: {} } : { id: message.id, error: { code: -32601, message: "not known to this page" } });
    } else (host.heard[message.method] || (() => {}))(message.params || {});
  },
  dress(context) { if (context && context.theme) document.documentElement.dataset.theme = context.theme; },
  async start(name) {
    addEventListener("message", event => { if (event.source === parent && event.data && event.data.jsonrpc === "2.0") host.take(event.data); });
    host.heard["ui/notifications/host-context-changed"] = host.dress;
    const answer = await host.ask("ui/initialize", { protocolVersion: "2026-01-26", appInfo: { name, version: VERSION }, appCapabilities: {} });
    host.dress(answer.hostContext); host.can = answer.hostCapabilities || {};
    host.post({ method: "ui/notifications/initialized", params: {} });
    const size = () => host.post({ method: "ui/notifications/size-changed", params: { width: document.documentElement.scrollWidth, height: Math.ceil(document.body.getBoundingClientRect().height) } });
    new ResizeObserver(size).observe(document.body);
  },
};
let stopped = false;

// The messages of an answer, be it one or a stream of events.
function messages(text) {
  try { return [JSON.parse(text)]; } catch {}
  return text.split("\n").filter(line => line.startsWith("data:") && line.length > 6).map(line => JSON.parse(line.slice(5)));
}

async function overHttp(name, args) {
  const meta = { "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientInfo": { name: "mcp-esptool page", version: VERSION }, "io.modelcontextprotocol/clientCapabilities": {} };
  const own = { "Content-Type": "application/json", Accept: "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": name };
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params: { name, arguments: args, _meta: meta } });
  const answer = await fetch("/mcp", { method: "POST", headers: { ...headers, ...own }, body }), text = await answer.text();
  if (answer.status === 401) throw new Error(NEEDS_TOKEN);
  const last = messages(text).pop();
  if (!last || last.error) throw new Error(last ? last.error.message : "HTTP " + answer.status + ": " + text);
  return last.result;
}

// What a result holds; an error of a tool is thrown, with its next step.
function content(result) {
  if (!result.isError) return result.structuredContent || {};
  const error = (result._meta || {})["mcp-esptool/error"], text = (result.content || []).map(part => part.text || "").join("\n");
  throw Object.assign(new Error(error ? error.message : text), { next: error ? error.next_step : "", code: error ? error.code : "" });
}

async function call(name, args) {
  return content(await (hosted ? host.ask("tools/call", { name, arguments: args }) : overHttp(name, args)));
}

// Tells the model what was done here, where the host passes that on.
function tell(text) { if (hosted && host.can.updateModelContext) host.ask("ui/update-model-context", { content: [{ type: "text", text }] }).catch(() => {}); }

function say(text, bad) { $("live").textContent = text; $("live").className = bad ? "off" : ""; }
function blame(error) { say((error.message || String(error)) + (error.next ? " Next: " + error.next : ""), true); }

// Does something with a device; meanwhile the buttons rest.
async function work(what, act) {
  const resting = [...document.querySelectorAll("button.do")].filter(button => !button.disabled);
  resting.forEach(button => { button.disabled = true; });
  say(what + " …");
  try { const text = await act(); say(text || ""); return true; }
  catch (error) { blame(error); return false; }
  finally { resting.forEach(button => { button.disabled = false; }); }
}

function doing(text, act, cls) { const b = el("button", text, "do" + (cls ? " " + cls : "")); b.type = "button"; b.onclick = act; return b; }

// Acts on what a form holds, also where a host forbids forms to be sent.
function whenSent(form, act) {
  const button = form.querySelector("button"), go = () => { if (!button.disabled && form.reportValidity()) act(Object.fromEntries(new FormData(form))); };
  button.type = "button"; button.onclick = go;
  form.onkeydown = event => { if (event.key === "Enter" && event.target.tagName === "INPUT") { event.preventDefault(); go(); } };
}

function tableOf(names, list, make) {
  const table = el("table"), head = el("tr"), top = el("thead"), body = el("tbody");
  for (const name of names) { const c = el(name ? "th" : "td", name.replace("#", "")); if (name) c.scope = "col"; if (name.startsWith("#")) c.className = "n"; head.append(c); }
  top.append(head); table.append(top, body);
  body.append(...list.map(make));
  if (!list.length) { const r = el("tr"), c = el("td", "none", "none"); c.colSpan = names.length; r.append(c); body.append(r); }
  const roll = el("div", undefined, "roll"); roll.tabIndex = 0; roll.setAttribute("role", "group"); roll.setAttribute("aria-label", names.filter(Boolean).map(n => n.replace("#", "")).join(", ")); roll.append(table);
  return roll;
}
function row(...cells) { const r = el("tr"); for (const cell of cells) { if (cell instanceof HTMLTableCellElement) r.append(cell); else { const c = el("td"); c.append(cell ?? ""); r.append(c); } } return r; }
function figure(text) { return el("td", text, "n"); }
function part(title, ...inside) { const s = el("section"); s.append(el("h2", title), ...inside); return s; }
function listOf(items, cls) { const list = el("ul", undefined, cls); list.append(...items.map(item => el("li", item))); return list; }
const hex = number => "0x" + number.toString(16);
function bytes(number) {
  if (number % 1048576 === 0 && number) return number / 1048576 + "M";
  return number % 1024 === 0 && number ? number / 1024 + "K" : String(number);
}
// A size or address as people write it: 0x10000, 64K, 4MB, 1.5M.
function parsed(text) {
  const found = /^\s*(0x[0-9a-f]+|\d+(?:\.\d+)?)\s*([KM]?)B?\s*$/i.exec(text);
  if (!found) throw new Error("not a number: " + text);
  return Math.round(Number(found[1]) * ({ K: 1024, M: 1048576 }[found[2].toUpperCase()] || 1));
}

// The way to the other pages of this server.
function nav() {
  if (hosted || !PAGES.length) return;
  const list = el("nav"); list.setAttribute("aria-label", "Pages");
  for (const [path, title] of PAGES) { const a = el("a", title); a.href = path; if (location.pathname === path) a.setAttribute("aria-current", "page"); list.append(a); }
  document.querySelector("header").append(list);
}
