// The map: drawn on a canvas; above it each paper is a link that nobody sees, so that mouse,
// keyboard and screen reader reach every one.
import { call, calm } from "./http.js";
import { place, widest } from "./labels.js";
import { Painter } from "./painter.js";
import { wanted } from "./state.js";
import { drag, forceCollide, forceSimulation, forceX, forceY, select, zoom, zoomIdentity } from "../vendor/d3.js";

const SAYS = { current: "current paper", cites: "cites this paper", referenced: "referenced by this paper", near: "nearby, not cited" };

const radius = (node) => (node.kind === "current" ? Math.max(18, 8 + 3 * Math.sqrt(node.cited)) : 6.5 + Math.min(20, 3.4 * Math.sqrt(node.cited)));

export const citedWords = (count) => (count ? `cited by ${count.toLocaleString("en")} work${count === 1 ? "" : "s"} here` : "no citing work known here");

export class Graph {
  constructor(host, data, { onOpen, onHot, onView, view }) {
    Object.assign(this, { host, onOpen, onHot, onView, focus: data.focus, nodes: data.nodes, layout: data.layout, axes: data.axes });
    // for whoever looks at the page from outside
    host.graph = this;
    this.byId = new Map(data.nodes.map((node) => [node.id, node]));
    this.links = data.links.map(({ source, target }) => ({
      source: this.byId.get(source),
      target: this.byId.get(target),
      kind: target === data.focus ? "cites" : source === data.focus ? "referenced" : "among",
    }));
    this.around = new Map(this.nodes.map((node) => [node, new Set([node])]));
    for (const { source, target } of this.links) {
      this.around.get(source).add(target);
      this.around.get(target).add(source);
    }
    // on a tall, narrow screen the future points up instead of right
    this.tall = host.clientWidth < 0.95 * host.clientHeight;
    this.turned = this.tall && this.layout === "force";
    for (const node of this.nodes) if (this.turned) [node.x, node.y] = [node.y, -node.x];
    this.build();
    this.watch();
    this.filter();
    this.fit(false);
    if (view) this.look(view);
  }

  // what the reader looks at, in words for the address: zoom and the middle, whatever the screen
  looking() {
    const { clientWidth, clientHeight } = this.host;
    const [x, y] = this.view.invert([clientWidth / 2, clientHeight / 2]);
    return [this.view.k.toFixed(3), x.toFixed(1), y.toFixed(1)].join(",");
  }

  look(words) {
    const [k, x, y] = words.split(",").map(Number);
    if (![k, x, y].every(Number.isFinite) || words === this.looking()) return;
    this.touched = true;
    const { clientWidth, clientHeight } = this.host;
    this.surface.call(this.zoom.transform, zoomIdentity.translate(clientWidth / 2 - k * x, clientHeight / 2 - k * y).scale(Math.min(6, Math.max(0.05, k))));
  }

  build() {
    this.host.replaceChildren();
    this.painter = new Painter(this.host, this.focus);
    this.layer = document.createElement("div");
    this.layer.className = "nodes";
    this.layer.setAttribute("role", "group");
    this.layer.setAttribute("aria-label", `Graph of ${this.nodes.length - 1} papers around the current one. Arrow keys go from paper to paper; the table below says the same.`);
    for (const node of [...this.nodes].reverse()) {
      node.r = radius(node);
      node.name = node.label || node.title.slice(0, 24);
      node.homeX = node.x;
      node.homeY = node.y;
      const year = node.year ? ` (${node.year})` : "";
      const link = document.createElement("a");
      link.className = `node ${node.kind}`;
      link.href = `/papers/${encodeURIComponent(node.id)}`;
      link.tabIndex = node.kind === "current" ? 0 : -1;
      link.dataset.id = node.id;
      link.setAttribute("aria-label", `${node.title}${year}, ${SAYS[node.kind]}, ${citedWords(node.cited)}${node.study ? ", has a study" : ""}`);
      link.append(Object.assign(document.createElement("span"), { className: "shape" }));
      const reach = Math.max(node.r, 10);
      Object.assign(link.style, { width: `${2 * reach}px`, height: `${2 * reach}px`, margin: `${-reach}px` });
      node.element = link;
      this.layer.append(link);
    }
    this.host.append(this.layer);
    this.move();
  }

