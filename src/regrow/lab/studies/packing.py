"""How the members of a run are packed into stacks: a pure function of the run, not of machines or workers."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from ... import check
from . import permuted_grids, permuted_values, vit_values
from .catalog import (
    ALL_SETTINGS,
    PIXELS,
    SETTINGS,
    STUDIES,
    VIT_SETTINGS,
    Config,
    Member,
    Setting,
    StackPlan,
    ViTSetting,
    choose,
)
from .permuted_grids import TABLES, Winners

STACK_SIZE = {100: 8, 10: 128}
"""Members of a stack at most, by the units of their hidden layers: as many as stay in a core's cache. A vision
transformer fills it alone."""

Run = tuple[str, Config]  # of a system, by any seed
Best = Mapping[str, Sequence[Run]]
"""{setting: the configs to train in place of the chosen ones}"""


class Size(NamedTuple):
    """The amount of training; `updates` counts each update of each network."""

    stacks: int
    members: int
    updates: int


def pack(
    study: str,
    settings: Sequence[str] | None = None,
    systems: Sequence[str] | None = None,
    seeds: int = 1,
    *,
    sweep: bool = False,
    ln_position: str = "after",
    units_read: str = "before",
    winners: Winners | None = None,
    ratio: float = 1.0,
    optimizer: str | None = None,
    equal_share: bool = False,
    pixels: str = "raw",
    best: Best | None = None,
    first_seed: int = 0,
) -> list[StackPlan]:
    """All stacks of a run, seed by seed: those of n seeds are the first of those of more seeds.

    Members of a stack have one structure and one seed. They are shared out evenly over as few stacks as `STACK_SIZE`
    allows.

    Args:
        study, settings, systems: as for `choose`.
        seeds: how many, >= 1; they are `first_seed`, `first_seed` + 1, …
        sweep: run each system's grid in place of the chosen values.
        ln_position: where layer norm is, "after" or "before" the activation; in a sweep, where the grid (of `base`
            under layer norm) or a winner does not say.
        units_read: where unit methods read activations, "before" or "after" a layer norm that follows them.
        winners: as for `grid`; for a sweep only.
        ratio: updates a task divided by the paper's, MNIST's 2,000.
        optimizer: of vision transformers, "authors" (None), "authors-cleared" or "clean".
        equal_share: also train random utility at the values of `permuted_values.equal_share`.
        pixels: of permuted images, "raw" or "standardized".
        best: configs of earlier sweeps, of the systems wanted, in place of the chosen ones.
        first_seed: >= 0.

    Returns:
        Plans with unique ids.

    Raises:
        ValueError: for an argument that is out of its range, and one that would have no effect.
        TypeError: where `seeds` is no whole number.

    Example:
        >>> for plan in pack("weights-vs-units", ["large-ln"], ["base", "swr"], seeds=2):
        ...     print(plan.id, [member.system for member in plan.members])
        large-ln.seed0.0 ['base', 'swr']
        large-ln.seed1.0 ['base', 'swr']
    """
    settings, systems = choose(study, settings, systems)
    check.whole("seeds", seeds, 1, "runs of each system, by seeds 0, 1, …")
    check.whole("first_seed", first_seed, 0, "number of the first seed")
    check.choice("pixels", pixels, PIXELS)
    _check_place("ln_position", ln_position, "after", settings)
    _check_place("units_read", units_read, "before", settings)
    _check_options(settings, systems, sweep, winners, optimizer, equal_share)
    way = "authors" if optimizer is None else optimizer
    stacks = []
    for name in settings:
        tables = STUDIES[study].grids
        configs = partial(_configs, name, sweep=sweep, winners=winners, ratio=ratio, optimizer=way, tables=tables)
        if equal_share:
            configs = partial(_with_equal_share, name, ratio=ratio)
        runs = [(system, _of_pixels(config, pixels)) for system in systems for config in configs(system)]
        if best is not None:
            runs = [(system, config) for system in systems for own, config in best[name] if own == system]
            if not runs:
                listed = ", ".join(systems)
                raise ValueError(f"`best` has no config of {listed} in {name}: name other systems, or sweep these too")
        parts = _by_structure(runs, ln_position, STACK_SIZE.get(ALL_SETTINGS[name].hidden, 1))
        stacks += [(ALL_SETTINGS[name], number, *part) for number, part in enumerate(parts)]
    return [
        StackPlan(
            id=f"{setting.name}.seed{seed}.{number}",
            setting=setting,
            seed=seed,
            members=tuple(Member(system, config, seed) for system, config in part),
            ln_position=position,
            units_read=units_read,
        )
        for seed in range(first_seed, first_seed + seeds)
        for setting, number, position, part in stacks
    ]


def _configs(
    setting: str, system: str, sweep: bool, winners: Winners | None, ratio: float, optimizer: str, tables: str
) -> list[Config]:
    """The configs of a system: its grid in a sweep, else the chosen one."""
    if setting in VIT_SETTINGS:
        if sweep:
            return vit_values.grid(setting, system, winners, ratio, optimizer)
        return [vit_values.scaled(vit_values.chosen(setting, system, optimizer), ratio)]
    if sweep:
        return permuted_grids.grid(setting, system, winners, ratio, TABLES[tables])
    return [permuted_values.scaled(permuted_values.chosen(setting, system), ratio)]


def _of_pixels(config: Config, pixels: str) -> Config:
    """A config that says what its networks see, where that is not what the paper's see."""
    return config if pixels == "raw" else dict(config) | {"pixels": pixels, "source": "ours"}


def _with_equal_share(setting: str, system: str, ratio: float) -> list[Config]:
    """The chosen config of a system, and those of random utility beside it."""
    configs = (permuted_values.chosen(setting, system), *permuted_values.equal_share(setting, system))
    return [permuted_values.scaled(config, ratio) for config in configs]


