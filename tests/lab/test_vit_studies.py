"""The vision transformer's values and grids are the paper's, cell by cell; what cannot be run is refused."""

import json
import math
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from vit_cases import problem

from regrow.lab.data.cifar import find_cifar100
from regrow.lab.nets import ViT
from regrow.lab.problems.incremental import BATCH, CLASSES
from regrow.lab.runs.columns import with_scratch_difference
from regrow.lab.studies import STUDIES, VIT_SETTINGS, VIT_SYSTEMS, Member, choose
from regrow.lab.studies.packing import count, describe, pack, restore
from regrow.lab.studies.vit_values import CHOSEN, GRIDS, chosen, grid, scaled
from regrow.lab.vit.job import CLASSES_A_TASK, ViTMaker, check_run, updates
from regrow.lab.vit.options import PAPERS_EPOCHS, PAPERS_IMAGES, Options

_SHARED = Path(__file__).resolve().parents[3] / "shared"
_PAPER = _SHARED / "hyperparameters.md"
VARIANTS = {  # rows of section 3.1, as they begin
    "Regular LN (base)": "vit",
    "Reparam LN": "vit-reparam",
    "Regular LN, no decay on 1-D params": "vit-nodecay",
    "Regular LN, scaled": "vit-scaled",
    "Reparam LN, scaled": "vit-reparam-scaled",
    "Regular LN, no decay on 1-D, scaled": "vit-nodecay-scaled",
}
METHODS = {  # rows of section 3.2
    "CBP": ("cbp", ["maturity", "replacement_rate"]),
    "ReDo": ("redo", ["every", "threshold"]),
    "S&P": ("shrink-perturb", ["noise_variance"]),
    "SWR thr. GR": ("swr", ["every", "factor"]),
}


def section(name: str) -> str:
    if not _PAPER.is_file():
        pytest.skip(f"needs the paper's tables in {_PAPER}")
    text = _PAPER.read_text(encoding="utf-8").replace("**", "")
    return text.split(f"### {name} ")[1].split("\n### ")[0].split("\n## ")[0]


def cells(text: str) -> dict[str, list[str]]:
    """A Markdown table as {first cell: the others}, without heading and rule."""
    lines = [line.strip(" |").split("|") for line in text.splitlines() if line.startswith("|")]
    return {first.strip(): [cell.strip() for cell in others] for first, *others in lines[2:]}


def listed(text: str) -> list[float]:
    """`a,b,c`, and `a,b,…,z (step s)` in steps of s."""
    values: list[float] = []
    for part in re.sub(r"\(.*?\)", "", text).replace(" ", "").split(","):
        if part == "…":
            continue
        if f"…,{part}" in text:
            step = float(re.findall(r"\(step ([\de.-]+)\)", text)[0])
            while values[-1] + 1.5 * step < float(part):
                values.append(float(f"{values[-1] + step:.0e}"))
        values.append(float(part))
    return sorted(values)


def varied(setting: str, system: str, knob: str) -> list[Any]:
    return sorted({config[knob] for config in grid(setting, system)})


# ---- the paper, cell by cell


def test_base_variants_are_the_papers() -> None:
    text = section("3.1")
    rows = cells(text)
    assert rows.keys() == VARIANTS.keys()
    for row, setting in VARIANTS.items():
        best, config = rows[row][1], chosen(setting, "base")
        decays = re.findall(r"{(.*?)}", rows[row][0])
        assert varied(setting, "base", "decay") == listed(decays[0]), setting
        assert config["decay"] == float(best.split(",")[0]) and config["source"] == "paper"
        assert config["decay"] in varied(setting, "base", "decay")
        if len(decays) == 3:
            assert varied(setting, "base", "step_size") == listed(decays[1])
            assert varied(setting, "base", "dropout") == listed(decays[2])
        assert f"lr {config['step_size']}, dropout {config['dropout']}" in rows["Regular LN (base)"][1]
    assert {config["classes_a_task"] for setting in VIT_SETTINGS for config in grid(setting, "base")} == {CLASSES}


