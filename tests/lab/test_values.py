"""Values and grids are the paper's, cell by cell; ours are told apart."""

import json
import math
import re
from pathlib import Path

import pytest

from regrow.lab.problems.permuted import DIGITS, MNIST
from regrow.lab.studies import PROBE, SETTINGS, SIX, SYSTEMS, TASKS, VARIANTS, Member
from regrow.lab.studies.permuted_grids import GRIDS, TABLES, grid
from regrow.lab.studies.permuted_values import CHOSEN, chosen, equal_share, scaled

_PAPER = Path(__file__).resolve().parents[3] / "shared" / "hyperparameters.md"
SGD, OPTIMIZERS = ["large", "large-ln", "small", "small-ln"], ["large-sgdw", "large-adamw"]
FIRST = {  # rows of section 1: system and its knobs, in the order of the cells
    "Base": ("base", ["step_size"]),
    "L2": ("l2", ["decay"]),
    "S&P": ("shrink-perturb", ["noise_variance"]),
    "CBP": ("cbp", ["maturity", "replacement_rate"]),
    "ReDo": ("redo", ["every", "threshold"]),
    "SWR-prop. GR": ("swr-gradient-proportional-resample", ["every", "factor"]),
    "SWR-prop. GM": ("swr-gradient-proportional-mean", ["every", "factor"]),
    "SWR-prop. MR": ("swr-magnitude-proportional-resample", ["every", "factor"]),
    "SWR-prop. MM": ("swr-magnitude-proportional-mean", ["every", "factor"]),
    "SWR-thr. GR": ("swr-gradient-threshold-resample", ["every", "factor"]),
    "SWR-thr. GM": ("swr-gradient-threshold-mean", ["every", "factor"]),
    "SWR-thr. MR": ("swr-magnitude-threshold-resample", ["every", "factor"]),
    "SWR-thr. MM": ("swr-magnitude-threshold-mean", ["every", "factor"]),
}
FIRST_GRIDS = {  # rows of section 1 with grids: whose, and of which knob
    "Base α grid": ("Base", "step_size"),
    "L2 grid": ("L2", "decay"),
    "S&P σ² grid (decades)": ("S&P", "noise_variance"),
    "CBP grid m": ("CBP", "maturity"),
    "CBP grid r (decades)": ("CBP", "replacement_rate"),
    "ReDo grid f": ("ReDo", "every"),
    "ReDo grid t (decades)": ("ReDo", "threshold"),
    "SWR-prop. grid τ": ("SWR-prop.", "every"),
    "SWR-prop. grid κ": ("SWR-prop.", "factor"),
    "SWR-thr. grid τ": ("SWR-thr.", "every"),
    "SWR-thr. grid κ (decades)": ("SWR-thr.", "factor"),
}
SECOND = {  # rows of section 2, by how they begin, and knobs where they differ
    "Base α": ("base", ["step_size"]),
    "momentum / β1": ("base", ["momentum"]),
    "β2": ("base", ["beta2"]),
    "L2 λ": ("l2", ["decay"]),
    "S&P σ²": ("shrink-perturb", ["noise_variance"]),
    "CBP m ∈": ("cbp", ["maturity", "replacement_rate"]),
    "ReDo f ∈": ("redo", ["every", "threshold"]),
    "SWR thr. GR, τ ∈": ("swr-gradient-threshold-resample", ["every", "factor"]),
}


@pytest.fixture(scope="module")
def paper() -> str:
    """The paper's hyper-parameters; tests are skipped where they are not at hand."""
    if not _PAPER.is_file():
        pytest.skip(f"needs the paper's tables in {_PAPER}")
    return _PAPER.read_text(encoding="utf-8").replace("**", "")


def section(paper: str, number: int) -> str:
    return re.split(r"^## ", paper, flags=re.MULTILINE)[number]


