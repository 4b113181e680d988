// Beside the graph: the search, what is known of an operation, and the buttons.
const MOST_HITS = 200;

class Panel {
  constructor(view) {
    this.view = view;
    this.hits = [];
    this.current = -1;
    this.search = byId("search");
    this.list = byId("hits");
    this.search.addEventListener("input", () => this.find());
    this.search.addEventListener("keydown", (event) => this.key(event));
    view.onselect = (number) => this.show(number);
    view.onview = (count) => {
      byId("in-view").textContent = `${count.toLocaleString("en")} of ${view.nodes.length.toLocaleString("en")} in view`;
    };
    this.buttons();
    this.legend();
    this.show(view.selected);
  }

  buttons() {
    const { view } = this;
    const actions = {
      "zoom-in": () => view.zoom(1.4),
      "zoom-out": () => view.zoom(1 / 1.4),
      fit: () => view.fit(),
      "go-first": () => view.select(view.first ?? view.nodes.findIndex((node) => node.failing)),
      expand: () => this.expand(!byId("graph").classList.contains("expanded")),
    };
    for (const [id, action] of Object.entries(actions)) byId(id)?.addEventListener("click", action);
    document.querySelector(".choice").hidden = !view.nodes.some((node) => node.measured);
    for (const input of document.querySelectorAll("input[name=color-by]")) {
      input.checked = input.value === view.colorBy;
      input.addEventListener("change", () => { view.setColorBy(input.value); this.legend(); });
    }
    document.addEventListener("keydown", (event) => {
      const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "");
      if (event.key === "/" && !isTyping) {
        event.preventDefault();
        this.search.focus();
        this.search.select();
      }
      if (event.key === "Escape") this.expand(false);
    });
    document.addEventListener("click", (event) => {
      const link = event.target.closest?.("[data-node]");
      if (!link) return;
      event.preventDefault();
      this.go(Number(link.dataset.node));
    });
  }

  expand(on) {
    byId("graph").classList.toggle("expanded", on);
    document.body.classList.toggle("covered", on);
    byId("expand").setAttribute("aria-pressed", String(on));
  }

  go(number) {
    if (!byId("graph").classList.contains("expanded")) byId("graph").scrollIntoView({ block: "start" });
    this.view.select(number);
  }

  legend() {
    const { view } = this;
    const chip = (color, text) => {
      const dot = element("i");
      dot.style.background = `var(${color})`;
      return element("span", {}, dot, text);
    };
    const used = (key, value) => view.nodes.some((node) => node[key] === value);
    const limits = ["< 10⁻⁵", "< 10⁻⁴", "< 10⁻³", "< 10⁻²", "< 0.1", "≥ 0.1", "NaN, infinite"];
    const chips = view.colorBy === "error"
      ? [...limits.map((text, level) => (used("level", level) ? chip(`--e${level}`, text) : null)),
         used("level", -1) ? chip("--node-border", "not compared") : null]
      : FAMILIES.map(([name], family) => (used("family", family) ? chip(`--f${family}`, name) : null));
    if (view.nodes.some((node) => node.suspect)) {
      chips.push(element("span", {}, element("i", { className: "suspect" }), "leads only to outputs that differ"));
    }
    byId("legend").replaceChildren(...chips.filter((item) => item !== null));
  }

  // All words must be in the name, the type, an output's name, or the place in the model's code.
  find() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const { nodes } = this.view;
    this.texts ??= nodes.map((node) => {
      const { name = "", operator = "", module = "", line = "" } = node.place ?? {};
      const outputs = (node.outputs ?? []).map(([output]) => output);
      return [node.name, node.type, ...outputs, name, operator, module, line].join("\n").toLowerCase();
    });
    this.hits = words.length
      ? nodes.flatMap((_, number) => (words.every((word) => this.texts[number].includes(word)) ? [number] : []))
      : [];
    this.current = -1;
    this.view.setHits(this.hits);
    this.showHits(words.length > 0);
  }

  showHits(isSearch) {
    const { nodes } = this.view;
    const rows = this.hits.slice(0, MOST_HITS).map((number, index) => {
      const node = nodes[number];
      const button = element("button", { type: "button" }, element("b", {}, node.type), " ", nameOf(node.name));
      const place = [node.place?.module, node.place?.line].filter(Boolean).join(", ");
      if (place) button.append(element("small", {}, nameOf(place)));
      button.addEventListener("click", () => this.visit(index));
      return element("li", {}, button);
    });
    this.list.replaceChildren(...rows);
    this.list.hidden = !rows.length;
    const more = this.hits.length - rows.length;
    byId("hit-count").textContent = !isSearch ? ""
      : `${plural(this.hits.length, "hit")}${more > 0 ? `, the first ${rows.length} are listed` : ""}`;
  }

  visit(index) {
    if (!this.hits.length) return;
    this.current = (index + this.hits.length) % this.hits.length;
    [...this.list.children].forEach((row, number) => row.classList.toggle("current", number === this.current));
    this.list.children[this.current]?.scrollIntoView({ block: "nearest" });
    byId("hit-count").textContent = `${this.current + 1} of ${plural(this.hits.length, "hit")}`;
    this.view.select(this.hits[this.current]);
  }

  key(event) {
    const step = { Enter: event.shiftKey ? -1 : 1, ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape" && this.search.value) {
      event.stopPropagation();
      this.search.value = "";
      this.find();
    }
    if (step === undefined) return;
    event.preventDefault();
    this.visit(this.current < 0 && step < 0 ? this.hits.length - 1 : this.current + step);
  }

  show(number) {
    const place = byId("details");
    if (number === null) {
      place.replaceChildren(element("p", { className: "muted" }, "Choose an operation to see what is known of it."));
      return;
    }
    const node = this.view.nodes[number];
    const parts = [element("h3", {}, node.type, " ", nameOf(node.name))];
    if (number === this.view.first) parts.push(element("p", { className: "flag" }, "first to differ"));
    if (node.failing) parts.push(element("p", { className: "flag" }, "out of tolerance"));
    if (node.block) parts.push(element("p", { className: "muted" }, "within ", nameOf(node.block)));
    if (node.place) parts.push(this.place(node.place));
    if (node.measured) parts.push(this.figures(node.measured));
    if (node.judged) parts.push(this.judgement(node.judged));
    const types = new Map(this.view.nodes.flatMap((other) => other.outputs ?? []));
    for (const [parameter, values] of node.inputs ?? []) {
      const rows = values.map(([text, source]) => this.value(text, types.get(text), source));
      parts.push(element("h4", {}, parameter), element("ul", {}, ...rows));
    }
    if (node.outputs) {
      parts.push(element("h4", {}, "gives"));
      parts.push(element("ul", {}, ...node.outputs.map(([name, type]) => this.value(name, type, -1))));
    }
    const readers = this.view.readers[number];
    if (readers.length) {
      parts.push(element("h4", {}, `read by ${plural(readers.length, "operation")}`));
      const rows = readers.slice(0, 50).map((reader) => this.link(reader));
      parts.push(element("ul", {}, ...rows));
      if (readers.length > 50) parts.push(element("p", { className: "muted" }, `and ${readers.length - 50} more`));
    }
    place.replaceChildren(...parts);
  }

  place(place) {
    const rows = [["module", place.module], ["line", place.line], ["value", place.name], ["operator", place.operator]];
    const list = element("dl", {});
    for (const [title, text] of rows) {
      if (text) list.append(element("dt", {}, title), element("dd", {}, nameOf(text)));
    }
    return place.code
      ? element("div", {}, list, element("pre", {}, element("bdi", {}, place.code)))
      : list;
  }

  figures(found) {
    const list = element("dl", { className: "figures" });
    const row = (title, text) => list.append(element("dt", {}, title), element("dd", {}, text));
    row("error, running", figure(found.error));
    row("alone, float32", figure(found.local_error));
    row("alone, as declared", figure(found.local_error_declared));
    row("source's range", interval(found.source_range));
    row("package's range", interval(found.package_range));
    for (const input of found.input_ranges ?? []) {
      list.append(element("dt", {}, "range of ", nameOf(input.name)), element("dd", {}, interval(input.range)));
    }
    if (found.nan) row("NaN", plural(found.nan, "element"));
    if (found.inf) row("infinite", plural(found.inf, "element"));
    return list;
  }

  judgement(found) {
    const list = element("dl", { className: "figures" });
    const row = (title, text) => list.append(element("dt", {}, title), element("dd", {}, text));
    row("largest absolute error", figure(found.max_absolute_error));
    row("largest relative error", figure(found.max_relative_error));
    row("least PSNR", found.psnr === null ? "–" : `${found.psnr.toFixed(1)} dB`);
    return element("div", {}, list, element("p", { className: "muted" }, found.tolerance));
  }

  value(text, type, source) {
    const row = element("li", {}, source >= 0 ? this.jump(source, text) : nameOf(text));
    if (type) row.append(" ", element("small", {}, element("bdi", {}, type)));
    return row;
  }

  jump(number, text) {
    const button = element("button", { type: "button", className: "link" }, nameOf(text));
    button.addEventListener("click", () => this.view.select(number));
    return button;
  }

  link(number) {
    const node = this.view.nodes[number];
    return element("li", {}, this.jump(number, node.name), " ", element("small", {}, node.type));
  }
}

const view = data.graph && new GraphView(byId("canvas"), byId("strip"), data.graph, data.first);
const panel = view && new Panel(view);
