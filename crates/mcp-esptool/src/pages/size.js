// What uses the memory of a build, and what another build uses more or less.
let filter = "", sort = "archives", data = {};
const SORTS = ["archives", "objects", "symbols"];

const signed = number => (number > 0 ? "+" : "") + number.toLocaleString("en");
const delta = one => one.after_bytes - one.before_bytes;

// Two bars on one scale: as it was, as it is.
function meter(before, after, most) {
  const m = el("div", undefined, "meter"), common = Math.min(before, after), bar = (size, cls) => { const i = el("i", undefined, cls); i.style.width = 100 * size / most + "%"; m.append(i); };
  bar(common, ""); bar(Math.abs(after - before), after > before ? "bad" : "good");
  m.setAttribute("aria-hidden", "true");
  return m;
}

function compared(list) {
  const most = Math.max(1, ...list.map(one => Math.max(one.before_bytes, one.after_bytes)));
  return tableOf(["name", "#before", "#after", "#change", ""], list, one => { const change = figure(signed(delta(one))); change.classList.add(delta(one) > 0 ? "bad" : "good");
    return row(one.name + (one.before_bytes ? "" : " (new)") + (one.after_bytes ? "" : " (gone)"), figure(one.before_bytes.toLocaleString("en")), figure(one.after_bytes.toLocaleString("en")), change, meter(one.before_bytes, one.after_bytes, most)); });
}

function largest(list) {
  const most = Math.max(1, ...list.map(one => one.size_bytes));
  return tableOf(["name", "#bytes", ""], list, one => row(one.name, figure(one.size_bytes.toLocaleString("en")), meter(one.size_bytes, one.size_bytes, most)));
}

function details() {
  const from = data.diff || data, fits = (from[sort] || []).filter(one => one.name.toLowerCase().includes(filter.toLowerCase()));
  $("details").replaceChildren(data.diff ? compared(fits) : largest(fits));
}

function memories(memory) {
  const used = Object.entries(memory || {}).map(([name, one]) => ({ name, ...one }));
  const number = (one, ...names) => names.map(name => one[name]).find(value => typeof value === "number");
  return tableOf(["memory", "#used", "#of", ""], used, one => { const use = number(one, "used_bytes", "used", "size_bytes") ?? 0, all = number(one, "total_bytes", "total");
    return row(one.name, figure(use.toLocaleString("en")), figure(all ? all.toLocaleString("en") : "unknown"), meter(use, use, Math.max(use, all || use, 1))); });
}

function fill(given) {
  data = given;
  $("about").textContent = [data.chip, data.map_file].filter(Boolean).join(" · ");
  const out = [], totals = data.diff && data.diff.image_bytes_before !== undefined ? " (" + signed(data.image_bytes - data.diff.image_bytes_before) + ")" : "";
  out.push(part("Image: " + data.image_bytes.toLocaleString("en") + " bytes" + totals, data.diff ? compared(data.diff.memory || []) : memories(data.memory)));
  if (data.partition_free_bytes !== undefined) out[0].append(el("p", data.partition_free_bytes < 0 ? "does not fit the app partition: " + -data.partition_free_bytes + " bytes too many" : data.partition_free_bytes.toLocaleString("en") + " bytes of the app partition are free", data.partition_free_bytes < 0 ? "bad" : "good"));
  for (const one of data.overflows || []) out.push(part("Overflow of " + one.memory, el("p", one.overflow_bytes + " bytes too many", "bad")));
  const choose = el("div", undefined, "choose"), what = el("label", "Show"), select = el("select"), search = el("label", "Name holds"), input = el("input");
  select.append(...SORTS.map(name => { const o = el("option", name); o.value = name; return o; })); select.value = sort; select.onchange = () => { sort = select.value; details(); };
  input.value = filter; input.oninput = () => { filter = input.value; details(); };
  what.append(select); search.append(input); choose.append(what, search);
  const list = el("div"); list.id = "details";
  out.push(part(data.diff ? "Largest changes" : "Largest parts", choose, list));
  if ((data.notes || []).length) out.push(part("Notes", listOf(data.notes)));
  $("view").replaceChildren(...out);
  details();
}

view({ tool: "esp_size_analysis", fields: [{ name: "elf_file", label: "ELF file", hint: "build/app.elf" }, { name: "diff", label: "Compare with (ELF or map)", hint: "old/app.elf" }], show: fill });
