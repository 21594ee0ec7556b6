const COLOURS = ["#0b62a4", "#d55e00", "#1f8a4c", "#a0439c", "#b58900", "#00909e", "#c2185b", "#6d6d6d", "#5b4bd1", "#8a5a2b"];
const TABS = ["curves", "results", "predictions", "data", "settings", "log", "play"];
const BASIC = new Set(["name", "seed", "model.path", "data.train", "data.test", "data.limit", "task.labels", "method.rank", "method.alpha", "train.epochs", "train.batch_rows", "optim.learning_rate"]);
const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const token = query.get("token") || sessionStorage.getItem("token") || "";
sessionStorage.setItem("token", token);
history.replaceState(null, "", "/");
const state = { runs: [], chosen: null, overlay: new Set(), curves: new Map(), tab: "curves", smooth: 0, log: false, minus: "", colours: new Map(), schema: null, cache: {}, wrong: true,
  language: localStorage.getItem("language") || (navigator.language.startsWith("zh") ? "zh" : "en"), theme: localStorage.getItem("theme") || "auto" };
const t = (word) => WORDS[state.language][word] ?? word;

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}
function svg(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text != null) node.textContent = text;
  return node;
}
function table(heads, rows, kind = "") {
  return el("div", { class: "scroll" }, el("table", { class: kind }, el("thead", {}, el("tr", {}, ...heads.map((h) => el("th", {}, h)))), el("tbody", {}, ...rows)));
}
const row = (...cells) => el("tr", {}, ...cells.map((c) => (c instanceof Node ? c : el("td", {}, String(c ?? "–")))));
const numeric = (text) => el("td", { class: "number" }, text);

async function ask(path, body) {
  const options = { headers: { Authorization: `Bearer ${token}` }, cache: "no-store" };
  if (body !== undefined) Object.assign(options, { method: "POST", body: JSON.stringify(body), headers: { ...options.headers, "Content-Type": "application/json" } });
  const answer = await fetch(path, options);
  const value = await answer.json().catch(() => ({}));
  if (answer.status === 401) throw new Error(t("unauthorised"));
  if (!answer.ok) throw new Error(typeof value.detail === "string" ? value.detail : `${answer.status}`);
  return value;
}
function say(text) { $("notice").textContent = text; $("notice").hidden = !text; }
async function attempt(work) { try { return await work(); } catch (error) { say(error instanceof TypeError ? t("gone") : error.message); return null; } }

const number = (value, digits = 4) => (value == null || !Number.isFinite(value) ? "–" : Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3) ? value.toExponential(2) : String(+value.toPrecision(digits)));
function bytes(value) { if (value == null) return "–"; const units = ["B", "kB", "MB", "GB", "TB"]; let i = 0; while (value >= 1000 && i < 4) { value /= 1000; i++; } return `${+value.toPrecision(3)} ${units[i]}`; }
function seconds(value) { if (value == null || !Number.isFinite(value)) return "–"; value = Math.round(value); const h = Math.floor(value / 3600), m = Math.floor(value / 60) % 60; return h ? `${h} h ${m} min` : m ? `${m} min ${value % 60} s` : `${value} s`; }