def _check_options(
    settings: Sequence[str], systems: Sequence[str], sweep: bool, winners: Winners | None, optimizer: str | None,
    equal_share: bool,
) -> None:  # fmt: skip
    """Refuse options that would have no effect, or that exclude each other."""
    if winners and not sweep:
        raise ValueError("`winners` of an earlier sweep count in a sweep only; got them without: ask for a sweep")
    if optimizer is not None and settings[0] not in VIT_SETTINGS:
        raise ValueError(f"`optimizer` is of vision transformers, of study vit-cifar; got {optimizer!r}: leave it out")
    if sweep and settings[0] in VIT_SETTINGS:
        _check_protocol(systems)
    if equal_share:
        _check_equal_share(systems, sweep)


def _check_equal_share(systems: Sequence[str], sweep: bool) -> None:
    """Refuse values of random utility where no system has it, and beside a grid."""
    if sweep:
        raise ValueError("`equal_share` adds members beside chosen values; got it with a sweep: leave one of them out")
    if not any(system in permuted_values.EQUAL_SHARE for system in systems):
        listed = ", ".join(permuted_values.EQUAL_SHARE)
        raise ValueError(
            f"`equal_share` is of the systems {listed}; got {', '.join(systems)}: name one of them, or leave it out"
        )


def _check_place(name: str, value: str, default: str, settings: Sequence[str]) -> None:
    """Refuse an unknown position relative to layer norm, and any where no setting has layer norm."""
    check.choice(name, value, ("after", "before"))
    if value != default and not any(setting in SETTINGS and SETTINGS[setting].layer_norm for setting in settings):
        listed = ", ".join(settings)
        raise ValueError(f"`{name}` {value!r} needs a setting with layer norm; got {listed}: leave it out, or add one")


def _check_protocol(systems: Sequence[str]) -> None:
    """Refuse a sweep of base, which is a single task of all classes, together with one of the methods."""
    if "base" in systems and len(systems) > 1:
        raise ValueError(
            "`systems` of a sweep of vision transformers must be 'base' alone, which is tuned on all classes at once "
            f"(1 task), or methods, on classes as they come; got {', '.join(systems)}: sweep 'base' first"
        )


def _by_structure(runs: Sequence[Run], ln_position: str, limit: int) -> list[tuple[str, Sequence[Run]]]:
    """Parts of equal structure, each with the place of its layer norm."""
    groups: dict[str, list[Run]] = {}
    for system, config in runs:
        groups.setdefault(str(config.get("ln_position", ln_position)), []).append((system, config))
    return [(position, part) for position, group in groups.items() for part in _split(group, limit)]


def _split(group: Sequence[Run], limit: int) -> list[Sequence[Run]]:
    """The fewest parts of at most `limit` runs, of equal size where possible, in order."""
    parts = -(-len(group) // limit)
    return [group[len(group) * i // parts : len(group) * (i + 1) // parts] for i in range(parts)]


def count(plans: Iterable[StackPlan], tasks: int, updates_per_task: int) -> Size:
    """The amount of training.

    Args:
        plans: of `pack`.
        tasks: of the run.
        updates_per_task: of each member.

    Returns:
        Stacks, members, and the updates of all members together.

    Example:
        >>> count(pack("initial-assessment", seeds=2), tasks=1000, updates_per_task=2000)
        Size(stacks=4, members=30, updates=60000000)
    """
    sizes = [len(plan.members) for plan in plans]
    return Size(len(sizes), sum(sizes), sum(sizes) * tasks * updates_per_task)


def describe(plans: Iterable[StackPlan]) -> dict[str, Any]:
    """Plans as plain values for JSON, each setting and each config once.

    Example:
        >>> packing = describe(pack("weights-vs-units", ["small"], ["base"]))
        >>> packing["stacks"][0]["id"], restore(packing) == pack("weights-vs-units", ["small"], ["base"])
        ('small.seed0.0', True)
    """
    settings: dict[str, dict[str, Any]] = {}
    configs: dict[str, dict[str, Any]] = {}
    stacks = []
    for plan in plans:
        settings[plan.setting.name] = vars(plan.setting) | {}
        ids = [member.config_id for member in plan.members]
        for config_id, member in zip(ids, plan.members, strict=True):
            content = {"system": member.system, "config": dict(member.config)}
            assert configs.setdefault(config_id, content) == content, f"two configs share the id {config_id}"
        stacks.append(
            {"id": plan.id, "setting": plan.setting.name, "seed": plan.seed, "ln_position": plan.ln_position}
            | {"units_read": plan.units_read, "members": ids}
        )
    return {"settings": settings, "configs": configs, "stacks": stacks}


def restore(packing: Mapping[str, Any]) -> list[StackPlan]:
    """The plans that `describe` turned into plain values.

    Args:
        packing: as `describe` returns it, also through JSON.

    Returns:
        Equal plans in the same order.

    Raises:
        ValueError: if a config does not match its id.
    """
    for config_id, content in packing["configs"].items():
        actual = Member(**content, seed=0).config_id
        if actual != config_id:
            raise ValueError(f"packing: config {config_id} was changed, it is now {actual}: restore it from a copy")
    return [
        StackPlan(
            id=stack["id"],
            setting=_setting(packing["settings"][stack["setting"]]),
            seed=stack["seed"],
            members=tuple(
                Member(**packing["configs"][config_id], seed=stack["seed"]) for config_id in stack["members"]
            ),
            ln_position=stack["ln_position"],
            units_read=stack["units_read"],
        )
        for stack in packing["stacks"]
    ]


def _setting(content: Mapping[str, Any]) -> Setting:
    return (ViTSetting if "norm" in content else Setting)(**content)
