// Pointing at the chart of errors shows the operation there; a click shows it in the graph.
const svg = document.querySelector("#growth svg");
if (svg && data.chart) {
  const { x: places, names, nodes, rows } = data.chart;
  const tip = byId("tip"), cross = svg.querySelector(".cross");
  let at = -1;

  const show = (index) => {
    at = Math.max(0, Math.min(places.length - 1, index));
    cross.setAttribute("visibility", "visible");
    cross.setAttribute("x1", places[at]);
    cross.setAttribute("x2", places[at]);
    const node = nodes[at] === null ? null : view?.nodes[nodes[at]];
    const row = rows[at];
    tip.replaceChildren(
      element("b", {}, node?.type ?? "operation"), " ", nameOf(names[at]), element("br"),
      `running ${figure(row.error)}, alone ${figure(row.local_error)}, as declared ${figure(row.local_error_declared)}`,
    );
    const box = svg.getBoundingClientRect();
    const left = (places[at] / svg.viewBox.baseVal.width) * box.width;
    tip.hidden = false;
    tip.style.left = `${Math.max(0, Math.min(left - tip.offsetWidth / 2, box.width - tip.offsetWidth))}px`;
  };
  const hide = () => { tip.hidden = true; cross.setAttribute("visibility", "hidden"); };
  const nearest = (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    let low = 0, high = places.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (places[middle] < x) low = middle + 1;
      else high = middle;
    }
    return low > 0 && x - places[low - 1] < places[low] - x ? low - 1 : low;
  };
  const open = () => { if (at >= 0 && nodes[at] !== null) panel?.go(nodes[at]); };

  svg.addEventListener("pointermove", (event) => show(nearest(event)));
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("click", (event) => { show(nearest(event)); open(); });
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step !== undefined) { event.preventDefault(); show(at + step); }
    if (event.key === "Enter") open();
  });
}