/* ---- polling ---- */
const pageName = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16)).join("");
const MOST_AT_ONCE = 200; /* curves that one question may ask for */
const shown = () => [...new Set([state.chosen, ...state.overlay].filter(Boolean))].slice(0, MOST_AT_ONCE);
/* points of each curve: the more curves lie over each other, the fewer of each can be told apart */
const pointsFor = (curves) => (curves <= 20 ? 600 : curves <= 50 ? 240 : 120);
const onTheirWay = new Set(); /* runs whose whole curves another question is waiting for */
/* true: what is new has been drawn */
async function poll() {
  const points = pointsFor(shown().length), unasked = () => shown().filter((id) => !onTheirWay.has(id));
  const asked = new Map(unasked().map((id) => { const kept = state.curves.get(id); return [id, kept && kept.detail >= points ? kept.cursor : ""]; }));
  const whole = [...asked.keys()].filter((id) => !asked.get(id));
  whole.forEach((id) => onTheirWay.add(id));
  const answer = await ask("/api/poll", { curves: [...asked].map(([id, cursor]) => ({ id, cursor })), points, page: pageName }).finally(() => whole.forEach((id) => onTheirWay.delete(id)));
  $("folder").textContent = answer.folder; state.again = answer.again_seconds;
  const former = state.runs.find((run) => run.id === state.chosen);
  state.runs = answer.runs;
  if (!state.runs.some((run) => run.id === state.chosen)) state.chosen = state.runs[0]?.id ?? null;
  let grown = false;
  for (const [id, part] of Object.entries(answer.curves)) grown = merge(id, part, asked.get(id), points) || grown;
  renderRuns(); renderHead();
  const now = state.runs.find((run) => run.id === state.chosen);
  const drawn = state.tab === "curves" ? grown : former?.state !== now?.state || state.tab === "log";
  if (drawn) renderPanel(state.tab === "log");
  return unasked().some((id) => !asked.has(id) && !state.curves.has(id)) ? poll() : drawn;
}
/* what came behind a cursor is added to what was read up to there, and passed over where another answer was quicker */
function merge(id, part, cursor, detail) {
  let kept = state.curves.get(id);
  if (!cursor || part.restart) { kept = { series: {}, last: {}, thinned: part.thinned, detail }; state.curves.set(id, kept); }
  else if (kept.cursor !== cursor) return false;
  kept.cursor = part.cursor;
  for (const [name, points] of Object.entries(part.series)) (kept.series[name] ??= []).push(...points);
  Object.assign(kept.last, part.last);
  return Object.keys(part.series).length > 0;
}
async function loop() {
  if (!document.hidden) { try { await poll(); if ($("notice").dataset.gone) { say(""); delete $("notice").dataset.gone; } } catch (error) { say(error instanceof TypeError ? t("gone") : error.message); $("notice").dataset.gone = "1"; } }
  setTimeout(loop, 1000 * (state.again ?? 3));
}
function left(run) {
  const kept = state.curves.get(run.id); const total = run.planned_steps;
  if (!kept || !total || run.state !== "running") return null;
  const time = kept.last["train/seconds"], step = kept.last["train/step"];
  return step && time ? (time / step) * (total - step) : null;
}

