"use strict";
// Draws one level of a program: its layers, or the operations of one layer. Places come with the
// page; only what is in view becomes elements. Names are set as text, never as markup.
(() => {
  const graphs = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const [svg, details, found, status] = ["graph", "details", "found", "status"].map(byId);
  const W = 170, H = 46, MOST = 900, MOST_EDGES = 4000, LISTED = 100;
  const NAME = 0, LAYER = 1, X = 2, Y = 3, USES = 4, TYPE = 5, ATTRS = 6, WIDTH = 7, COST = 8;

  let graph = null;
  let inside = -1; // the layer whose operations are shown; -1: all layers
  let chosen = -1; // of the scene's nodes
  let nodes = []; // {id, x, y, label, sub, heat, edges in and out}
  let rows = []; // indices of nodes by y
  let view = { x: 0, y: 0, scale: 1 }; // middle of the picture, pixels per unit
  let waiting = false;

  const heat = (share) => (share <= 0 ? 0 : share < 0.01 ? 1 : share < 0.05 ? 2 : share < 0.15 ? 3 : 4);
  const short = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);
  const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
  const make = (name, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const button = (text, action) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.addEventListener("click", action);
    return made;
  };

  function scene() {
    let pairs;
    if (inside < 0) {
      nodes = graph.layers.map((l, id) => ({
        id, x: l.at[0], y: l.at[1], label: l.name, heat: heat(l.heat),
        sub: l.source && l.source !== l.name ? l.source : plural(l.ops.length, "operation"),
      }));
      pairs = graph.edges;
    } else {
      const ops = graph.layers[inside].ops;
      const place = new Map(ops.map((op, i) => [op, i]));
      nodes = ops.map((id) => {
        const op = graph.ops[id];
        return { id, x: op[X], y: op[Y], label: graph.texts[op[NAME]], heat: 0,
          sub: graph.texts[op[TYPE]] };
      });
      pairs = [];
      ops.forEach((id, i) => {
        for (const use of graph.ops[id][USES]) if (place.has(use)) pairs.push([place.get(use), i]);
      });
    }
    for (const node of nodes) node.edges = [];
    for (const [from, to] of pairs) {
      const edge = [from, to];
      nodes[from].edges.push(edge);
      nodes[to].edges.push(edge);
    }
    rows = nodes.map((_, i) => i).sort((a, b) => nodes[a].y - nodes[b].y || nodes[a].x - nodes[b].x);
    byId("all").disabled = inside < 0;
  }

  function first(y) {
    let [low, high] = [0, rows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (nodes[rows[middle]].y < y) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  function draw() {
    waiting = false;
    const box = svg.getBoundingClientRect();
    const [w, h] = [box.width / view.scale, box.height / view.scale];
    const [left, top] = [view.x - w / 2, view.y - h / 2];
    svg.setAttribute("viewBox", `${left} ${top} ${Math.max(w, 1)} ${Math.max(h, 1)}`);
    const seen = [];
    let more = 0;
    for (let i = first(top - H); i < rows.length && nodes[rows[i]].y <= top + h; i += 1) {
      const node = nodes[rows[i]];
      if (node.x + W / 2 < left || node.x - W / 2 > left + w) continue;
      if (seen.length < MOST) seen.push(rows[i]);
      else more += 1;
    }
    const focus = document.activeElement && document.activeElement.dataset
      ? document.activeElement.dataset.node : undefined;
    const parts = [];
    const edges = new Set();
    for (const i of seen) for (const e of nodes[i].edges) if (edges.size < MOST_EDGES) edges.add(e);
    for (const [from, to] of edges) {
      const [a, b] = [nodes[from], nodes[to]];
      const [y0, y1] = [a.y + H, b.y];
      const bend = Math.max(20, Math.abs(y1 - y0) / 3);
      parts.push(make("path", { class: "edge",
        d: `M${a.x} ${y0}C${a.x} ${y0 + bend} ${b.x} ${y1 - bend} ${b.x} ${y1}` }));
    }
    const written = view.scale > 0.35;
    for (const i of seen) {
      const node = nodes[i];
      const group = make("g", { class: `node h${node.heat}${i === chosen ? " chosen" : ""}`,
        tabindex: "0", role: "button", "data-node": i, "aria-label": `${node.label}, ${node.sub}` });
      group.append(make("rect", { x: node.x - W / 2, y: node.y, width: W, height: H }));
      if (written) {
        group.append(make("text", { x: node.x, y: node.y + 19 }, short(node.label, 24)));
        group.append(make("text", { x: node.x, y: node.y + 36, class: "sub" }, short(node.sub, 28)));
        group.append(make("title", {}, node.label));
      }
      parts.push(group);
    }
    svg.replaceChildren(...parts);
    if (focus !== undefined) {
      const again = svg.querySelector(`[data-node="${Number(focus)}"]`);
      if (again) again.focus({ preventScroll: true });
    }
    const where = inside < 0 ? "layers" : `operations of ${graph.layers[inside].name}`;
    status.textContent = `${graph.name}: ${nodes.length} ${where}` + (more ? `, ${more} not drawn` : "");
  }

  function redraw() {
    if (!waiting) {
      waiting = true;
      requestAnimationFrame(draw);
    }
  }

  function fit() {
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const n of nodes) {
      x0 = Math.min(x0, n.x); x1 = Math.max(x1, n.x);
      y0 = Math.min(y0, n.y); y1 = Math.max(y1, n.y);
    }
    const box = svg.getBoundingClientRect();
    const wide = Math.min(1.2, box.width / (x1 - x0 + W + 40));
    const scale = Math.max(0.4, Math.min(wide, box.height / (y1 - y0 + H + 40)));
    // What does not fit at a size that can be read starts at its top.
    const y = Math.min((y0 + y1 + H) / 2, y0 - 20 + box.height / scale / 2);
    view = nodes.length ? { x: (x0 + x1) / 2, y, scale } : { x: 0, y: 0, scale: 1 };
    if (wide < 0.4 && nodes.length) view.x = nodes[rows[0]].x;
    redraw();
  }

  function zoom(factor) {
    view.scale = Math.min(4, Math.max(0.02, view.scale * factor));
    redraw();
  }

  function show(entries, buttons) {
    const list = document.createElement("dl");
    for (const [label, value] of entries) {
      if (!value) continue;
      const [name, text] = [document.createElement("dt"), document.createElement("dd")];
      name.textContent = label;
      text.textContent = value;
      list.append(name, text);
    }
    details.replaceChildren(list, ...buttons);
  }

  function layerDetails(id) {
    const layer = graph.layers[id];
    show([["layer", layer.name], ["node of the source model", layer.source],
      ["operations", String(layer.ops.length)], ...layer.cost],
      inside < 0 ? [button("show its operations", () => open(id))] : []);
  }

  function opDetails(id) {
    const op = graph.ops[id];
    const layer = graph.layers[op[LAYER]];
    const text = (column) => graph.texts[op[column]];
    const links = op[USES].map((use) =>
      button(`operand %${use}: ${graph.texts[graph.ops[use][NAME]]} ${graph.texts[graph.ops[use][TYPE]]}`,
        () => go(graph.ops[use][LAYER], use)));
    show([["operation", `%${id} ${graph.name}.${text(NAME)}`], ["type", text(TYPE)],
      ["width", text(WIDTH)], ["attributes", text(ATTRS)], ["cost", text(COST)],
      ["layer", layer.name], ["node of the source model", layer.source],
      ...layer.cost.map(([label, value]) => [`layer: ${label}`, value])], links);
  }

  function choose(i) {
    chosen = i;
    if (inside < 0) layerDetails(nodes[i].id);
    else opDetails(nodes[i].id);
    redraw();
  }

  function centre(i) {
    view = { x: nodes[i].x, y: nodes[i].y + H / 2, scale: Math.max(view.scale, 0.8) };
  }

  function open(layer) {
    inside = layer;
    chosen = -1;
    scene();
    fit();
    if (layer >= 0) layerDetails(layer);
  }

  // To an operation, or to a layer among all.
  function go(layer, op) {
    inside = op === undefined ? -1 : layer;
    scene();
    const i = op === undefined ? layer : graph.layers[layer].ops.indexOf(op);
    centre(i);
    choose(i);
  }

  function level(number) {
    graph = graphs[number];
    for (const b of byId("levels").children) {
      b.setAttribute("aria-pressed", String(Number(b.dataset.level) === number));
    }
    found.replaceChildren();
    byId("search").value = "";
    open(-1);
  }

  function search() {
    const wanted = byId("search").value.trim().toLowerCase();
    const hits = [];
    let count = 0;
    const add = (text, action) => {
      count += 1;
      if (hits.length >= LISTED) return;
      const item = document.createElement("li");
      item.append(button(text, action));
      hits.push(item);
    };
    if (wanted) {
      graph.layers.forEach((layer, id) => {
        if (`${layer.name} ${layer.source}`.toLowerCase().includes(wanted)) {
          add(`layer ${layer.name}${layer.source ? " (" + layer.source + ")" : ""}`, () => go(id));
        }
      });
      const hit = graph.texts.map((text) => text.toLowerCase().includes(wanted));
      graph.ops.forEach((op, id) => {
        if (hit[op[NAME]] || hit[op[TYPE]] || hit[op[ATTRS]] || wanted === `%${id}`) {
          add(`%${id} ${graph.texts[op[NAME]]} in ${graph.layers[op[LAYER]].name}`,
            () => go(op[LAYER], id));
        }
      });
      status.textContent = `${count} found` + (count > LISTED ? `, ${LISTED} listed` : "");
    }
    found.replaceChildren(...hits);
  }

  const nodeOf = (event) => {
    const group = event.target.closest && event.target.closest("[data-node]");
    return group ? Number(group.dataset.node) : -1;
  };
  let drag = null;
  svg.addEventListener("pointerdown", (e) => { drag = { x: e.clientX, y: e.clientY, moved: false }; });
  window.addEventListener("pointermove", (e) => {
    if (!drag) return;
    const [dx, dy] = [e.clientX - drag.x, e.clientY - drag.y];
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    drag = { x: e.clientX, y: e.clientY, moved: true };
    view.x -= dx / view.scale;
    view.y -= dy / view.scale;
    redraw();
  });
  window.addEventListener("pointerup", (e) => {
    const still = drag && !drag.moved;
    drag = null;
    const i = still ? nodeOf(e) : -1;
    if (i < 0) return;
    if (i === chosen && inside < 0) open(nodes[i].id);
    else choose(i);
  });
  svg.addEventListener("wheel", (e) => {
    e.preventDefault();
    if (e.ctrlKey || e.metaKey) return zoom(Math.exp(-e.deltaY / 300));
    view.x += e.deltaX / view.scale;
    view.y += e.deltaY / view.scale;
    return redraw();
  }, { passive: false });
  svg.addEventListener("keydown", (e) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const i = nodeOf(e);
    if (moves[e.key]) {
      e.preventDefault();
      view.x += moves[e.key][0] * 120 / view.scale;
      view.y += moves[e.key][1] * 120 / view.scale;
      redraw();
    } else if ((e.key === "Enter" || e.key === " ") && i >= 0) {
      e.preventDefault();
      if (i === chosen && inside < 0) open(nodes[i].id);
      else choose(i);
    }
  });
  byId("all").addEventListener("click", () => open(-1));
  byId("in").addEventListener("click", () => zoom(1.4));
  byId("out").addEventListener("click", () => zoom(1 / 1.4));
  byId("fit").addEventListener("click", fit);
  byId("search").addEventListener("input", search);
  window.addEventListener("resize", redraw);
  let start = 0;
  for (const b of byId("levels").children) {
    b.addEventListener("click", () => level(Number(b.dataset.level)));
    if (b.dataset.first) start = Number(b.dataset.level);
  }
  byId("bar").hidden = false;
  byId("app").hidden = false;
  level(start);
})();