def test_methods_are_the_papers() -> None:
    text = section("3.2")
    rows = cells(text)
    assert rows.keys() == METHODS.keys()
    for row, (system, knobs) in METHODS.items():
        config, best = chosen("vit-reparam", system), rows[row][1].replace("(E)", "").split(",")
        assert [config[knob] for knob in knobs] == [float(value) for value in best] and config["source"] == "paper"
        grids = re.findall(r"{(.*?)}", rows[row][0])
        for knob, values in zip(knobs, grids, strict=True):
            assert varied("vit-reparam", system, knob) == listed(values), (system, knob)
        size = re.findall(r"\((\d+)\)", rows[row][0])
        assert not size or len(grid("vit-reparam", system)) == int(size[0])
        assert {c["decay"] for c in grid("vit-reparam", system)} == {config["decay"]} == {6e-6}
        same = dict(chosen("vit", system)) | {"decay": 6e-6}
        assert same == config and chosen("vit", system)["source"] == "paper"
        kept = float(re.findall(r"keep wd ([\de-]+) for CBP, ReDo, SWR", text)[0])
        assert chosen("vit", system)["decay"] == (2e-6 if system == "shrink-perturb" else kept)


def test_the_protocol_is_the_papers() -> None:
    text, net = section("3.4"), ViT()
    assert f"{PAPERS_IMAGES} remain" in text and f"train {BATCH}," in text
    assert f"{STUDIES['vit-cifar'].tasks}; +{CLASSES_A_TASK} classes each {PAPERS_EPOCHS} epochs" in text
    plan, *_ = pack("vit-cifar", ["vit"], ["base"])
    per_task = [updates(plan, Options(), k) for k in range(20)]
    assert per_task == [2500 * k for k in range(1, 21)] and f"{sum(per_task):,} total" in text
    assert f"{sum(p.numel() for p in net.parameters()):,} trainable" in section("3.5")
    options = Options().network("standard", 0.1, torch.Generator())
    assert [p.shape for p in options.parameters()] == [p.shape for p in net.parameters()]
    blocks: Any = options.blocks
    assert blocks[0].attention.heads == 12


def test_settings_are_the_six_of_appendix_d() -> None:
    for name, setting in VIT_SETTINGS.items():
        assert (setting.norm == "reparam") == ("reparam" in name)
        assert (setting.spares_vectors, setting.scaled) == ("nodecay" in name, "scaled" in name)
    assert tuple(VARIANTS.values()) == tuple(VIT_SETTINGS) == STUDIES["vit-cifar"].settings


# ---- what holds with or without the paper at hand


@pytest.mark.parametrize("setting", VIT_SETTINGS)
def test_values_are_whole(setting: str) -> None:
    base = chosen(setting, "base")
    assert base.keys() == {"step_size", "dropout", "decay", "noise_variance", "optimizer", "source"}
    assert chosen(setting, "scratch") == base
    for system in VIT_SYSTEMS:
        config = chosen(setting, system)
        assert json.loads(json.dumps(config)) == config
        assert (config["noise_variance"] > 0) == (system == "shrink-perturb")
        assert chosen(setting, system, "clean") == dict(config) | {"optimizer": "clean", "source": "ours"}
        if system.endswith("-authors"):
            assert config == dict(chosen(setting, system.removesuffix("-authors"))) | {"law": "authors"}
        if system not in ("base", "scratch"):
            assert (config["source"] == "paper") == (setting in ("vit", "vit-reparam"))
        if system != "scratch":
            configs = grid(setting, system)
            inside = dict(config) | {"source": configs[0]["source"]}
            assert (inside | {"classes_a_task": 100} if system == "base" else inside) in configs
            assert len({Member(system, c, 0).config_id for c in configs}) == len(configs)


def test_sizes_of_grids() -> None:
    assert [len(grid(setting, "base")) for setting in VIT_SETTINGS] == [54, 8, 10, 12, 9, 8]
    systems = ("shrink-perturb", "cbp", "redo", "swr", "cbp-authors")
    assert [len(grid("vit", system)) for system in systems] == [5, 10, 9, 9, 10]
    assert {config["source"] for config in grid("vit", "swr")} == {"ours"}  # they swept with the other norm
    assert CHOSEN.keys() == GRIDS.keys() == VIT_SETTINGS.keys()


