"use strict";
// Charts: drawn in the colours of the page, and again when the reader's system turns light or dark.
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");

// A table that is wider than its box can be scrolled by the keyboard; others are no stops on the way.
const overflowing = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
for (const box of document.querySelectorAll(".scroll")) overflowing.observe(box);

(() => {
  const charts = [...document.querySelectorAll("script[data-chart]")].map((script) => ({
    place: document.getElementById(script.dataset.chart),
    ...JSON.parse(script.textContent),
  }));

  function themed(layout) {
    const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true, fixedrange: true };
    const whole = {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 13, color: colour("--text") },
      margin: { l: 8, r: 16, t: 8, b: 8 },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
      hoverlabel: { bgcolor: colour("--raised"), font: { color: colour("--text") } },
      dragmode: false,
      ...layout,
    };
    for (const name of new Set(["xaxis", "yaxis", ...Object.keys(layout)])) {
      if (/^[xy]axis\d*$/.test(name)) whole[name] = { ...axis, ...layout[name] };
    }
    return whole;
  }

  async function draw() {
    const options = { responsive: true, displayModeBar: false };
    for (const { place, data, layout } of charts) await Plotly.react(place, data, themed(layout), options);
    document.body.dataset.charts = String(charts.length);
  }

  if (charts.length) {
    draw();
    dark.addEventListener("change", draw);
  }
})();
