"""Boundaries of shrunk runs are those of the authors' optimizer, and matched ones come closest to the paper's."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from regrow.lab.runs.problems import ViTJob
from regrow.lab.studies import VIT_SETTINGS
from regrow.lab.studies.vit_values import chosen
from regrow.lab.vit.matching import boundary_factors, matched, matched_decay, matched_rate, updates
from regrow.lab.vit.optimizer import Authors, AuthorsCleared, Descent
from regrow.lab.vit.options import Options
from regrow.lab.vit.schedule import RISE
from regrow.methods.cbp_schedule import Schedule

PAGE = Path(__file__).parents[2] / "docs" / "laboratory.md"
TASKS, SIZE = 5, {"width": 48, "depth": 2, "epochs_per_task": 40}
SHORT = updates(TASKS, 40)


def by_optimizer(kind: type[Descent], decay: float, of_tasks: list[int]) -> list[list[float]]:
    """One weight without a gradient of the loss: its values at the start and the largest step size of each task."""
    net = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.ones_(net.weight)
    descent = kind(net, VIT_SETTINGS["vit"], {"step_size": 0.01, "decay": decay})
    net.weight.grad = torch.zeros(1, 1, dtype=torch.float64)
    seen = []
    for count in of_tasks:
        descent.begin_task(count)
        seen.append([net.weight.item()])
        for update in range(count):
            descent.step(update)
            seen[-1] += [net.weight.item()] * (update == int(RISE * count))
    return seen


@pytest.mark.parametrize("decay", [6e-6, 2e-6])
def test_factors_are_what_the_optimizer_does(decay: float) -> None:
    of_tasks = updates(4, 10, 90)
    kept, cleared = (by_optimizer(kind, decay, of_tasks) for kind in (Authors, AuthorsCleared))
    own = [(top / start) / (alone / begin) for (start, top), (begin, alone) in zip(kept[1:], cleared[1:], strict=True)]
    assert boundary_factors([decay], 0.01, of_tasks).ravel().tolist() == pytest.approx(own, rel=1e-9)
    grown = [top / start for start, top in cleared]
    assert 0.9 < min(grown) <= max(grown) < 1, "without the buffer a boundary does nothing but decay"


def test_the_papers_boundaries() -> None:
    """As restored from the code: -0.36 to -0.60 for W = 6e-6, 0.46 to 0.54 for 2e-6; shrunk ones -3 to -4.6."""
    paper = boundary_factors([6e-6, 2e-6], 0.01, updates(6))
    assert (-0.6 < paper[:, 0]).all() and (paper[:, 0] < -0.36).all()
    assert (0.46 < paper[:, 1]).all() and (paper[:, 1] < 0.55).all()
    small = boundary_factors([6e-6], 0.01, updates(TASKS, 10, 90))
    assert (-4.6 < small).all() and (small < -3.0).all()


@pytest.mark.parametrize("decay", [6e-6, 2e-6])
def test_matched_decay_is_the_closest_and_the_page_shows_every_factor(decay: float) -> None:
    found = matched_decay(decay, 0.01, SHORT)
    paper, plain, best = (
        boundary_factors([w], 0.01, tasks).ravel()
        for w, tasks in ((decay, updates(TASKS)), (decay, SHORT), (found, SHORT))
    )

    def distance(w: float) -> float:
        with np.errstate(invalid="ignore"):
            return float(np.abs(np.log(boundary_factors([w], 0.01, SHORT).ravel() / paper)).mean())

    assert distance(found) <= min(distance(found * 1.02), distance(found * 0.98), distance(decay))
    page = re.sub(r"−", "-", PAGE.read_text())
    for what, w, factors in (("paper's tasks", decay, paper), ("40 epochs", decay, plain), ("matched", found, best)):
        row = f"| {w:g} | {what} | {' | '.join(f'{factor:.2f}' for factor in factors)} |"
        assert row in page, row


def test_matched_rate_renews_the_papers_share_of_units() -> None:
    rate = matched_rate(1e-7, 10_000, 4_000, SHORT)
    shares = []
    for units, own, maturity, total in ((1536, 1e-7, 10_000, 525_000), (192, rate, 4_000, sum(SHORT))):
        schedule, renewed = Schedule(units, own, maturity), 0
        schedule.begin(0)
        schedule.run_ahead()
        while schedule.step <= total:
            renewed += schedule.count
            schedule.run_ahead()
        shares.append(renewed / units)
    assert shares[0] == pytest.approx(0.0515, abs=0.003) and shares[1] == pytest.approx(shares[0], abs=1.5 / 192)
    with pytest.raises(ValueError, match="no unit matures in 15000 updates"):
        matched_rate(1e-7, 10_000, 15_000, SHORT)


def test_what_else_is_left_as_it_was() -> None:
    options = Options(**SIZE)
    for setting, system in (("vit", "swr"), ("vit-reparam", "base"), ("vit-scaled", "base")):
        paper = chosen(setting, system)
        new = matched(paper, paper, VIT_SETTINGS[setting].scaled, options, TASKS)
        decay = paper["decay"] if setting == "vit-scaled" else matched_decay(float(paper["decay"]), 0.01, SHORT)
        assert new == dict(paper) | {"decay": decay, "source": "ours"}
    with pytest.raises(ValueError, match="`tasks` must be at least 2; got 1"):
        matched(paper, paper, False, options, 1)
    with pytest.raises(ValueError, match="no decay with the paper's boundaries: take longer tasks"):
        matched_decay(6e-6, 0.01, [4] * 5)


def test_a_matched_run() -> None:
    def job(**options: bool) -> ViTJob:
        return ViTJob(optimizer="authors-cleared", options=Options(**SIZE, **options), wanted=TASKS)

    run = "vit-cifar", ["vit", "vit-reparam"], ["base", "cbp"], 1
    plans = job(matched=True).pack(*run)
    configs = {(plan.setting.name, m.system): m.config for plan in plans for m in plan.members}
    assert configs["vit", "base"]["decay"] == matched_decay(2e-6, 0.01, SHORT)
    assert configs["vit-reparam", "base"]["decay"] == configs["vit", "cbp"]["decay"] == matched_decay(6e-6, 0.01, SHORT)
    assert math.isclose(float(configs["vit", "cbp"]["replacement_rate"]), matched_rate(1e-7, 10_000, 4_000, SHORT))
    assert {config["optimizer"] for config in configs.values()} == {"authors-cleared"}
    assert job(matched=True).config["matched"] is True and "matched" not in job().config
    assert job().pack(*run) != plans and job(matched=False).pack(*run) == job().pack(*run)
    with pytest.raises(ValueError, match="`matched` changes the paper's chosen values; got it with other values"):
        job(matched=True).pack(*run, sweep=True)