def cells(text: str) -> dict[str, list[str]]:
    """A Markdown table as {first cell: the others}, without heading and rule."""
    lines = [line.strip(" |").split("|") for line in text.splitlines() if line.startswith("|")]
    return {first.strip(): [cell.strip() for cell in others] for first, *others in lines[2:]}


def find(pattern: str, text: str) -> tuple[str, ...]:
    found = re.search(pattern, text)
    assert found, pattern
    return found.groups()


def number(text: str) -> float | int:
    return int(text) if text.strip().isdecimal() else float(text)


def listed(text: str) -> list[float | int]:
    """`a,b,c`, `a…b` in decades or, of whole numbers, doubled, and `a,b,…,z`."""
    found: list[float | int] = []
    for part in text.replace(",…,", "…").replace(" ", "").split(","):
        low, *high = map(number, part.split("…"))
        found.append(low)
        while high and not math.isclose(found[-1], high[0]):
            found.append(found[-1] * 2 if isinstance(low, int) else float(f"{found[-1] * 10:.0e}"))
    return found


def first_numbers(text: str) -> list[float | int]:
    """The numbers of a chosen cell, without marks and words."""
    return [number(part) for part in text.replace("(E)", "").split(",") if "activation" not in part]


def varied(setting: str, system: str, knob: str) -> list[float | int | str]:
    return sorted({config[knob] for config in grid(setting, system)})  # type: ignore[type-var]


# ---- the paper, cell by cell


def test_chosen_values_of_plain_sgd_are_the_papers(paper: str) -> None:
    rows = {name: row for name, row in cells(section(paper, 1)).items() if "grid" not in name}
    labels = {re.split(r" chosen| τ, κ", name)[0]: row for name, row in rows.items()}
    assert labels.keys() == FIRST.keys()
    for label, (system, knobs) in FIRST.items():
        for setting, cell in zip(SGD, labels[label], strict=True):
            config = chosen(setting, system)
            assert config["source"] == ("ours" if cell == "none" else "paper"), (setting, system)
            if cell == "none":
                assert all(config[knob] == chosen("large", system)[knob] for knob in knobs)
            else:
                assert [config[knob] for knob in knobs] == first_numbers(cell), (setting, system)
                assert [type(config[knob]) for knob in knobs] == [type(value) for value in first_numbers(cell)]


def test_grids_of_plain_sgd_are_the_papers(paper: str) -> None:
    text = section(paper, 1)
    a6, a7, l6 = find(r"A6 = α {(.*?)}; A7 = A6 \+ ([\d.]+).*; L6 = λ {(.*?), decades}", text)
    named = {"A6": listed(a6), "A7 × {pre, post}": [*listed(a6), *listed(a7)], "L6": listed(l6)}
    rows = {name: row for name, row in cells(text).items() if "grid" in name}
    assert rows.keys() == FIRST_GRIDS.keys()
    for name, (whose, knob) in FIRST_GRIDS.items():
        for system in (system for label, (system, _) in FIRST.items() if label.startswith(whose)):
            for setting, cell in zip(SGD, rows[name], strict=True):
                want = named[cell] if cell in named else listed(cell.replace("(×2)", ""))
                assert varied(setting, system, knob) == sorted(want), (setting, system, knob)
                positions = {config.get("ln_position") for config in grid(setting, system)}
                assert positions == ({"before", "after"} if "pre, post" in cell else {None})


def test_optimizers_are_the_papers(paper: str) -> None:
    rows = cells(section(paper, 2))
    assert len(rows) == len(SECOND)
    for (name, row), (start, (system, knobs)) in zip(rows.items(), SECOND.items(), strict=True):
        assert name.startswith(start)
        for setting, cell in zip(OPTIMIZERS, row, strict=True):
            if cell == "n/a":
                assert "beta2" not in chosen(setting, system)
                continue
            own = ["beta1"] if (setting, knobs) == ("large-adamw", ["momentum"]) else knobs
            best, values = chosen(setting, system), cell.split("→")[-1]
            assert [best[knob] for knob in own] == first_numbers(values), (setting, system)
            assert best["source"] == "paper"
            grids = re.findall(r"∈ {(.*?)}", name) or re.findall(r"{(.*?)}", cell)
            for knob, text in zip(own, grids, strict=True):
                assert varied(setting, system, knob) == sorted(listed(text)), (setting, system, knob)
            if "λ=" in cell:
                assert varied(setting, system, "decay") == [best["decay"]] == [number(*find(r"λ=([\de-]+)", cell))]


