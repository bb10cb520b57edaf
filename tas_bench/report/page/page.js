"use strict";

// Tables: a click on a column's title sorts by it, numbers by value, empty cells last.
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const title = button.parentElement, column = title.cellIndex, body = title.closest("table").tBodies[0];
    const up = title.getAttribute("aria-sort") !== "ascending";
    for (const other of title.parentElement.cells) other.setAttribute("aria-sort", "none");
    title.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const compare = (one, other) => {
      const a = key(one), b = key(other);
      if (a === "" || b === "") return (a === "") - (b === "");
      const numbers = Number(a) - Number(b);
      return (up ? 1 : -1) * (Number.isNaN(numbers) ? a.localeCompare(b, "en", { numeric: true }) : numbers);
    };
    body.append(...[...body.rows].sort(compare));
  });
}

// Plots: drawn one after another, coloured for light or dark; light on paper.
const look = JSON.parse(document.getElementById("look").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const waiting = [...document.querySelectorAll(".plot")];
const config = { displayModeBar: false, responsive: true, showTips: false };

function shown(plot, theme) {
  const { data, layout } = JSON.parse(plot.nextElementSibling.textContent);
  const ink = theme === "dark" ? "#e8eaed" : "#1b1f24", line = theme === "dark" ? "#3a4049" : "#d5d9de";
  for (const trace of data) {
    const palette = look[theme], colour = trace.meta == null ? look.grey[theme] : palette[trace.meta % palette.length];
    if (trace.line) trace.line.color = colour;
    if (trace.marker) trace.marker.color = colour;
    if (trace.fillcolor) trace.fillcolor = colour;
    if (trace.error_y) trace.error_y.color = trace.type === "bar" ? ink : colour;
  }
  for (const axis of [layout.xaxis, layout.yaxis]) Object.assign(axis, { gridcolor: line, linecolor: line });
  Object.assign(layout, { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 12 } });
  return Plotly.react(plot, data, layout, config).then(() => fit(plot));
}

// A legend of many lines makes its plot higher, not flatter.
function fit(plot) {
  const legend = plot.querySelector(".legend .bg");
  const height = Math.round(290 + (legend ? legend.getBoundingClientRect().height : 0));
  if (Math.abs(plot.clientHeight - height) < 8) return null;
  plot.style.height = `${height}px`;
  return Plotly.Plots.resize(plot);
}

const theme = () => (dark.matches ? "dark" : "light");

function next() {
  const plot = waiting.shift();
  if (plot) Promise.resolve(shown(plot, theme())).then(() => setTimeout(next));
  else document.documentElement.dataset.drawn = "yes";
}

function all(which) {
  waiting.length = 0;
  for (const plot of document.querySelectorAll(".plot")) shown(plot, which);
}

dark.addEventListener("change", () => all(theme()));
window.addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
  all("light");
});
window.addEventListener("afterprint", () => all(theme()));
next();
