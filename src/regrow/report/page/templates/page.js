// What a click does: legends and switches of figures, copying a command, sorting a table, opening a link into a fold.
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
