// The table of connected papers: sorted, filtered, in step with the map and with the address.
import { state, wanted } from "./state.js";

// so many rows at first: what follows the table is to be found, too
const FEW = 25;
const CELLS = { title: ".name", authors: ".a" };

export class Table {
  constructor(table, { onHot }) {
    this.table = table;
    this.body = table.tBodies[0];
    this.rows = [...this.body.rows];
    this.rows.forEach((row, rank) => (row.rank = rank));
    this.body.addEventListener("pointerover", (event) => onHot(event.target.closest("tr")?.dataset.id ?? null));
    this.body.addEventListener("pointerleave", () => onHot(null));
    this.body.addEventListener("focusin", (event) => onHot(event.target.closest("tr")?.dataset.id ?? null));
    this.body.addEventListener("focusout", () => onHot(null));
    this.choose = document.getElementById("sort");
    this.choose.addEventListener("change", () => state.set({ sort: this.choose.value }));
    for (const button of table.querySelectorAll("[data-sort]")) {
      button.addEventListener("click", () => {
        const name = button.dataset.sort;
        // numbers are wanted from the top first, the year from the oldest
        const first = ["cited", "near"].includes(name) ? `-${name}` : name;
        const other = first === name ? `-${name}` : name;
        state.set({ sort: state.get("sort") === first ? other : first });
      });
    }
    document.getElementById("all-rows").addEventListener("click", () => state.set({ rows: "all" }));
    this.words = document.getElementById("filter");
    this.words.addEventListener("input", () => state.set({ words: this.words.value }));
    this.kinds = document.querySelectorAll("[data-kind][aria-pressed]");
    for (const button of this.kinds) button.addEventListener("click", () => state.set({ kind: button.dataset.kind === "all" ? "" : button.dataset.kind }));
  }

  // what the address says
  apply() {
    if (this.words.value !== state.get("words")) this.words.value = state.get("words");
    for (const button of this.kinds) button.setAttribute("aria-pressed", String(button.dataset.kind === (state.get("kind") || "all")));
    if (this.sorted !== state.get("sort")) this.sort(state.get("sort"));
    this.show();
  }

  sort(given) {
    this.sorted = given;
    this.choose.value = given;
    const down = given.startsWith("-");
    const name = given.replace("-", "");
    for (const head of this.table.querySelectorAll("[aria-sort]")) {
      const own = head.querySelector("button").dataset.sort === name;
      head.setAttribute("aria-sort", own ? (down ? "descending" : "ascending") : "none");
    }
    const order = new Intl.Collator(document.documentElement.lang, { numeric: true, sensitivity: "base" });
    const key = (row) => (name in CELLS ? row.querySelector(CELLS[name]).textContent.trim() : name ? row.dataset[name] : "");
    const keyed = this.rows.map((row) => [key(row), row]);
    // what is not known stands last either way
    keyed.sort(([a, x], [b, y]) => (name && (!a - !b || (down ? -1 : 1) * order.compare(a, b))) || x.rank - y.rank);
    this.body.append(...keyed.map(([, row]) => row));
  }

  show() {
    const words = state.get("words").toLowerCase().split(/\s+/).filter(Boolean);
    const most = state.get("rows") ? Infinity : FEW;
    let count = 0;
    // in the order in which they stand
    for (const row of this.body.rows) {
      const { kind, year } = row.dataset;
      const fits = wanted({ kind, year: Number(year) || null, study: "study" in row.dataset, listed: "mine" in row.dataset });
      row.text ??= row.textContent.toLowerCase();
      const found = fits && words.every((word) => row.text.includes(word));
      count += found;
      row.hidden = !found || count > most;
    }
    document.getElementById("none").hidden = count > 0;
    const all = document.getElementById("all-rows");
    all.hidden = count <= most;
    all.textContent = `Show all ${count.toLocaleString("en")}`;
  }

  hot(id) {
    for (const row of this.rows) row.classList.toggle("hot", row.dataset.id === id);
  }
}