/* ---- the list and the head ---- */
function colour(id) { if (!state.colours.has(id)) state.colours.set(id, COLOURS[state.colours.size % COLOURS.length]); return state.colours.get(id); }
function renderRuns() {
  $("none").hidden = state.runs.length > 0;
  $("every").checked = state.runs.length > 0 && state.runs.every((run) => state.overlay.has(run.id));
  const active = document.activeElement?.closest?.("#runs li")?.dataset.id, kind = document.activeElement?.tagName;
  $("runs").replaceChildren(...state.runs.map((run) => {
    const kept = state.curves.get(run.id), step = kept?.last["train/step"] ?? run.training?.steps;
    const score = run.score ? `${t(run.score.name)} ${number(run.score.value, 3)}` : kept?.last["train/loss"] != null ? `${t("loss")} ${number(kept.last["train/loss"], 3)}` : "";
    const box = el("input", { type: "checkbox", "aria-label": `${t("compared")}: ${run.name}`, checked: state.overlay.has(run.id), onchange: (e) => toggle(run.id, e.target.checked) });
    if (state.overlay.has(run.id) || run.id === state.chosen) box.style.setProperty("--mark", colour(run.id));
    const bar = run.state === "running" && run.planned_steps ? el("progress", { max: run.planned_steps, value: step ?? 0, "aria-label": run.name }) : null;
    return el("li", { class: run.id === state.chosen ? "chosen" : "", "data-id": run.id }, box,
      el("button", { onclick: () => choose(run.id), "aria-current": run.id === state.chosen ? "true" : false }, el("span", { class: "name" }, run.name),
        el("span", { class: "facts" }, el("span", {}, `${t(run.state)} · ${t(run.task ?? "")} ${t(run.method ?? "")}`), el("span", {}, score)), bar));
  }));
  if (active) document.querySelector(`#runs li[data-id="${active}"] ${kind === "INPUT" ? "input" : "button"}`)?.focus();
}
function toggle(id, on) { on ? state.overlay.add(id) : state.overlay.delete(id); attempt(poll).then((drawn) => drawn || renderPanel()); }
function overlayAll(on) { state.overlay = new Set(on ? state.runs.map((run) => run.id) : []); attempt(poll).then((drawn) => drawn || renderPanel()); }
function choose(id) { state.chosen = id; state.cache = {}; state.start = 0; renderRuns(); renderHead(); renderPanel(true); attempt(poll).then((drawn) => drawn || state.tab !== "curves" || renderPanel()); }
function renderHead() {
  const run = state.runs.find((one) => one.id === state.chosen);
  $("detail").hidden = !run;
  if (!run) return;
  const kept = state.curves.get(run.id), last = kept?.last ?? {};
  $("name").textContent = run.name;
  $("state").textContent = t(run.state); $("state").className = `badge ${run.state}`;
  $("stop").hidden = run.state !== "running";
  $("resume").hidden = !["interrupted", "failed", "stopped"].includes(run.state);
  $("report").hidden = run.state === "running"; $("report").href = `/api/runs/${run.id}/report?token=${encodeURIComponent(token)}`;
  $("error").hidden = !run.error || run.state === "interrupted"; $("error").textContent = run.error?.message ?? "";
  const metric = ["validation/accuracy", "validation/macro_f1", "validation/loss"].find((name) => name in last);
  const points = (metric && kept.series[metric]) || [], values = points.map((p) => p[1]);
  const best = values.length ? (metric.endsWith("loss") ? Math.min(...values) : Math.max(...values)) : null;
  const done = last["train/step"] ?? run.training?.steps ?? 0, planned = run.planned_steps ?? (run.state === "finished" ? run.training?.steps : null);
  const tiles = [["step", planned == null ? `${done}` : `${done} / ${planned}`], ["loss", number(last["train/loss"])], ["rate", number(last["train/learning_rate"], 3)],
    ["speed", number(last["train/tokens_per_second"], 3)], ["memory", bytes(last["train/memory_bytes"])], ["left", run.state === "running" ? seconds(left(run)) : "–"],
    ["validation", metric ? `${number(last[metric], 3)}` : "–"], ["best", number(best, 3)]];
  $("tiles").replaceChildren(...tiles.map(([key, value]) => el("div", {}, el("dt", {}, key === "validation" && metric ? `${t(key)} ${t(metric.split("/")[1])}` : t(key)), el("dd", {}, value))));
}
function renderTabs() {
  $("tabs").replaceChildren(...TABS.map((tab) => el("button", { role: "tab", id: `tab-${tab}`, "aria-selected": String(tab === state.tab), tabindex: tab === state.tab ? "0" : "-1", onclick: () => open(tab) }, t(tab))));
  $("panel").setAttribute("aria-labelledby", `tab-${state.tab}`);
}
function open(tab) { state.tab = tab; renderTabs(); renderPanel(true); $(`tab-${tab}`).focus(); }
async function renderPanel(fresh = false) {
  const id = state.chosen, tab = state.tab;
  if (!id) return;
  if (fresh) state.cache = {};
  if (tab === "curves") { $("panel").replaceChildren(...curvesPanel()); return; }
  const parts = await attempt(() => PANELS[tab](id));
  if (parts && id === state.chosen && tab === state.tab) $("panel").replaceChildren(...parts);
}

