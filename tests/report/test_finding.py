"""What the page says in words and numbers is what the runs say."""

from dataclasses import replace

import polars as pl
import pytest
from report_checks import boxes, check_texts, drawing
from results_frames import AS_IN_THE_PAPER, Kind, run, runs

from regrow.lab.studies import SIX
from regrow.report.claims import STATEMENTS, evaluate
from regrow.report.claims.vit import STATEMENTS as VIT
from regrow.report.figures.against_fresh import against_fresh
from regrow.report.figures.answer import answer as draw_answer
from regrow.report.figures.cost import cost
from regrow.report.figures.panels import draw
from regrow.report.figures.permuted import PLANS
from regrow.report.figures.sheet import Drawing
from regrow.report.figures.standings import standings
from regrow.report.page import finding
from regrow.report.page.cards import cards, of_figure, tally
from regrow.report.page.view import levels
from regrow.report.runs import Runs


def made(fresh: float, seeds: int = 3, **level: float) -> Runs:
    """Six systems in two settings; a fresh network, and others at 91 % where not given."""
    kinds = {(setting, system): Kind(level.get(system, 91.0)) for setting in ("large", "large-ln") for system in SIX}
    kinds |= {(setting, "scratch"): Kind(fresh) for setting in ("large", "large-ln")}
    return Runs(runs(kinds, seeds=range(seeds)))


def test_the_answer_names_who_ends_above_a_fresh_network() -> None:
    said = finding.answer(one := made(92.0, swr=93.0, base=80.0), standings(one)[0])
    assert said.sentence == (
        "Only selective weight reinitialization (SWR) ends above a fresh network in both settings; ordinary training "
        "falls below one in both."
    )
    assert said.more == "Over the last 100 tasks SWR leads in “large” and “large, layer norm”."
    assert said.basis == "200 tasks, 3 seeds of each system; the paper has 1,000 tasks and 30 seeds"


def test_the_answer_follows_the_runs_and_not_the_paper() -> None:
    two = made(92.0, redo=93.0, cbp=94.0, swr=80.0)
    assert finding.answer(two, standings(two)[0]).sentence.startswith("Continual backpropagation and ReDo end above a")
    none = made(95.0, base=94.0)
    assert finding.answer(none, standings(none)[0]).sentence.startswith("No system ends above a fresh network in every")
    few = made(92.0, seeds=1, swr=93.0)
    assert finding.answer(few, standings(few)[0]).basis.endswith("fewer than 3 seeds, so it says what these runs did")


def test_without_a_fresh_network_or_any_system_it_says_less() -> None:
    short = Runs(pl.concat([run("large", system, Kind(90.0 + 2 * (system == "l2")), tasks=20) for system in SIX]))
    said = finding.answer(short, standings(short)[0])
    assert said.sentence == "Over the last 10 tasks L2 leads in “large”." and said.more == ""
    assert "none of the paper's six systems" in finding.answer(Runs(pl.DataFrame()), None).sentence


def test_levels_stand_beside_what_was_published() -> None:
    kinds = {("large", "swr"): Kind(92.5), ("large", "base"): Kind(84.0), ("large", "l2"): Kind(93.0)}
    table = levels(standings(Runs(runs(kinds, seeds=range(3), noise=0.01)))[0])
    cells = {entry.label: row[0] for entry, row in table.rows}
    swr, base, l2 = (cells[name] for name in ("SWR", "base", "L2"))
    assert swr and (swr.ours, swr.papers, swr.difference, swr.best) == ("92.50", "92.79", "−0.29", False)
    assert base and (base.ours, base.papers, base.difference) == ("84.0", "≈ 82", "≈ +2")
    assert l2 and (l2.papers, l2.difference, l2.best) == ("", "", True)
    assert table.leaders == "L2 in “large”"