def test_the_protocol_is_the_papers(paper: str) -> None:
    text = section(paper, 4)
    found = find(r"pass of ([\d,]+) at batch (\d+) = ([\d,]+) updates/task, ([\d,]+) total", text)
    assert [MNIST.images, MNIST.batch, MNIST.updates_a_task, TASKS * MNIST.updates_a_task] == [
        number(n.replace(",", "")) for n in found
    ]
    assert f"{PROBE:,} images" in text and f"{TASKS:,} tasks" in text
    for hidden in {setting.hidden for setting in SETTINGS.values()}:
        assert f"(h={hidden})" in text


# ---- what holds of all values, with or without the paper at hand


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_grid_is_whole(setting: str) -> None:
    """Each combination once, all of the same keys, the chosen one among them, what is not swept as chosen."""
    for system in set(SYSTEMS) - {"scratch"}:
        configs, best = grid(setting, system), chosen(setting, system)
        assert len({Member(system, config, 0).config_id for config in configs}) == len(configs)
        swept = {knob for knob in configs[0] if len({config[knob] for config in configs}) > 1}
        assert len(configs) == math.prod(len({config[knob] for config in configs}) for knob in swept)
        for config in configs:
            assert config.keys() - {"ln_position"} == best.keys()
            assert all(config[knob] == best[knob] for knob in best.keys() - swept)
        inside = {"ln_position": "after"} | dict(best) if "ln_position" in swept else best
        borrowed = best["source"] == "ours" or (setting in OPTIMIZERS and "proportional" in system)
        assert borrowed or inside in configs, system


COUNTS = {
    #               base, l2, s&p, cbp, redo, threshold, proportional
    "large": (6, 6, 5, 36, 36, 36, 36),
    "large-ln": (14, 6, 5, 25, 25, 25, 25),
    "small": (6, 6, 7, 25, 25, 25, 25),
    "small-ln": (14, 6, 8, 25, 25, 25, 25),
    "large-sgdw": (33, 5, 6, 25, 25, 25, 36),
    "large-adamw": (54, 5, 7, 25, 25, 25, 36),
}


@pytest.mark.parametrize("setting", COUNTS)
def test_sizes_of_grids(setting: str) -> None:
    assert tuple(len(grid(setting, system)) for system in (*SIX, "swr-gradient-proportional-mean")) == COUNTS[setting]


def test_values_are_typed_and_in_range() -> None:
    whole, share = {"every", "maturity"}, {"replacement_rate", "decay"}
    for setting in SETTINGS:
        for system in set(SYSTEMS) - {"scratch"}:
            for config in (chosen(setting, system), *grid(setting, system), *grid(setting, system, ratio=DIGITS.ratio)):
                assert {"step_size", "decay", "noise_variance", "source"} <= config.keys()
                assert json.loads(json.dumps(config)) == config
                for knob, value in config.items():
                    if knob in whole:
                        assert type(value) is int and value >= 1
                    elif not isinstance(value, str):
                        assert type(value) is float and value >= 0
                        assert knob not in share or value <= 1


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_systems_share(setting: str) -> None:
    base, l2 = chosen(setting, "base"), chosen(setting, "l2")
    own = {"sgd": set(), "sgdw": {"momentum"}, "adamw": {"beta1", "beta2"}}[SETTINGS[setting].optimizer]
    assert base.keys() == {"step_size", "decay", "noise_variance", "source"} | own
    for system in SYSTEMS:
        config = chosen(setting, system)
        assert all(config[knob] == base[knob] for knob in own | {"step_size"})
        assert config["decay"] == (l2["decay"] if system in ("l2", "shrink-perturb") else 0)
        assert (config["noise_variance"] > 0) == (system == "shrink-perturb")
    assert chosen(setting, "scratch") == base
    for system, utility in (("cbp", "contribution"), ("redo", "activation")):
        assert chosen(setting, f"{system}-authors") == chosen(setting, system)
        assert grid(setting, f"{system}-authors") == grid(setting, system)
        assert chosen(setting, system)["utility"] == utility
    for name in VARIANTS:
        config = chosen(setting, name)
        assert name == f"swr-{config['utility']}-{config['prune']}-{config['reinit']}"
    assert chosen(setting, "swr") == chosen(setting, "swr-gradient-threshold-resample")
    assert grid(setting, "swr") == grid(setting, "swr-gradient-threshold-resample")


