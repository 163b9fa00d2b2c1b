// Panels of lines: values on hover, zoom by dragging. The other scripts use what is defined here.
const SVG = "http://www.w3.org/2000/svg";
const data = JSON.parse(document.getElementById("data").textContent);
/** Equal series are written once: `m` and `e` are places in a list. */
for (const each of [
  ...Object.values(data.figures).flat().flatMap(panel => panel.series),
  ...data.browser.settings.flatMap(setting => setting.lengths.flatMap(length => length.curves.flat())).filter(Boolean),
]) Object.assign(each, {m: data.series[each.m], e: data.series[each.e]});
const tip = document.getElementById("tip");
const all = (query, from = document) => [...from.querySelectorAll(query)];
document.documentElement.classList.add("scripted");

const make = (name, attributes, text) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
};
const format = value => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(2)
    : value.toLocaleString("en", size >= 1 ? {maximumFractionDigits: 2} : {maximumSignificantDigits: 3});
  return text.replace("-", "−");
};
/** Round numbers between two ends, on a linear or logarithmic axis. */
const ticks = (low, high, log, most = 6) => {
  if (log) {
    const list = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
      for (const factor of Math.log10(high / low) > 2 ? [1] : [1, 2, 5]) list.push(factor * 10 ** power);
    return list.filter(value => value >= low && value <= high);
  }
  const power = 10 ** Math.floor(Math.log10((high - low) / most));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(each => (high - low) / each <= most);
  const list = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) list.push(i * step);
  return list;
};
/** Numbers to places on a screen and back; frame: [left, top, right, bottom]. */
const scales = panel => {
  const one = (limits, log, start, end) => {
    const [a, b] = log ? limits.map(Math.log10) : limits;
    return {
      to: value => start + ((log ? Math.log10(value) : value) - a) / (b - a) * (end - start),
      from: place => { const v = a + (place - start) / (end - start) * (b - a); return log ? 10 ** v : v; },
    };
  };
  const [left, top, right, bottom] = panel.frame;
  return {x: one(panel.x, panel.log[0], left, right), y: one(panel.y, panel.log[1], bottom, top)};
};
const at = (series, i) => series.x ? series.x[i] : series.start + i * series.step;
const nearest = (series, x) => {
  let best = -1;
  series.m.forEach((value, i) => {
    if (value !== null && (best < 0 || Math.abs(at(series, i) - x) < Math.abs(at(series, best) - x))) best = i;
  });
  return best;
};
const place = (svg, event) => {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  return [point.x, point.y];
};

/** The box that says the values below the pointer. */
const tell = (event, head, rows) => {
  const table = document.createElement("table");
  for (const {label, colour, value} of rows) {
    const row = table.insertRow();
    const dot = row.insertCell();
    dot.textContent = "●";
    dot.style.color = colour;
    row.insertCell().textContent = label;
    row.insertCell().textContent = value;
  }
  tip.replaceChildren(head, table);
  tip.hidden = false;
  const {scrollX, scrollY, innerWidth} = window, {width, height} = tip.getBoundingClientRect();
  const left = event.clientX + 16 + width > innerWidth - 8 ? event.clientX - 16 - width : event.clientX + 16;
  tip.style.left = `${scrollX + Math.max(4, left)}px`;
  tip.style.top = `${scrollY + Math.max(4, event.clientY - height - 12)}px`;
};

