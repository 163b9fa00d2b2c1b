"""What the laboratory runs: studies, each settings x systems; a network to train is a member, some at once a stack."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ... import check
from .systems import ALIASES, CONTROLS, SIX, SYSTEMS, VARIANTS, VIT_SYSTEMS

Config = Mapping[str, float | int | str]
"""The hyper-parameters of one system, flat, as they go into JSON. A key that the system does not know is absent.

Of all: step_size; decay, the share of every weight lost at each update; noise_variance; source, "paper" or "ours".
By optimizer: momentum; beta1, beta2. By system: every, factor, prune, reinit, and among which entries; maturity,
replacement_rate; threshold; utility. ln_position where it is one of the things compared. Of a vision transformer:
dropout, optimizer, law, and classes_a_task where all come at once; see `regrow.lab.studies.vit_values`. pixels, where
they are not raw; share_of, of values of ours: see `permuted_values.equal_share`.
"""


@dataclass(frozen=True)
class Setting:
    """A network and its optimizer, on permuted images.

    name: as commands and results have it.
    hidden: units of each of the three hidden layers.
    layer_norm: whether each hidden layer is normalised.
    optimizer: "sgd", "sgdw" (with momentum) or "adamw".
    """

    name: str
    hidden: int
    layer_norm: bool
    optimizer: str


@dataclass(frozen=True)
class ViTSetting(Setting):
    """A vision transformer and how its weights decay, on classes of CIFAR-100 that come a few at a time.

    norm: "standard", or "reparam", whose scale decays to 1.
    spares_vectors: whether what is no matrix, biases and norms, does not decay.
    scaled: whether the decay is multiplied with the step size, and so follows its schedule.
    """

    norm: str = "standard"
    spares_vectors: bool = False
    scaled: bool = False

    @property
    def unscaled(self) -> str:
        """Name of the setting that is like this one but with `scaled` False; of this one if it is not scaled.

        Example:
            >>> VIT_SETTINGS["vit-reparam-scaled"].unscaled
            'vit-reparam'
        """
        mine = replace(self, name="", scaled=False)
        return next(name for name, each in VIT_SETTINGS.items() if replace(each, name="") == mine)


@dataclass(frozen=True)
class Member:
    """One network to train: a system, its hyper-parameters, and the seed of its initial weights and data.

    Example:
        >>> Member("base", {"step_size": 0.05}, seed=3).config_id
        'c770828a'
    """

    system: str
    config: Config
    seed: int

    @property
    def config_id(self) -> str:
        """8 hex digits that identify system and config, in any order of its keys."""
        text = json.dumps({"system": self.system, "config": self.config}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class StackPlan:
    """Members that are trained together: equal structure, one seed.

    id: unique in its run and safe as a file name.
    ln_position: where the layer norm is, "after" or "before" the activation.
    units_read: where unit methods read a unit's activation, "before" or "after" a layer norm that follows it.
    """

    id: str
    setting: Setting
    seed: int
    members: tuple[Member, ...]
    ln_position: str = "after"
    units_read: str = "before"

    @property
    def standardized(self) -> bool:
        """Whether its members see standardized pixels."""
        return self.members[0].config.get("pixels", "raw") == "standardized"


@dataclass(frozen=True)
class Study:
    """A comparison of the paper: its settings, its systems where none are named, the figures and tables it fills.

    tasks: of a run of the paper.
    known: the systems that it can run; none named: all.
    pixels: of permuted images, where a run does not say: of `PIXELS`.
    grids: of its sweeps, "paper" or, for inputs without zeros, "dense".
    """

    name: str
    title: str
    settings: tuple[str, ...]
    systems: tuple[str, ...]
    figures: tuple[str, ...]
    tables: tuple[str, ...]
    tasks: int = 1_000
    known: tuple[str, ...] = ()
    pixels: str = "raw"
    grids: str = "paper"


TASKS = 1_000  # of a run of the paper on permuted images
PIXELS = ("raw", "standardized")
PROBE = 1_500  # images on which dead units and ranks are measured

SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("large", 100, False, "sgd"),
        Setting("large-ln", 100, True, "sgd"),
        Setting("small", 10, False, "sgd"),
        Setting("small-ln", 10, True, "sgd"),
        Setting("large-sgdw", 100, False, "sgdw"),
        Setting("large-adamw", 100, False, "adamw"),
    )
}
"""Those on permuted images."""

_VIT = (1536, True, "sgd")
VIT_SETTINGS = {
    setting.name: setting
    for setting in (
        ViTSetting("vit", *_VIT),
        ViTSetting("vit-reparam", *_VIT, norm="reparam"),
        ViTSetting("vit-nodecay", *_VIT, spares_vectors=True),
        ViTSetting("vit-scaled", *_VIT, scaled=True),
        ViTSetting("vit-reparam-scaled", *_VIT, norm="reparam", scaled=True),
        ViTSetting("vit-nodecay-scaled", *_VIT, spares_vectors=True, scaled=True),
    )
}
"""Those on CIFAR-100."""

ALL_SETTINGS: dict[str, Setting] = SETTINGS | VIT_SETTINGS

STUDIES = {
    study.name: study
    for study in (
        Study(
            name="initial-assessment",
            title="Which way of selective weight reinitialization keeps a network able to learn?",
            settings=("large",),
            systems=("base", "l2", "shrink-perturb", *(ALIASES.get(name, name) for name in VARIANTS)),
            figures=("1", "4", "8", "10"),
            tables=("1",),
        ),
        Study(
            name="weights-vs-units",
            title="Is it better to renew weights or units?",
            settings=("large", "large-ln", "small", "small-ln"),
            systems=SIX,
            figures=("2", "5", "6", "9", "11", "12", "13", "14"),
            tables=("2", "3"),
        ),
        Study(
            name="optimizers",
            title="Does it hold with momentum and with Adam?",
            settings=("large", "large-sgdw", "large-adamw"),
            systems=SIX,
            figures=("7",),
            tables=("4",),
        ),
        Study(
            name="zero-gradient",
            title="Is it renewing what has no gradient that keeps a network able to learn?",
            settings=("large", "large-ln", "small", "small-ln"),
            systems=("base", "swr", *CONTROLS, "swr-random-threshold-resample"),
            figures=("zero-gradient",),
            tables=(),
        ),
        Study(
            name="dense-inputs",
            title="Does it hold where no input is ever 0, all methods tuned anew?",
            settings=("large", "large-ln", "small", "small-ln"),
            systems=(*SIX[:-1], *(ALIASES.get(name, name) for name in VARIANTS), "swr-silent-input"),
            figures=("dense-inputs",),
            tables=(),
            pixels="standardized",
            grids="dense",
        ),
        Study(
            name="vit-cifar",
            title="Does it hold for a vision transformer that learns one class after the other?",
            settings=tuple(VIT_SETTINGS),
            systems=VIT_SYSTEMS[:6],
            figures=("3", "15", "16", "17", "18"),
            tables=("D", "6"),
            tasks=20,
            known=VIT_SYSTEMS,
        ),
    )
}


def choose(
    study: str, settings: Sequence[str] | None = None, systems: Sequence[str] | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The settings and systems of a run, checked and in the order of the laboratory's own lists.

    Their order does not matter, so that the same run is always packed in the same way.

    Args:
        study: of `STUDIES`.
        settings: some of the study's; None: all of them.
        systems: of `SYSTEMS`, or of those that the study knows; None: those of the study.

    Returns:
        Names of settings; names of systems as they are stored.

    Raises:
        ValueError: for an unknown name, a setting that the study lacks, a name given twice, an empty list.

    Example:
        >>> choose("weights-vs-units", ["small-ln", "small"], ["swr", "base"])
        (('small', 'small-ln'), ('base', 'swr'))
    """
    chosen = STUDIES[check.choice("study", study, STUDIES)]
    if settings is not None:
        _check_list("settings", settings, chosen.settings, f" of study {study!r}")
    if systems is not None:
        if chosen.known and "l2" in systems:
            raise ValueError(f"`systems` of study {study!r} lack 'l2': its 'base' has the decay already: take 'base'")
        known = (*chosen.known, *ALIASES) if chosen.known else SYSTEMS
        _check_list("systems", systems, known, f" of study {study!r}" if chosen.known else "")
    wanted = chosen.systems if systems is None else [ALIASES.get(name, name) for name in systems]
    return (
        tuple(name for name in chosen.settings if settings is None or name in settings),
        tuple(name for name in SYSTEMS if name in wanted),
    )


def _check_list(name: str, values: Sequence[str], choices: Iterable[str], where: str = "") -> None:
    """Refuse what is not a list, an empty list, and unknown or repeated names."""
    listed = ", ".join(map(repr, choices))
    if isinstance(values, str) or not values:
        raise ValueError(f"`{name}` must list at least one{where}; got {values!r}: choose from {listed}")
    seen: dict[str, str] = {}
    for value in values:
        if value not in choices:
            raise ValueError(f"`{name}` must each be one of {listed}{where}; got {value!r}")
        stored = ALIASES.get(value, value)
        if stored in seen:
            also = "" if seen[stored] == value else f", which is {seen[stored]!r}"
            raise ValueError(f"`{name}` must name each once; got {value!r} again{also}: leave one out")
        seen[stored] = value
