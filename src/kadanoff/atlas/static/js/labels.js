// Names beside nodes: always readable, never on top of each other; more appear as one zooms in.
const SIZE = 13;
let ruler = null;

function measure(text, bold) {
  ruler ??= document.createElement("canvas").getContext("2d");
  ruler.font = `${bold ? 600 : 500} ${SIZE}px ${getComputedStyle(document.body).fontFamily}`;
  return ruler.measureText(text).width;
}

const width = (node) => (node.nameWidth ??= measure(node.label || node.title.slice(0, 24), node.kind === "current"));

export const widest = (nodes) => Math.max(...nodes.map(width));

const apart = (a, b) => a[0] >= b[2] || b[0] >= a[2] || a[1] >= b[3] || b[1] >= a[3];

export function labels(nodes, view, host, tall) {
  const { clientWidth, clientHeight } = host;
  const taken = nodes.map((node) => {
    const [x, y, r] = [view.applyX(node.x), view.applyY(node.y), node.r * view.k];
    node.seen = [x - r, y - r, x + r, y + r];
    return node.seen;
  });
  const order = [...nodes].sort((a, b) => (b.kind === "current") - (a.kind === "current") || b.weight - a.weight);
  for (const node of order) {
    const [x, y] = [view.applyX(node.x), view.applyY(node.y)];
    const gap = node.r * view.k + (node.study || node.kind === "near" ? 10 : 6);
    const [w, h] = [width(node), SIZE + 3];
    // on the outer side first, where no edge runs
    const out = node.x < 0 ? -1 : 1;
    const places = {
      below: [x - w / 2, y + gap, "middle", 0, 1],
      above: [x - w / 2, y - gap - h, "middle", 0, -1],
      right: [x + gap, y - h / 2, "start", 1, 0],
      left: [x - gap - w, y - h / 2, "end", -1, 0],
    };
    const sides = out > 0 ? ["right", "left"] : ["left", "right"];
    const ends = node.y < 0 ? ["above", "below"] : ["below", "above"];
    const names = node.kind === "current" ? ["below", "above"] : tall ? [...ends, ...sides] : [sides[0], ...ends];
    const fitting = names.find((name) => {
      const [left, top] = places[name];
      const box = [left, top, left + w, top + h];
      const inside = left > 2 && top > 2 && box[2] < clientWidth - 2 && box[3] < clientHeight - 2;
      return inside && taken.every((other) => other === node.seen || apart(box, other));
    });
    const [left, top, anchor, dx, dy] = places[fitting ?? names[0]];
    node.element.classList.toggle("quiet", !fitting);
    if (fitting) taken.push([left - 4, top, left + w + 4, top + h]);
    const text = node.element.querySelector("text");
    text.setAttribute("text-anchor", anchor);
    text.setAttribute("x", (dx * gap) / view.k);
    text.setAttribute("y", dy === 0 ? (0.36 * SIZE) / view.k : (dy * gap + (dy > 0 ? 0.85 * SIZE : -3)) / view.k);
  }
}