def test_a_shorter_task_renews_as_often() -> None:
    ratio = Options(epochs_per_task=10, images_per_class=225).ratio()
    assert ratio == 0.05 and Options().ratio() == 1
    config = scaled(chosen("vit", "cbp"), ratio)
    assert (config["maturity"], config["replacement_rate"], config["source"]) == (500, pytest.approx(2e-6), "ours")
    assert scaled(chosen("vit", "swr"), ratio)["every"] == 6
    noisy = scaled(chosen("vit", "shrink-perturb"), ratio)
    assert noisy["noise_variance"] == pytest.approx(2e-7) and noisy["decay"] == 2e-6
    assert scaled(chosen("vit", "swr"), 1) == chosen("vit", "swr")
    assert len(grid("vit-reparam", "swr", ratio=1e-3)) == 3  # periods of one update each
    for bad in (0.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="^`ratio` must be positive and finite"):
            scaled(chosen("vit", "swr"), bad)


def test_the_winning_base_hands_down() -> None:
    won = dict(chosen("vit", "base")) | {"decay": 5e-6, "dropout": 0.2}
    configs = grid("vit", "swr", {("vit", "base"): won})
    assert {(c["decay"], c["dropout"], c["source"]) for c in configs} == {(5e-6, 0.2, "ours")}
    assert grid("vit", "base", {("vit", "base"): won}) == grid("vit", "base")


# ---- packing


def test_each_network_is_alone_and_restored() -> None:
    plans = pack("vit-cifar", ["vit", "vit-reparam"], ["base", "swr", "scratch"], seeds=2, optimizer="clean")
    assert [len(plan.members) for plan in plans] == [1] * 12 == [1] * count(plans, 1, 1).stacks
    assert plans[0].id == "vit.seed0.0" and {plan.members[0].config["optimizer"] for plan in plans} == {"clean"}
    assert restore(json.loads(json.dumps(describe(plans)))) == plans
    assert len(pack("vit-cifar")) == 36
    assert choose("vit-cifar")[1] == ("base", "shrink-perturb", "cbp", "redo", "swr", "scratch")
    assert choose("vit-cifar", systems=["swr-gradient-threshold-resample"])[1] == ("swr",)


