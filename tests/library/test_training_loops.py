"""The unit methods inside the training loops that people write."""

import copy
import gc

import pytest
import torch
from models import backward, batch, mlp, same, train, weights
from torch import nn
from torch.amp import GradScaler
from torch.utils.checkpoint import checkpoint

import regrow

METHODS = {
    "cbp": lambda model, **more: regrow.ContinualBackprop(model, replacement_rate=0.1, maturity=1, seed=0, **more),
    "cbp-average": lambda model, **more: regrow.ContinualBackprop(
        model, replacement_rate=0.1, maturity=1, decay=0.9, seed=0, **more
    ),
    "redo": lambda model, **more: regrow.ReDo(model, every=2, threshold=0.6, seed=0, **more),
}
every_method = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS.keys())


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.05)


def run(make, between=lambda model: None, steps=8, build=mlp):
    model = build()
    opt = sgd(model)
    maintainer = make(model).attach(opt)
    for step in range(steps):
        between(model)
        train(model, opt, range(step, step + 1))
    return weights(model), maintainer.report()


@every_method
def test_evaluation_and_acting_in_between_change_nothing(make):
    def evaluate(model):
        model.eval()
        model(torch.randn(20, 6))
        model.train()

    def act(model):
        with torch.no_grad():
            model(torch.randn(1, 6))

    def infer(model):
        with torch.inference_mode():
            model(torch.randn(1, 6))

    plain = run(make)
    assert plain[1]["renewed_total"] > 0
    for between in (evaluate, act, infer):
        other = run(make, between)
        assert same(plain[0], other[0]) and plain[1] == other[1]


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.inner, self.reentrant = mlp(), reentrant

    def forward(self, x):
        return checkpoint(self.inner, x.requires_grad_(), use_reentrant=self.reentrant)


@every_method
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("micro_batches", [1, 3])
def test_a_checkpointed_forward_counts_once(make, reentrant, micro_batches):
    def train_in_parts(model, inner):
        opt = sgd(model)
        maintainer = make(inner).attach(opt)
        for step in range(6):
            opt.zero_grad()
            for part in range(micro_batches):
                x, y = batch(10 * step + part)
                nn.functional.cross_entropy(model(x[: 8 - 3 * part]), y[: 8 - 3 * part]).backward()
            opt.step()
        return weights(inner), maintainer.report()

    model = mlp()
    plain = train_in_parts(model, model)
    wrapped = Checkpointed(reentrant)
    other = train_in_parts(wrapped, wrapped.inner)
    assert plain[1] == other[1] and plain[1]["renewed_total"] > 0
    assert same(plain[0], other[0])


@every_method
def test_micro_batches_are_summed(make):
    """Accumulating over parts of a batch decides what the whole batch does."""

    def accumulate(parts):
        model = mlp(dtype=torch.float64)
        opt = sgd(model)
        maintainer = make(model).attach(opt)
        for step in range(6):
            x, y = batch(step, torch.float64)
            opt.zero_grad()
            for part in range(parts):
                loss = nn.functional.cross_entropy(model(x[part::parts]), y[part::parts]) / parts
                loss.backward()
            opt.step()
        return weights(model), maintainer.report()

    whole, parts = accumulate(1), accumulate(4)
    assert whole[1] == parts[1] and whole[1]["renewed_total"] > 0
    assert all(torch.allclose(whole[0][k], parts[0][k], atol=1e-12) for k in whole[0])


