// Values under the pointer, and buttons that take a series away. Without it the page is complete.
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
    switches.setAttribute("aria-label", "Series of this figure");
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

  const value = document.createElement("div");
  value.className = "value";
  value.hidden = true;
  value.setAttribute("aria-hidden", "true");
  figure.append(value);
  const lines = groups.filter((group) => group.dataset.points);
  const points = lines.flatMap((group) => JSON.parse(group.dataset.points).map((point) => [group, ...point]));
  svg.addEventListener("pointermove", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    let nearest = null;
    let distance = 20;
    for (const point of points) {
      const away = Math.hypot(point[1] - at.x, point[2] - at.y);
      if (away < distance && !point[0].classList.contains("off")) [nearest, distance] = [point, away];
    }
    value.hidden = !nearest;
    if (!nearest) return;
    const name = nearest[0].dataset.series;
    value.textContent = `${name ? name + ": " : ""}${nearest[4]}, ${nearest[3]}`;
    const place = new DOMPoint(nearest[1], nearest[2]).matrixTransform(svg.getScreenCTM());
    const box = figure.getBoundingClientRect();
    value.style.left = `${Math.max(0, Math.min(place.x - box.left + 10, box.width - value.offsetWidth))}px`;
    value.style.top = `${place.y - box.top - value.offsetHeight - 8}px`;
  });
  svg.addEventListener("pointerleave", () => { value.hidden = true; });
}