def test_the_base_is_tuned_on_all_classes() -> None:
    plans = pack("vit-cifar", ["vit-scaled"], ["base"], sweep=True)
    assert len(plans) == 12 and updates(plans[0], Options(), 0) == 50_000
    check_run(plans, 1, Options(), "cpu")
    with pytest.raises(ValueError, match=r"^`tasks` must be at most 1, for each brings 100 of 100 classes; got 2$"):
        check_run(plans, 2, Options(), "cpu")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"systems": ["l2"]}, r"^`systems` of study 'vit-cifar' lack 'l2': .* has the decay already: take 'base'$"),
        (
            {"systems": ["swr-random-threshold-mean"]},
            r"must each be one of 'base', .* of study 'vit-cifar'; got 'swr-r",
        ),
        ({"settings": ["large"]}, r"^`settings` must each be one of .* of study 'vit-cifar'; got 'large'$"),
        ({"optimizer": "adam"}, r"^`optimizer` must be one of 'authors', 'clean', 'authors-cleared'; got 'adam'$"),
        ({"study": "optimizers", "optimizer": "clean"}, r"^`optimizer` is of vision .*; got 'clean': leave it out$"),
        ({"systems": ["base", "swr"], "sweep": True}, r"^`systems` of a sweep .*got base, swr: sweep 'base' first$"),
        ({"systems": ["scratch"], "sweep": True}, r"^`scratch` has no sweep.*: sweep `base` instead$"),
        ({"units_read": "after"}, r"^`units_read` 'after' needs a setting with layer norm"),
    ],
)
def test_what_cannot_be_packed_is_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        pack(**{"study": "vit-cifar"} | changed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"precision": "fp8"}, r"^`precision` must be one of 'fp32', 'tf32', 'bf16', 'fp64'; got 'fp8'$"),
        ({"epochs_per_task": 0}, r"^`epochs_per_task` must be at least 1 \(passes over the images of a task\); got 0$"),
        ({"width": 0}, r"^`width` must be at least 1"),
        ({"depth": 0}, r"^`depth` must be at least 1"),
        ({"flush_below": -1.0}, r"^`flush_below` must be finite and at least 0"),
        ({"flush_below": 0.1, "clip_at": 0.1}, r"^`clip_at` must be above `flush_below` \(0.1\).*; got 0.1$"),
        ({"precision": "tf32"}, r"^`precision` 'tf32' needs a CUDA device; got cpu: leave it out$"),
        ({"compiled": True}, r"^`compiled` True needs a CUDA device; got cpu: leave it out$"),
        ({"graphs": True}, r"^`graphs` True needs a CUDA device; got cpu: leave it out$"),
    ],
)
def test_options_are_checked(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_run(pack("vit-cifar", ["vit"], ["base"]), 20, Options(**changed), "cpu")


def test_there_are_no_more_tasks_than_classes() -> None:
    with pytest.raises(ValueError, match=r"^`tasks` must be at most 20, for each brings 5 of 100 classes; got 21$"):
        check_run(pack("vit-cifar", ["vit"], ["base"]), 21, Options(), "cpu")


def test_updates_are_counted_as_they_are_made() -> None:
    plan, *_ = pack("vit-cifar", ["vit"], ["base"])
    for images in (18, 36, 77):
        stream = type(problem()).__new__(type(problem()))
        stream.classes_a_task, stream.images_per_class = 5, images
        counted = [updates(plan, Options(epochs_per_task=3, images_per_class=images), k) for k in range(20)]
        assert counted == [3 * stream.updates(k) for k in range(20)]


@pytest.mark.parametrize("width", [16, 24, 33, 48, 64, 96, 100, 384])
def test_every_width_has_heads(width: int) -> None:
    blocks: Any = Options(width=width, depth=1).network("reparam", 0.0, torch.Generator()).blocks
    heads = blocks[0].attention.heads
    assert width % heads == 0 and width // heads >= min(width, 32)


# ---- the difference to scratch, the maker


def test_the_difference_to_scratch() -> None:
    clean, authors = json.dumps({"optimizer": "clean"}), json.dumps({"optimizer": "authors"})
    columns = ("setting", "system", "config", "seed", "task", "best_test_accuracy", "other")
    rows = [
        ("vit", "swr", authors, 0, 0, 0.5, 1), ("vit", "swr", authors, 0, 1, None, 2),
        ("vit", "swr", clean, 0, 0, 0.6, 3), ("vit", "swr", authors, 1, 0, 0.5, 4),
        ("vit-scaled", "swr", authors, 0, 0, 0.5, 5),
        ("vit", "scratch", authors, 0, 0, 0.75, 6), ("vit", "scratch", clean, 0, 0, 0.5, 7),
        ("vit", "scratch", authors, 0, 1, 0.7, 8),
    ]  # fmt: skip
    found = with_scratch_difference(pl.DataFrame(rows, schema=columns, orient="row"))
    assert found["scratch_difference"].to_list() == [-0.25, None, pytest.approx(0.1), None, None, 0.0, 0.0, 0.0]
    assert found["other"].to_list() == list(range(1, 9))


def test_the_maker_makes_trainers_of_real_images() -> None:
    if find_cifar100(_SHARED / "data") is None:
        pytest.skip(f"needs CIFAR-100 in {_SHARED / 'data'}")
    maker = ViTMaker(_SHARED / "data", Options(images_per_class=18, epochs_per_task=1, width=16, depth=1))
    first, second = (maker(plan) for plan in pack("vit-cifar", ["vit"], ["base"], seeds=2))
    assert first.problem._pixels is second.problem._pixels  # loaded once
    assert not torch.equal(first.problem.class_order, second.problem.class_order)
    assert first.updates(0) == 1 and first.net.width == 16
