// Values under the pointer, buttons that take a series away, and a hint to scroll. Without it the page is complete.
"use strict";
for (const figure of document.querySelectorAll("figure")) {
  const svg = figure.querySelector("svg");
  const groups = svg ? [...svg.querySelectorAll(".series")] : [];
  if (!groups.length) continue;

  const names = [...new Set(groups.map((group) => group.dataset.series))].filter(Boolean);
  if (names.length > 1) {
    const switches = document.createElement("div");
    switches.className = "switches";
    switches.setAttribute("role", "group");
    switches.setAttribute("aria-label", `Series of ${svg.parentElement.getAttribute("aria-label")}`);
    for (const name of names) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        const on = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(on));
        for (const group of groups) if (group.dataset.series === name) group.classList.toggle("off", !on);
      });
      switches.append(button);
    }
    svg.parentElement.after(switches);
  }

  // Under a pointer the nearest value; with the arrow keys one after the other, read aloud by a screen reader.
  const value = document.createElement("div");
  value.className = "value";
  value.hidden = true;
  value.setAttribute("role", "status");
  figure.append(value);
  const lines = groups.filter((group) => group.dataset.points);
  const points = lines.flatMap((group) => JSON.parse(group.dataset.points).map((point) => [group, ...point]));
  const visible = () => points.filter((point) => !point[0].classList.contains("off"));
  const show = (point) => {
    value.hidden = !point;
    if (!point) return;
    const name = point[0].dataset.series;
    value.textContent = `${name ? name + ": " : ""}${point[4]}, ${point[3]}`;
    const place = new DOMPoint(point[1], point[2]).matrixTransform(svg.getScreenCTM());
    const box = figure.getBoundingClientRect();
    value.style.left = `${Math.max(0, Math.min(place.x - box.left + 10, box.width - value.offsetWidth))}px`;
    value.style.top = `${place.y - box.top - value.offsetHeight - 8}px`;
  };
  svg.addEventListener("pointermove", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const away = (point) => Math.hypot(point[1] - at.x, point[2] - at.y);
    const nearest = visible().reduce((best, point) => (!best || away(point) < away(best) ? point : best), null);
    show(nearest && away(nearest) < 20 ? nearest : null);
  });
  svg.addEventListener("pointerleave", () => show(null));
  const frame = svg.parentElement;
  let current = -1;
  frame.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const shown = visible();
    if (!step || !shown.length) return;
    event.preventDefault();
    current = (current + step + shown.length) % shown.length;
    show(shown[current]);
  });
  frame.addEventListener("blur", () => { current = -1; show(null); });
}

// A hint at what is wider than the screen.
function hint() {
  for (const box of document.querySelectorAll(".scroll, .picture")) {
    box.classList.toggle("wide", box.scrollWidth > box.clientWidth + 1);
  }
}
hint();
addEventListener("resize", hint);
