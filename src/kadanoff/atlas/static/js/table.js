// The table of connected papers: sorted, filtered, in step with the graph.
export class Table {
  constructor(table, { onHot }) {
    this.body = table.tBodies[0];
    this.rows = [...this.body.rows];
    this.kind = "all";
    this.words = [];
    this.near = false;
    for (const row of this.rows) {
      row.addEventListener("pointerenter", () => onHot(row.dataset.id));
      row.addEventListener("pointerleave", () => onHot(null));
      row.addEventListener("focusin", () => onHot(row.dataset.id));
      row.addEventListener("focusout", () => onHot(null));
    }
    for (const button of table.querySelectorAll("[data-sort]")) button.addEventListener("click", () => this.sort(button));
    const filter = document.getElementById("filter");
    filter.addEventListener("input", () => {
      this.words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      this.show();
    });
    const kinds = document.querySelectorAll("[data-kind][aria-pressed]");
    for (const button of kinds) {
      button.addEventListener("click", () => {
        this.kind = button.dataset.kind;
        for (const other of kinds) other.setAttribute("aria-pressed", String(other === button));
        this.show();
      });
    }
  }

  sort(button) {
    const head = button.closest("th");
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentElement.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const cell = { title: ".name", authors: ".a", year: ".y" }[button.dataset.sort];
    const order = new Intl.Collator(document.documentElement.lang, { numeric: true, sensitivity: "base" });
    const keyed = this.rows.map((row) => [row.querySelector(cell).textContent.trim(), row]);
    // what is not known stands last either way
    keyed.sort(([a], [b]) => (!a - !b) || (ascending ? 1 : -1) * order.compare(a, b));
    this.body.append(...keyed.map(([, row]) => row));
  }

  show() {
    let any = false;
    for (const row of this.rows) {
      const kind = row.dataset.kind;
      const wanted = kind === "near" ? this.near && this.kind === "all" : this.kind === "all" || kind === this.kind;
      const text = row.textContent.toLowerCase();
      row.hidden = !(wanted && this.words.every((word) => text.includes(word)));
      any ||= !row.hidden;
    }
    document.getElementById("none").hidden = any;
  }

  hot(id) {
    for (const row of this.rows) row.classList.toggle("hot", row.dataset.id === id);
  }
}
