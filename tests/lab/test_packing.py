"""Packing is a law of what is run: every member once, one structure and seed a stack, and it grows with the seeds."""

import json
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.lab.problems.permuted import DIGITS
from regrow.lab.studies import ALIASES, SETTINGS, STUDIES, SYSTEMS, VIT_SETTINGS, Member, StackPlan
from regrow.lab.studies.packing import STACK_SIZE, count, describe, pack, restore
from regrow.lab.studies.permuted_grids import TABLES, grid
from regrow.lab.studies.permuted_values import chosen, scaled

examples = settings(deadline=None, max_examples=60)


@st.composite
def runs(draw: st.DrawFn) -> dict:
    """Arguments of `pack`, all but the seeds."""
    study = draw(st.sampled_from([s for s in STUDIES.values() if s.settings[0] in SETTINGS]))
    sweep = draw(st.booleans())
    systems = [name for name in SYSTEMS if name not in ALIASES and not (sweep and name == "scratch")]
    names = draw(st.lists(st.sampled_from(study.settings), min_size=1, max_size=3, unique=True))
    normed = any(SETTINGS[name].layer_norm for name in names)
    place = st.sampled_from(["after", "before"])
    return {
        "study": study.name,
        "settings": names,
        "systems": draw(st.lists(st.sampled_from(systems), min_size=1, max_size=6, unique=True)),
        "sweep": sweep,
        "ratio": draw(st.sampled_from([1.0, DIGITS.ratio])),
        "ln_position": draw(place) if normed else "after",
        "units_read": draw(place) if normed else "before",
    }


def wanted(run: dict, seeds: int) -> Counter:
    """Every member that the run should have, as (setting, ln_position, system, config, seed)."""
    found = Counter()
    for setting in run["settings"]:
        for system in run["systems"]:
            one = [scaled(chosen(setting, system), run["ratio"])]
            tables = TABLES[STUDIES[run["study"]].grids]
            for config in grid(setting, system, ratio=run["ratio"], tables=tables) if run["sweep"] else one:
                position = config.get("ln_position", run["ln_position"])
                text = json.dumps(config, sort_keys=True)
                found.update((setting, position, system, text, seed) for seed in range(seeds))
    return found


@given(run=runs(), seeds=st.integers(1, 3))
@examples
def test_every_member_is_packed_once(run: dict, seeds: int) -> None:
    packed = Counter(
        (plan.setting.name, plan.ln_position, m.system, json.dumps(m.config, sort_keys=True), m.seed)
        for plan in pack(**run, seeds=seeds)
        for m in plan.members
    )
    assert packed == wanted(run, seeds) and set(packed.values()) == {1}


@given(run=runs(), seeds=st.integers(1, 3))
@examples
def test_a_stack_has_one_structure_and_one_seed(run: dict, seeds: int) -> None:
    plans = pack(**run, seeds=seeds)
    for plan in plans:
        assert plan.setting == SETTINGS[plan.setting.name] and plan.units_read == run["units_read"]
        assert {member.seed for member in plan.members} == {plan.seed}
        assert {m.config.get("ln_position", plan.ln_position) for m in plan.members} == {plan.ln_position}
        assert plan.id.startswith(f"{plan.setting.name}.seed{plan.seed}.") and re.fullmatch(r"[a-z0-9.-]+", plan.id)
    assert len({plan.id for plan in plans}) == len(plans)


@given(run=runs())
@examples
def test_stacks_are_few_and_even(run: dict) -> None:
    groups: dict[tuple[str, str], list[int]] = {}
    for plan in pack(**run):
        groups.setdefault((plan.setting.name, plan.ln_position), []).append(len(plan.members))
    for (setting, _), sizes in groups.items():
        limit = STACK_SIZE[SETTINGS[setting].hidden]
        assert max(sizes) <= limit and max(sizes) - min(sizes) <= 1
        assert len(sizes) == (sum(sizes) + limit - 1) // limit


