// The map: nodes are links in an SVG, so that keyboard and screen reader reach each one.
import { call, calm } from "./http.js";
import { Edges } from "./edges.js";
import { drag, forceCollide, forceSimulation, forceX, forceY, select, zoom, zoomIdentity } from "../vendor/d3.js";

const SAYS = { current: "current paper", cites: "cites this paper", referenced: "referenced by this paper", near: "nearby, not cited" };
const SVG = "http://www.w3.org/2000/svg";
const MOST_LABELS = 45;

const radius = (node) => (node.kind === "current" ? 20 : 9 + Math.min(15, 2.6 * Math.log10(1 + node.weight) ** 1.25));

function shape(node) {
  const r = node.r;
  if (node.kind === "referenced") {
    const side = r * 1.8;
    return `M${-side / 2 + 3} ${-side / 2}h${side - 6}q3 0 3 3v${side - 6}q0 3 -3 3h${6 - side}q-3 0 -3 -3v${6 - side}q0 -3 3 -3z`;
  }
  if (node.kind === "near") return `M0 ${-r * 1.2}L${r * 1.2} 0L0 ${r * 1.2}L${-r * 1.2} 0Z`;
  return `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
}

function element(name, attributes = {}) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

export class Graph {
  constructor(host, data, { onOpen, onHot }) {
    Object.assign(this, { host, onOpen, onHot, focus: data.focus, nodes: data.nodes });
    this.byId = new Map(data.nodes.map((node) => [node.id, node]));
    this.links = data.links.map(({ source, target }) => ({ source: this.byId.get(source), target: this.byId.get(target) }));
    this.build();
    this.watch();
    this.fit(false);
  }

  build() {
    this.host.replaceChildren();
    this.svg = element("svg", { role: "group", "aria-label": `Graph of ${this.nodes.length - 1} papers around the current one. Arrow keys go from paper to paper; the table below says the same.` });
    this.world = element("g");
    this.edges = new Edges(this.host, this.world, this.links, this.focus);
    this.svg.append(this.world);
    const heavy = new Set([...this.nodes].sort((a, b) => b.weight - a.weight).slice(0, this.nodes.length <= MOST_LABELS ? this.nodes.length : 16));
    // drawn last is on top: the current paper
    for (const node of [...this.nodes].reverse()) {
      node.r = radius(node);
      node.homeX = node.x;
      node.homeY = node.y;
      const year = node.year ? ` (${node.year})` : "";
      const link = element("a", { class: `node ${node.kind}`, href: `/papers/${encodeURIComponent(node.id)}`, role: "link", tabindex: node.kind === "current" ? "0" : "-1", "data-id": node.id, "aria-label": `${node.title}${year}, ${SAYS[node.kind]}${node.study ? ", has a study" : ""}` });
      if (!heavy.has(node) && node.kind !== "current") link.classList.add("quiet");
      link.append(element("circle", { class: "halo", r: node.r + (node.study ? 7.5 : 4.5) }));
      if (node.study) link.append(element("circle", { class: "mark-ring", r: node.r + 4 }));
      link.append(element("path", { class: "shape", d: shape(node) }));
      const text = element("text", this.beside(node));
      text.textContent = node.label || node.title.slice(0, 24);
      link.append(text);
      node.element = link;
      this.world.append(link);
    }
    this.host.append(this.svg);
    this.draw();
  }

  // names stand on the outer side, where no edge runs
  beside(node) {
    const gap = node.r + (node.study ? 11 : 7);
    if (node.kind === "current" || Math.abs(node.x) < 0.3 * Math.abs(node.y)) return { y: node.y < 0 ? -gap - 3 : gap + 12, "text-anchor": "middle" };
    return { x: node.x < 0 ? -gap : gap, y: 4.5, "text-anchor": node.x < 0 ? "end" : "start" };
  }

  draw() {
    for (const node of this.nodes) node.element.setAttribute("transform", `translate(${node.x.toFixed(1)} ${node.y.toFixed(1)})`);
    this.edges.draw();
  }

  watch() {
    const svg = select(this.svg);
    this.zoom = zoom()
      .scaleExtent([0.08, 6])
      // one finger scrolls the page, two move the map
      .filter((event) => (event.type === "touchstart" ? event.touches.length > 1 : !event.button && (!event.ctrlKey || event.type === "wheel")))
      .on("zoom", ({ transform }) => {
        this.world.setAttribute("transform", transform);
        this.edges.view(transform);
        this.tip(null);
      });
    svg.call(this.zoom).on("dblclick.zoom", null);
    this.relax = forceSimulation(this.nodes)
      .force("x", forceX((node) => node.homeX).strength(0.16))
      .force("y", forceY((node) => node.homeY).strength(0.16))
      .force("apart", forceCollide((node) => node.r + 6).strength(0.7))
      .on("tick", () => this.draw())
      .stop();
    select(this.world).selectAll(".node").data([...this.nodes].reverse()).call(this.dragging());
    for (const node of this.nodes) this.listen(node);
    new ResizeObserver(() => {
      this.edges.resize();
      if (!this.touched) this.fit(false);
    }).observe(this.host);
  }

  dragging() {
    return drag()
      .clickDistance(4)
      .on("start", () => this.tip(null))
      .on("drag", (event, node) => {
        this.touched = true;
        if (!calm() && this.relax.alpha() < 0.1) this.relax.alpha(0.5).alphaTarget(0.2).restart();
        Object.assign(node, { fx: event.x, fy: event.y, x: event.x, y: event.y });
        this.draw();
      })
      .on("end", (event, node) => {
        this.relax.alphaTarget(0);
        if (node.fx !== undefined && node.fx !== null) this.settle(node);
      });
  }

  // where the reader has put a paper is where it is at the next visit
  settle(node) {
    Object.assign(node, { homeX: node.x, homeY: node.y, fx: null, fy: null });
    this.relax.force("x").initialize(this.nodes, Math.random);
    this.relax.force("y").initialize(this.nodes, Math.random);
    if (node.kind === "current") return;
    call("PUT", `/api/papers/${encodeURIComponent(this.focus)}/layout`, { positions: { [node.id]: [node.x, node.y] } }).catch(() => {});
  }

  listen(node) {
    const link = node.element;
    link.addEventListener("pointerenter", (event) => { this.hot(node.id); if (event.pointerType !== "touch") this.tip(node); });
    link.addEventListener("pointerleave", () => { this.hot(null); this.tip(null); });
    link.addEventListener("focus", () => { this.rove(node); this.hot(node.id); if (link.matches(":focus-visible")) { this.reveal(node); this.tip(node); } });
    link.addEventListener("blur", () => { this.hot(null); this.tip(null); });
    link.addEventListener("click", (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      this.tip(null);
      this.onOpen(node.id);
    });
    link.addEventListener("keydown", (event) => this.key(event, node));
  }

  key(event, node) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (way) {
      event.preventDefault();
      if (event.altKey) {
        node.x += 12 * way[0];
        node.y += 12 * way[1];
        this.touched = true;
        this.settle(node);
        this.draw();
      } else this.next(node, way)?.element.focus();
    } else if (event.key === "Home") {
      event.preventDefault();
      this.byId.get(this.focus).element.focus();
    } else if (event.key === "+" || event.key === "=") this.scale(1.35);
    else if (event.key === "-") this.scale(1 / 1.35);
    else if (event.key === "0") this.fit();
  }

  next(from, [dx, dy]) {
    let best = null;
    let least = Infinity;
    for (const node of this.nodes) {
      const along = (node.x - from.x) * dx + (node.y - from.y) * dy;
      const aside = Math.abs((node.x - from.x) * dy) + Math.abs((node.y - from.y) * dx);
      const cost = along + 2 * aside;
      if (node !== from && along > 1 && cost < least) [best, least] = [node, cost];
    }
    return best;
  }

  rove(node) {
    for (const other of this.nodes) other.element.setAttribute("tabindex", other === node ? "0" : "-1");
  }

  hot(id, tell = true) {
    for (const node of this.nodes) node.element.classList.toggle("hot", node.id === id);
    this.edges.hot(id);
    if (tell) this.onHot(id);
  }

  opened(id) {
    for (const node of this.nodes) node.element.classList.toggle("open", node.id === id);
  }

  tip(node) {
    const tip = document.getElementById("tip");
    tip.hidden = !node;
    if (!node) return;
    const more = document.createElement("small");
    more.textContent = [node.label, SAYS[node.kind]].filter(Boolean).join(" · ");
    tip.replaceChildren(node.title, more);
    const box = this.host.getBoundingClientRect();
    const at = node.element.querySelector(".shape").getBoundingClientRect();
    const x = Math.min(Math.max(8, at.left + at.width / 2 - box.left - tip.offsetWidth / 2), box.width - tip.offsetWidth - 8);
    const above = at.top - box.top - tip.offsetHeight - 10;
    tip.style.transform = `translate(${Math.round(x)}px, ${Math.round(above > 4 ? above : at.bottom - box.top + 24)}px)`;
  }

  scale(factor) {
    this.touched = true;
    const svg = select(this.svg);
    (calm() ? svg : svg.transition().duration(180)).call(this.zoom.scaleBy, factor);
  }

  reveal(node) {
    const box = this.host.getBoundingClientRect();
    const at = node.element.querySelector(".shape").getBoundingClientRect();
    if (at.left < box.left || at.right > box.right || at.top < box.top || at.bottom > box.bottom) select(this.svg).call(this.zoom.translateTo, node.x, node.y);
  }

  fit(smooth = true) {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (!width || !height) return;
    const side = this.nodes.length <= MOST_LABELS ? 150 : 40;
    const xs = this.nodes.map((node) => node.x);
    const ys = this.nodes.map((node) => node.y);
    const [left, right, top, bottom] = [Math.min(...xs) - side, Math.max(...xs) + side, Math.min(...ys) - 34, Math.max(...ys) + 34];
    // the legend and the buttons keep their corner
    const room = height - (width < 560 ? 150 : 60);
    const k = Math.max(0.08, Math.min(1.35, width / (right - left), room / (bottom - top)));
    const view = zoomIdentity.translate(width / 2 - (k * (left + right)) / 2, (room + (width < 560 ? 20 : 30)) / 2 - (k * (top + bottom)) / 2).scale(k);
    const svg = select(this.svg);
    (smooth && !calm() ? svg.transition().duration(260) : svg).call(this.zoom.transform, view);
    if (smooth) this.touched = false;
  }

  end() {
    this.relax.stop();
    this.host.replaceChildren();
  }
}