  // links follow their papers; the canvas follows at the next frame
  move() {
    for (const node of this.nodes) node.element.style.transform = `translate(${node.x.toFixed(1)}px, ${node.y.toFixed(1)}px)`;
    this.draw();
  }

  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      if (this.view) this.painter.paint(this);
    });
  }

  watch() {
    this.surface = select(this.host);
    this.zoom = zoom()
      .scaleExtent([0.05, 6])
      // one finger scrolls the page, two move the map
      .filter((event) => (event.type === "touchstart" ? event.touches.length > 1 : !event.button && (!event.ctrlKey || event.type === "wheel")))
      .on("zoom", ({ transform, sourceEvent }) => {
        this.view = transform;
        // moved by hand, not by a change of the window
        if (sourceEvent) this.touched = true;
        this.layer.style.transform = `translate(${transform.x}px, ${transform.y}px) scale(${transform.k})`;
        this.tip(null);
        this.draw();
        this.name();
      });
    this.surface.call(this.zoom).on("dblclick.zoom", null);
    this.relax = forceSimulation(this.nodes)
      .force("x", forceX((node) => node.homeX).strength(0.16))
      .force("y", forceY((node) => node.homeY).strength(0.16))
      .force("apart", forceCollide((node) => node.r + 6).strength(0.7))
      .on("tick", () => this.move())
      .on("end", () => this.name())
      .stop();
    const links = select(this.layer).selectAll(".node").data([...this.nodes].reverse());
    if (this.layout === "force") links.call(this.dragging());
    // what happens on one link happens to the layer: one listener, not one for each paper
    const of = (event) => this.byId.get(event.target.closest?.(".node")?.dataset.id);
    this.layer.addEventListener("pointerover", (event) => { const node = of(event); if (node) { this.hot(node.id); if (event.pointerType !== "touch") this.tip(node); } });
    this.layer.addEventListener("pointerout", (event) => { if (of(event)) { this.hot(null); this.tip(null); } });
    this.layer.addEventListener("focusin", (event) => this.focused(of(event)));
    this.layer.addEventListener("focusout", () => { this.held = null; this.hot(null); this.tip(null); });
    this.layer.addEventListener("keydown", (event) => { const node = of(event); if (node) this.key(event, node); });
    this.layer.addEventListener("click", (event) => {
      const node = of(event);
      if (!node || event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      this.tip(null);
      this.onOpen(node.id);
    });
    this.observer = new ResizeObserver(() => {
      if (!this.host.isConnected) return;
      this.painter.resize();
      if (this.touched) this.draw();
      else this.fit(false);
    });
    this.observer.observe(this.host);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.themed = () => this.restyle();
    this.dark.addEventListener("change", this.themed);
  }

  restyle() {
    this.painter.restyle();
    this.draw();
  }

  focused(node) {
    if (!node) return;
    this.rove(node);
    this.hot(node.id);
    if (!node.element.matches(":focus-visible")) return;
    this.held = node;
    this.reveal(node);
    this.tip(node);
  }

  // names are placed when the map has come to rest
  name() {
    clearTimeout(this.naming);
    const settle = () => {
      place(this.nodes.filter((node) => !node.hidden), this.view, this.host, this.tall);
      this.draw();
    };
    this.naming = setTimeout(() => {
      settle();
      this.onView(this.touched ? this.looking() : "");
    }, this.named ? 90 : 0);
    this.named = true;
  }

  // papers that the filters leave out are gone with their edges
  filter() {
    let shown = 0;
    for (const node of this.nodes) {
      node.hidden = !wanted(node);
      node.element.hidden = node.hidden;
      shown += !node.hidden;
    }
    if (this.shown !== undefined && shown !== this.shown && !this.touched) this.fit(false);
    this.shown = shown;
    this.draw();
    if (this.view) this.name();
    return shown;
  }

  dragging() {
    return drag()
      .clickDistance(4)
      .container(this.host)
      .on("start", () => this.tip(null))
      .on("drag", (event, node) => {
        this.touched = true;
        if (!calm() && this.relax.alpha() < 0.1) this.relax.alpha(0.5).alphaTarget(0.2).restart();
        const [x, y] = [node.x + event.dx / this.view.k, node.y + event.dy / this.view.k];
        Object.assign(node, { fx: x, fy: y, x, y });
        this.move();
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
    const spot = this.turned ? [-node.y, node.x] : [node.x, node.y];
    call("PUT", `/api/papers/${encodeURIComponent(this.focus)}/layout`, { positions: { [node.id]: spot } }).catch(() => {});
  }

  key(event, node) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (way) {
      event.preventDefault();
      if (event.altKey && this.layout === "force") {
        node.x += 12 * way[0];
        node.y += 12 * way[1];
        this.touched = true;
        this.settle(node);
        this.move();
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
      if (node !== from && !node.hidden && along > 1 && cost < least) [best, least] = [node, cost];
    }
    return best;
  }

  rove(node) {
    for (const other of this.nodes) if (other.element.tabIndex === 0) other.element.tabIndex = -1;
    node.element.tabIndex = 0;
  }

  // the paper in hand and those that it cites or that cite it stand out
  light(node) {
    this.inHand = node;
    this.lit = node && node.id !== this.focus ? this.around.get(node) : null;
    this.draw();
  }

  hot(id, tell = true) {
    this.light(id === null ? null : this.byId.get(id) ?? null);
    if (tell) this.onHot(id);
  }

  opened(id) {
    this.open = this.byId.get(id) ?? null;
    for (const node of this.nodes) node.element.classList.toggle("open", node === this.open);
    if (this.open && !this.open.hidden) requestAnimationFrame(() => this.open && this.reveal(this.open));
    this.draw();
  }

  tip(node) {
    const tip = document.getElementById("tip");
    tip.hidden = !node;
    if (!node) return;
    const title = new DOMParser().parseFromString(node.html, "text/html");
    const more = document.createElement("small");
    const near = node.kind === "current" ? "" : `nearness ${node.near.toFixed(2)}`;
    more.textContent = [node.label, SAYS[node.kind], citedWords(node.cited), near].filter(Boolean).join(" · ");
    tip.replaceChildren(...title.body.childNodes, more);
    const box = tip.parentElement.getBoundingClientRect();
    const at = node.element.querySelector(".shape").getBoundingClientRect();
    const x = Math.min(Math.max(8, at.left + at.width / 2 - box.left - tip.offsetWidth / 2), box.width - tip.offsetWidth - 8);
    const above = at.top - box.top - tip.offsetHeight - 10;
    tip.style.transform = `translate(${Math.round(x)}px, ${Math.round(above > 4 ? above : at.bottom - box.top + 24)}px)`;
  }

  scale(factor) {
    this.touched = true;
    (calm() ? this.surface : this.surface.transition().duration(180)).call(this.zoom.scaleBy, factor);
  }

  reveal(node) {
    const box = this.host.getBoundingClientRect();
    const [x, y] = [this.view.applyX(node.x), this.view.applyY(node.y)];
    if (x < 12 || x > box.width - 12 || y < 12 || y > box.height - 12) this.surface.call(this.zoom.translateTo, node.x, node.y);
  }

  fit(smooth = true) {
    const { clientWidth: width, clientHeight: height } = this.host;
    const nodes = this.nodes.filter((node) => !node.hidden);
    if (!width || !height) return;
    const xs = nodes.map((node) => node.x);
    const ys = nodes.map((node) => node.y);
    let [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    if (this.layout === "similarity") {
      // the rings are part of the picture
      const reach = Math.max(60, ...nodes.map((node) => Math.hypot(node.x, node.y)));
      [left, right, top, bottom] = [-reach, reach, -reach, reach];
    }
    // names keep their room
    const side = nodes.length <= 45 && !this.tall ? Math.min(width / 4, widest(nodes) + 44) : 44;
    const room = height - 92;
    const across = (width - 2 * side) / Math.max(1, right - left);
    const upright = room / Math.max(1, bottom - top);
    let k = Math.max(0.05, Math.min(1.5, across, upright));
    let middle = (left + right) / 2;
    if (this.layout === "time" && k < 0.42 && upright > k) {
      // a long history does not fit: begin with what is newest
      k = Math.min(0.42, upright);
      middle = right - (width / 2 - Math.min(120, width / 4)) / k;
    }
    const view = zoomIdentity.translate(width / 2 - k * middle, 44 + room / 2 - (k * (top + bottom)) / 2).scale(k);
    (smooth && !calm() ? this.surface.transition().duration(260) : this.surface).call(this.zoom.transform, view);
    if (smooth) {
      this.touched = false;
      this.name();
    }
  }

  end() {
    this.relax.stop();
    this.observer.disconnect();
    this.dark.removeEventListener("change", this.themed);
    this.surface.interrupt().on(".zoom", null);
    clearTimeout(this.naming);
    cancelAnimationFrame(this.frame);
    this.host.replaceChildren();
  }
}
