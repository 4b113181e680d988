// The graph on a canvas. Nodes have a place already; what is in view is drawn, once a frame.
const RANK = 76;
const BOX = 42;
const SCALES = [0.004, 3];
const LEVELS = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1];
const FAMILIES = [
  ["convolution", /^conv/],
  ["matrix product", /^(matmul|linear|einsum|scaled_dot_product|lstm|gru|rnn)/],
  ["normalization", /norm|^reduce|^softmax|pool/],
  ["activation", /relu|sigmoid|tanh|gelu|silu|elu|softplus|softsign|clip|threshold|erf|^exp|^log/],
  ["arithmetic", /^(add|sub|mul|real_div|floor_div|mod|pow|sqrt|rsqrt|square|abs|sign|inverse|maximum|minimum|neg|cumsum)/],
  ["shape", /shape|transpose|squeeze|expand|concat|split|slice|gather|scatter|pad|tile|stack|crop|space|depth|shuffle|resize|upsample|cast|reverse/],
];

// How bad an operation is: -1 not compared, 0 to 5 by its error, 6 for NaN and infinities.
function levelOf(node) {
  const found = node.measured;
  if (!found) return -1;
  if (found.nan || found.inf) return 6;
  const error = found.error ?? found.local_error ?? found.local_error_declared;
  if (error === null || error === undefined) return -1;
  const level = LEVELS.findIndex((limit) => error < limit);
  return level < 0 ? LEVELS.length : level;
}

function familyOf(node) {
  const family = node.kind ? -1 : FAMILIES.findIndex(([, pattern]) => pattern.test(node.type));
  return family;
}

class GraphView {
  constructor(canvas, strip, graph, first) {
    Object.assign(this, { canvas, strip, nodes: graph.nodes, first });
    this.context = canvas.getContext("2d");
    this.selected = null;
    this.hits = new Set();
    this.colorBy = this.nodes.some((node) => node.measured) ? "error" : "type";
    this.onselect = () => {};
    this.onview = () => {};
    this.index(graph.edges);
    this.readColors();
    this.listen();
    this.resize();
    this.start();
  }

  // Rows of nodes and of edge pieces by rank, so that a frame looks at the ranks in view only.
  index(edges) {
    this.ranks = this.nodes.reduce((most, node) => Math.max(most, node.rank + 1), 1);
    const rows = () => Array.from({ length: this.ranks }, () => []);
    this.rows = rows();
    this.pieces = rows();
    this.stubs = rows();
    this.readers = this.nodes.map(() => []);
    this.edgesOf = this.nodes.map(() => []);
    this.right = 0;
    this.nodes.forEach((node, number) => {
      node.level = levelOf(node);
      node.family = familyOf(node);
      this.rows[node.rank].push(number);
      this.right = Math.max(this.right, node.x + node.width / 2);
    });
    for (const [from, to, ...bends] of edges) {
      const edge = { from, to, bends };
      const start = this.nodes[from].rank;
      const length = this.nodes[to].rank - start;
      this.readers[from].push(to);
      this.edgesOf[from].push(edge);
      this.edgesOf[to].push(edge);
      edge.isLong = bends.length < length - 1;
      if (edge.isLong) {
        this.stubs[start].push(edge);
        this.stubs[this.nodes[to].rank].push(edge);
      } else {
        for (let step = 0; step < length; step++) this.pieces[start + step].push(edge);
      }
    }
    for (const row of this.rows) row.sort((a, b) => this.nodes[a].x - this.nodes[b].x);
    this.bottom = (this.ranks - 1) * RANK;
  }

