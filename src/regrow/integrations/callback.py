"""What the callbacks of all frameworks share: making maintainers, attaching, storing and reporting."""

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ..maintain import Maintainer
from .fresh_values import fresh_values

Make = Callable[[Any], Maintainer | Sequence[Maintainer]]


def missing(framework: str, package: str, extra: str) -> ImportError:
    """The error for a framework that is not installed."""
    return ImportError(f"regrow.integrations.{framework} needs {package}: pip install 'regrow[{extra}]'")


class MaintainerGroup:
    """The maintainers of one callback, on all optimizers of one model.

    Args:
        make: returns a maintainer of the model it is given, or a list of them.
        name: distinguishes several callbacks of one run; None if there is only one.

    Raises:
        TypeError, ValueError: where they are something else.
    """

    def __init__(self, make: Make, name: str | None) -> None:
        if not callable(make) or isinstance(make, (Maintainer, nn.Module)):
            raise TypeError(
                "`make` must be a function of the model, such as lambda model: regrow.SWR(model, every=2048, "
                f"factor=1e-5); got {type(make).__name__}"
            )
        if name is not None and not (isinstance(name, str) and name.isidentifier()):
            raise ValueError(f"`name` must be None or a word like 'actor'; got {name!r}")
        self.name = name
        self._make = make
        self._model: nn.Module | None = None
        self._members: list[tuple[str, Maintainer]] = []  # with the label of the optimizer it belongs to
        self._pending: Mapping[str, Any] | None = None  # a loaded state whose maintainers are not made yet

    @property
    def maintainers(self) -> list[Maintainer]:
        """All of them, by optimizer in the order that `make` gave."""
        return [maintainer for _, maintainer in self._members]

    # Making and attaching.

    def attach(
        self, model: nn.Module, optimizers: Mapping[str, Optimizer], expected: Collection[str] | None = None
    ) -> None:
        """Attach the maintainers; make them first, unless they have been made for this very model.

        Each optimizer gets maintainers of its own: those of what `make` returns that can do with its parameters.

        Args:
            model: what `make` is given.
            optimizers: by labels that stay the same when the run is resumed.
            expected: names of modules of the model that no optimizer is meant to hold; None: there are none.

        Raises:
            ValueError: where a maintainer can do with none of the optimizers, or a loaded state is of others.
            TypeError: where `make` returns no maintainers.
        """
        if not optimizers:
            raise ValueError("there is no optimizer to attach to: configure one, or leave out the callback")
        with warnings.catch_warnings():
            if len(optimizers) > 1 or expected:
                self._silence(model, optimizers, expected or ())
            if self._pending is not None:  # the state comes in a moment
                warnings.filterwarnings("ignore", message=".*starts at step 0 with an optimizer", category=UserWarning)
            if self._model is model and {label for label, _ in self._members} <= set(optimizers):
                for label, maintainer in self._members:
                    maintainer.attach(optimizers[label])
            else:
                self._make_all(model, optimizers)
        if self._pending is not None:
            state, self._pending = self._pending, None
            self.load_state_dict(state)

    def _make_all(self, model: nn.Module, optimizers: Mapping[str, Optimizer]) -> None:
        self._members, self._model = [], model
        refused: dict[int, list[tuple[Maintainer, Optimizer]]] = {}
        for label, optimizer in optimizers.items():
            for i, maintainer in enumerate(self._made(model)):
                if any(maintainer is member for member in self.maintainers):
                    continue  # `make` returns the same object each time, and another optimizer has it
                if maintainer.covers(optimizer):
                    self._members.append((label, maintainer.attach(optimizer)))
                else:
                    refused.setdefault(i, []).append((maintainer, optimizer))
        for refusals in refused.values():
            if len(refusals) == len(optimizers):
                self.forget()
                maintainer, optimizer = refusals[0]
                maintainer.attach(optimizer)  # says why not

    def _made(self, model: nn.Module) -> list[Maintainer]:
        """What `make` returns, checked; of a resumed model it sees fresh values."""
        with fresh_values(model, self._stored_states()):
            made = self._make(model)
        made = [made] if isinstance(made, Maintainer) else made
        if not (isinstance(made, Sequence) and made and all(isinstance(m, Maintainer) for m in made)):
            raise TypeError(f"`make` must return a maintainer or a list of them; got {made!r}")
        return list(made)

    @staticmethod
    def _silence(model: nn.Module, optimizers: Mapping[str, Optimizer], expected: Collection[str]) -> None:
        """Silence the warning about parameters that an optimizer does not hold, if another does or none is meant to."""
        held = {id(p) for o in optimizers.values() for group in o.param_groups for p in group["params"]}
        lacking = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in held]
        if not [name for name in lacking if not any(name.startswith(f"{module}.") for module in expected)]:
            warnings.filterwarnings(
                "ignore", message=r".* ignores parameters that the \w+ does not hold", category=UserWarning
            )

    def detach(self) -> None:
        """Undo `attach`. The maintainers stay, for the next one."""
        for maintainer in self.maintainers:
            maintainer.detach()

    def forget(self) -> None:
        """Drop the maintainers, so that the next `attach` makes new ones."""
        self.detach()
        self._members, self._model, self._pending = [], None, None

    # Storing.

    def state_dict(self) -> dict[str, Any]:
        """The states of all maintainers: tensors, numbers and strings."""
        if self._pending is not None:
            return dict(self._pending)
        members = [
            {"optimizer": label, "maintainer": type(maintainer).__name__, "state": maintainer.state_dict()}
            for label, maintainer in self._members
        ]
        return {"version": 1, "maintainers": members}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`: at once, or as soon as the maintainers are made.

        Raises:
            TypeError, ValueError: where it is something else, or of other maintainers than these.
        """
        stored = _read(state)
        if not self._members:
            self._pending = state if stored else None
            return
        there = [(member["optimizer"], member["maintainer"]) for member in stored]
        here = [(label, type(maintainer).__name__) for label, maintainer in self._members]
        if there != here:
            raise ValueError(
                f"the checkpoint holds {_listed(there)}, `make` returns {_listed(here)}: return what the stored run "
                "had, or start a new run"
            )
        for maintainer, member in zip(self.maintainers, stored, strict=True):
            maintainer.load_state_dict(member["state"])

    def _stored_states(self) -> list[Mapping[str, Any]]:
        return [] if self._pending is None else [member["state"] for member in _read(self._pending)]

    # Reporting.

    def report(self) -> dict[str, float]:
        """All `report()`s as one dict, with keys that begin with `regrow/`.

        Then come, where there are several: the callback's name, the optimizer's label, the class of the maintainer.
        """
        several = len({label for label, _ in self._members}) > 1
        metrics: dict[str, float] = {}
        for i, (label, maintainer) in enumerate(self._members):
            names = ["regrow", self.name, label if several else None, self._class_name(i)]
            prefix = "/".join(name for name in names if name)
            metrics |= {f"{prefix}/{key}": value for key, value in maintainer.report().items()}
        return metrics

    def _class_name(self, i: int) -> str | None:
        """The class of a maintainer, numbered if it has namesakes; None if it is its optimizer's only one."""
        label, maintainer = self._members[i]
        beside = [j for j, (other, _) in enumerate(self._members) if other == label]
        alike = [j for j in beside if type(self._members[j][1]) is type(maintainer)]
        if len(beside) == 1:
            return None
        return type(maintainer).__name__ + (f"-{alike.index(i)}" if len(alike) > 1 else "")


def _read(state: Any) -> Sequence[Mapping[str, Any]]:
    """The members of a stored group, checked."""
    members = state.get("maintainers") if isinstance(state, Mapping) else None
    if not isinstance(members, Sequence) or state.get("version") != 1:
        raise ValueError("this is not the state of a RegrowCallback of this version")
    return members


def _listed(members: Iterable[tuple[str, str]]) -> str:
    listed = [f"{name} on {label}" if label else name for label, name in members]
    return ", ".join(listed) or "nothing"
