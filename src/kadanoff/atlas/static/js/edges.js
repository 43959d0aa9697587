// Edges: SVG lines, or above 500 one canvas under the nodes, which is four times faster to drag.
const SVG = "http://www.w3.org/2000/svg";
const MOST_LINES = 500;

const kind = (link, focus) => (link.target.id === focus ? "cites" : link.source.id === focus ? "referenced" : "among");

export class Edges {
  constructor(host, world, links, focus) {
    Object.assign(this, { host, links, focus, transform: { x: 0, y: 0, k: 1 } });
    if (links.length > MOST_LINES) {
      this.canvas = document.createElement("canvas");
      this.canvas.setAttribute("aria-hidden", "true");
      host.append(this.canvas);
      this.resize();
      return;
    }
    const layer = document.createElementNS(SVG, "g");
    layer.setAttribute("aria-hidden", "true");
    for (const link of links) {
      link.line = document.createElementNS(SVG, "line");
      link.line.setAttribute("class", `link-line ${kind(link, focus)}`);
      layer.append(link.line);
    }
    world.append(layer);
  }

  draw() {
    if (this.canvas) return this.later();
    for (const { line, source, target } of this.links) {
      line.setAttribute("x1", source.x);
      line.setAttribute("y1", source.y);
      line.setAttribute("x2", target.x);
      line.setAttribute("y2", target.y);
    }
  }

  hot(id) {
    this.hotId = id;
    if (this.canvas) return this.later();
    for (const { line, source, target } of this.links) line.classList.toggle("hot", id !== null && (source.id === id || target.id === id) && id !== this.focus);
  }

  view(transform) {
    this.transform = transform;
    if (this.canvas) this.later();
  }

  resize() {
    if (!this.canvas) return;
    this.ratio = devicePixelRatio || 1;
    this.canvas.width = this.host.clientWidth * this.ratio;
    this.canvas.height = this.host.clientHeight * this.ratio;
    this.later();
  }

  later() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.paint();
    });
  }

  paint() {
    const style = getComputedStyle(this.host);
    const context = this.canvas.getContext("2d");
    const { x, y, k } = this.transform;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(k * this.ratio, 0, 0, k * this.ratio, x * this.ratio, y * this.ratio);
    context.lineWidth = 1 / Math.max(k, 0.4);
    for (const [name, alpha] of [["cites", 0.3], ["referenced", 0.3], ["among", 0.35]]) {
      context.strokeStyle = this.colour(style, name);
      context.globalAlpha = alpha;
      context.beginPath();
      for (const link of this.links) if (kind(link, this.focus) === name) this.stroke(context, link);
      context.stroke();
    }
    if (!this.hotId || this.hotId === this.focus) return;
    context.globalAlpha = 0.9;
    context.lineWidth *= 2;
    context.strokeStyle = style.color;
    context.beginPath();
    for (const link of this.links) if (link.source.id === this.hotId || link.target.id === this.hotId) this.stroke(context, link);
    context.stroke();
  }

  stroke(context, { source, target }) {
    context.moveTo(source.x, source.y);
    context.lineTo(target.x, target.y);
  }

  colour(style, name) {
    // light-dark() is resolved only where a property uses it
    const probe = (this.probe ??= this.host.parentElement.querySelector(`.legend svg > *`));
    const found = this.host.parentElement.querySelector(`.legend .k-${name}`);
    return name === "among" || !found ? getComputedStyle(probe).stroke : getComputedStyle(found).fill;
  }
}
