"""In a browser the page answers on its first screen, fits every width, and its script does what its buttons say."""

from pathlib import Path

import polars as pl
import pytest
from headless import SIZES, visit
from results_frames import Kind, run, runs

from regrow.lab.studies import SIX
from regrow.report.page.page import write_page
from regrow.report.results import Folder, combine

LEVELS = {"base": 86.0, "l2": 91.0, "shrink-perturb": 91.5, "cbp": 92.0, "redo": 92.5, "swr": 93.0}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of six systems in two settings, three seeds of 200 tasks of which one goes on to 300."""
    frames = []
    for setting in ("large", "large-ln"):
        for system in SIX:
            kind = Kind(LEVELS[system], drop=4 if system == "base" else 0)
            frames.append(runs({(setting, system): kind}, tasks=200, seeds=(1, 2)))
            frames.append(run(setting, system, kind, tasks=300, seed=0))
        frames.append(runs({(setting, "scratch"): Kind(92.2)}, tasks=20, seeds=range(3)))
    out = tmp_path_factory.mktemp("report")
    config = {"config": {"data": "mnist", "settings": ["large", "large-ln"], "seeds": 3, "tasks": 300}}
    write_page(
        combine([Folder(Path("results/made"), config | {"study": "s"}, pl.concat(frames), {})]), out, refresh=600
    )
    return out / "index.html"


UNFOLD = "all('details').forEach(each => { each.open = true; }); await wait(50);"


@pytest.mark.parametrize("size", SIZES, ids=lambda size: str(size[0]))
def test_the_answer_comes_first_and_nothing_is_cut(page: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    seen = visit(page, tmp_path, """
      const width = page.documentElement.clientWidth, inside = e => e.getBoundingClientRect();
      const first = all("figure .panel").map(inside).find(box => box.width > 0);
      const title = inside(page.querySelector("h1"));
      """ + UNFOLD + """
      all(".card").forEach(each => { each.style.display = "block"; });
      const wide = all("body *").filter(
        e => !e.parentElement.closest(".scroll, svg, nav") && inside(e).right > width + 1);
      const cut = [];
      for (const svg of all("svg.panel")) {
        const own = inside(svg);
        if (own.width) for (const text of all("text", svg)) {
          const box = inside(text);
          if (box.width && (box.left < own.left - 4 || box.right > Math.max(own.right + 4, 0) || box.top < own.top - 4
              || box.bottom > own.bottom + 4)) cut.push(text.textContent);
        }
      }
      const scale = svg => inside(svg).width / svg.viewBox.baseVal.width;
      const sizes = all("svg.panel text").filter(e => inside(e).width)
        .map(e => parseFloat(getComputedStyle(e).fontSize) * scale(e.closest("svg")));
      return {width, title: title.bottom, first: first.top, needs: page.documentElement.scrollWidth,
        wide: wide.map(e => e.outerHTML.slice(0, 90)), cut, smallest: Math.min(...sizes),
        scrolling: all(".scroll").filter(e => e.scrollWidth > e.clientWidth + 1).length};
    """, size)  # fmt: skip
    width, height = size
    found = seen.found
    assert found["width"] in range(width - 20, width + 1)
    assert found["title"] < height / 2 and found["first"] < 1.5 * height - 200
    assert found["needs"] <= found["width"] and found["wide"] == [] and found["cut"] == []
    assert found["smallest"] > 8.5  # pixels
    assert found["scrolling"] <= 2 or width < 1400
    assert seen.complaints == []


def test_without_its_script_everything_is_there(page: Path, tmp_path: Path) -> None:
    seen = visit(page, tmp_path, """
      const shown = e => e.getBoundingClientRect().height > 0;
      page.location.hash = "#claim-1a";
      await wait(50);
      return {panels: all("#answer .panel").filter(shown).length, buttons: all(".script").filter(shown).length,
        lengths: all("#answer .length.plain").filter(shown).map(e => e.textContent),
        cards: all(".card").filter(shown).map(e => e.id), tip: shown(page.getElementById("tip"))};
    """, scripts=False)  # fmt: skip
    assert seen.found == {
        "panels": 8, "buttons": 0, "lengths": ["200 tasks, 3 seeds", "300 tasks, 1 seed"], "cards": ["claim-1a"],
        "tip": False,
    }  # fmt: skip


def test_a_figure_answers_to_its_reader(page: Path, tmp_path: Path) -> None:
    """Values on hover, one system, the mean alone, the other runs, a part of the axis."""
    seen = visit(page, tmp_path, """
      const shown = e => e.getBoundingClientRect().height > 0, tip = page.getElementById("tip");
      const figure = page.querySelector("#answer figure"), svg = figure.querySelector(".panel");
      const box = svg.getBoundingClientRect(), place = (x, y) => [box.left + x * box.width, box.top + y * box.height];
      const press = (query, i = 0) => all(query, figure)[i].click();
      const visible = e => getComputedStyle(e).visibility !== "hidden";
      const texts = () => all("text", svg).filter(visible).map(e => e.textContent);
      send("pointermove", svg, ...place(.5, .5));
      const hover = [...tip.querySelectorAll("tr")].map(row => row.innerText.trim());
      const head = tip.firstChild.textContent;
      send("pointerleave", svg, 0, 0);
      const gone = tip.hidden;
      press("[data-key=swr]");
      const after = Object.fromEntries(all(".mean", svg).map(e => [e.dataset.line, +getComputedStyle(e).opacity]));
      press("[data-key=swr]");
      const seeds = all(".seed path", svg).filter(shown).map(e => e.getAttribute("d").split("M").length - 1);
      press("[data-lines=mean]");
      const alone = all(".seed", svg).filter(shown).length;
      const before = texts();
      send("pointerdown", svg, ...place(.4, .5)); send("pointermove", svg, ...place(.6, .5));
      send("pointerup", svg, ...place(.6, .5));
      const zoomed = texts();
      svg.dispatchEvent(new MouseEvent("dblclick", {bubbles: true}));
      const back = texts();
      press("[data-view]", 1);
      await wait(50);
      const views = all("#answer .view").filter(shown).map(e => e.querySelector("figcaption, caption").textContent);
      return {hover, head, gone, after, seeds, alone, before, zoomed, back, views};
    """)  # fmt: skip
    found = seen.found
    assert seen.complaints == []
    assert found["head"].startswith("task ") and len(found["hover"]) == 6 and found["gone"]
    assert found["hover"][0].startswith("●\tSWR\t9") and "(n = 3)" in found["hover"][0] and " ± " in found["hover"][0]
    assert found["hover"][-1].startswith("●\tbase\t")
    assert found["after"]["swr"] == 1 and all(o < 0.2 for name, o in found["after"].items() if name != "swr")
    assert found["seeds"] == [3] * 6 and found["alone"] == 0
    assert found["zoomed"] != found["before"] == found["back"]
    assert "150" in found["before"] and "0" not in found["zoomed"] and "100" in found["zoomed"]
    assert (
        len(found["views"]) == 2 and "n = 1 seed." in found["views"][0] and "(300 tasks, 1 seed)" in found["views"][1]
    )


def test_cards_tables_and_the_browser_of_runs_answer_too(page: Path, tmp_path: Path) -> None:
    seen = visit(page, tmp_path, """
      const shown = e => e.getBoundingClientRect().height > 0;
      page.querySelector('.chip[href="#claim-5c"]').click();
      await wait(50);
      const cards = all(".card").filter(shown).map(e => e.id), ours = all("#claim-5c .marks .at").length;
      const thumbnails = all("#claim-5c .thumbnails use").map(e => page.querySelector(e.getAttribute("href")) !== null);
      """ + UNFOLD + """
      const table = page.querySelector("#table-summary table"), first = () => [...table.tBodies].map(
        body => body.rows[1].cells[0].textContent);
      const names = first();
      table.tHead.rows[0].cells[1].click();
      const lowest = first();
      table.tHead.rows[0].cells[1].click();
      const highest = first();
      const copy = page.querySelector("#permuted-missing .copy");
      copy.click();
      await wait(100);
      const said = copy.textContent, explore = page.getElementById("browser");
      const lines = () => all("svg.main path[stroke]", explore).length;
      const label = () => explore.querySelector("svg.main").ariaLabel;
      const drawn = lines(), choose = explore.querySelector("[data-choose=measure]");
      choose.value = 1;
      choose.dispatchEvent(new Event("change"));
      const dead = label();
      explore.querySelector(".legend button").click();
      return {cards, ours, thumbnails, names, lowest, highest, said, drawn, dead, fewer: lines(),
        lengths: [...explore.querySelector("[data-choose=length]").options].map(each => each.textContent)};
    """)  # fmt: skip
    found = seen.found
    assert seen.complaints == []
    assert found["cards"] == ["claim-5c"] and found["ours"] == 5 and found["thumbnails"] == [True] * 2
    assert (
        found["lowest"] == ["base"] * 2 and found["highest"] == ["SWR"] * 2 and found["said"] in ("copied", "selected")
    )
    assert (found["drawn"], found["fewer"]) == (6, 5) and found["dead"] == "dead units (%) in large"
    assert found["lengths"] == ["200 tasks", "300 tasks"]


CONTRAST = """
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
  const behind = e => { for (; e; e = e.parentElement) {
    const colour = rgba(window_.getComputedStyle(e).backgroundColor); if (colour[3] > 250) return colour; } };
  const weak = {};
  for (const e of all("body *")) {
    const own = [...e.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !e.getBoundingClientRect().width || e.closest("option, #data, script")) continue;
    const style = window_.getComputedStyle(e), ink = rgba(e.closest("svg") ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(e))].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) weak[`${e.tagName} ${e.className.baseVal ?? e.className} ${e.textContent.slice(0, 20)}`] = ratio;
  }
  return {weak, paper: rgba(window_.getComputedStyle(page.body).backgroundColor)};
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_word_can_be_read(page: Path, tmp_path: Path, dark: bool) -> None:
    """A contrast of 4.5, as WCAG asks for text, of all that is written, in figures too."""
    show = "all('.card').forEach(each => { each.style.display = 'block'; });"
    found = visit(page, tmp_path, UNFOLD + show + CONTRAST, dark=dark).found
    assert found["weak"] == {}
    assert (sum(found["paper"][:3]) < 150) == dark