/* ---- curves ---- */
const CHARTS = [["loss", ["train/loss", "validation/loss"]], ["accuracy", ["validation/accuracy", "validation/macro_f1"]]];
function smoothed(points) {
  if (!state.smooth) return points;
  let mean = null; const keep = state.smooth;
  return points.map(([x, y]) => [x, (mean = mean == null ? y : keep * mean + (1 - keep) * y)]);
}
function at(points, x) {
  if (!points.length || x < points[0][0] || x > points[points.length - 1][0]) return null;
  let low = 0, high = points.length - 1;
  while (high - low > 1) { const middle = (low + high) >> 1; points[middle][0] <= x ? (low = middle) : (high = middle); }
  const [x0, y0] = points[low], [x1, y1] = points[high];
  return x1 === x0 ? y0 : y0 + ((y1 - y0) * (x - x0)) / (x1 - x0);
}
function linesOf(names) {
  const lines = [];
  for (const id of shown()) {
    const run = state.runs.find((one) => one.id === id), kept = state.curves.get(id);
    if (!run || !kept) continue;
    names.forEach((name, i) => {
      let points = kept.series[name] ?? [];
      if (name.startsWith("train/")) points = smoothed(points);
      if (state.minus && state.minus !== id) { const other = smoothedOf(state.minus, name); points = points.map(([x, y]) => { const o = at(other, x); return o == null ? null : [x, y - o]; }).filter(Boolean); }
      else if (state.minus === id) points = [];
      if (points.length) lines.push({ id, name, second: i > 0, points, title: `${run.name} ${name}` });
    });
  }
  return lines;
}
function smoothedOf(id, name) { const points = state.curves.get(id)?.series[name] ?? []; return name.startsWith("train/") ? smoothed(points) : points; }
function curvesPanel() {
  const names = new Set(shown().flatMap((id) => Object.keys(state.curves.get(id)?.series ?? {})));
  if (!names.size) return [el("p", { class: "soft" }, t("noCurves"))];
  const used = new Set(CHARTS.flatMap((chart) => chart[1]));
  const rest = [...names].filter((name) => !used.has(name)).sort().map((name) => [name, [name]]);
  const charts = [...CHARTS, ...rest].map(([title, keys]) => [title, linesOf(keys.filter((key) => names.has(key)))]).filter(([, lines]) => lines.length);
  const thin = shown().some((id) => state.curves.get(id)?.thinned);
  const minus = el("select", { id: "minus", onchange: (e) => { state.minus = e.target.value; renderPanel(); } }, el("option", { value: "" }, t("nothing")),
    ...shown().map((id) => el("option", { value: id, selected: state.minus === id }, state.runs.find((run) => run.id === id)?.name ?? id)));
  return [el("div", { class: "controls" },
    el("label", { class: "inline" }, t("smooth"), el("input", { type: "range", min: 0, max: 0.99, step: 0.01, value: state.smooth, id: "smooth", oninput: (e) => { state.smooth = +e.target.value; drawCharts(); } })),
    el("label", { class: "inline" }, el("input", { type: "checkbox", id: "log", checked: state.log, onchange: (e) => { state.log = e.target.checked; renderPanel(); } }), t("logScale")),
    el("label", { class: "inline" }, t("difference"), minus), thin ? el("span", { class: "soft" }, t("thinned")) : null),
  el("ul", { class: "legend" }, ...shown().map((id) => { const mark = el("i"); mark.style.background = colour(id); return el("li", {}, mark, state.runs.find((run) => run.id === id)?.name ?? ""); })),
  el("div", { class: "charts" }, ...charts.map(([title, lines]) => chart(t(title), lines)))];
}
function drawCharts() { const panel = curvesPanel(); $("panel").lastElementChild.replaceWith(panel[panel.length - 1]); }
function ticks(low, high, count) {
  const span = high - low || Math.abs(high) || 1, size = 10 ** Math.floor(Math.log10(span / count)), step = size * [1, 2, 5, 10].find((m) => span / (size * m) <= count);
  const found = []; for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-6; v += step) found.push(+v.toPrecision(10)); return found;
}
function chart(title, lines) {
  const wide = $("panel").clientWidth, columns = Math.max(1, Math.floor((wide + 18) / 418)), W = Math.max(240, (wide - 18 * (columns - 1)) / columns - 26), H = 220, L = 52, R = 24, T = 8, B = 24;
  const positive = lines.every((line) => line.points.every((p) => p[1] > 0)), log = state.log && positive;
  const f = log ? Math.log10 : (v) => v;
  const xs = lines.flatMap((line) => [line.points[0][0], line.points[line.points.length - 1][0]]), ys = lines.flatMap((line) => line.points.map((p) => f(p[1])));
  const x0 = Math.min(...xs), x1 = Math.max(...xs); let y0 = ys.reduce((a, b) => Math.min(a, b)), y1 = ys.reduce((a, b) => Math.max(a, b));
  if (y0 === y1) { y0 -= Math.abs(y0) * 0.1 || 0.5; y1 += Math.abs(y1) * 0.1 || 0.5; }
  const X = (x) => L + ((x - x0) / (x1 - x0 || 1)) * (W - L - R), Y = (y) => H - B - ((f(y) - y0) / (y1 - y0)) * (H - T - B);
  const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title}: ${lines.map((l) => `${l.title} ${number(l.points[l.points.length - 1][1])}`).join(", ")}` });
  for (const v of ticks(y0, y1, 5)) { const y = H - B - ((v - y0) / (y1 - y0)) * (H - T - B); picture.append(svg("line", { class: "grid", x1: L, x2: W - R, y1: y, y2: y }), svg("text", { x: L - 6, y: y + 4, "text-anchor": "end" }, number(log ? 10 ** v : v, 3))); }
  for (const v of ticks(x0, x1, 6)) picture.append(svg("text", { x: X(v), y: H - 6, "text-anchor": "middle" }, number(v, 6)));
  for (const line of lines) {
    let path = "M"; /* in tenths: whole numbers are written five times as fast */
    for (const [x, y] of line.points) path += `${Math.round(10 * X(x))} ${Math.round(10 * Y(y))} `;
    picture.append(svg("path", { class: line.second ? "line second" : "line", d: path, transform: "scale(.1)", stroke: colour(line.id) }));
    if (line.points.length < 30) for (const p of line.points) picture.append(svg("circle", { cx: X(p[0]), cy: Y(p[1]), r: 2.4, fill: colour(line.id) }));
  }
  const cross = svg("line", { class: "cross", y1: T, y2: H - B, x1: -9, x2: -9 }); picture.append(cross);
  const value = el("span");
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect(), x = x0 + ((((event.clientX - box.left) / box.width) * W - L) / (W - L - R)) * (x1 - x0);
    if (x < x0 || x > x1) return;
    cross.setAttribute("x1", X(x)); cross.setAttribute("x2", X(x));
    value.textContent = `${t("step")} ${Math.round(x)}: ` + lines.map((line) => number(at(line.points, x), 3)).join(" · ");
  });
  picture.addEventListener("pointerleave", () => { cross.setAttribute("x1", -9); cross.setAttribute("x2", -9); value.textContent = ""; });
  return el("figure", {}, el("figcaption", {}, title, value), picture);
}

/* ---- the other tabs ---- */
const share = (v, low, high) => `${number(v, 3)}${low == null ? "" : ` [${number(low, 3)}, ${number(high, 3)}]`}`;
const PANELS = {
  async results(id) {
    const all = await ask(`/api/runs/${id}/evaluations`), kinds = ["before", "after"].filter((when) => all[when]);
    if (!kinds.length && !all.baselines) return [el("p", { class: "soft" }, t("noneYet"))];
    const columns = [...kinds.map((when) => [t(when), all[when].metrics, all[when].n]), ...(all.baselines ?? []).map((b) => [b.title[state.language], b.metrics, null])];
    const names = [...new Set(columns.flatMap(([, metrics]) => Object.keys(metrics ?? {})))];
    const parts = [table([t("metric"), ...columns.map(([title, , n]) => (n ? `${title} (n=${n})` : title))], names.map((name) => row(name, ...columns.map(([, m]) => numeric(m?.[name] ? share(m[name].value, m[name].low, m[name].high) : "–")))))];
    for (const when of kinds.reverse()) {
      const matrix = all[when].confusion_matrix;
      if (matrix) parts.push(el("h3", {}, `${t("matrix")} · ${t(when)}`), matrixTable(matrix));
    }
    const classes = all.after?.per_class;
    if (classes) parts.push(el("h3", {}, t("classes")), table([t("label"), t("precision"), t("recall"), "F1", t("rows")], Object.entries(classes).map(([label, c]) => row(label, numeric(number(c.precision, 3)), numeric(number(c.recall, 3)), numeric(number(c.f1, 3)), numeric(c.support)))));
    return parts;
  },
  async predictions(id) {
    const kinds = ["after", "before"]; state.when ??= "after"; state.start ??= 0;
    let part = await ask(`/api/runs/${id}/predictions?when=${state.when}&wrong=${state.wrong}&start=${state.start}`);
    const controls = el("div", { class: "controls" },
      el("select", { id: "when", "aria-label": t("test"), onchange: (e) => { state.when = e.target.value; state.start = 0; renderPanel(); } }, ...kinds.map((w) => el("option", { value: w, selected: w === state.when }, t(w)))),
      el("label", { class: "inline" }, el("input", { type: "checkbox", checked: state.wrong, onchange: (e) => { state.wrong = e.target.checked; state.start = 0; renderPanel(); } }), t("wrongOnly")),
      el("span", { class: "soft" }, `${t("test")} n=${part.n}, ${t("wrong")} ${part.wrong}`));
    if (!part.n) return [controls, el("p", { class: "soft" }, t("noneYet"))];
    const rows = part.rows.map((p) => row(el("td", { class: "text" }, p.text ?? p.id), p.label, el("td", { class: p.correct ? "right" : "wrong" }, p.prediction), numeric(number(p.probability, 3))));
    const pages = el("div", { class: "controls" }, el("button", { disabled: state.start === 0, onclick: () => { state.start = Math.max(0, state.start - 50); renderPanel(); } }, "←"),
      `${part.chosen ? state.start + 1 : 0}–${Math.min(state.start + 50, part.chosen)} ${t("of")} ${part.chosen}`, el("button", { disabled: state.start + 50 >= part.chosen, onclick: () => { state.start += 50; renderPanel(); } }, "→"));
    return [controls, table([t("text"), t("label"), t("prediction"), t("probability")], rows), pages];
  },
  async data(id) {
    const { ledger, audit } = await ask(`/api/runs/${id}/data`);
    if (!ledger.files.length) return [el("p", { class: "soft" }, t("noneYet"))];
    const parts = [el("h3", {}, t("ledger")), table([t("file"), t("split"), t("read"), t("used"), t("rejected"), t("shortened")], ledger.files.map((f) => row(el("td", { class: "text" }, f.path), f.split, numeric(f.rows_in), numeric(f.used), numeric(f.rejected), numeric(f.shortened))))];
    const findings = audit.findings ?? [];
    parts.push(el("h3", {}, `${t("findings")} (${findings.length})`), findings.length ? table(["", t("rows"), ""], findings.map((f) => row(f.severity, numeric(f.count), el("td", { class: "text" }, `${f[state.language] ?? f.check}\n${f.remedy?.[state.language] ?? ""}`)))) : el("p", { class: "soft" }, "–"));
    if (audit.lengths) parts.push(el("h3", {}, t("lengths")), table([t("split"), "n", "min", "p50", "p90", "p99", "max"], Object.entries(audit.lengths).map(([split, l]) => row(split, ...["n", "min", "p50", "p90", "p99", "max"].map((k) => numeric(number(l[k], 5)))))));
    if (audit.example?.marked) parts.push(el("h3", {}, t("example")), el("pre", {}, audit.example.marked));
    return parts;
  },
  async settings(id) {
    const others = [...state.overlay].filter((other) => other !== id), all = await Promise.all([id, ...others].map((one) => ask(`/api/runs/${one}/settings`)));
    const names = [...new Set(all.flatMap((one) => Object.keys(one.settings)))], text = (v) => (v == null ? "–" : String(v));
    const rows = names.map((name) => { const values = all.map((one) => text(one.settings[name])), differs = new Set(values).size > 1; const node = row(name, ...values.map((v) => el("td", { class: "text" }, v))); node.className = differs ? "differs" : ""; return node; });
    const filter = el("label", { class: "inline" }, el("input", { type: "checkbox", checked: state.differs ?? false, onchange: (e) => { state.differs = e.target.checked; renderPanel(); } }), t("differs"));
    const kept = others.length && state.differs ? rows.filter((node) => node.className === "differs") : rows;
    return [others.length ? el("div", { class: "controls" }, filter) : null, table([t("key"), ...[id, ...others].map((one) => state.runs.find((run) => run.id === one)?.name ?? "")], kept), el("h3", {}, "config.yaml"), el("pre", {}, all[0].yaml)].filter(Boolean);
  },
  async log(id) { const { text } = await ask(`/api/runs/${id}/log`); return [text ? el("pre", { id: "log-text" }, text) : el("p", { class: "soft" }, t("noLog"))]; },
  async play(id) {
    const box = el("textarea", { id: "sentence", "aria-label": t("sentence") }, state.sentence ?? ""), passage = el("textarea", { id: "context", "aria-label": t("passage"), placeholder: t("passage"), hidden: state.runs.find((run) => run.id === id)?.task !== "qa" }, state.passage ?? ""), result = el("div", { id: "answers", "aria-live": "polite" });
    const go = el("button", { class: "main", id: "ask", onclick: async () => {
      state.sentence = box.value; state.passage = passage.value; if (!box.value.trim()) return;
      go.disabled = true; result.replaceChildren(el("p", { class: "soft" }, t("asking")));
      const answer = await attempt(() => ask(`/api/runs/${id}/answer`, { text: box.value, context: passage.hidden ? "" : passage.value })); go.disabled = false;
      result.replaceChildren(...(answer ? answers(answer) : []));
    } }, t("ask"));
    return [passage, box, el("div", { class: "bottom" }, go), result];
  },
};
function answers(answer) {
  if (answer.problem) return [el("p", { class: "problem" }, answer.problem)];
  if (!answer.tuned.probabilities) {
    const cell = (one) => el("td", { class: "text" }, one.prediction + (one.cut_off ? `\n${t("cutOff")}` : ""));
    return [table([t("base"), t("tuned")], [el("tr", {}, cell(answer.base), cell(answer.tuned))])];
  }
  const labels = Object.keys(answer.tuned.probabilities).sort((a, b) => answer.tuned.probabilities[b] - answer.tuned.probabilities[a]);
  const bar = (p, kind) => { const node = el("div", { class: `bar ${kind}` }); node.style.width = `${(100 * p).toFixed(1)}%`; return el("td", { class: "bars" }, node, el("span", { class: "soft" }, number(p, 3))); };
  return [el("h3", {}, `${t("base")}: ${answer.base.label} · ${t("tuned")}: ${answer.tuned.label}`), table([t("label"), t("base"), t("tuned")], labels.map((label) => row(label, bar(answer.base.probabilities[label] ?? 0, "base"), bar(answer.tuned.probabilities[label], ""))))];
}
function matrixTable(matrix) {
  const body = matrix.rows.map((counts, i) => {
    const sum = counts.reduce((a, b) => a + b, 0) || 1;
    return el("tr", {}, el("th", {}, matrix.labels[i]), ...counts.map((n) => { const cell = el("td", { class: n / sum > 0.55 ? "dark" : "" }, String(n)); cell.style.setProperty("--share", (n / sum).toFixed(2)); return cell; }));
  });
  return table(["", ...matrix.labels], body, "matrix");
}

/* ---- the form ---- */
const resolve = (part) => (part.$ref ? { ...state.schema.$defs[part.$ref.split("/").pop()], ...part } : part.anyOf ? { ...resolve(part.anyOf.find((p) => p.type !== "null") ?? part.anyOf[0]), ...part, anyOf: undefined } : part.allOf ? { ...resolve(part.allOf[0]), ...part, allOf: undefined } : part);
async function openForm() {
  if (!state.schema) { const answer = await attempt(() => ask("/api/schema")); if (!answer) return; state.schema = answer.schema; state.offered = answer.offered; $("data-folder").dataset.name = answer.data; }
  $("data-folder").textContent = t("dataFolder") + $("data-folder").dataset.name;
  state.filled ??= {};
  renderFields(); $("form").showModal(); preview();
}
function renderFields() {
  $("fields").className = $("all").checked ? "" : "brief";
  const loose = [], groups = [];
  for (const key of state.offered) { const part = resolve(state.schema.properties[key]); part.oneOf || part.properties ? groups.push(group(key, key, part)) : loose.push(field(key, part)); }
  $("fields").replaceChildren(el("fieldset", {}, el("legend", {}, "run"), ...loose), ...groups.filter(Boolean));
}
function group(key, path, part) {
  const children = [];
  if (part.oneOf) {
    const kinds = part.oneOf.map(resolve), name = (k) => k.properties.kind.const ?? k.properties.kind.default, fallback = part.default?.kind ?? name(kinds[0]), chosen = state.filled[`${path}.kind`] ?? fallback;
    children.push(labelled(`${path}.kind`, "kind", "", el("select", { id: `f-${path}.kind`, onchange: (e) => { for (const k of Object.keys(state.filled)) if (k.startsWith(`${path}.`)) delete state.filled[k]; state.filled[`${path}.kind`] = e.target.value; renderFields(); preview(); } }, ...kinds.map((k) => el("option", { value: name(k), selected: name(k) === chosen }, name(k)))), false));
    part = kinds.find((k) => name(k) === chosen);
  }
  for (const [name, raw] of Object.entries(part.properties)) { if (name === "kind") continue; const inner = resolve(raw); children.push(inner.properties || inner.oneOf ? group(name, `${path}.${name}`, inner) : field(`${path}.${name}`, inner)); }
  const rare = !children.some((child) => !child.classList.contains("rare"));
  return el("fieldset", { class: rare ? "rare" : "" }, el("legend", {}, key), ...children);
}
function labelled(path, name, help, input, rare) { return el("div", { class: rare ? "field rare" : "field" }, el("label", { for: `f-${path}` }, name), input, help ? el("small", {}, help) : null); }
function field(path, part) {
  const name = path.split(".").pop(), value = state.filled[path], fallback = part.default == null ? "" : `${t("default")}: ${Array.isArray(part.default) ? part.default.join(", ") : part.default}`;
  const options = part.enum ?? (part.type === "boolean" ? ["true", "false"] : null);
  const changed = (e) => { e.target.value === "" ? delete state.filled[path] : (state.filled[path] = e.target.value); preview(); };
  const input = options ? el("select", { id: `f-${path}`, onchange: changed }, el("option", { value: "" }, fallback || "–"), ...options.map((o) => el("option", { value: o, selected: value === String(o) }, String(o))))
    : el("input", { type: "text", id: `f-${path}`, placeholder: fallback, value: value ?? "", oninput: changed, autocomplete: "off", spellcheck: "false", inputmode: ["integer", "number"].includes(part.type) ? "decimal" : false });
  input.dataset.type = part.type ?? "string";
  return labelled(path, name, part.description ?? "", input, !BASIC.has(path));
}
function typed(path, text) {
  const kind = $(`f-${path}`)?.dataset.type;
  if (kind === "boolean") return text === "true";
  if (kind === "integer" || kind === "number") return text.trim() !== "" && Number.isFinite(+text) ? +text : text;
  if (kind === "array") return text.split(/[,，\n]/).map((w) => w.trim()).filter(Boolean);
  return text;
}
function settingsTree() {
  const tree = {};
  for (const [path, text] of Object.entries(state.filled)) { const keys = path.split("."), last = keys.pop(); let place = tree; for (const key of keys) place = place[key] ??= {}; place[last] = typed(path, text); }
  return tree;
}
let waiting = null;
function preview() {
  clearTimeout(waiting);
  waiting = setTimeout(async () => {
    const answer = await attempt(() => ask("/api/preview", { settings: settingsTree() })); if (!answer) return;
    $("form-problem").textContent = answer.problem ?? ""; $("start").disabled = !!answer.problem;
    if (!answer.problem) { $("yaml").textContent = answer.yaml; $("command").textContent = answer.command; }
  }, 250);
}
async function start() {
  $("start").disabled = true;
  try { const { name } = await ask("/api/runs", { settings: settingsTree() }); $("form").close(); say(t("began") + name); await waitFor(name); } catch (error) { $("form-problem").textContent = error.message; }
  $("start").disabled = false;
}
async function waitFor(name) {
  for (let i = 0; i < 120; i++) { await poll(); const run = state.runs.find((one) => one.name === name); if (run) { choose(run.id); return; } await new Promise((done) => setTimeout(done, 1000)); }
}

/* ---- language, theme, keys ---- */
function translate() {
  document.documentElement.lang = state.language; document.documentElement.dataset.theme = state.theme;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  $("key-list").replaceChildren(...[["n", "k_n"], ["j / k", "k_jk"], ["o", "k_o"], ["a", "k_a"], ["← →", "k_arrows"], ["l", "k_l"], ["t", "k_t"]].flatMap(([key, word]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, t(word))]));
  renderTabs(); renderRuns(); renderHead(); renderPanel();
}
function language() { state.language = state.language === "zh" ? "en" : "zh"; localStorage.setItem("language", state.language); translate(); }
function theme() { const dark = matchMedia("(prefers-color-scheme: dark)").matches; const now = state.theme === "auto" ? (dark ? "dark" : "light") : state.theme; state.theme = now === "dark" ? "light" : "dark"; localStorage.setItem("theme", state.theme); document.documentElement.dataset.theme = state.theme; }
function move(by) { const i = state.runs.findIndex((run) => run.id === state.chosen), next = state.runs[Math.min(state.runs.length - 1, Math.max(0, i + by))]; if (next) { choose(next.id); document.querySelector(`#runs li[data-id="${next.id}"] button`)?.focus(); } }
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") || /^(TEXTAREA|SELECT)$/.test(event.target.tagName) || (event.target.tagName === "INPUT" && event.target.type === "text")) return;
  const keys = { n: openForm, l: language, t: theme, "?": () => $("keys").showModal(), j: () => move(1), k: () => move(-1), o: () => state.chosen && toggle(state.chosen, !state.overlay.has(state.chosen)), a: () => overlayAll(!$("every").checked) };
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); return; }
  if (event.target.role === "tab" && ["ArrowLeft", "ArrowRight"].includes(event.key)) { const i = TABS.indexOf(state.tab) + (event.key === "ArrowRight" ? 1 : -1); open(TABS[(i + TABS.length) % TABS.length]); }
});
$("new").addEventListener("click", openForm); $("language").addEventListener("click", language); $("theme").addEventListener("click", theme);
$("every").addEventListener("change", (e) => overlayAll(e.target.checked));
document.addEventListener("visibilitychange", () => document.hidden || attempt(poll));
$("help").addEventListener("click", () => $("keys").showModal()); $("all").addEventListener("change", renderFields); $("start").addEventListener("click", start);
$("stop").addEventListener("click", () => attempt(async () => { await ask(`/api/runs/${state.chosen}/stop`, {}); say(t("asked")); }));
$("resume").addEventListener("click", () => attempt(async () => { const { name } = await ask(`/api/runs/${state.chosen}/resume`, {}); say(t("goesOn") + name); }));
let resizing = null;
addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(() => state.tab === "curves" && renderPanel(), 150); });
translate(); loop();