def test_a_card_has_every_test_beside_its_criterion_and_the_papers_value() -> None:
    kinds = {key: kind for key, kind in AS_IN_THE_PAPER.items() if key[0] == "large"}
    listed = {card.id: card for card in cards(evaluate(runs(kinds, seeds=range(3))))}
    (axis,) = listed["4b"].axes
    names = [mark.name for mark in axis.marks]
    assert names == ["SWR minus CBP", "SWR minus CBP", "SWR minus ReDo", "SWR minus ReDo"]
    assert "the paper's +0.36" in axis.marks[0].reads and "criterion > −0.50" in axis.marks[0].reads
    assert all(mark.low and mark.high and mark.low <= mark.at <= mark.high for mark in axis.marks)
    zero, half = (place for place, text in axis.ticks if text in ("0", "0.4"))
    assert axis.marks[0].paper == pytest.approx(zero + (half - zero) * 0.36 / 0.4)
    assert listed["5c"].grade == "not run" and listed["5c"].axes == [] and "regrow run" in listed["5c"].command
    graded = tally(listed.values())
    assert sum(map(len, graded.values())) == len(listed) and listed["4b"] in of_figure(listed.values(), 2)


def test_a_headline_is_the_first_leading_statement_that_is_decided() -> None:
    card = cards(evaluate(pl.DataFrame()))[0]
    made_up = [replace(card, id=name, grade=grade, figure=2) for name, grade in (
        ("5c", "undecided"), ("6c", "confirmed"), ("4a", "confirmed"), ("7c", "not run"))]  # fmt: skip
    shown = finding.headline(made_up, 2)
    assert shown and shown.id == "6c"
    assert finding.headline(made_up[3:], 2) is None


def test_figures_beyond_the_paper_say_what_they_show() -> None:
    kinds = {"base": 88.0, "swr": 93.0, "swr-zero-only": 92.8, "swr-zero-spared": 88.5}
    frame = Runs(runs({("large", system): Kind(level) for system, level in kinds.items()}, seeds=range(3), noise=0.01))
    assert finding.says(drawing(draw(frame, PLANS["zero-gradient"]))) == (
        "Renewing only what has utility 0 ends within 0.2 points of SWR; renewing all but that ends 4.5 points below."
    )
    drawn = drawing(against_fresh(made(92.0, swr=93.0, base=80.0)))
    assert (
        finding.says(drawn)
        == "Above a fresh network at the end: SWR in 2 of 2 settings, base, L2, S&P, CBP and ReDo in 0."
    )
    spent = {("large", "base"): 0.2, ("large", "swr"): 0.25}
    assert finding.says(drawing(cost(frame, spent))) == "An update with SWR takes 1.25 times the base's in “large”."
    assert finding.says(drawing(draw(frame, PLANS["figure-02"]))) == ""


def test_no_card_needs_another_to_be_read() -> None:
    """A statement that begins with "there", or is of an "it", makes its reader look for the one before."""

    bare = [
        each.id for each in (*STATEMENTS, *VIT) if {"there", "it"} & set(each.text.lower().replace(",", "").split())
    ]
    assert bare == []


def test_the_first_figure_separates_those_that_lie_close() -> None:
    kinds = {("large", system): Kind(92 + 0.1 * i) for i, system in enumerate(SIX)} | {("large", "base"): Kind(80)}
    shown = draw_answer(Runs(runs(kinds, tasks=200, seeds=range(3))))
    assert isinstance(shown, Drawing)
    lines, points = shown.figure.axes
    assert points.get_xlim()[1] - points.get_xlim()[0] < 2 < lines.get_ylim()[1] - lines.get_ylim()[0]
    assert [text.get_text() for text in points.texts] == ["◂ 80.0"]
    assert {text.get_text() for text in lines.texts} == {"base", "L2", "S&P", "CBP", "ReDo", "SWR"}
    assert [tick.get_text() for tick in points.get_yticklabels()] == ["base", "L2", "S&P", "CBP", "ReDo", "SWR"]


def test_no_texts_of_the_first_figure_overlap_or_touch_its_edge() -> None:
    kinds = {key: kind for key, kind in AS_IN_THE_PAPER.items() if key[1] in SIX}
    shown = draw_answer(Runs(runs(kinds, tasks=200, seeds=range(3))))
    check_texts([shown])
    width = drawing(shown).figure.get_size_inches()[0] * drawing(shown).figure.dpi
    edge = {name: box.x1 for name, box in boxes(drawing(shown)) if box.x1 > width - 1}
    assert edge == {}  # wider numbers on an axis would push it out