def test_ours_where_the_paper_has_none() -> None:
    for reinit in ("resample", "mean"):
        for setting in SETTINGS:
            config = chosen(setting, f"swr-random-threshold-{reinit}")
            assert (config["every"], config["factor"], config["source"]) == (2048, 1.0, "ours")
            assert config in [dict(each) for each in grid(setting, f"swr-random-threshold-{reinit}")]
            random = chosen(setting, f"swr-random-proportional-{reinit}")
            gradient = chosen(setting, f"swr-gradient-proportional-{reinit}")
            assert random == dict(gradient) | {"utility": "random", "source": "ours"}
        for prune in ("threshold", "proportional"):
            name = f"swr-magnitude-{prune}-{reinit}"
            assert {(chosen(s, name)["every"], chosen(s, name)["factor"]) for s in SETTINGS} == {
                (chosen("large", name)["every"], chosen("large", name)["factor"])
            }
            assert [s for s in SETTINGS if chosen(s, name)["source"] == "paper"] == ["large"]
            assert {config["source"] for config in grid("small", name)} == {"ours"}
    assert {config["source"] for config in grid("large-sgdw", "swr-gradient-proportional-resample")} == {"ours"}
    assert {config["source"] for config in grid("large-sgdw", "swr")} == {"paper"}


OURS = {"l2-init", "swr-silent-input"}


def test_no_table_has_a_row_in_vain() -> None:
    assert {system for rows in CHOSEN.values() for system in rows} <= set(SYSTEMS)
    assert {row for rows in GRIDS.values() for row in rows} == {*SIX[:-1], "threshold", "proportional", *OURS}
    dense = {row for rows in TABLES["dense"].values() for row in rows}
    assert dense == {*SIX[:-1], "threshold", "proportional", "swr-silent-input"}
    assert CHOSEN.keys() == GRIDS.keys() == SETTINGS.keys()


# ---- tasks of another length, winners of an earlier sweep


def test_scaled_keeps_what_happens_in_a_task() -> None:
    for system in SYSTEMS:
        config = chosen("large", system)
        assert scaled(config, 1) is config and scaled(config, MNIST.ratio) is config
        half = scaled(config, 0.5)
        for knob, value in config.items():
            if knob in ("every", "maturity"):
                assert half[knob] == value // 2
            elif knob in ("replacement_rate", "decay", "noise_variance"):
                assert half[knob] == value * 2
            else:
                assert half[knob] == ("ours" if knob == "source" else value)
        assert config == chosen("large", system)  # the one handed in stays
    assert (DIGITS.updates_a_task, DIGITS.ratio) == (224, 0.112)
    assert scaled(chosen("large", "swr"), DIGITS.ratio)["every"] == 229  # 2048 / 2000 tasks, as there
    tiny = scaled({"every": 8, "maturity": 1, "replacement_rate": 0.1, "decay": 0.5, "noise_variance": 1.0}, 1e-3)
    assert tiny == {
        "every": 1, "maturity": 1, "replacement_rate": 1.0, "decay": 1.0, "noise_variance": 1000.0, "source": "ours",
    }  # fmt: skip


