// Puts the page together: the map and the table in step, the panel, keys, dialogs.
import { comments } from "./comments.js";
import { Graph } from "./graph.js";
import { call, fragment } from "./http.js";
import { importer, reading } from "./import.js";
import { studies } from "./study.js";
import { Table } from "./table.js";

const find = (id) => document.getElementById(id);

find("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  graph?.edges.view(graph.edges.transform);
});

for (const opener of document.querySelectorAll("[data-open]")) opener.addEventListener("click", () => find(opener.dataset.open).showModal());
for (const closer of document.querySelectorAll("[data-close]")) closer.addEventListener("click", () => closer.closest("dialog").close());
importer();
reading();

let graph = null;
let table = null;
const map = find("map");

async function drawGraph(near = false) {
  const data = await call("GET", `/api/papers/${encodeURIComponent(map.dataset.focus)}/graph?near=${near}`);
  graph?.end();
  graph = new Graph(find("canvas"), data, { onOpen: open, onHot: (id) => table.hot(id) });
  graph.opened(shown());
}

// the address says what is open: ?show=PAPER
const shown = () => new URLSearchParams(location.search).get("show");
let opener = null;

function open(id) {
  if (shown() === id && !find("card").hidden) return location.assign(`/papers/${encodeURIComponent(id)}`);
  history.pushState(null, "", `?show=${encodeURIComponent(id)}`);
  opener = document.activeElement;
  return sync(true);
}

async function sync(focus = false) {
  const card = find("card");
  const id = shown();
  graph?.opened(id);
  if (!id) {
    if (card.contains(document.activeElement)) opener?.focus();
    card.hidden = true;
    return;
  }
  try {
    const parts = await fragment(`/papers/${encodeURIComponent(id)}/card`);
    if (shown() !== id) return;
    find("card-slot").replaceChildren(...parts);
    card.hidden = false;
    graph?.uncover(id, card);
    if (focus) find("card-title").focus({ preventScroll: true });
  } catch {
    card.hidden = true;
  }
}

function close() {
  if (!shown()) return;
  history.pushState(null, "", location.pathname);
  sync();
}

if (map) {
  table = new Table(find("papers"), { onHot: (id) => graph?.hot(id, false) });
  addEventListener("popstate", () => sync());
  document.querySelector("[data-card-close]").addEventListener("click", close);
  const actions = { in: () => graph.scale(1.35), out: () => graph.scale(1 / 1.35), fit: () => graph.fit(), reset: async () => {
    await call("DELETE", `/api/papers/${encodeURIComponent(map.dataset.focus)}/layout`);
    await drawGraph(find("near")?.checked);
  } };
  for (const button of document.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => graph && actions[button.dataset.zoom]());
  find("near")?.addEventListener("change", async ({ target }) => {
    table.near = target.checked;
    table.show();
    await drawGraph(target.checked);
  });
  comments(find("comments"));
  if (find("studies")) studies(find("studies"));
  try {
    if (find("near")) find("near").checked = false;
    await drawGraph();
  } catch (error) {
    const said = document.createElement("p");
    said.className = "empty";
    said.textContent = `The graph could not be drawn. ${error.message}`;
    find("canvas").replaceChildren(said);
  }
  await sync();
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && map && !document.querySelector("dialog[open]")) return close();
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, dialog")) return;
  const go = { "/": () => document.querySelector(".find input").focus(), g: () => graph?.byId.get(graph.focus).element.focus(), t: () => find("table")?.focus(), c: () => find("body")?.focus() }[event.key];
  if (go) {
    event.preventDefault();
    go();
  }
});

document.body.dataset.ready = "";
