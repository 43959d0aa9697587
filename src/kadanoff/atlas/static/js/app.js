// Puts the page together: the map and the table in step with the address, the panel, keys, dialogs.
import { comments } from "./comments.js";
import { desk, reading } from "./desk.js";
import { Graph } from "./graph.js";
import { call, fragment } from "./http.js";
import { importer } from "./import.js";
import { library } from "./library.js";
import { state, wanted } from "./state.js";
import { studies } from "./study.js";
import { Table } from "./table.js";

const find = (id) => document.getElementById(id);
const map = find("map");
let graph = null;
let table = null;
let opener = null;

find("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  graph?.restyle();
});

for (const button of document.querySelectorAll("[data-open]")) button.addEventListener("click", () => find(button.dataset.open).showModal());
for (const closer of document.querySelectorAll("[data-close]")) closer.addEventListener("click", () => closer.closest("dialog").close());
for (const select of document.querySelectorAll("[data-submit]")) select.addEventListener("change", () => select.form.requestSubmit());
importer();
reading();
library();
suggestions();

// titles to choose from while one types
function suggestions() {
  const field = document.querySelector("[data-suggest]");
  if (!field) return;
  let waiting = 0;
  field.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(async () => {
      const { papers } = await call("GET", `/api/papers?limit=8&q=${encodeURIComponent(field.value)}`);
      find("suggestions").replaceChildren(...papers.map(({ title, authors, year }) => Object.assign(document.createElement("option"), { value: title, label: `${authors[0] ?? ""} ${year ?? ""}`.trim() })));
    }, 150);
  });
}

async function drawGraph() {
  const query = new URLSearchParams({ near: String(Boolean(state.get("near"))), layout: layout() });
  if (state.get("more")) query.set("limit", "1500");
  const asked = query.toString();
  if (asked === drawGraph.asked) return;
  drawGraph.asked = asked;
  const data = await call("GET", `/api/papers/${encodeURIComponent(map.dataset.focus)}/graph?${asked}`);
  if (asked !== drawGraph.asked) return;
  graph?.end();
  graph = new Graph(find("canvas"), data, { onOpen: open, onHot: (id) => table.hot(id), onView: (view) => state.get("view") !== view && state.set({ view }), view: state.get("view") });
  graph.total = data.total;
  graph.opened(state.get("show"));
}

const layout = () => (["time", "similarity"].includes(state.get("layout")) ? state.get("layout") : "force");

function open(id) {
  if (state.get("show") === id && !find("card").hidden) return location.assign(`/papers/${encodeURIComponent(id)}`);
  opener = document.activeElement;
  openCard.focus = true;
  return state.set({ show: id }, true);
}

async function openCard() {
  const card = find("card");
  const id = state.get("show");
  if (openCard.id === id) return;
  openCard.id = id;
  const focus = openCard.focus;
  openCard.focus = false;
  if (!id) {
    if (card.contains(document.activeElement)) opener?.focus();
    card.hidden = true;
    graph?.opened(null);
    return;
  }
  try {
    const parts = await fragment(`/papers/${encodeURIComponent(id)}/card?focus=${encodeURIComponent(map.dataset.focus)}`);
    if (state.get("show") !== id) return;
    find("card-slot").replaceChildren(...parts);
    card.hidden = false;
    graph?.opened(id);
    if (focus) find("card-title").focus({ preventScroll: true });
  } catch {
    card.hidden = true;
  }
}

function close() {
  if (state.get("show")) state.set({ show: "" }, true);
}