  readColors() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    this.colors = {
      paper: read("--canvas"), text: read("--text"), muted: read("--muted"),
      line: read("--edge"), accent: read("--accent"), bad: read("--bad"), hit: read("--hit"),
      plain: read("--node"), border: read("--node-border"),
      levels: [0, 1, 2, 3, 4, 5, 6].map((level) => [read(`--e${level}`), read(`--e${level}-text`)]),
      families: FAMILIES.map((_, family) => read(`--f${family}`)),
    };
    this.font = style.fontFamily;
  }

  listen() {
    const canvas = this.canvas;
    const repaint = () => { this.readColors(); this.stripImage = null; this.draw(); };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
    addEventListener("beforeprint", () => { this.readColors(); this.stripImage = null; this.paint(); });
    addEventListener("afterprint", repaint);
    new ResizeObserver(() => { this.resize(); this.draw(); }).observe(canvas);
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", () => { this.drag = null; });
    canvas.addEventListener("dblclick", (event) => this.zoom(1.8, event.offsetX, event.offsetY));
    canvas.addEventListener("keydown", (event) => this.key(event));
    const jump = (event) => {
      if (!(event.buttons & 1)) return;
      this.y = (event.offsetY / this.strip.clientHeight) * (this.bottom + RANK) - RANK / 2;
      this.draw();
    };
    this.strip.addEventListener("pointerdown", jump);
    this.strip.addEventListener("pointermove", jump);
  }

  resize() {
    for (const canvas of [this.canvas, this.strip]) {
      const ratio = devicePixelRatio || 1;
      canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
      canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    }
    this.stripImage = null;
  }

  // All of it where it can be read so; else the failing operation, or the beginning.
  start() {
    const failing = this.first ?? this.nodes.findIndex((node) => node.failing);
    this.fit();
    if (this.scale >= 0.45) {
      this.scale = Math.min(this.scale, 1);
    } else {
      this.scale = 0.9;
      this.y = this.canvas.clientHeight / 2 / this.scale - RANK;
      this.x = this.rows[0].length ? this.nodes[this.rows[0][0]].x : 0;
    }
    if (failing >= 0 && this.first !== null) this.select(failing);
    else if (failing >= 0 && this.scale === 0.9) {
      this.center(failing);
      this.y = Math.min(this.y, this.bottom + RANK - this.canvas.clientHeight / 2 / this.scale);
    }
    this.draw();
  }

  fit() {
    const width = this.right + 60, height = this.bottom + RANK + 40;
    this.scale = this.limit(Math.min(this.canvas.clientWidth / width, this.canvas.clientHeight / height));
    this.x = this.right / 2;
    this.y = this.bottom / 2;
    this.draw();
  }

  limit(scale) { return Math.min(Math.max(scale, SCALES[0]), SCALES[1]); }

  zoom(factor, px = this.canvas.clientWidth / 2, py = this.canvas.clientHeight / 2) {
    const dx = px - this.canvas.clientWidth / 2, dy = py - this.canvas.clientHeight / 2;
    const scale = this.limit(this.scale * factor);
    this.x += dx / this.scale - dx / scale;
    this.y += dy / this.scale - dy / scale;
    this.scale = scale;
    this.draw();
  }

  // The wheel zooms once the graph was clicked, so that it does not catch who scrolls the page.
  wheel(event) {
    if (document.activeElement !== this.canvas && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 20 : 1;
    const step = Math.max(-80, Math.min(80, event.deltaY * lines));
    this.zoom(Math.exp(-step * (event.ctrlKey ? 0.012 : 0.004)), event.offsetX, event.offsetY);
  }

  press(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.drag = { px: event.offsetX, py: event.offsetY, x: this.x, y: this.y, moved: false };
  }

  move(event) {
    const drag = this.drag;
    if (drag) {
      const dx = event.offsetX - drag.px, dy = event.offsetY - drag.py;
      drag.moved ||= Math.hypot(dx, dy) > 4;
      if (!drag.moved) return;
      this.x = drag.x - dx / this.scale;
      this.y = drag.y - dy / this.scale;
      this.draw();
    }
    const over = drag ? null : this.nodeAt(event.offsetX, event.offsetY);
    this.canvas.style.cursor = drag ? "grabbing" : over === null ? "grab" : "pointer";
    this.canvas.title = over === null ? "" : `${this.nodes[over].type} ${this.nodes[over].name}`;
  }

  release(event) {
    const drag = this.drag;
    this.drag = null;
    if (drag && !drag.moved) this.select(this.nodeAt(event.offsetX, event.offsetY), false);
  }

  key(event) {
    const step = 90 / this.scale;
    const actions = {
      ArrowLeft: () => { this.x -= step; }, ArrowRight: () => { this.x += step; },
      ArrowUp: () => { this.y -= step; }, ArrowDown: () => { this.y += step; },
      PageUp: () => { this.y -= this.canvas.clientHeight / this.scale; },
      PageDown: () => { this.y += this.canvas.clientHeight / this.scale; },
      Home: () => { this.y = 0; }, End: () => { this.y = this.bottom; },
      "+": () => this.zoom(1.25), "=": () => this.zoom(1.25), "-": () => this.zoom(0.8),
      0: () => this.fit(), n: () => this.step(1), p: () => this.step(-1), Escape: () => this.select(null),
    };
    const action = actions[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key !== "Escape") event.preventDefault();
    action();
    this.draw();
  }

  // The next operation in the order in which they run.
  step(by) {
    const count = this.nodes.length;
    if (count) this.select(((this.selected ?? (by > 0 ? -1 : count)) + by + count) % count);
  }

  nodeAt(px, py) {
    const x = this.x + (px - this.canvas.clientWidth / 2) / this.scale;
    const y = this.y + (py - this.canvas.clientHeight / 2) / this.scale;
    const rank = Math.round(y / RANK);
    if (Math.abs(y - rank * RANK) > BOX / 2 || !this.rows[rank]) return null;
    const found = this.rows[rank].find((n) => Math.abs(this.nodes[n].x - x) <= this.nodes[n].width / 2);
    return found ?? null;
  }

  center(number) {
    this.x = this.nodes[number].x;
    this.y = this.nodes[number].rank * RANK;
    this.scale = Math.max(this.scale, 0.8);
    this.draw();
  }

  select(number, moves = true) {
    this.selected = number;
    if (number !== null && moves) this.center(number);
    this.onselect(number);
    this.draw();
  }

  setHits(numbers) { this.hits = new Set(numbers); this.stripImage = null; this.draw(); }

  setColorBy(what) { this.colorBy = what; this.stripImage = null; this.draw(); }

  draw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => { this.frame = null; this.paint(); });
  }

  paint() {
    const { canvas, context, scale } = this;
    const ratio = canvas.width / Math.max(1, canvas.clientWidth);
    const width = canvas.clientWidth / scale, height = canvas.clientHeight / scale;
    const left = this.x - width / 2, top = this.y - height / 2;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = this.colors.paper;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.setTransform(ratio * scale, 0, 0, ratio * scale, -left * scale * ratio, -top * scale * ratio);
    const from = Math.max(0, Math.floor((top - BOX) / RANK));
    const to = Math.min(this.ranks - 1, Math.ceil((top + height + BOX) / RANK));
    this.paintEdges(from, to, left, left + width);
    let drawn = 0;
    for (let rank = from; rank <= to; rank++) {
      for (const number of this.rows[rank]) {
        const node = this.nodes[number];
        if (node.x + node.width / 2 < left || node.x - node.width / 2 > left + width) continue;
        this.paintNode(node, number);
        drawn++;
      }
    }
    this.paintStrip(top, height);
    this.onview(drawn);
  }

  paintEdges(from, to, left, right) {
    const { context, scale } = this;
    context.lineWidth = Math.max(1.2, 0.6 / scale);
    context.strokeStyle = this.colors.line;
    context.beginPath();
    for (let rank = Math.max(0, from - 1); rank <= to; rank++) {
      for (const edge of this.pieces[rank]) this.trace(edge, rank, left, right);
      if (scale > 0.2) for (const edge of this.stubs[rank]) this.traceStub(edge, rank);
    }
    context.stroke();
    if (this.selected === null) return;
    context.strokeStyle = this.colors.accent;
    context.lineWidth = Math.max(2.4, 1.2 / scale);
    context.beginPath();
    for (const edge of this.edgesOf[this.selected]) {
      const start = this.nodes[edge.from].rank, end = this.nodes[edge.to].rank;
      if (edge.isLong) {
        this.curve(this.nodes[edge.from].x, start * RANK + BOX / 2, this.nodes[edge.to].x, end * RANK - BOX / 2);
      } else {
        for (let rank = start; rank < end; rank++) this.trace(edge, rank, -Infinity, Infinity);
      }
    }
    context.stroke();
  }

  // The piece of an edge from one rank to the next.
  trace(edge, rank, left, right) {
    const start = this.nodes[edge.from], end = this.nodes[edge.to];
    const step = rank - start.rank;
    const x0 = step === 0 ? start.x : edge.bends[step - 1];
    const x1 = rank + 1 === end.rank ? end.x : edge.bends[step];
    if ((x0 < left && x1 < left) || (x0 > right && x1 > right)) return;
    const y0 = rank * RANK + (step === 0 ? BOX / 2 : 0);
    const y1 = (rank + 1) * RANK - (rank + 1 === end.rank ? BOX / 2 : 0);
    this.curve(x0, y0, x1, y1);
    if (rank + 1 === end.rank && this.scale > 0.45) {
      this.context.moveTo(x1 - 3.5, y1 - 5);
      this.context.lineTo(x1, y1 - 0.5);
      this.context.lineTo(x1 + 3.5, y1 - 5);
    }
  }

  curve(x0, y0, x1, y1) {
    this.context.moveTo(x0, y0);
    if (x0 === x1 || this.scale < 0.15) this.context.lineTo(x1, y1);
    else {
      const bend = Math.min((y1 - y0) / 2, 200);
      this.context.bezierCurveTo(x0, y0 + bend, x1, y1 - bend, x1, y1);
    }
  }

  // The ends of an edge that is too long to be drawn whole: it leans to where it goes.
  traceStub(edge, rank) {
    const start = this.nodes[edge.from], end = this.nodes[edge.to];
    const lean = Math.sign(end.x - start.x) * 6 || 6;
    if (rank === start.rank) {
      this.context.moveTo(start.x, rank * RANK + BOX / 2);
      this.context.lineTo(start.x + lean, rank * RANK + BOX / 2 + 9);
    } else {
      this.context.moveTo(end.x - lean, rank * RANK - BOX / 2 - 9);
      this.context.lineTo(end.x, rank * RANK - BOX / 2);
    }
  }

  // Fill and text of a node, and the color by which it is told from afar.
  paintOf(node) {
    if (node.failing) return [this.colors.bad, "#fff"];
    if (this.colorBy === "error" && node.level >= 0) return this.colors.levels[node.level];
    return [this.colors.plain, this.colors.text];
  }

  farColor(node) {
    if (this.colorBy === "type" && node.family >= 0 && !node.failing) return this.colors.families[node.family];
    const [fill] = this.paintOf(node);
    return fill === this.colors.plain ? this.colors.border : fill;
  }

  paintNode(node, number) {
    const { context, scale } = this;
    const x = node.x - node.width / 2, y = node.rank * RANK - BOX / 2;
    const rings = [];
    if (number === this.first) rings.push(this.colors.bad);
    if (number === this.selected) rings.push(this.colors.accent);
    else if (this.hits.has(number)) rings.push(this.colors.hit);
    const ring = rings.at(-1) ?? null;
    if (scale < 0.41) {
      const least = 2.5 / scale;
      context.fillStyle = ring ?? this.farColor(node);
      const grow = ring ? least : 0;
      context.fillRect(x - grow, y - grow, Math.max(node.width, least) + 2 * grow, Math.max(BOX, least * 0.6) + 2 * grow);
      return;
    }
    const [fill, text] = this.paintOf(node);
    context.beginPath();
    context.roundRect(x, y, node.width, BOX, node.kind ? BOX / 2 : 6);
    context.fillStyle = fill;
    context.fill();
    context.lineWidth = node.suspect ? 2 : 1;
    context.strokeStyle = node.suspect ? this.colors.bad : this.colors.border;
    context.setLineDash(node.suspect ? [5, 3] : []);
    context.stroke();
    context.setLineDash([]);
    if (this.colorBy === "type" && node.family >= 0) {
      context.fillStyle = this.colors.families[node.family];
      context.beginPath();
      context.roundRect(x, y, 6, BOX, [6, 0, 0, 6]);
      context.fill();
    }
    context.lineWidth = 3;
    rings.forEach((color, index) => {
      const out = 3 + 4 * index;
      context.strokeStyle = color;
      context.beginPath();
      context.roundRect(x - out, y - out, node.width + 2 * out, BOX + 2 * out, (node.kind ? BOX / 2 : 6) + out);
      context.stroke();
    });
    context.fillStyle = text;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.font = `600 12.5px ${this.font}`;
    context.fillText(this.cut(node, "type"), node.x, y + 14);
    context.globalAlpha = 0.82;
    context.font = `11px ${this.font}`;
    context.fillText(this.cut(node, "name"), node.x, y + 30);
    context.globalAlpha = 1;
  }

  // A text as wide as its node, without its middle where it is wider. The font is set already.
  cut(node, key) {
    const cache = (node.texts ??= {});
    if (cache[key] !== undefined) return cache[key];
    const whole = node[key].slice(0, 400), room = node.width - 16;
    const fits = (text) => this.context.measureText(text).width <= room;
    let text = whole;
    for (let keep = Math.min(whole.length, 40); !fits(text) && keep > 2; keep--) {
      text = `${whole.slice(0, Math.ceil(keep / 2))}…${whole.slice(-Math.floor(keep / 2))}`;
    }
    return (cache[key] = text);
  }

  // All ranks beside the graph, from top to bottom: the worst of each, and what is in view.
  paintStrip(top, height) {
    const context = this.strip.getContext("2d");
    const { width, height: tall } = this.strip;
    this.stripImage ??= this.stripPicture(width, tall);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.stripImage, 0, 0);
    const whole = this.bottom + RANK;
    const y = ((top + RANK / 2) / whole) * tall, h = (height / whole) * tall;
    context.strokeStyle = this.colors.accent;
    context.lineWidth = 2;
    context.strokeRect(1, Math.max(1, y), width - 2, Math.max(4, Math.min(h, tall - Math.max(1, y) - 1)));
  }

  stripPicture(width, tall) {
    const image = element("canvas", { width, height: tall });
    const context = image.getContext("2d");
    context.fillStyle = this.colors.paper;
    context.fillRect(0, 0, width, tall);
    const each = tall / this.ranks;
    const most = this.rows.reduce((count, row) => Math.max(count, row.length), 1);
    const paint = (rank, color, share) => {
      context.fillStyle = color;
      const w = Math.max(3, share * (width - 8)), h = Math.max(1, each * 0.8);
      context.fillRect((width - w) / 2, rank * each, w, h);
    };
    const order = this.rows.map((row, rank) => {
      const worst = row.reduce((a, b) => (this.nodes[b].level > this.nodes[a].level ? b : a), row[0]);
      return { rank, worst, count: row.length, level: worst === undefined ? -1 : this.nodes[worst].level };
    });
    order.sort((a, b) => a.level - b.level); // the worst is drawn last, and seen
    for (const { rank, worst, count } of order) {
      if (worst !== undefined) paint(rank, this.farColor(this.nodes[worst]), 0.3 + (0.7 * Math.log2(1 + count)) / Math.log2(1 + most));
    }
    for (const number of this.hits) paint(this.nodes[number].rank, this.colors.hit, 1);
    this.nodes.forEach((node, number) => {
      if (node.failing || number === this.first) paint(node.rank, this.colors.bad, 1);
    });
    return image;
  }
}
