"""Studies, settings and systems as the user names them; what cannot be run is refused in one line."""

import json
import re

import pytest

from regrow.lab.problems.permuted import DIGITS
from regrow.lab.studies import (
    CONTROLS,
    SETTINGS,
    SIX,
    STUDIES,
    SYSTEMS,
    VARIANTS,
    VIT_SETTINGS,
    VIT_SYSTEMS,
    Member,
    System,
    choose,
    system_name,
)
from regrow.lab.studies.permuted_grids import grid
from regrow.lab.studies.permuted_values import chosen

TIES = ("swr-gradient-proportional-resample-authors", "swr-gradient-proportional-mean-authors")


def test_defaults() -> None:
    assert choose("weights-vs-units") == (("large", "large-ln", "small", "small-ln"), SIX)
    assert choose("optimizers") == (("large", "large-sgdw", "large-adamw"), SIX)
    settings, systems = choose("initial-assessment")
    assert settings == ("large",) and len(systems) == 15
    assert {system_name(name) for name in VARIANTS} | {"base", "l2", "shrink-perturb"} == set(systems)
    assert len(SYSTEMS) == len(set(SYSTEMS)) == 27
    for study in STUDIES.values():
        assert choose(study.name) == (study.settings, choose(study.name, systems=study.systems)[1])
        assert set(study.settings) <= set(SETTINGS) or set(study.settings) == set(VIT_SETTINGS)


def test_words_are_stored_in_one_way() -> None:
    asked = choose("optimizers", ["large-adamw", "large"], ["redo-authors", "swr-gradient-threshold-resample", "l2"])
    assert asked == (("large", "large-adamw"), ("l2", "swr", "redo-authors"))


def test_a_name_is_parsed_once() -> None:
    assert System.of("swr") is System.of("swr-gradient-threshold-resample")
    plain, variant, control, authors = map(
        System.of, ("swr", "swr-random-proportional-mean", "swr-zero-spared", "redo-authors")
    )
    assert plain.variant == ("gradient", "threshold", "resample") == control.variant
    assert variant.variant == ("random", "proportional", "mean") and variant.variant.name == variant.name
    assert (control.method, control.control, control.tuned_as) == ("swr", "nonzero", "swr")
    assert (authors.method, authors.order, authors.tuned_as) == ("redo", "authors", "redo")
    assert (variant.utility, authors.utility, System.of("l2").utility) == ("random", "activation", None)
    assert {name for name in SYSTEMS if System.of(name).by_unit} == {"cbp", "redo", "cbp-authors", "redo-authors"}
    assert {name for name in SYSTEMS if System.of(name).renews} == {
        *VARIANTS, *CONTROLS, *TIES, "swr", "swr-silent-input", "cbp", "redo", "cbp-authors", "redo-authors",
    }  # fmt: skip
    assert {name for name in SYSTEMS if not System.of(name).draws} == {"base", "l2", "l2-init"}
    assert set(VIT_SYSTEMS) < set(SYSTEMS)
    for name in TIES:
        ties, ours = System.of(name), System.of(name.removesuffix("-authors"))
        assert (ties.variant, ties.order, ties.tuned_as) == (ours.variant, "after", ours.name)
        assert ties.fixed == ours.fixed | {"ties": "position"} and "ties" not in ours.fixed
        for setting in ("large", "large-ln", "small", "small-ln"):
            assert chosen(setting, name) == dict(chosen(setting, ours.name)) | {"ties": "position"}
    for name in ("bsae", "swr-", "swr-gradient", "base-authors", ""):
        with pytest.raises(ValueError, match=f"^`system` must be one of 'base', .*; got '{name}'$"):
            System.of(name)


@pytest.mark.parametrize(
    ("study", "settings", "systems", "says"),
    [
        ("nonesuch", None, None, r"^`study` must be one of 'initial-assessment', .*; got 'nonesuch'$"),
        ("optimizers", ["vast"], None, r"each be one of 'large', .* of study 'optimizers'; got 'vast'$"),
        ("optimizers", ["small"], None, r"each be one of 'large', .* of study 'optimizers'; got 'small'$"),
        ("optimizers", [], None, r"^`settings` must list at least one of study 'optimizers'; got \[\]: choose from"),
        ("optimizers", "large", None, r"^`settings` must list at least one of study 'optimizers'; got 'large': choose"),
        ("optimizers", ["large", "large"], None, r"^`settings` must name each once; got 'large' again: leave one out"),
        ("optimizers", None, ["bsae"], r"^`systems` must each be one of 'base', 'l2', .*; got 'bsae'$"),
        ("optimizers", None, [], r"^`systems` must list at least one; got \[\]: choose from 'base', "),
        ("optimizers", None, ["l2", "l2"], r"^`systems` must name each once; got 'l2' again: leave one out$"),
        (
            "optimizers",
            None,
            ["swr", "swr-gradient-threshold-resample"],
            r"got 'swr-gradient-threshold-resample' again, which is 'swr': leave one out$",
        ),
    ],
)
def test_unknown_words_are_refused_with_the_choices(study: str, settings, systems, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        choose(study, settings, systems)
    assert "\n" not in str(caught.value)


def test_what_has_no_sweep_or_no_values_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^`scratch` has no sweep.*: sweep `base` instead$"):
        grid("large", "scratch")
    for ask in (chosen, grid):
        with pytest.raises(ValueError, match=r"^`setting` must be one of 'large', .*; got 'vast'$"):
            ask("vast", "base")
        with pytest.raises(ValueError, match=r"^`system` must be one of 'base', .*; got 'bsae'$"):
            ask("large", "bsae")


def test_config_id_names_system_and_config() -> None:
    one = Member("base", {"step_size": 0.05, "decay": 0.0}, 0)
    assert re.fullmatch(r"[0-9a-f]{8}", one.config_id)
    assert one.config_id == Member("base", {"decay": 0.0, "step_size": 0.05}, 7).config_id
    assert one.config_id != Member("scratch", one.config, 0).config_id
    assert one.config_id != Member("base", {"step_size": 0.05, "decay": 0.1}, 0).config_id
    everything = {
        (system, json.dumps(config, sort_keys=True))
        for setting in SETTINGS
        for system in set(SYSTEMS) - {"scratch", "swr-gradient-threshold-resample"}
        for ratio in (1.0, DIGITS.ratio)
        for config in (chosen(setting, system), *grid(setting, system, ratio=ratio))
    }
    assert len({Member(system, json.loads(text), 0).config_id for system, text in everything}) == len(everything)
