// Every system in every setting by every measure: a chart that is drawn here. Left out where a page has no such runs.
const browser = document.getElementById("browser");
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
