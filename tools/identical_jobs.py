"""What is compared: jobs, each a process that leaves tables. Names are given, so that new systems change nothing."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

SIX = ("base", "l2", "shrink-perturb", "cbp", "redo", "swr")
AUTHORS, CONTROLS = ("cbp-authors", "redo-authors"), ("swr-zero-only", "swr-zero-spared")
VARIANTS = tuple(
    f"swr-{'-'.join(way)}"
    for way in product(("gradient", "magnitude", "random"), ("threshold", "proportional"), ("resample", "mean"))
)
EVERY = ("base", "l2", "shrink-perturb", "cbp", "redo", *VARIANTS, *CONTROLS, *AUTHORS, "scratch")
"""All on permuted images; `swr` under its long name."""
VIT = ("base", "shrink-perturb", "cbp", "redo", "swr", *AUTHORS, "scratch")
VIT_METHODS = VIT[1:-1]
VIT_SETTINGS = tuple(f"vit{norm}{scaled}" for norm in ("", "-reparam", "-nodecay") for scaled in ("", "-scaled"))

FOUR, ADAPTED = ("large", "large-ln", "small", "small-ln"), ("large", "large-sgdw", "large-adamw")
STUDIES = {
    "initial-assessment": (("large",), EVERY),
    "weights-vs-units": (FOUR, (*SIX, *AUTHORS)),
    "optimizers": (ADAPTED, (*SIX, *AUTHORS)),
    "zero-gradient": (FOUR, ("base", "swr", *CONTROLS, "swr-random-threshold-resample")),
}
"""{study: (settings, systems)}"""
NORMED = ("large-ln", "small-ln")
SMALL = ("--width", "16", "--depth", "1", "--images-per-class", "36", "--epochs-per-task", "3")
LEAST = ("--width", "8", "--depth", "1", "--images-per-class", "18", "--epochs-per-task", "1")
CIFAR = ("cifar-100-python", "cifar-100-python.tar.gz", "cifar-100-python.tar.xz")


@dataclass(frozen=True)
class Job:
    """One process.

    kind: what `identical_probe.py` does with the words.
    scripts: whose text decides the outcome too.
    needs: "mnist" or "cifar", the data that are named with --data; missing: why it cannot run here.
    """

    part: str
    name: str
    kind: str
    words: tuple[str, ...] = ()
    needs: str = ""
    scripts: tuple[str, ...] = ()
    missing: str = ""

    @property
    def title(self) -> str:
        return f"{self.part}/{self.name}"


def jobs(data: Path | None) -> list[Job]:
    """All of them; what most changes would show in comes first."""
    missing = {"": "", "mnist": "", "cifar": ""}
    if data is None or not (data / "mnist").is_dir():
        missing["mnist"] = f"needs MNIST's four files under {data / 'mnist' if data else 'mnist/ of --data'}"
    if data is None or not any((data / name).exists() for name in CIFAR):
        missing["cifar"] = f"needs CIFAR-100 in {data or '--data'}"
    found = [*_ids(), *_networks(), Job("report", "results", "report"), *_studies(""), *_vit()]
    found += [*_studies("mnist"), Job("demo", "digits", "demo"), *_sweeps()]
    return [Job(*(vars(job) | {"missing": missing[job.needs]}).values()) for job in found]


def _run(study: str, *more: str, settings: tuple[str, ...], systems: tuple[str, ...]) -> tuple[str, ...]:
    return (study, "--settings", *settings, "--systems", *systems, *more)


def _studies(needs: str) -> list[Job]:
    """Every study, every setting and system; where layer norm is, and where units are read; all measures."""
    found, where, long = [], needs or "digits", ("--tasks", "3", "--seeds", "2")
    for study, (settings, systems) in STUDIES.items():
        if not needs:  # they are small: every system in every setting
            systems = systems if study == "zero-gradient" else EVERY
        words = _run(study, *long, settings=settings, systems=systems)
        found.append(Job("studies", f"{where} {study}", "run", words, needs))
    for option, value in (("ln-position", "before"), ("units-read", "after"), ("measure-every", "1")):
        words = _run("weights-vs-units", *long, settings=NORMED, systems=(*SIX, *AUTHORS))
        words = (*words, f"--{option}", value)
        if not (needs and option == "measure-every"):
            found.append(Job("studies", f"{where} {option} {value}", "run", words, needs))
    return found


def _sweeps() -> list[Job]:
    """The grids: two tasks of digits, as what is due once a task is due in the second; a task of MNIST."""
    found = []
    for study, (settings, systems) in STUDIES.items():
        systems = tuple(name for name in systems if name != "scratch")
        words = _run(study, "--sweep", "--tasks", "2", settings=settings, systems=systems)
        found.append(Job("sweeps", f"digits {study}", "run", words))
    words = _run("weights-vs-units", "--sweep", "--tasks", "1", settings=FOUR, systems=SIX)
    return [*found, Job("sweeps", "mnist weights-vs-units", "run", words, "mnist")]


def _vit() -> list[Job]:
    found = []
    for optimizer in ("authors", "clean"):
        words = _run("vit-cifar", "--optimizer", optimizer, *SMALL, settings=VIT_SETTINGS, systems=VIT)
        found.append(Job("vit", optimizer, "run", (*words, "--tasks", "2", "--seeds", "1"), "cifar"))
    precise = _run("vit-cifar", "--precision", "fp64", *SMALL, settings=("vit", "vit-reparam"), systems=VIT)
    guarded = _run("vit-cifar", "--flush-below", "1e-4", "--clip-at", "0.2", *SMALL, settings=("vit",), systems=VIT)
    for name, words in {"fp64": precise, "guarded": guarded}.items():
        found.append(Job("vit", name, "run", (*words, "--tasks", "2"), "cifar"))
    for name, systems in {"base": ("base",), "methods": VIT_METHODS}.items():
        settings = VIT_SETTINGS if name == "base" else ("vit", "vit-reparam")
        words = _run("vit-cifar", "--sweep", "--tasks", "1", *LEAST, settings=settings, systems=systems)
        found.append(Job("sweeps", f"cifar {name}", "run", words, "cifar"))
    return found


def _ids() -> list[Job]:
    """The configs and stacks that a run names when it begins, and is ended; those on digits are in their tables."""
    found = []
    for sweep in ((), ("--sweep",)):
        way = "sweep" if sweep else "chosen"
        for study, (settings, systems) in STUDIES.items():
            systems = tuple(name for name in systems if not (sweep and name == "scratch"))
            words = _run(study, *sweep, "--seeds", "2", settings=settings, systems=systems)
            found.append(Job("ids", f"{study} {way}", "ids", words, "mnist"))
        parts = {"base": ("base",), "methods": VIT_METHODS} if sweep else {"all": VIT}
        for (name, systems), optimizer in product(parts.items(), ("authors", "clean")):
            words = _run("vit-cifar", *sweep, "--optimizer", optimizer, settings=VIT_SETTINGS, systems=systems)
            found.append(Job("ids", f"vit-cifar {way} {name} {optimizer}", "ids", words, "cifar"))
    return found


def _networks() -> list[Job]:
    """The general path of the laboratory, and the library."""
    asked = {"general": product(("conv", "mlp", "vit", "dropout"), ("sgd", "sgdw", "adamw"))}
    asked["library"] = product(("conv", "tokens"), ("swr", "cbp", "redo", "noise", "other"))
    return [Job(part, " ".join(words), part, words, scripts=("nets", part)) for part in asked for words in asked[part]]