def test_a_scaled_grid_has_each_config_once() -> None:
    """Maturities 1, 5 and 10 are all 1 update of digits."""
    configs = grid("large-ln", "cbp", ratio=DIGITS.ratio)
    assert [config["maturity"] for config in configs[::5]] == [1, 6, 11] and len(configs) == 15
    for setting in SETTINGS:
        for system in SIX:
            configs = grid(setting, system, ratio=DIGITS.ratio)
            assert len({Member(system, config, 0).config_id for config in configs}) == len(configs)


@pytest.mark.parametrize("ratio", [0, -1, math.nan, math.inf])
def test_a_ratio_out_of_range_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"^`ratio` must be positive and finite .*; got "):
        scaled(chosen("large", "base"), ratio)


def test_winners_hand_down_what_systems_share() -> None:
    base = dict(chosen("large-ln", "base")) | {"step_size": 0.5, "ln_position": "before"}
    winners = {("large-ln", "base"): base, ("large-ln", "l2"): dict(base) | {"decay": 1e-3}, ("small", "base"): base}
    assert grid("large-ln", "base", winners) == grid("large-ln", "base")
    for system in SIX[1:]:
        plain, ours = grid("large-ln", system), grid("large-ln", system, winners)
        handed = {"step_size": 0.5, "ln_position": "before", "source": "ours"}
        handed |= {"decay": 1e-3} if system == "shrink-perturb" else {}
        assert ours == [dict(config) | handed for config in plain]
        assert grid("small-ln", system, winners) == grid("small-ln", system)
    for knob in ("momentum", "beta1", "beta2"):
        setting = "large-sgdw" if knob == "momentum" else "large-adamw"
        won = {(setting, "base"): dict(chosen(setting, "base")) | {knob: 0.99}}
        assert {config[knob] for config in grid(setting, "swr", won)} == {0.99}


def test_winners_equal_to_the_papers_are_the_papers() -> None:
    winners = {("large", system): chosen("large", system) for system in SIX}
    for system in SIX:
        assert grid("large", system, winners) == grid("large", system)


def test_winners_are_not_scaled_again() -> None:
    """They come from tasks of the same length."""
    l2 = scaled(chosen("small", "l2"), DIGITS.ratio)
    for winners in ({("small", "l2"): l2}, None):
        decays = {config["decay"] for config in grid("small", "shrink-perturb", winners, DIGITS.ratio)}
        assert decays == {l2["decay"]} == {1e-4 / 0.112}


# ---- random utility, equal in share


def test_values_of_equal_share_are_of_the_papers_proportional_value() -> None:
    def values(setting: str, system: str) -> list[tuple[int, float]]:
        return [(int(c["every"]), float(c["factor"])) for c in equal_share(setting, system)]

    threshold, mean = "swr-random-threshold-resample", "swr-random-proportional-mean"
    assert values("large", threshold) == [(4096, 0.8)]
    assert values("large", mean) == [(2048, 0.2), (512, 0.05)]
    for setting in SGD:
        paper = chosen(setting, "swr-gradient-proportional-resample")
        for system, halved in ((threshold, 2), (mean, 1)):
            for config in equal_share(setting, system):
                assert config["source"] == "ours" and config["share_of"] == "swr-gradient-proportional-resample"
                share = config["factor"] / halved / config["every"]
                assert share == pytest.approx(paper["factor"] / paper["every"], rel=1e-12)
                assert config.keys() - {"share_of"} == chosen(setting, system).keys()
    assert not any(equal_share("large", system) for system in SYSTEMS if system not in (threshold, mean))


def test_a_threshold_takes_half_its_factor_of_uniform_utilities() -> None:
    import torch

    from regrow.core import select

    u = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    for factor in (0.8, 1.0, 0.05):
        assert select.threshold(u, factor).float().mean().item() == pytest.approx(factor / 2, rel=0.05)
