"""The callback in real Lightning: it trains as a plain loop does, and continues bit for bit."""

import pytest
import torch
from integration_cases import MAKERS, same, weights
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import regrow

lightning = pytest.importorskip("lightning.pytorch")
from regrow.integrations.lightning import RegrowCallback  # noqa: E402

every_method = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


class Module(lightning.LightningModule):
    """A small classifier, with one optimizer."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, _):
        x, y = batch
        return cross_entropy(self(x.to(self.net[0].weight.dtype)), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


class TwoOptimizers(Module):
    """The same with manual optimization: body and head have an optimizer each, and the head a step less often."""

    automatic_optimization = False

    def training_step(self, batch, i):
        body, head = self.optimizers()
        body.zero_grad()
        head.zero_grad()
        self.manual_backward(super().training_step(batch, i))
        body.step()
        if i % 2:
            head.step()

    def configure_optimizers(self):
        return torch.optim.Adam(self.net[:3].parameters(), lr=0.01), torch.optim.SGD(self.net[3:].parameters(), lr=0.1)


def data(batches=8):
    torch.manual_seed(5)
    return TensorDataset(torch.randn(16 * batches, 6), torch.randint(3, (16 * batches,)))


def trainer(callbacks, epochs=2, folder=None, **more):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, callbacks=callbacks, default_root_dir=folder,
        enable_checkpointing=False, **(quiet | more),
    )  # fmt: skip


def fit(module, callbacks, epochs=2, ckpt_path=None, **more):
    run = trainer(callbacks, epochs, **more)
    run.fit(module, DataLoader(data(), batch_size=16), ckpt_path=ckpt_path)
    return run


@every_method
def test_it_trains_as_a_plain_loop_does(make):
    module, callback = Module(), RegrowCallback(make)
    fit(module, callback)

    plain = Module()
    optimizer = plain.configure_optimizers()
    kept = make(plain)
    kept = kept if isinstance(kept, list) else [kept]
    for maintainer in kept:
        maintainer.attach(optimizer)
    for _ in range(2):
        for batch in DataLoader(data(), batch_size=16):
            optimizer.zero_grad()
            plain.training_step(batch, 0).backward()
            optimizer.step()
    assert same(weights(module), weights(plain))
    assert same([m.report() for m in callback.maintainers], [m.report() for m in kept])
    assert callback.maintainers[0].report()["renewed_total"] > 0


SETTINGS = {
    "automatic": (Module, {}),
    "accumulated": (Module, {"accumulate_grad_batches": 2}),
    "clipped": (Module, {"gradient_clip_val": 0.1}),
    "bf16-mixed": (Module, {"precision": "bf16-mixed"}),
    "bf16-true": (Module, {"precision": "bf16-true"}),
    "two optimizers": (TwoOptimizers, {}),
}


@every_method
@pytest.mark.parametrize("kind, settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_resumed_run_is_the_one_that_never_stopped(make, kind, settings, tmp_path):
    whole, never_stopped = kind(), RegrowCallback(make)
    fit(whole, never_stopped, epochs=3, **settings)

    stopped = fit(kind(), RegrowCallback(make), epochs=2, **settings)
    stopped.save_checkpoint(tmp_path / "run.ckpt")
    resumed, callback = kind(seed=1), RegrowCallback(make)
    fit(resumed, callback, epochs=3, ckpt_path=tmp_path / "run.ckpt", **settings)

    assert never_stopped.report() == callback.report()
    assert same(never_stopped.state_dict(), callback.state_dict())
    assert same(weights(whole), weights(resumed))
    assert sum(value for key, value in callback.report().items() if key.endswith("renewals")) > 0


def test_a_checkpoint_can_be_loaded_with_weights_only(tmp_path):
    run = fit(Module(), RegrowCallback(MAKERS["cbp"]))
    run.save_checkpoint(tmp_path / "run.ckpt")
    stored = torch.load(tmp_path / "run.ckpt", weights_only=True)["callbacks"]
    assert list(stored) == ["RegrowCallback{'name': None}"]


def test_several_optimizers_have_maintainers_of_their_own():
    """`make` may cover the whole model, or return one for each part: it is the same."""
    whole, parts = TwoOptimizers(), TwoOptimizers()
    one = RegrowCallback(lambda m: regrow.SWR(m, every=2, factor=0.3, seed=0))
    fit(whole, one)
    made = []

    def of_parts(m):
        patterns = ["net.0", "net.2"], ["net.4"]
        made[:] = made or [regrow.SWR(m, every=2, factor=0.3, only=only, seed=0) for only in patterns]
        return made

    several = RegrowCallback(of_parts)
    fit(parts, several)
    assert len(one.maintainers) == len(several.maintainers) == 2
    assert one.report()["regrow/0/steps"] == 16 and one.report()["regrow/1/steps"] == 8
    assert one.report() == several.report() and same(weights(whole), weights(parts))


def test_a_parameter_that_no_optimizer_holds_is_told():
    class Partly(Module):
        def configure_optimizers(self):
            return torch.optim.SGD(self.net[:3].parameters(), lr=0.1)

    with pytest.warns(UserWarning, match="ignores parameters that the SGD does not hold: net.4.weight, net.4.bias"):
        fit(Partly(), RegrowCallback(MAKERS["swr"]))


def test_several_callbacks(tmp_path):
    def both():
        return [
            RegrowCallback(MAKERS["swr"], name="weights"),
            RegrowCallback(lambda m: regrow.ShrinkPerturb(m, shrink=1e-3), name="shrink"),
        ]

    module, callbacks = Module(), both()
    fit(module, callbacks, epochs=3)
    fit(Module(), both()).save_checkpoint(tmp_path / "run.ckpt")
    resumed, others = Module(seed=1), both()
    fit(resumed, others, epochs=3, ckpt_path=tmp_path / "run.ckpt")
    assert same(weights(module), weights(resumed))
    assert callbacks[0].report()["regrow/weights/renewals"] == others[0].report()["regrow/weights/renewals"] == 8
    with pytest.raises(RuntimeError, match="more than one stateful callback of type `RegrowCallback`"):
        trainer([RegrowCallback(MAKERS["swr"]), RegrowCallback(MAKERS["cbp"])])


class Memory(lightning.loggers.logger.Logger):
    """A logger that keeps everything."""

    name, version = "memory", 0

    def __init__(self):
        super().__init__()
        self.lines = []

    def log_metrics(self, metrics, step=None):
        self.lines.append((step, dict(metrics)))

    def log_hyperparams(self, *args, **kwargs):
        pass


@pytest.mark.parametrize("kind", [Module, TwoOptimizers])
def test_reports_are_logged(kind):
    memory, callback = Memory(), RegrowCallback(MAKERS["swr-and-noise"])
    fit(kind(), callback, logger=memory, log_every_n_steps=4)
    lines = [(step, line) for step, line in memory.lines if any(key.startswith("regrow/") for key in line)]
    assert [step for step, _ in lines] == [3, 7, 11, 15]
    where = "" if kind is Module else "0/"
    assert [line[f"regrow/{where}SWR/renewals"] for _, line in lines] == [1, 2, 4, 5]
    assert lines[-1][1][f"regrow/{where}ShrinkPerturb/steps"] == 16
    assert {key for key in lines[-1][1] if key.startswith("regrow/")} == set(callback.report())


def test_a_second_fit_goes_on_with_the_same_maintainers():
    module, callback = Module(), RegrowCallback(MAKERS["swr"])
    fit(module, callback)
    (first,) = callback.maintainers
    fit(module, callback)
    assert callback.maintainers == [first] and first.report()["steps"] == 32
    fit(Module(), callback)
    assert callback.maintainers != [first] and callback.report()["regrow/steps"] == 16 and first.report()["steps"] == 32


def test_after_an_interruption_the_same_callback_can_be_used_again():
    class Fails(Module):
        failed = False

        def training_step(self, batch, i):
            if i == 3 and not self.failed:
                self.failed = True
                raise ZeroDivisionError
            return super().training_step(batch, i)

    module, callback = Fails(), RegrowCallback(MAKERS["swr"])
    with pytest.raises(ZeroDivisionError):
        fit(module, callback)
    fit(module, callback)
    assert callback.report()["regrow/steps"] == 3 + 16


def test_the_sibling_package_works_as_well():
    pl = pytest.importorskip("pytorch_lightning")

    class Sibling(pl.LightningModule):
        forward, training_step = Module.forward, Module.training_step
        configure_optimizers = Module.configure_optimizers

        def __init__(self):
            super().__init__()
            self.net = Module().net

    callback = RegrowCallback(MAKERS["swr"])
    run = pl.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[callback], enable_progress_bar=False,
        enable_model_summary=False, logger=False, enable_checkpointing=False,
    )  # fmt: skip
    run.fit(Sibling(), DataLoader(data(), batch_size=16))
    assert callback.report()["regrow/renewals"] == 2


def test_mistakes_are_told(tmp_path):
    with pytest.raises(TypeError, match="`make` must be a function of the model, such as .*; got SWR"):
        RegrowCallback(regrow.SWR(nn.Linear(2, 2), every=1, factor=0))
    with pytest.raises(ValueError, match="`name` must be None or a word like 'actor'; got 'a b'"):
        RegrowCallback(MAKERS["swr"], name="a b")
    with pytest.raises(TypeError, match="`make` must return a maintainer or a list of them; got None"):
        fit(Module(), RegrowCallback(lambda module: None))
    with pytest.raises(ValueError, match="the Adam holds none of the maintained parameters"):
        fit(Module(), RegrowCallback(lambda module: regrow.SWR(nn.Linear(2, 2), every=1, factor=0.1)))
    fit(Module(), RegrowCallback(MAKERS["swr"])).save_checkpoint(tmp_path / "run.ckpt")
    with pytest.raises(ValueError, match="the checkpoint holds SWR on 0, `make` returns ContinualBackprop on 0"):
        fit(Module(), RegrowCallback(MAKERS["cbp"]), epochs=3, ckpt_path=tmp_path / "run.ckpt")
