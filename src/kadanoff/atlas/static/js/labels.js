// Names beside nodes: always of one size, never on top of each other; more appear as one zooms in.
export const SIZE = 13;
let ruler = null;

function measure(text, bold) {
  ruler ??= document.createElement("canvas").getContext("2d");
  ruler.font = `${bold ? 600 : 500} ${SIZE}px ${getComputedStyle(document.body).fontFamily}`;
  return ruler.measureText(text).width;
}

const width = (node) => (node.nameWidth ??= measure(node.name, node.kind === "current"));

export const widest = (nodes) => Math.max(0, ...nodes.map(width));

const apart = (a, b) => a[0] >= b[2] || b[0] >= a[2] || a[1] >= b[3] || b[1] >= a[3];

// boxes by the cells of a grid, so that a name asks only what is near it
class Grid {
  constructor() {
    this.cells = new Map();
  }

  *keys([left, top, right, bottom]) {
    for (let x = Math.floor(left / 64); x <= Math.floor(right / 64); x += 1) {
      for (let y = Math.floor(top / 64); y <= Math.floor(bottom / 64); y += 1) yield x * 4099 + y;
    }
  }

  add(box) {
    for (const key of this.keys(box)) {
      const cell = this.cells.get(key);
      if (cell) cell.push(box);
      else this.cells.set(key, [box]);
    }
  }

  free(box, own) {
    for (const key of this.keys(box)) {
      for (const other of this.cells.get(key) ?? []) if (other !== own && !apart(box, other)) return false;
    }
    return true;
  }
}

// Decide for each node in sight on which side its name stands, or that it has none at this zoom.
export function place(nodes, view, host, tall) {
  const { clientWidth, clientHeight } = host;
  const grid = new Grid();
  const seen = [];
  for (const node of nodes) {
    node.side = null;
    node.nameBox = null;
    node.box = null;
    const [x, y, r] = [view.applyX(node.x), view.applyY(node.y), node.r * view.k];
    if (x < -r || y < -r || x > clientWidth + r || y > clientHeight + r) continue;
    const reach = r + (node.study ? 5 : 0);
    node.box = [x - reach, y - reach, x + reach, y + reach];
    grid.add(node.box);
    seen.push(node);
  }
  const rank = (node) => (node.kind === "current" ? 2 : node.study ? 1 : 0);
  seen.sort((a, b) => rank(b) - rank(a) || b.cited - a.cited || b.near - a.near);
  for (const node of seen) {
    const [x, y] = [view.applyX(node.x), view.applyY(node.y)];
    const gap = node.r * view.k + (node.study || node.kind === "near" ? 10 : 6);
    const [w, h] = [width(node), SIZE + 3];
    const places = {
      below: [x - w / 2, y + gap],
      above: [x - w / 2, y - gap - h],
      right: [x + gap, y - h / 2],
      left: [x - gap - w, y - h / 2],
    };
    // on the outer side first, where no edge runs
    const sides = node.x < 0 ? ["left", "right"] : ["right", "left"];
    const ends = node.y < 0 ? ["above", "below"] : ["below", "above"];
    const order = node.kind === "current" ? ["below", "above", ...sides] : tall ? [...ends, ...sides] : [...sides, ...ends];
    node.side = order.find((name) => {
      const [left, top] = places[name];
      const box = [left, top, left + w, top + h];
      const inside = left > 2 && top > 2 && box[2] < clientWidth - 2 && box[3] < clientHeight - 2;
      return inside && grid.free(box, node.box);
    }) ?? null;
    if (!node.side) continue;
    const [left, top] = places[node.side];
    node.nameBox = [left, top, left + w, top + h];
    grid.add([left - 4, top, left + w + 4, top + h]);
  }
}

// Where a name stands now: its distance from the node is the same at every zoom.
export function at(node, x, y, r) {
  const gap = r + (node.study || node.kind === "near" ? 10 : 6);
  switch (node.side) {
    case "below": return [x, y + gap + SIZE * 0.8, "center"];
    case "above": return [x, y - gap - 3, "center"];
    case "left": return [x - gap, y + SIZE * 0.36, "right"];
    default: return [x + gap, y + SIZE * 0.36, "left"];
  }
}
