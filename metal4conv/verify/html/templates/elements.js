// Elements and numbers. Names come from models, so text is only ever set as text.
const byId = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

// A name, whose writing direction does not change that of the text around it.
const nameOf = (text) => element("bdi", { className: "name" }, text);

function figure(value) {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) {
    return value.toExponential(2);
  }
  return String(Number(value.toPrecision(3)));
}

const interval = (bounds) =>
  bounds && bounds[0] !== null && bounds[1] !== null
    ? `${figure(bounds[0])} … ${figure(bounds[1])}`
    : "–";

const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

const data = JSON.parse(byId("data").textContent);
