"use strict";
// The map: draws the points, tells the one under the pointer, and shows the row that was chosen by pointer or keys.
// All text is set as text or copied from the list of rows, where the page has it escaped already.
(() => {
  const by = (id) => document.getElementById(id);
  const data = JSON.parse(by("map-data").textContent);
  const canvas = by("map-canvas"), tip = by("map-tip"), panel = by("map-row"), select = by("map-source");
  const n = data.x.length, taken = data.n_taken, margin = 14;
  const width = Math.max(1, ...data.x), height = Math.max(1, ...data.y);
  let lit = -1, focused = -1, chosen = -1;

  data.sources.forEach((name, number) => {
    const option = document.createElement("option");
    option.value = number;
    option.textContent = name;
    select.append(option);
  });

  function place(i) {
    const side = canvas.clientWidth, scale = (side - 2 * margin) / Math.max(width, height);
    const left = (side - width * scale) / 2, top = (side - height * scale) / 2;
    return [left + data.x[i] * scale, top + (height - data.y[i]) * scale];
  }

  function draw() {
    const side = canvas.clientWidth, dense = window.devicePixelRatio || 1;
    if (!side) return;
    canvas.width = canvas.height = Math.round(side * dense);
    const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    pen.scale(dense, dense);
    const dots = (from, to, radius, fill, keep) => {
      pen.fillStyle = fill;
      for (let i = from; i < to; i++) {
        if (!keep(i)) continue;
        const [x, y] = place(i);
        pen.beginPath();
        pen.arc(x, y, radius, 0, 2 * Math.PI);
        pen.fill();
      }
    };
    const small = n > 2000 ? 1.5 : 2.5;
    pen.globalAlpha = 0.7;
    dots(taken, n, small, colour("--pool"), (i) => data.source[i] !== lit);
    pen.globalAlpha = 1;
    dots(taken, n, small + 0.5, colour("--lit"), (i) => data.source[i] === lit);
    const large = taken > 200 ? 2.5 : 3.5;
    dots(0, taken, large + 1, colour("--back"), () => true);
    dots(0, taken, large, colour("--taken"), (i) => data.source[i] !== lit);
    dots(0, taken, large, colour("--lit"), (i) => data.source[i] === lit);
    if (chosen >= 0 && chosen < taken && data.before[chosen] >= 0) {
      pen.strokeStyle = colour("--ink");
      pen.lineWidth = 1.5;
      pen.beginPath();
      pen.moveTo(...place(chosen));
      pen.lineTo(...place(data.before[chosen]));
      pen.stroke();
    }
    for (const [i, radius] of [[chosen, 7], [focused, 10]]) {
      if (i < 0) continue;
      pen.strokeStyle = colour("--ink");
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(...place(i), radius, 0, 2 * Math.PI);
      pen.stroke();
    }
  }

  function at(event) {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let found = -1, least = Infinity;
    for (let i = 0; i < n; i++) {
      const [px, py] = place(i), reach = i < taken ? 12 : 7;
      // A taken row is what people aim at, so it counts as a little nearer than it is.
      const distance = Math.hypot(px - x, py - y), felt = i < taken ? distance - 4 : distance;
      if (distance <= reach && felt < least) [found, least] = [i, felt];
    }
    return found;
  }

  const told = (i) => `${data.sources[data.source[i]]}: ${data.words[i]}`;

  function hint(i) {
    tip.hidden = i < 0;
    if (i < 0) return;
    tip.textContent = told(i);
    const [x, y] = place(i), room = canvas.clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(x + 12, room))}px`;
    tip.style.top = y > canvas.clientWidth / 2 ? `${y - tip.offsetHeight - 12}px` : `${y + 12}px`;
  }

  function show(i) {
    if (i < 0) return;
    chosen = i;
    const heading = document.createElement("h3"), words = document.createElement("p");
    heading.textContent = i < taken ? `Row ${i + 1} of the subset` : "A row that was not taken";
    words.textContent = told(i);
    words.dir = "auto";
    const row = i < taken ? [by(`row-${i + 1}`).querySelector(".told").cloneNode(true)] : [];
    panel.replaceChildren(heading, words, ...row);
    panel.scrollTop = 0;
    draw();
  }

  function step(to) {
    focused = Math.max(0, Math.min(taken - 1, to));
    draw();
    hint(focused);
  }

  canvas.addEventListener("pointermove", (event) => hint(at(event)));
  canvas.addEventListener("pointerleave", () => hint(-1));
  canvas.addEventListener("click", (event) => show(at(event)));
  canvas.addEventListener("blur", () => { focused = -1; hint(-1); draw(); });
  canvas.addEventListener("keydown", (event) => {
    const to = { ArrowRight: focused + 1, ArrowDown: focused + 1, ArrowLeft: focused - 1, ArrowUp: focused - 1,
      Home: 0, End: taken - 1 }[event.key];
    if (to !== undefined) step(to);
    else if (event.key === "Enter" || event.key === " ") show(focused < 0 ? 0 : focused);
    else return;
    event.preventDefault();
  });
  select.addEventListener("change", () => {
    lit = Number(select.value);
    by("map-key").hidden = lit < 0;
    by("map-lit").textContent = lit < 0 ? "" : data.sources[lit];
    draw();
  });
  new ResizeObserver(draw).observe(canvas);
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", draw);
})();
