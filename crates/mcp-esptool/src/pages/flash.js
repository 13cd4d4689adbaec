// The flash in the order of addresses, and its partition table to edit.
const state = { port: "", table: 0x8000, size: 0, rows: [], before: [], mac: "", plan: null, file: "" };

function kind(row) { return row.type === "app" ? "app" : row.type === "data" ? "data" : "system"; }
const end = row => row.offset + row.size;
const step = row => row.type === "app" ? 0x10000 : 0x1000;
const isNew = row => !state.before.some(old => old.name === row.name && old.offset === row.offset && old.size === row.size && old.type === row.type && old.subtype === row.subtype);

function edited() { state.plan = null; draw(); }

// The border between a partition and what follows it.
function edge(at, scale) {
  const bar = el("div", undefined, "edge"), row = state.rows[at], next = state.rows[at + 1];
  const by = Math.max(step(row), next && end(row) === next.offset ? step(next) : 0x1000);
  const most = () => next ? (end(row) === next.offset ? end(next) - by : next.offset) : state.size;
  bar.tabIndex = 0; bar.setAttribute("role", "separator"); bar.setAttribute("aria-orientation", "vertical");
  bar.setAttribute("aria-label", "end of " + row.name); bar.setAttribute("aria-valuenow", end(row)); bar.setAttribute("aria-valuetext", hex(end(row)));
  bar.setAttribute("aria-valuemin", row.offset + by); bar.setAttribute("aria-valuemax", most());
  const touching = next && end(row) === next.offset;
  const move = to => {
    const place = Math.min(Math.max(Math.round(to / by) * by, row.offset + by), most());
    if (place === end(row)) return;
    if (touching) { next.size = end(next) - place; next.offset = place; }
    row.size = place - row.offset;
  };
  bar.onkeydown = event => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way) return;
    event.preventDefault(); move(end(row) + way * by); edited();
    document.querySelectorAll(".edge")[at].focus();
  };
  bar.onpointerdown = event => {
    const from = event.clientX, start = end(row);
    bar.setPointerCapture(event.pointerId);
    bar.onpointermove = moved => { move(start + (moved.clientX - from) * scale()); say(row.name + " ends at " + hex(end(row))); };
    bar.onpointerup = () => { bar.onpointermove = null; say(""); edited(); };
  };
  return bar;
}

function map() {
  const bar = el("div", undefined, "map"), scale = () => state.size / bar.clientWidth;
  const block = (text, size, cls, about) => { const b = el("div", undefined, cls); b.append(el("span", text)); b.style.flex = Math.max(size, 1) + " 1 0"; b.title = about; bar.append(b); };
  let at = 0;
  state.rows.forEach((row, index) => {
    if (row.offset > at) block(at === 0 ? "bootloader, table" : "free", row.offset - at, at === 0 ? "system" : "free", hex(at) + " – " + hex(row.offset));
    block(row.name, row.size, kind(row) + (isNew(row) ? " new" : ""), row.name + ": " + hex(row.offset) + " – " + hex(end(row)) + ", " + bytes(row.size));
    bar.append(edge(index, scale));
    at = end(row);
  });
  if (state.size > at) block("free", state.size - at, "free", hex(at) + " – " + hex(state.size));
  return bar;
}

function input(row, name, shown, read) {
  const one = el("input"); one.value = shown; one.setAttribute("aria-label", name + " of " + (row.name || "the new partition"));
  one.onchange = () => { try { row[name] = read(one.value); edited(); } catch (error) { blame(error); } };
  return one;
}

function tableRow(row) {
  const text = value => value.trim();
  const gone = doing("remove", () => { state.rows.splice(state.rows.indexOf(row), 1); edited(); });
  gone.setAttribute("aria-label", "remove " + row.name);
  const line = window.row(input(row, "name", row.name, text), input(row, "type", row.type, text), input(row, "subtype", row.subtype, text),
    input(row, "offset", hex(row.offset), parsed), input(row, "size", bytes(row.size), parsed), row.about || row.content || "", (row.flags || []).join(", "), gone);
  if (isNew(row)) line.className = "changed";
  return line;
}

