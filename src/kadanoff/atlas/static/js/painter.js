// Draws the map on one canvas. Names and lines keep their size at every zoom.
import { SIZE, at } from "./labels.js";

const COLOURS = ["surface", "ink", "soft", "muted", "line", "edge", "current", "ring", "cites", "referenced", "near", "accent", "study"];
// with more edges than this, only those of the paper in hand bear an arrow
const ARROWS = 420;

export class Painter {
  constructor(host, focus) {
    this.host = host;
    this.focus = focus;
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("aria-hidden", "true");
    this.context = this.canvas.getContext("2d");
    this.probe = document.createElement("span");
    this.probe.hidden = true;
    host.append(this.canvas, this.probe);
    this.restyle();
    this.resize();
  }

  // the theme's colours as the browser resolves them
  restyle() {
    this.colours = {};
    this.probe.hidden = false;
    for (const name of COLOURS) {
      this.probe.style.color = `var(--${name})`;
      this.colours[name] = getComputedStyle(this.probe).color;
    }
    this.probe.hidden = true;
    this.font = getComputedStyle(document.body).fontFamily;
  }

  resize() {
    this.ratio = devicePixelRatio || 1;
    this.width = this.host.clientWidth;
    this.height = this.host.clientHeight;
    this.canvas.width = Math.round(this.width * this.ratio);
    this.canvas.height = Math.round(this.height * this.ratio);
  }

  paint(map) {
    const { context: c } = this;
    c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    c.clearRect(0, 0, this.width, this.height);
    const scene = { nodes: map.nodes, links: map.links, view: map.view, layout: map.layout, axes: map.axes, lit: map.lit, hot: map.inHand, open: map.open, held: map.held };
    this.axes(scene);
    this.edges(scene);
    this.nodes(scene);
    this.names(scene);
    c.globalAlpha = 1;
  }

  axes({ axes, view, layout }) {
    const { context: c, colours } = this;
    c.lineWidth = 1;
    c.strokeStyle = colours.line;
    c.fillStyle = colours.muted;
    c.font = `400 12px ${this.font}`;
    if (layout === "similarity") {
      c.textAlign = "center";
      for (const [value, radius] of axes.rings) {
        c.beginPath();
        c.arc(view.x, view.y, radius * view.k, 0, 2 * Math.PI);
        c.stroke();
        this.halo(`${value || "0, nothing shared"}`, view.x, view.y - radius * view.k + 4);
      }
    }
    if (layout !== "time") return;
    c.beginPath();
    let last = -Infinity;
    c.textAlign = "center";
    const ticks = [];
    for (const [text, place] of axes.ticks) {
      const x = view.applyX(place);
      if (x - last < 38 || x < 20 || x > this.width - 16) continue;
      c.moveTo(x, 0);
      c.lineTo(x, this.height - 22);
      ticks.push([text, x]);
      last = x;
    }
    const levels = [];
    for (const [count, place] of axes.levels) {
      const y = view.applyY(place);
      if (y < 14 || y > this.height - 30 || (levels.length && levels.at(-1)[1] - y < 16)) continue;
      c.moveTo(0, y);
      c.lineTo(this.width, y);
      levels.push([count, y]);
    }
    c.globalAlpha = 0.6;
    c.stroke();
    c.globalAlpha = 1;
    for (const [text, x] of ticks) this.halo(text === "?" ? "year ?" : text, x, this.height - 7);
    c.textAlign = "left";
    for (const [count, y] of levels) this.halo(count ? `cited by ${count}` : "none known", 6, y - 4);
  }

  halo(text, x, y) {
    const { context: c, colours } = this;
    c.save();
    c.lineJoin = "round";
    c.lineWidth = 4;
    c.strokeStyle = colours.surface;
    c.strokeText(text, x, y);
    c.fillText(text, x, y);
    c.restore();
  }

  edges({ links, view, lit, hot }) {
    const { context: c, colours } = this;
    const shown = links.filter((link) => !link.source.hidden && !link.target.hidden);
    const arrows = shown.length <= ARROWS;
    const alpha = shown.length > 2000 ? 0.16 : shown.length > ARROWS ? 0.3 : 0.55;
    for (const kind of ["among", "referenced", "cites"]) {
      c.strokeStyle = c.fillStyle = kind === "among" ? colours.edge : colours[kind];
      const own = shown.filter((link) => link.kind === kind);
      // where hundreds meet in the current paper they would be one blot
      const strength = kind === "among" ? alpha : Math.min(alpha * 0.8, 30 / own.length);
      c.globalAlpha = strength * (lit ? 0.3 : 1);
      c.lineWidth = 1.1;
      this.lines(own, view, arrows);
    }
    if (!hot) return;
    c.strokeStyle = c.fillStyle = colours.ink;
    c.globalAlpha = 0.85;
    c.lineWidth = 1.6;
    this.lines(shown.filter((link) => link.source === hot || link.target === hot), view, true);
  }