@given(run=runs(), few=st.integers(1, 3), more=st.integers(0, 3))
@examples
def test_more_seeds_leave_earlier_stacks_as_they_are(run: dict, few: int, more: int) -> None:
    plans = pack(**run, seeds=few + more)
    assert plans[: len(plans) * few // (few + more)] == pack(**run, seeds=few)


@given(run=runs(), data=st.data())
@examples
def test_the_order_of_words_does_not_count(run: dict, data: st.DataObject) -> None:
    other = {name: data.draw(st.permutations(run[name])) for name in ("settings", "systems")}
    assert pack(**run) == pack(**run | other)


@given(run=runs(), seeds=st.integers(1, 2))
@examples
def test_a_description_restores_the_plans(run: dict, seeds: int) -> None:
    plans = pack(**run, seeds=seeds)
    restored = restore(json.loads(json.dumps(describe(plans))))
    assert restored == plans
    members = [[m.config_id for m in plan.members] for plan in plans]
    assert [[m.config_id for m in plan.members] for plan in restored] == members


def test_whole_studies() -> None:
    sizes = {name: [len(plan.members) for plan in pack(name)] for name in STUDIES}
    alone = [1] * len(VIT_SETTINGS) * 6
    sizes_of_all = {"initial-assessment": [7, 8], "weights-vs-units": [6, 6, 6, 6], "optimizers": [6, 6, 6]}
    sizes_of_all["zero-gradient"] = [5, 5, 5, 5]
    sizes_of_all["dense-inputs"] = [6, 6, 6, 6, 6, 6, 18, 18]
    assert sizes == sizes_of_all | {"vit-cifar": alone}
    sweep = pack("weights-vs-units", sweep=True, seeds=10)
    assert count(sweep, tasks=1000, updates_per_task=2000)[1:] == (4220, 8_440_000_000)  # 125, 100, 94 and 103 configs
    assert {len(plan.members) for plan in sweep if plan.setting.name == "small"} == {94}
    assert count([], 1000, 2000) == (0, 0, 0)


def test_standardized_pixels_are_in_every_config() -> None:
    for sweep in (False, True):
        plans = pack("dense-inputs", ["small"], ["base", "swr"], sweep=sweep, pixels="standardized")
        configs = [member.config for plan in plans for member in plan.members]
        assert {(c["pixels"], c["source"]) for c in configs} == {("standardized", "ours")}
        assert all(plan.standardized for plan in plans)
    assert not any(plan.standardized for plan in pack("dense-inputs", ["small"], ["base"]))
    assert pack("weights-vs-units", ["small"], ["base"]) == pack("weights-vs-units", ["small"], ["base"], pixels="raw")


def test_the_best_take_the_place_of_chosen_values_from_a_first_seed_on() -> None:
    best = {"small": [("swr", {"step_size": 0.1}), ("base", {"step_size": 0.2}), ("swr", {"step_size": 0.3})]}
    plans = pack("dense-inputs", ["small"], ["base", "swr", "redo"], 2, best=best, first_seed=3)
    assert [plan.id for plan in plans] == ["small.seed3.0", "small.seed4.0"]
    members = [(m.system, m.config["step_size"], m.seed) for m in plans[0].members]
    assert members == [("base", 0.2, 3), ("swr", 0.1, 3), ("swr", 0.3, 3)]
    with pytest.raises(ValueError, match="^`best` has no config of redo in small: name other systems"):
        pack("dense-inputs", ["small"], ["redo"], best=best)
    assert pack("optimizers", seeds=3)[3:] == pack("optimizers", seeds=2, first_seed=1)


def test_positions_of_layer_norm_part_the_stacks() -> None:
    plans = pack("weights-vs-units", ["small-ln"], ["base", "l2"], sweep=True)
    assert [(plan.id, plan.ln_position, len(plan.members)) for plan in plans] == [
        ("small-ln.seed0.0", "before", 7),
        ("small-ln.seed0.1", "after", 13),
    ]


def test_winners_reach_the_members() -> None:
    base = dict(chosen("large-ln", "base")) | {"step_size": 0.5, "ln_position": "before"}
    winners = {("large-ln", "base"): base}
    (plan,) = pack("weights-vs-units", ["large-ln"], ["l2"], sweep=True, winners=winners)
    assert plan.ln_position == "before" and {member.config["step_size"] for member in plan.members} == {0.5}


def test_equal_share_adds_members_and_leaves_the_others() -> None:
    systems = ["base", "swr-random-threshold-resample", "swr-random-proportional-mean"]
    (plan,) = pack("initial-assessment", systems=systems, equal_share=True)
    (usual,) = pack("initial-assessment", systems=systems)
    assert [m for m in plan.members if "share_of" not in m.config] == list(usual.members)
    added = [(m.system, m.config["every"], m.config["factor"]) for m in plan.members if "share_of" in m.config]
    assert added == [(systems[1], 4096, 0.8), (systems[2], 2048, 0.2), (systems[2], 512, 0.05)]
    (short,) = pack("initial-assessment", systems=systems, equal_share=True, ratio=DIGITS.ratio)
    assert [m.config["every"] for m in short.members if "share_of" in m.config] == [459, 229, 57]


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"equal_share": True}, ValueError, r"^`equal_share` is of the systems swr-random-.*; got base, .*: name one"),
        (
            {"equal_share": True, "sweep": True, "systems": ["swr-random-threshold-resample"]},
            ValueError,
            r"^`equal_share` adds members beside chosen values; got it with a sweep: leave one",
        ),
        ({"seeds": 0}, ValueError, r"^`seeds` must be at least 1 .*; got 0$"),
        ({"seeds": 1.0}, TypeError, r"^`seeds` must be a whole number .*; got 1.0 of type float$"),
        (
            {"settings": ["small"]},
            ValueError,
            r"^`settings` must each be one of .* of study 'optimizers'; got 'small'",
        ),
        ({"ln_position": "pre"}, ValueError, r"^`ln_position` must be one of 'after', 'before'; got 'pre'$"),
        (
            {"ln_position": "before"},
            ValueError,
            r"^`ln_position` 'before' needs a setting with layer norm; got large",
        ),
        ({"units_read": "after"}, ValueError, r"^`units_read` 'after' needs a setting with layer norm; got large"),
        ({"systems": ["scratch"], "sweep": True}, ValueError, r"^`scratch` has no sweep.*: sweep `base` instead$"),
        (
            {"winners": {("large", "base"): chosen("large", "base")}},
            ValueError,
            r"^`winners` of an earlier sweep count in a sweep only; .*: ask for a sweep$",
        ),
        ({"ratio": 0.0}, ValueError, r"^`ratio` must be positive and finite "),
    ],
)
def test_what_cannot_be_packed_is_refused(changed: dict, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        pack(**{"study": "optimizers"} | changed)
    assert "\n" not in str(caught.value)


def test_a_changed_description_is_refused() -> None:
    packing = describe(pack("optimizers", systems=["base"]))
    config_id = next(iter(packing["configs"]))
    packing["configs"][config_id]["config"]["step_size"] = 1.0
    with pytest.raises(ValueError, match=rf"^packing: config {config_id} was changed, it is now .{{8}}: restore"):
        restore(packing)


def test_two_configs_of_one_id_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Member, "config_id", "00000000")
    plan = StackPlan("a", SETTINGS["small"], 0, (Member("base", {}, 0), Member("l2", {}, 0)))
    with pytest.raises(AssertionError, match="two configs share the id 00000000"):
        describe([plan])