function add() {
  const last = state.rows[state.rows.length - 1], from = last ? end(last) : state.table + 0x1000;
  state.rows.push({ name: "new", type: "data", subtype: "nvs", offset: from, size: Math.max(0x1000, Math.min(0x6000, state.size - from)) });
  edited();
}

function check() {
  return work("checking", async () => {
    const file = "esp-partitions-" + (state.mac || "device").replaceAll(":", "") + ".bin";
    const partitions = state.rows.map(({ name, type, subtype, offset, size, flags }) => ({ name, type, subtype, offset: hex(offset), size, flags: flags || [] }));
    const made = await call("esp_partition_create", { layout: { partitions }, output_file: file, flash_size: state.size, table_offset: state.table });
    state.plan = await call("esp_partition_flash", { port: state.port, partition_file: file, table_offset: state.table, dry_run: true });
    state.file = file; state.warnings = made.warnings || [];
    draw();
    return "checked; nothing is written yet";
  });
}

function write() {
  return work("writing", async () => {
    const done = await call("esp_partition_flash", { port: state.port, partition_file: state.file, table_offset: state.table });
    const copies = (done.copies || []).map(copy => copy.file);
    tell("The person wrote a new partition table to " + state.port + " in the flash map: " + done.partitions.map(p => p.name + " " + p.offset + " " + bytes(p.size_bytes)).join(", "));
    await fill(done, { quiet: true });
    return "written" + (done.verified ? " and verified" : "; not verified") + (copies.length ? "; copies: " + copies.join(", ") : "");
  });
}

const fates = { stays: "good", resized: "warn", moved: "warn", replaced: "bad", unreachable: "bad" };

function draw() {
  const changed = state.rows.some(isNew) || state.rows.length !== state.before.length, out = [];
  out.push(part("Flash, " + bytes(state.size) + "B, by address", map(), el("div", "Move a border with the mouse or the arrow keys, or write sizes below.", "none")));
  const buttons = el("div", undefined, "row"), put = doing("Write to the device", write, "grave"), look = doing("Check", check, "main");
  look.disabled = !changed; put.disabled = !state.plan;
  const back = doing("Undo", () => { state.rows = state.before.map(one => ({ ...one })); edited(); }); back.disabled = !changed;
  buttons.append(doing("Add a partition", add), back, look, put);
  out.push(part("Partition table", tableOf(["name", "type", "subtype", "address", "size", "content", "flags", ""], state.rows, tableRow), buttons));
  if (state.plan) {
    const copies = (state.plan.copies || []).map(copy => "copied first: " + copy.region + " to " + copy.file);
    out.push(part("What becomes of the data", tableOf(["partition", "fate"], state.plan.before || [], one => row(one.name, el("span", one.fate, fates[one.fate] || ""))),
      listOf([...copies, ...(state.warnings || [])])));
  }
  $("view").replaceChildren(...out);
}

async function fill(data, { quiet } = {}) {
  let all = data;
  if (data.flash_size_bytes === undefined || !(data.partitions || []).some(one => one.content))
    all = { ...data, ...await call("esp_partition_analyze", { port: data.port, ...(data.table_offset ? { table_offset: data.table_offset } : {}) }) };
  const rows = all.partitions.map(one => ({ ...one, offset: parsed(one.offset), size: one.size_bytes })).sort((a, b) => a.offset - b.offset);
  Object.assign(state, { port: all.port, table: parsed(all.table_offset || "0x8000"), size: all.flash_size_bytes, mac: all.mac, rows, before: rows.map(one => ({ ...one })), plan: null });
  $("about").textContent = [all.chip, all.mac, all.port].filter(Boolean).join(" · ");
  draw();
  return quiet ? undefined : (all.advice || []).map(one => one.text || one).join("; ");
}

view({ tool: "esp_partition_read", fields: [{ name: "port", label: "Board", kind: "port" }], show: fill });