  // from the citing paper to the cited one; the arrow's point touches it
  lines(links, view, arrows) {
    const { context: c } = this;
    const heads = [];
    c.beginPath();
    for (const { source, target } of links) {
      const [x1, y1, x2, y2] = [view.applyX(source.x), view.applyY(source.y), view.applyX(target.x), view.applyY(target.y)];
      c.moveTo(x1, y1);
      const length = Math.hypot(x2 - x1, y2 - y1);
      const r = Math.max(2, target.r * view.k) + 1.5;
      if (!arrows || length < r + 8) {
        c.lineTo(x2, y2);
        continue;
      }
      const [ux, uy] = [(x2 - x1) / length, (y2 - y1) / length];
      const [tx, ty] = [x2 - r * ux, y2 - r * uy];
      c.lineTo(tx - 4 * ux, ty - 4 * uy);
      heads.push([tx, ty, ux, uy]);
    }
    c.stroke();
    c.beginPath();
    for (const [x, y, ux, uy] of heads) {
      c.moveTo(x, y);
      c.lineTo(x - 7 * ux - 3 * uy, y - 7 * uy + 3 * ux);
      c.lineTo(x - 7 * ux + 3 * uy, y - 7 * uy - 3 * ux);
      c.closePath();
    }
    c.fill();
  }

  nodes({ nodes, view, lit, hot, open, held }) {
    const { context: c, colours } = this;
    // drawn last is on top: the current paper, which comes first
    for (let i = nodes.length - 1; i >= 0; i -= 1) {
      const node = nodes[i];
      if (node.hidden) continue;
      const [x, y] = [view.applyX(node.x), view.applyY(node.y)];
      const r = Math.max(2, node.r * view.k);
      if (x < -r - 9 || y < -r - 9 || x > this.width + r + 9 || y > this.height + r + 9) continue;
      c.globalAlpha = lit && !lit.has(node) ? 0.2 : 1;
      this.shape(node, x, y, r);
      c.fillStyle = node.kind === "near" ? colours.surface : colours[node.kind];
      c.strokeStyle = node.kind === "near" ? colours.near : node.kind === "current" ? colours.ring : colours.surface;
      c.lineWidth = node.kind === "near" ? 1.6 : r > 5 ? 1.6 : 0.6;
      c.setLineDash(node.kind === "near" ? [3, 2] : []);
      c.fill();
      c.stroke();
      c.setLineDash([]);
      if (node.study) this.ring(x, y, r + 4, colours.study, 2);
      if (node.listed) this.dot(x + r * 0.75, y - r * 0.75);
      if (node === hot || node === open) this.ring(x, y, r + (node.study ? 8 : 5), colours.ink, 2);
      if (node === held) this.ring(x, y, r + (node.study ? 9 : 6), colours.accent, 3.5);
    }
  }

  shape(node, x, y, r) {
    const { context: c } = this;
    c.beginPath();
    if (node.kind === "referenced") c.roundRect(x - 0.9 * r, y - 0.9 * r, 1.8 * r, 1.8 * r, Math.min(3, r / 2));
    else if (node.kind === "near") {
      c.moveTo(x, y - 1.2 * r);
      c.lineTo(x + 1.2 * r, y);
      c.lineTo(x, y + 1.2 * r);
      c.lineTo(x - 1.2 * r, y);
      c.closePath();
    } else c.arc(x, y, r, 0, 2 * Math.PI);
  }

  ring(x, y, r, colour, width) {
    const { context: c } = this;
    c.beginPath();
    c.arc(x, y, r, 0, 2 * Math.PI);
    c.strokeStyle = colour;
    c.lineWidth = width;
    c.stroke();
  }

  dot(x, y) {
    const { context: c, colours } = this;
    c.beginPath();
    c.arc(x, y, 4, 0, 2 * Math.PI);
    c.fillStyle = colours.accent;
    c.strokeStyle = colours.surface;
    c.lineWidth = 1.5;
    c.fill();
    c.stroke();
  }

  names({ nodes, view, lit, hot }) {
    const { context: c, colours } = this;
    c.lineJoin = "round";
    c.lineWidth = 4;
    c.strokeStyle = colours.surface;
    for (const node of nodes) {
      if (node.hidden || (!node.side && node !== hot)) continue;
      const bright = !lit || lit.has(node);
      c.globalAlpha = bright ? 1 : 0.2;
      const bold = node.kind === "current" || node === hot;
      c.font = `${bold ? 600 : 500} ${SIZE}px ${this.font}`;
      c.fillStyle = bold ? colours.ink : colours.soft;
      const [x, y, align] = at(node, view.applyX(node.x), view.applyY(node.y), Math.max(2, node.r * view.k));
      c.textAlign = align;
      if (bright) c.strokeText(node.name, x, y);
      c.fillText(node.name, x, y);
    }
  }
}
