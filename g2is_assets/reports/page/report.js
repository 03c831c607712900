"use strict";
// The map: draws the points, tells the one under the pointer, and shows the row that was chosen by pointer or keys.
// All text is set as text or copied from the list of rows, where the page has it escaped already.
(() => {
  const by = (id) => document.getElementById(id);
  const data = JSON.parse(by("map-data").textContent);
  const canvas = by("map-canvas"), tip = by("map-tip"), panel = by("map-row"), select = by("map-source");
  // Points: rows taken, then rows left up to `rows`, then the domain's own up to `n`.
  const n = data.x.length, taken = data.n_taken, rows = n - data.own.length, margin = 14;
  const width = Math.max(1, ...data.x), height = Math.max(1, ...data.y);
  let lit = -1, focused = -1, chosen = -1, zoom = 1, left = 0, top = 0, grip = null, over = -1;

  data.sources.forEach((name, number) => {
    const option = document.createElement("option");
    option.value = number;
    option.textContent = name;
    select.append(option);
  });

  function place(i) {
    const side = canvas.clientWidth, scale = (side - 2 * margin) / Math.max(width, height);
    const x = (side - width * scale) / 2 + data.x[i] * scale, y = (side - height * scale) / 2 + (height - data.y[i]) * scale;
    return [(x - left * side) * zoom, (y - top * side) * zoom];
  }

  // `left` and `top` are what of the whole map lies outside, as shares of its side.
  function look(to, x = 0.5, y = 0.5) {
    const [atX, atY] = [left + x / zoom, top + y / zoom];
    zoom = Math.max(1, Math.min(40, to));
    pan(atX - x / zoom, atY - y / zoom);
  }

  // Round the row that is shown, where it can be seen, else round the middle.
  function closer(to) {
    const at = focused >= 0 ? focused : chosen, seen = at < 0 ? [0.5, 0.5] : place(at).map((v) => v / canvas.clientWidth);
    look(to, ...(Math.min(...seen) < 0 || Math.max(...seen) > 1 ? [0.5, 0.5] : seen));
  }

  function pan(toLeft, toTop) {
    [left, top] = [toLeft, toTop].map((to) => Math.max(0, Math.min(1 - 1 / zoom, to)));
    canvas.classList.toggle("zoomed", zoom > 1);
    hint(-1);
    draw();
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
    const grown = Math.min(2, Math.sqrt(zoom)), small = (rows > 2000 ? 1.5 : 2.5) * grown;
    pen.globalAlpha = 0.7;
    dots(taken, rows, small, colour("--pool"), (i) => data.source[i] !== lit);
    pen.globalAlpha = 1;
    dots(taken, rows, small + 0.5, colour("--lit"), (i) => data.source[i] === lit);
    for (let i = rows; i < n; i++) {
      const [x, y] = place(i);
      for (const [reach, fill] of [[6.5, "--back"], [5, "--own"]]) {
        pen.fillStyle = colour(fill);
        pen.beginPath();
        for (const [dx, dy] of [[0, -reach], [reach, 0], [0, reach], [-reach, 0]]) pen.lineTo(x + dx, y + dy);
        pen.fill();
      }
    }
    const large = (taken > 200 ? 2.5 : 3.5) * grown;
    dots(0, taken, large + 3, colour("--lit"), (i) => data.source[i] === lit);
    dots(0, taken, large + 1, colour("--back"), () => true);
    dots(0, taken, large, colour("--taken"), () => true);
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
      const [px, py] = place(i), marked = i < taken || i >= rows, reach = marked ? 12 : 7;
      // A marked row is what people aim at, so it counts as a little nearer than it is.
      const distance = Math.hypot(px - x, py - y), felt = marked ? distance - 4 : distance;
      if (distance <= reach && felt < least) [found, least] = [i, felt];
    }
    return found;
  }

  const list = (i) => by(i < taken ? `row-${i + 1}` : `own-${data.own[i - rows]}`);
  const told = (i) => i < rows ? `${data.sources[data.source[i]]}: ${data.words[i]}`
    : `The domain's own: ${list(i).querySelector(".words").textContent}`;

  function hint(i) {
    over = i;
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
    heading.textContent = i < taken ? `Row ${i + 1} of the subset`
      : i < rows ? "A row that was not taken" : "A row of the domain";
    words.textContent = told(i);
    words.dir = "auto";
    const more = i < taken || i >= rows ? list(i).querySelector(".told").cloneNode(true) : document.createElement("p");
    if (i >= taken && i < rows) more.textContent = `${data.why[i - taken]} Row ${data.left[i - taken]}.`;
    panel.replaceChildren(heading, words, more);
    panel.scrollTop = 0;
    hint(-1);
    draw();
  }

  function step(to) {
    focused = Math.max(0, Math.min(taken - 1, to));
    const [x, y] = place(focused).map((value) => value / canvas.clientWidth);
    if (Math.min(x, y) < 0 || Math.max(x, y) > 1) pan(left + (x - 0.5) / zoom, top + (y - 0.5) / zoom);
    draw();
    hint(focused);
  }

  canvas.addEventListener("pointermove", (event) => {
    if (!grip || grip.over) return hint(at(event));
    const side = canvas.clientWidth * zoom;
    grip.moved ||= Math.hypot(event.clientX - grip.x, event.clientY - grip.y) > 4;
    if (grip.moved) pan(grip.left - (event.clientX - grip.x) / side, grip.top - (event.clientY - grip.y) / side);
  });
  canvas.addEventListener("pointerleave", () => hint(-1));
  canvas.addEventListener("pointerdown", (event) => {
    grip = zoom > 1 ? { x: event.clientX, y: event.clientY, left, top, moved: false, over: false } : null;
    if (grip) canvas.setPointerCapture(event.pointerId);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => { if (grip) grip.over = true; });  // the click that follows asks for it
  }
  // What is hinted at is what a click means: a click's place is rounded to whole pixels, a pointer's is not.
  canvas.addEventListener("click", (event) => grip?.moved || show(over >= 0 ? over : at(event)));
  canvas.addEventListener("dblclick", (event) => look(2 * zoom, event.offsetX / canvas.clientWidth, event.offsetY / canvas.clientWidth));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && document.activeElement !== canvas) return;  // else the page could not be scrolled past
    event.preventDefault();
    look(zoom * Math.exp(-event.deltaY / 300), event.offsetX / canvas.clientWidth, event.offsetY / canvas.clientWidth);
  }, { passive: false });
  by("map-in").addEventListener("click", () => closer(2 * zoom));
  by("map-out").addEventListener("click", () => closer(zoom / 2));
  by("map-whole").addEventListener("click", () => look(1));
  canvas.addEventListener("blur", () => { focused = -1; hint(-1); draw(); });
  canvas.addEventListener("keydown", (event) => {
    const to = { ArrowRight: focused + 1, ArrowDown: focused + 1, ArrowLeft: focused - 1, ArrowUp: focused - 1,
      Home: 0, End: taken - 1 }[event.key];
    if (to !== undefined) step(to);
    else if (event.key === "+" || event.key === "-") closer(event.key === "+" ? 2 * zoom : zoom / 2);
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