// the whole page as the address says
async function apply() {
  for (const button of document.querySelectorAll("[data-layout]")) button.setAttribute("aria-pressed", String(button.dataset.layout === layout()));
  const form = find("filters");
  for (const name of ["from", "to"]) if (form.elements[name].value !== state.get(name)) form.elements[name].value = state.get(name);
  form.elements.kind.value = state.get("kind") || "all";
  for (const name of ["study", "mine"]) form.elements[name].checked = Boolean(state.get(name));
  const narrowed = ["from", "to", "kind", "study", "mine"].filter((name) => state.get(name)).length;
  if (narrowed && apply.first !== false) showFilters(true);
  apply.first = false;
  find("filter-open").textContent = narrowed ? `Filter (${narrowed})` : "Filter";
  if (find("near")) find("near").checked = Boolean(state.get("near"));
  table.apply();
  try {
    await drawGraph();
    count(graph.filter());
  } catch (error) {
    drawGraph.asked = undefined;
    const said = Object.assign(document.createElement("p"), { className: "empty", textContent: `The graph could not be drawn. ${error.message}` });
    find("canvas").replaceChildren(said);
  }
  await openCard();
}

function count(shown) {
  const all = graph.total + 1 + graph.nodes.filter((node) => node.kind === "near" && wanted(node)).length;
  const number = (n) => n.toLocaleString("en");
  find("shown").textContent = shown < all ? `${number(shown)} of ${number(all)} shown` : `${number(all)} papers`;
  const drawn = graph.nodes.filter((node) => ["cites", "referenced"].includes(node.kind)).length;
  find("more").hidden = drawn >= Math.min(graph.total, 1500);
}

function showFilters(shown) {
  find("filters").hidden = !shown;
  find("filter-open").setAttribute("aria-expanded", String(shown));
}

async function resetPlaces() {
  await call("DELETE", `/api/papers/${encodeURIComponent(map.dataset.focus)}/layout`);
  drawGraph.asked = undefined;
  await apply();
}

if (map) {
  table = new Table(find("papers"), { onHot: (id) => graph?.hot(id, false) });
  state.onChange(apply);
  document.querySelector("[data-card-close]").addEventListener("click", close);
  const actions = { in: () => graph.scale(1.35), out: () => graph.scale(1 / 1.35), fit: () => graph.fit(), reset: resetPlaces };
  for (const button of document.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => graph && actions[button.dataset.zoom]());
  for (const button of document.querySelectorAll("[data-layout]")) button.addEventListener("click", () => state.set({ view: "", layout: button.dataset.layout === "force" ? "" : button.dataset.layout }, true));
  find("near")?.addEventListener("change", ({ target }) => state.set({ near: target.checked }));
  find("more").addEventListener("click", () => state.set({ more: true }));
  find("filter-open").addEventListener("click", () => showFilters(find("filters").hidden));
  const form = find("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => state.set({
    from: form.elements.from.value.trim(),
    to: form.elements.to.value.trim(),
    kind: form.elements.kind.value === "all" ? "" : form.elements.kind.value,
    study: form.elements.study.checked,
    mine: form.elements.mine.checked,
  }));
  form.addEventListener("reset", () => state.set({ from: "", to: "", kind: "", study: "", mine: "" }));
  comments(find("comments"));
  desk(find("desk"));
  if (find("studies")) studies(find("studies"));
  await apply();
}

const goTo = (address) => () => location.assign(address);
const KEYS = {
  "/": () => document.querySelector(".find input").focus(),
  g: () => graph?.byId.get(graph.focus).element.focus(),
  t: () => find("table")?.focus(),
  c: () => find("body")?.focus(),
  n: () => find("note-edit")?.click(),
  f: () => map && (showFilters(find("filters").hidden), find("filters").elements.from.focus()),
  r: () => document.querySelector(".about [data-reading]")?.focus(),
  x: () => map && location.assign(`/connect?paper=${encodeURIComponent(map.dataset.focus)}`),
  1: () => map && state.set({ view: "", layout: "" }, true),
  2: () => map && state.set({ view: "", layout: "time" }, true),
  3: () => map && state.set({ view: "", layout: "similarity" }, true),
  i: goTo("/import"),
  a: () => find("add-dialog").showModal(),
  "?": () => find("keys-dialog").showModal(),
};

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && map && !document.querySelector("dialog[open]")) return close();
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  // a digit in the graph would be a key of its own
  const go = KEYS[event.key];
  if (go) {
    event.preventDefault();
    go();
  }
});

document.body.dataset.ready = "";