@every_method
@pytest.mark.parametrize("fused", [True, False])
def test_passes_of_a_skipped_step_are_dropped(make, fused):
    def scaled(overflows):
        model = mlp()
        opt = torch.optim.SGD(model.parameters(), lr=0.05, fused=fused)
        scaler = GradScaler("cpu", init_scale=4.0, growth_interval=10_000, backoff_factor=0.9999999)
        maintainer = make(model).attach(opt)
        step = 0
        for overflow in overflows:
            opt.zero_grad()
            x, y = batch(500 if overflow else step)
            step += not overflow
            loss = nn.functional.cross_entropy(model(3 * x if overflow else x), y)
            scaler.scale(loss * torch.inf if overflow else loss).backward()
            scaler.step(opt)
            scaler.update(4.0)
        return weights(model), maintainer.report()

    with_skips = scaled([False, True, False, True, True, False, False, True, False, False])
    without = scaled([False] * 6)
    assert with_skips[1] == without[1] and without[1]["renewed_total"] > 0
    assert same(with_skips[0], without[0])


@every_method
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(make, dtype):
    model = mlp()
    opt = sgd(model)
    scaler = GradScaler("cpu", enabled=dtype == torch.float16, init_scale=2.0**8)
    maintainer = make(model).attach(opt)
    for step in range(8):
        x, y = batch(step)
        opt.zero_grad()
        with torch.autocast("cpu", dtype=dtype):
            loss = nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(opt)
        scaler.update()
    report = maintainer.report()
    assert report["steps"] == 8 and report["renewed_total"] > 0 and report["skipped_nan"] == 0
    assert all(w.isfinite().all() and w.dtype == torch.float32 for w in weights(model).values())


@every_method
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_models_are_watched(make, backend):
    """Hooks made before the first call of a compiled model are part of it; the decisions are those of plain torch."""
    torch._dynamo.reset()  # code compiled for a model without hooks would be used again
    plain = run(make, steps=7)
    model = mlp()
    compiled = torch.compile(model, backend=backend)
    opt = sgd(model)
    maintainer = make(compiled).attach(opt)
    for step in range(7):
        x, y = batch(step)
        opt.zero_grad()
        nn.functional.cross_entropy(compiled(x), y).backward()
        opt.step()
    assert maintainer.report() == plain[1]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(weights(model).values(), plain[0].values()))


@every_method
def test_a_compiled_training_step(make):
    plain = run(make, steps=7)
    model = mlp()
    opt = sgd(model)
    maintainer = make(model).attach(opt)

    @torch.compile(backend="eager")
    def update(x, y):
        opt.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        opt.step()

    for step in range(7):
        update(*batch(step))
    assert maintainer.report() == plain[1]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(weights(model).values(), plain[0].values()))


@every_method
def test_a_copy_of_model_and_maintainer_goes_its_own_way(make):
    model = mlp()
    opt = sgd(model)
    maintainer = make(model).attach(opt)
    train(model, opt, range(3))
    twin, other = copy.deepcopy((model, maintainer))
    assert "not attached" in repr(other) and other.report() == maintainer.report()
    twin_opt = sgd(twin)
    other.attach(twin_opt)
    before = weights(twin)
    train(model, opt, range(3, 8))
    assert same(before, weights(twin)), "the original's training leaves the copy alone"
    train(twin, twin_opt, range(3, 8))
    assert same(weights(model), weights(twin)) and other.report() == maintainer.report()


@every_method
def test_a_copied_model_alone_is_not_counted(make):
    """A target network is a copy; its forward passes say nothing of the original."""

    def target(model):
        copy.deepcopy(model)(torch.randn(4, 6))

    plain, other = run(make), run(make, target)
    assert same(plain[0], other[0]) and plain[1] == other[1]


@every_method
def test_actor_and_critic(make):
    model = nn.ModuleDict({"actor": mlp(0), "critic": mlp(1)})
    opts = {name: torch.optim.Adam(net.parameters(), lr=0.01) for name, net in model.items()}
    kept = {name: make(net).attach(opts[name]) for name, net in model.items()}
    for step in range(6):
        train(model["critic"], opts["critic"], range(step, step + 1))
        if step % 3 == 0:
            x, _ = batch(step)
            opts["actor"].zero_grad()
            (model["actor"](x) * model["critic"](x)).mean().backward()
            opts["actor"].step()
    assert kept["actor"].report()["steps"] == 2 and kept["critic"].report()["steps"] == 6
    assert kept["critic"].report()["renewed_total"] > 0


