// The map: nodes are links in an SVG, so that keyboard and screen reader reach each one.
import { call, calm } from "./http.js";
import { Edges } from "./edges.js";
import { labels, widest } from "./labels.js";
import { drag, forceCollide, forceSimulation, forceX, forceY, select, zoom, zoomIdentity } from "../vendor/d3.js";

const SAYS = { current: "current paper", cites: "cites this paper", referenced: "referenced by this paper", near: "nearby, not cited" };
const SVG = "http://www.w3.org/2000/svg";

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
    // on a tall, narrow screen the future points up instead of right
    this.tall = host.clientWidth < 0.95 * host.clientHeight;
    for (const node of this.nodes) if (this.tall) [node.x, node.y] = [node.y, -node.x];
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
    // drawn last is on top: the current paper
    for (const node of [...this.nodes].reverse()) {
      node.r = radius(node);
      node.homeX = node.x;
      node.homeY = node.y;
      const year = node.year ? ` (${node.year})` : "";
      const link = element("a", { class: `node ${node.kind}`, href: `/papers/${encodeURIComponent(node.id)}`, role: "link", tabindex: node.kind === "current" ? "0" : "-1", "data-id": node.id, "aria-label": `${node.title}${year}, ${SAYS[node.kind]}${node.study ? ", has a study" : ""}` });
      link.append(element("circle", { class: "halo", r: node.r + (node.study ? 7.5 : 4.5) }));
      if (node.study) link.append(element("circle", { class: "mark-ring", r: node.r + 4 }));
      link.append(element("path", { class: "shape", d: shape(node) }));
      const text = element("text");
      text.textContent = node.label || node.title.slice(0, 24);
      link.append(text);
      node.element = link;
      this.world.append(link);
    }
    this.host.append(this.svg);
    this.draw();
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
        if (transform.k !== this.view?.k) this.world.style.setProperty("--k", transform.k);
        this.view = transform;
        this.name();
      });
    svg.call(this.zoom).on("dblclick.zoom", null);
    this.relax = forceSimulation(this.nodes)
      .force("x", forceX((node) => node.homeX).strength(0.16))
      .force("y", forceY((node) => node.homeY).strength(0.16))
      .force("apart", forceCollide((node) => node.r + 6).strength(0.7))
      .on("tick", () => this.draw())
      .on("end", () => this.name())
      .stop();
    select(this.world).selectAll(".node").data([...this.nodes].reverse()).call(this.dragging());
    for (const node of this.nodes) this.listen(node);
    new ResizeObserver(() => {
      this.edges.resize();
      if (!this.touched) this.fit(false);
    }).observe(this.host);
  }

  // names are placed when the map has come to rest
  name() {
    clearTimeout(this.naming);
    this.naming = setTimeout(() => labels(this.nodes, this.view, this.host, this.tall), this.named ? 90 : 0);
    this.named = true;
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
    this.name();
    if (node.kind === "current") return;
    const place = this.tall ? [-node.y, node.x] : [node.x, node.y];
    call("PUT", `/api/papers/${encodeURIComponent(this.focus)}/layout`, { positions: { [node.id]: place } }).catch(() => {});
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

  // the paper whose details are open does not hide behind them
  uncover(id, card) {
    const at = this.byId.get(id)?.element.querySelector(".shape").getBoundingClientRect();
    const over = card.getBoundingClientRect();
    if (!at || at.right < over.left || at.left > over.right || at.bottom < over.top || at.top > over.bottom) return;
    const wide = over.width < 0.7 * this.host.clientWidth;
    const [dx, dy] = wide ? [over.left - 50 - at.right, 0] : [0, over.top - 24 - at.bottom];
    const svg = select(this.svg);
    (calm() ? svg : svg.transition().duration(260)).call(this.zoom.translateBy, dx / this.view.k, dy / this.view.k);
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
    const xs = this.nodes.map((node) => node.x);
    const ys = this.nodes.map((node) => node.y);
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    // names, the legend and the buttons keep their room
    const small = this.nodes.length <= 45;
    const side = small && !this.tall ? Math.min(width / 4, widest(this.nodes) + 44) : 44;
    const foot = width < 560 ? 118 : small ? 44 : 30;
    const room = height - foot - 84;
    const k = Math.max(0.08, Math.min(1.5, (width - 2 * side) / Math.max(1, right - left), room / Math.max(1, bottom - top)));
    const view = zoomIdentity.translate(width / 2 - (k * (left + right)) / 2, 42 + room / 2 - (k * (top + bottom)) / 2).scale(k);
    const svg = select(this.svg);
    (smooth && !calm() ? svg.transition().duration(260) : svg).call(this.zoom.transform, view);
    if (smooth) this.touched = false;
  }

  end() {
    this.relax.stop();
    clearTimeout(this.naming);
    this.host.replaceChildren();
  }
}
