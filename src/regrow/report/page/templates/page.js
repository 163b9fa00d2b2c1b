"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const data = JSON.parse(document.getElementById("data").textContent);
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

  /** Zoom of a drawn panel: its lines are stretched within its axes, and the ticks written anew. */
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

  const isolate = (box, key) => {
    const same = box.dataset.only === key;
    if (same) delete box.dataset.only; else box.dataset.only = key;
    all("[data-line]", box).forEach(each => each.classList.toggle("on", each.dataset.line === box.dataset.only));
    all(".legend button", box).forEach(each => each.setAttribute("aria-pressed", each.dataset.key === box.dataset.only));
  };
  const press = (button, name) => all("button", button.parentElement)
    .forEach(each => each.setAttribute("aria-pressed", each.dataset[name] === button.dataset[name]));
  const show = (box, view) => all(".view[data-many]", box).forEach(each => { each.hidden = each.dataset.view !== view; });

  for (const figure of all("figure[data-figure]")) {
    const answer = figure.closest(".answer"), box = answer || figure;
    show(box, "0");
    for (const panel of data.figures[figure.dataset.figure] || []) {
      const svg = figure.querySelector(`[data-panel="${panel.id}"]`);
      const swatch = key => figure.querySelector(`.legend [data-key="${key}"] path`);
      const colour = series => swatch(series.key) ? swatch(series.key).getAttribute("stroke") : "var(--ink)";
      if (svg) watch(svg, panel, colour, zoomable(svg, panel));
    }
    figure.addEventListener("click", event => {
      const button = event.target.closest("button");
      if (!button) return;
      if (button.dataset.key) isolate(figure, button.dataset.key);
      if (button.dataset.view) { press(button, "view"); show(box, button.dataset.view); }
      if (button.dataset.lines) { press(button, "lines"); figure.classList.toggle("mean-only", button.dataset.lines === "mean"); }
    });
  }

  for (const button of all(".copy")) button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });

  const key = cell => {
    const text = cell.textContent.trim().replace("−", "-").replace(/,/g, ""), number = parseFloat(text.replace(/^[^\d+-]+/, ""));
    return Number.isNaN(number) ? text : number;
  };
  for (const table of all(".sortable")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      head.tabIndex = 0;
      const sort = () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach(each => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        for (const body of table.tBodies) {
          const rows = all("tr:not(.group)", body), missing = value => typeof value === "string";
          rows.sort((one, other) => {
            const [a, b] = [one, other].map(row => key(row.cells[column]));
            if (missing(a) !== missing(b)) return missing(a) ? 1 : -1;
            return (missing(a) ? a.localeCompare(b) : a - b) * (up ? 1 : -1);
          });
          body.append(...rows);
        }
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
    });
  }

  /** A link may lead into something folded. */
  const unfold = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    let folded = false;
    for (let each = target; each; each = each.parentElement)
      if (each.tagName === "DETAILS" && !each.open) { each.open = true; folded = true; }
    if (folded) target.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  unfold();
  addEventListener("keydown", event => {
    if (event.key === "Escape" && /^#claim-/.test(location.hash)) location.hash = "scoreboard";
  });

  const browser = document.getElementById("browser");
  if (!browser) return;
  const choose = Object.fromEntries(all("[data-choose]", browser).map(each => [each.dataset.choose, each]));
  const chart = browser.querySelector(".chart"), keys = browser.querySelector(".legend");
  const usual = new Set(["base", "l2", "s-p", "cbp", "redo", "swr"]);
  const WIDTH = 760, HEIGHT = 380, FRAME = [62, 12, 744, 340];
  const draw = limits => {
    const setting = data.browser.settings[choose.setting.value], length = setting.lengths[choose.length.value];
    const curves = length.curves[choose.measure.value];
    const lines = setting.systems.map((own, i) => ({...own, ...curves[i]})).filter(each => each.m && chosen.has(each.key));
    const svg = make("svg", {class: "main", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
      "aria-label": `${data.browser.measures[choose.measure.value]} in ${setting.name}`});
    chart.replaceChildren(svg);
    if (!lines.length) {
      svg.append(make("text", {x: WIDTH / 2, y: HEIGHT / 2, "text-anchor": "middle"}, "no runs"));
      return;
    }
    const values = lines.flatMap(each => each.m.slice(each.m.length > 5 ? 1 : 0)).filter(value => value !== null);
    const low = Math.min(...values), high = Math.max(...values), log = low > 0 && high > 30 * low;
    const gap = .06 * (high - low) || 1;
    const panel = {frame: FRAME, x: [0, length.tasks], y: log ? [low / 1.2, high * 1.2] : [low - gap, high + gap],
      log: [false, log], name: "task", series: lines};
    if (limits) Object.assign(panel, {y: fit(panel, limits), x: limits});
    const scale = scales(panel), [left, top, right, bottom] = FRAME;
    for (const value of ticks(...panel.y, log)) {
      svg.append(make("path", {class: "axis", d: `M${left} ${scale.y.to(value)}H${right}`}));
      svg.append(make("text", {x: left - 6, y: scale.y.to(value) + 4, "text-anchor": "end"}, format(value)));
    }
    for (const value of ticks(...panel.x, false))
      svg.append(make("text", {x: scale.x.to(value), y: bottom + 18, "text-anchor": "middle"}, format(value)));
    svg.append(make("text", {x: (left + right) / 2, y: bottom + 36, "text-anchor": "middle"}, "task"));
    const clip = svg.appendChild(make("clipPath", {id: "browser-clip"}));
    clip.append(make("rect", {x: left, y: top, width: right - left, height: bottom - top}));
    const inner = svg.appendChild(make("g", {"clip-path": "url(#browser-clip)", fill: "none"}));
    for (const each of lines) {
      const points = each.m.map((value, i) => value === null ? null : [at(each, i), value, each.e ? each.e[i] || 0 : 0])
        .filter(Boolean);
      const path = list => list.map(([x, y], i) => `${i ? "L" : "M"}${scale.x.to(x).toFixed(1)} ${scale.y.to(y).toFixed(1)}`).join("");
      if (each.e && !log) {
        const edge = side => points.map(([x, y, e]) => [x, y + side * e]);
        inner.append(make("path", {d: `${path([...edge(1), ...edge(-1).reverse()])}Z`, fill: each.colour, opacity: .18}));
      }
      inner.append(make("path", {d: path(points), stroke: each.colour, "stroke-width": each.key === "swr" ? 3 : 1.8,
        "stroke-dasharray": each.dashes}));
    }
    watch(svg, panel, series => series.colour, draw);
  };
  let chosen = usual;
  const list = () => {
    const setting = data.browser.settings[choose.setting.value];
    keys.replaceChildren(...setting.systems.map(own => {
      const item = document.createElement("li"), button = document.createElement("button");
      const swatch = make("svg", {class: "swatch", viewBox: "0 0 26 8"});
      swatch.append(make("path", {d: "M0 4H26", stroke: own.colour, "stroke-width": 3, "stroke-dasharray": own.dashes}));
      button.type = "button";
      button.append(swatch, own.label);
      button.setAttribute("aria-pressed", chosen.has(own.key));
      button.addEventListener("click", () => {
        chosen = new Set(chosen);
        if (!chosen.delete(own.key)) chosen.add(own.key);
        button.setAttribute("aria-pressed", chosen.has(own.key));
        draw(null);
      });
      item.append(button);
      return item;
    }));
    choose.length.replaceChildren(...setting.lengths.map((length, i) => new Option(`${length.tasks.toLocaleString("en")} tasks`, i)));
    draw(null);
  };
  choose.setting.addEventListener("change", list);
  for (const name of ["measure", "length"]) choose[name].addEventListener("change", () => draw(null));
  list();
})();
