"""Hugging Face's Trainer, and those of TRL: `Trainer(callbacks=[RegrowCallback(make)])`."""

import os
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from ..maintain import Maintainer
from .callback import MaintainerGroup, Make, missing

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
except ImportError as error:
    raise missing("transformers", "transformers with accelerate", "transformers") from error

_STATE = "trainer_state.json"  # the Trainer's own


class RegrowCallback(TrainerCallback):
    """Keeps the model of a Trainer plastic: attaches maintainers to its optimizer, stores and logs them.

    The maintainers are made when training begins, and stay for later calls of `train()`. Accumulated gradients and
    mixed precision need nothing else: an update is a step of the optimizer.

    Each checkpoint folder gets a file `regrow.pt` with the states (`regrow-NAME.pt` of a callback with a name), and
    `train(resume_from_checkpoint=...)` continues them bit for bit. A folder in `output_dir` is found
    automatically; for another one call `load` first.

    A log of the Trainer also holds the maintainers' `report()`s, in `trainer.state.log_history` too. Trackers read it
    if they stand behind this callback: `callbacks=[RegrowCallback(make), TensorBoardCallback()]`, with
    `report_to="none"`, for those of `report_to` are called before all others.

    Args:
        make: `make(model)`, given the model without any wrapper, returns a maintainer or a list of them. For a
            pre-trained model give the maintainer `laws`: its values do not show how it was initialised.
        name: where a Trainer has several of these callbacks, a word for each: part of the file's name and of the names
            in the logs.

    Raises:
        TypeError, ValueError: for a `make` that is no function, a `name` that is no word; when training begins, where
            `make` returns no maintainers, maintainers whose parameters the optimizer does not hold, or different ones
                from those in the checkpoint.
        FileNotFoundError: where training is resumed and the checkpoint has no state of this callback.

    Example:
        >>> import regrow, transformers
        >>> from regrow.integrations.transformers import RegrowCallback
        >>> callback = RegrowCallback(lambda model: regrow.SWR(model, every=2048, factor=1e-5))
        >>> trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=[callback])  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP
    """

    def __init__(self, make: Make, *, name: str | None = None) -> None:
        self._group = MaintainerGroup(make, name)
        self._file = "regrow.pt" if name is None else f"regrow-{name}.pt"
        self._loaded = False

    @property
    def maintainers(self) -> list[Maintainer]:
        """The maintainers, from the beginning of training."""
        return self._group.maintainers

    def report(self) -> dict[str, float]:
        """What is logged: the maintainers' `report()`s, with keys that begin with `regrow/`."""
        return self._group.report()

    def load(self, folder: str | os.PathLike[str]) -> None:
        """Continue from a checkpoint folder: before `train()`, where it is none of `output_dir`.

        Args:
            folder: the one that is given as `resume_from_checkpoint`.

        Raises:
            FileNotFoundError: where it holds no state of this callback.
        """
        self._group.load_state_dict(torch.load(Path(folder) / self._file, map_location="cpu", weights_only=True))
        self._loaded = True

    # What the Trainer calls.

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._group.detach()  # a call of train() that failed did not detach
        if state.global_step > 0 and not self._loaded:
            self.load(self._resumed_from(args, state))
        self._loaded = False
        self._group.attach(kwargs["model"], {"": _innermost(kwargs["optimizer"])})

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        stored = self._group.state_dict()  # on every rank: it may be put together from all
        folder = _usual_folder(args, state)
        if args.should_save and folder.is_dir():  # a search for hyper-parameters has its folders elsewhere
            whole = folder / f"{self._file}.tmp"
            torch.save(stored, whole)
            whole.replace(folder / self._file)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, Any] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        if logs is not None and "loss" in logs:
            report = self.report()
            logs.update(report)
            state.log_history[-1].update(report)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self._group.detach()

    def _resumed_from(self, args: TrainingArguments, state: TrainerState) -> Path:
        """The folder that the Trainer has just resumed from; it does not say which."""
        folders = [_usual_folder(args, state)]
        if args.resume_from_checkpoint:
            folders.insert(0, Path(args.resume_from_checkpoint))
        for folder in folders:
            if (folder / self._file).is_file() and _is_of(folder, state):
                return folder
        raise FileNotFoundError(
            f"training resumes at step {state.global_step}, and {self._file} of that checkpoint is not in "
            f"{' or '.join(map(str, folders))}: call load(folder) of the RegrowCallback before train()"
        )


def _usual_folder(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir or "") / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"


def _is_of(folder: Path, state: TrainerState) -> bool:
    """Has this folder the Trainer's state that is loaded now, not one of another run?"""
    stored = TrainerState.load_from_json(str(folder / _STATE))
    return (stored.log_history, stored.total_flos) == (state.log_history, state.total_flos)


def _innermost(optimizer: Any) -> Optimizer:
    """The optimizer inside Accelerate's wrappers, whose own step hooks are never called."""
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = optimizer.optimizer
    return optimizer