/** Values on hover, and zoom by dragging, on a panel; redraw(x limits, y limits or null) shows a part of it. */
const watch = (svg, panel, colour, redraw) => {
  const cursor = svg.appendChild(make("g", {class: "cursors"}));
  let from = null;
  const leave = () => { tip.hidden = true; cursor.replaceChildren(); };
  const inside = ([x, y]) => {
    const [left, top, right, bottom] = panel.frame;
    return x >= left && x <= right && y >= top && y <= bottom;
  };
  svg.addEventListener("pointermove", event => {
    const [x, y] = place(svg, event), [left, top, right, bottom] = panel.frame;
    if (from) {
      const ends = [from[0], Math.min(right, Math.max(left, x))].sort((a, b) => a - b);
      cursor.replaceChildren(make("rect", {x: ends[0], y: top, width: ends[1] - ends[0], height: bottom - top,
        fill: "var(--link)", opacity: .15}));
      tip.hidden = true;
      return;
    }
    if (!inside([x, y])) return leave();
    const scale = scales(panel), value = scale.x.from(x), only = svg.closest("[data-only]");
    const shown = panel.series.filter(each => !only || only.dataset.only === each.key);
    const rows = [];
    cursor.replaceChildren();
    let stands = null;
    for (const series of shown) {
      const i = nearest(series, value);
      if (i < 0) continue;
      const here = at(series, i), height = scale.y.to(series.m[i]);
      if (stands === null) stands = here;
      const error = series.e && series.e[i] !== null ? ` ± ${format(series.e[i])}` : "";
      rows.push({label: series.label, colour: colour(series), value: `${format(series.m[i])}${error} (n = ${series.n})`,
        order: -series.m[i]});
      if (height >= top - .5 && height <= bottom + .5)
        cursor.append(make("circle", {class: "dot-at", cx: scale.x.to(here), cy: height, r: 2.6, fill: colour(series)}));
    }
    if (stands === null) return leave();
    cursor.prepend(make("path", {class: "cursor", d: `M${scale.x.to(stands)} ${top}V${bottom}`}));
    rows.sort((a, b) => a.order - b.order);
    tell(event, `${panel.name} ${format(stands)}`, rows);
  });
  svg.addEventListener("pointerleave", () => { if (!from) leave(); });
  svg.addEventListener("pointerdown", event => {
    if (event.pointerType !== "mouse" || event.button !== 0) return;
    const here = place(svg, event);
    if (!inside(here)) return;
    from = here;
    event.preventDefault();
  });
  addEventListener("pointerup", event => {
    if (!from || !svg.isConnected) return;
    const ends = [from[0], place(svg, event)[0]].map(x => Math.min(panel.frame[2], Math.max(panel.frame[0], x)));
    const [low, high] = ends.sort((a, b) => a - b);
    from = null;
    leave();
    if (high - low < 6) return;
    const scale = scales(panel);
    redraw([scale.x.from(low), scale.x.from(high)]);
  });
  svg.addEventListener("dblclick", () => redraw(null));
};
/** The y limits that hold what lies between two x values, within those that there were. */
const fit = (panel, [low, high]) => {
  const seen = panel.series.flatMap(series => series.m.filter((value, i) => value !== null
    && at(series, i) >= low && at(series, i) <= high && value >= Math.min(...panel.y) && value <= Math.max(...panel.y)));
  if (seen.length < 2) return panel.y;
  const [bottom, top] = [Math.min(...seen), Math.max(...seen)];
  if (panel.log[1]) return [bottom / 1.1, top * 1.1];
  const gap = .08 * (top - bottom) || 1;
  return [bottom - gap, top + gap];
};

/** Zoom of a drawn panel: its lines are stretched within its axes, and the ticks written again. */
const zoomable = (svg, panel) => {
  const root = svg.querySelector(`[id="${panel.id}"]`), whole = {x: panel.x, y: panel.y};
  const lines = all("[data-line]", root).filter(each => !each.matches(".level, .name"));
  const axes = [...root.children].filter(each => /-matplotlib\.axis_\d+$/.test(each.id));
  let inner = null, marks = null;
  return limits => {
    if (!inner) {
      const name = `${panel.id}-zoom`, [left, top, right, bottom] = panel.frame;
      const clip = make("clipPath", {id: name});
      clip.append(make("rect", {x: left, y: top, width: right - left, height: bottom - top}));
      const outer = make("g", {"clip-path": `url(#${name})`, class: "zoomed"});
      inner = outer.appendChild(make("g", {}));
      lines[0].before(outer);
      inner.append(...lines);
      all("[clip-path]", inner).forEach(each => each.removeAttribute("clip-path"));
      svg.prepend(clip);
      marks = svg.appendChild(make("g", {"font-size": 8.5, fill: "var(--faint)", stroke: "none"}));
    }
    const before = scales({...panel, ...whole});
    const next = limits ? {x: limits, y: fit({...panel, ...whole}, limits)} : whole;
    Object.assign(panel, next);
    const map = (old, ends, [start, end]) => {
      const [a, b] = ends.map(old.to), stretch = (end - start) / (b - a);
      return [stretch, start - stretch * a];
    };
    const [left, top, right, bottom] = panel.frame;
    const [sx, tx] = map(before.x, panel.x, [left, right]), [sy, ty] = map(before.y, panel.y, [bottom, top]);
    inner.setAttribute("transform", `matrix(${sx} 0 0 ${sy} ${tx} ${ty})`);
    for (const axis of axes) axis.style.visibility = limits ? "hidden" : "";
    all(".level", root).forEach(each => { each.style.visibility = limits ? "hidden" : ""; });
    marks.replaceChildren();
    if (!limits) return;
    const now = scales(panel);
    for (const value of ticks(...panel.x, panel.log[0], 5))
      marks.append(make("text", {x: now.x.to(value), y: bottom + 12, "text-anchor": "middle"}, format(value)));
    for (const value of ticks(...[...panel.y].sort((a, b) => a - b), panel.log[1], 5)) {
      const y = now.y.to(value);
      marks.append(make("path", {d: `M${left} ${y}H${right}`, stroke: "var(--line)", "stroke-width": .6}));
      marks.append(make("text", {x: left - 4, y: y + 3, "text-anchor": "end"}, format(value)));
    }
  };
};