@every_method
def test_a_due_update_without_a_forward_pass_says_so(make):
    model = mlp()
    maintainer = make(model)
    backward(model, 0)
    maintainer.step()
    model.eval()
    with pytest.raises(RuntimeError, match="is due and has seen no forward pass of '0', '3' since"):
        for step in range(1, 12):
            backward(model, step)
            maintainer.step()


@every_method
@pytest.mark.parametrize("order", ["zero before forward", "zero after forward", "zeros kept"])
@pytest.mark.parametrize("copied", [False, True])
def test_passes_of_a_skipped_step_are_dropped_in_any_order(make, order, copied):
    """Updates whose gradients are thrown away, as a gradient scaler's skipped ones are, in the loops people write."""

    def run_with(skips):
        model = mlp()
        maintainer = make(model)
        if copied:
            model, maintainer = copy.deepcopy((model, maintainer))
        opt = sgd(model)
        maintainer.attach(opt)
        step = 0
        for skip in skips:
            x, y = batch(500 if skip else step)
            step += not skip
            if order != "zero after forward":
                opt.zero_grad(set_to_none=order != "zeros kept")
            loss = nn.functional.cross_entropy(model(x), y)
            if order == "zero after forward":
                opt.zero_grad()
            loss.backward()
            if not skip:
                opt.step()
        return weights(model), maintainer.report()

    with_skips, without = run_with([False, True, False, False, True, True, False, False, False]), run_with([False] * 6)
    assert with_skips[1] == without[1] and without[1]["renewed_total"] > 0
    assert same(with_skips[0], without[0])


@every_method
def test_the_models_hooks_go_with_their_maintainer(make):
    model = mlp()
    before = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    for _ in range(3):
        opt = sgd(model)
        maintainer = make(model).attach(opt)
        maintainer.detach()
        del maintainer, opt
        gc.collect()
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) == before


@every_method
def test_a_stored_model_loads_without_complaint(make, tmp_path):
    model = mlp()
    maintainer = make(model).attach(sgd(model))
    train(model, maintainer._attachment.optimizer, range(3))
    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    assert same(weights(model), weights(loaded))
    train(loaded, sgd(loaded), range(2))


@every_method
def test_an_optimizer_that_lacks_a_layer_is_told(make):
    model = mlp()
    with pytest.warns(UserWarning, match=r"ignores parameters that the SGD does not hold: 3; add them to"):
        make(model).attach(torch.optim.SGD([*model[0].parameters(), *model[3].parameters()], lr=0.1))
    with pytest.raises(ValueError, match="holds none of the maintained parameters"):
        make(mlp()).attach(torch.optim.SGD(model[0].parameters(), lr=0.1))


def test_torch_func_passes_are_not_watched():
    model = mlp()
    redo = regrow.ReDo(model, every=1, threshold=0.8, seed=0)
    backward(model, 0)
    torch.func.vmap(model)(torch.randn(3, 4, 6))
    redo.step()
    assert redo.report()["renewed_total"] > 0


def test_a_closure_shrinks_and_adds_noise_as_a_plain_step_does():
    """Its gradients are of the weights before they shrink, as where `backward()` is called before `step()`."""

    def run(closure):
        model = mlp()
        opt = sgd(model)
        regrow.ShrinkPerturb(model, shrink=0.1, noise_variance=1e-4, seed=0).attach(opt)
        for step in range(3):

            def loss(step=step):
                opt.zero_grad()
                x, y = batch(step)
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                return loss

            opt.step(loss) if closure == "given" else opt.step(closure=loss) if closure == "named" else (
                loss(),
                opt.step(),
            )
        return weights(model)

    plain = run(None)
    assert same(plain, run("given")) and same(plain, run("named"))
