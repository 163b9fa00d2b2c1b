"""Lightning: `Trainer(callbacks=RegrowCallback(make))`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..maintain import Maintainer
from .callback import MaintainerGroup, Make, missing

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    try:
        from lightning.pytorch import Callback, LightningModule, Trainer
    except ImportError:
        try:
            from pytorch_lightning import Callback, LightningModule, Trainer
        except ImportError as error:
            raise missing("lightning", "Lightning", "lightning") from error


class RegrowCallback(Callback):
    """Keeps a LightningModule plastic: attaches maintainers to its optimizers, stores and logs them.

    The maintainers are made when a fit begins, and stay for the fits after it. Automatic and manual optimization,
    accumulated gradients, mixed precision and several optimizers need nothing else: an update is a step of an
    optimizer. Where there are several, `make` is called for each, and an optimizer keeps those maintainers whose
    parameters it holds.

    Checkpoints of the Trainer hold the states, and `fit(ckpt_path=...)` continues them bit for bit.

    Args:
        make: `make(module)`, given the LightningModule, returns a maintainer or a list of them.
        name: where a Trainer has several of these callbacks, a word for each: part of the key in the checkpoint and
            of the names in the logs.

    Raises:
        TypeError, ValueError: for a `make` that is no function, a `name` that is no word; when the fit begins, where
            `make` returns no maintainers, maintainers whose parameters no optimizer holds, or different ones from
                those in the checkpoint.

    Example:
        >>> import lightning, regrow
        >>> from regrow.integrations.lightning import RegrowCallback
        >>> callback = RegrowCallback(lambda module: regrow.SWR(module, every=2048, factor=1e-5))
        >>> lightning.Trainer(max_epochs=10, callbacks=callback).fit(module, loader)  # doctest: +SKIP
    """

    def __init__(self, make: Make, *, name: str | None = None) -> None:
        self._group = MaintainerGroup(make, name)

    @property
    def maintainers(self) -> list[Maintainer]:
        """The maintainers, from the beginning of the first fit."""
        return self._group.maintainers

    def report(self) -> dict[str, float]:
        """What is logged: the maintainers' `report()`s, with keys that begin with `regrow/`."""
        return self._group.report()

    # What Lightning calls.

    @property
    def state_key(self) -> str:
        return self._generate_state_key(name=self._group.name)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._group.attach(pl_module, {str(i): optimizer for i, optimizer in enumerate(trainer.optimizers)})

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        # Reading a report waits for the device: only where the loggers are written.
        if trainer._logger_connector.should_update_logs and not trainer.barebones:
            pl_module.log_dict(self.report(), on_step=True, on_epoch=False)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._group.detach()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._group.detach()

    def state_dict(self) -> dict[str, Any]:
        return self._group.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._group.load_state_dict(state_dict)
