"""The contract that every maintainer keeps, over one list of all of them."""

import copy
import io
import math
import re
import warnings

import pytest
import torch
from models import backward, batch, mlp, same, train, weights
from torch import nn

import regrow

SWR_KINDS = [
    {"utility": u, "prune": p, "reinit": r}
    for u in ("gradient", "magnitude", "random")
    for p in ("threshold", "proportional")
    for r in ("resample", "mean")
]
WEIGHTS = {
    **{
        "swr-{utility}-{prune}-{reinit}".format(**kind): lambda model, kind=kind, **more: regrow.SWR(
            model, **{"every": 3, "factor": 0.3, **kind, **more}
        )
        for kind in SWR_KINDS
    },
    "shrink-perturb": lambda model, **more: regrow.ShrinkPerturb(model, shrink=0.01, noise_variance=1e-4, **more),
    "l2": lambda model, **more: regrow.ShrinkPerturb(model, shrink=0.01, **more),
}
UNITS = {
    **{
        f"cbp-{utility}-{decay}": lambda model, utility=utility, decay=decay, **more: regrow.ContinualBackprop(
            model, **{"replacement_rate": 0.05, "maturity": 1, "utility": utility, "decay": decay, **more}
        )
        for utility, decay in (
            ("contribution", 0.0),
            ("contribution", 0.9),
            ("contribution-by-position", 0.0),
            ("contribution-by-position", 0.9),
            ("gradient", 0.0),
            ("magnitude", 0.0),
        )  # fmt: skip
    },
    **{
        f"redo-{utility}": lambda model, utility=utility, **more: regrow.ReDo(
            model, **{"every": 3, "threshold": 0.8, "utility": utility, **more}
        )
        for utility in ("activation", "contribution", "gradient", "magnitude")
    },
}
ON = WEIGHTS | UNITS
OFF = {
    "swr-threshold": lambda model: regrow.SWR(model, every=1, factor=0),
    "swr-proportional": lambda model: regrow.SWR(model, every=1, factor=0.0, prune="proportional"),
    "shrink-perturb": lambda model: regrow.ShrinkPerturb(model),
    "cbp": lambda model: regrow.ContinualBackprop(model, replacement_rate=0, maturity=1),
    "redo": lambda model: regrow.ReDo(model, every=1, threshold=0),
}
every_maintainer = pytest.mark.parametrize("make", ON.values(), ids=ON.keys())
every_weight_maintainer = pytest.mark.parametrize("make", WEIGHTS.values(), ids=WEIGHTS.keys())
every_unit_maintainer = pytest.mark.parametrize("make", UNITS.values(), ids=UNITS.keys())


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


@pytest.mark.parametrize("make", OFF.values(), ids=OFF.keys())
@pytest.mark.parametrize("attached", [True, False])
def test_off_is_bit_identical_to_none(make, attached):
    plain, kept = mlp(), mlp()
    plain_opt, kept_opt = sgd(plain), sgd(kept)
    maintainer = make(kept)
    if attached:
        maintainer.attach(kept_opt)
    generator = torch.get_rng_state()
    train(plain, plain_opt, range(6))
    train(kept, kept_opt, range(6), None if attached else maintainer.step)
    assert same(weights(plain), weights(kept))
    assert torch.equal(generator, torch.get_rng_state())
    assert maintainer.report()["steps"] == 6
    assert maintainer.report()["renewals"] == 0
    assert not any(mask.any() for mask in maintainer.preview().values())


@every_maintainer
def test_on_changes_the_weights_and_leaves_the_global_generator(make):
    plain, kept = mlp(), mlp()
    maintainer = make(kept, seed=1)
    generator = torch.get_rng_state()
    train(plain, sgd(plain), range(3))
    train(kept, sgd(kept), range(3), maintainer.step)
    assert not same(weights(plain), weights(kept))
    assert torch.equal(generator, torch.get_rng_state())


@every_maintainer
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_dtypes(make, dtype):
    model = mlp(dtype=dtype)
    maintainer = make(model, seed=1)
    before = weights(model)
    train(model, torch.optim.SGD(model.parameters(), lr=0.01), range(3), maintainer.step)
    after = weights(model)
    assert {w.dtype for w in after.values()} == {dtype}
    assert not same(before, after)
    assert all(w.isfinite().all() for w in after.values())


@every_maintainer
def test_preview_changes_nothing_and_tells_the_truth(make):
    """Just before a due step, the previewed masks are exactly the entries that get a new value."""
    model = mlp()
    maintainer = make(model, seed=1)
    opt = sgd(model)
    train(model, opt, range(2), maintainer.step)
    backward(model, 2)
    opt.step()
    before, report = weights(model), maintainer.report()
    masks = maintainer.preview()
    again = maintainer.preview()
    assert same(before, weights(model)) and report == maintainer.report()
    assert masks.keys() <= before.keys() and all(torch.equal(masks[k], again[k]) for k in masks)
    maintainer.step()
    for name, after in weights(model).items():
        changed, mask = after != before[name], masks.get(name, torch.zeros_like(after, dtype=torch.bool))
        assert not (changed & ~mask).any(), name
        # A renewed entry may get the value it had: a bias that is still 0, a scale that is still 1.
        stayed = before[name][mask & ~changed]
        assert stayed.numel() == 0 or stayed.unique().numel() == 1, name
    assert sum(int(m.sum()) for m in masks.values()) > 0


@every_maintainer
def test_saved_in_mid_run_and_loaded_it_continues_bit_for_bit(make):
    model, twin = mlp(), mlp()
    opt, twin_opt = sgd(model), sgd(twin)
    maintainer = make(model, seed=7)
    train(model, opt, range(7), maintainer.step)

    file = io.BytesIO()
    torch.save({"m": maintainer.state_dict(), "w": model.state_dict(), "o": opt.state_dict()}, file)
    file.seek(0)
    stored = torch.load(file, weights_only=True)
    other = make(twin, seed=8)  # made while the weights are fresh
    twin.load_state_dict(stored["w"])
    twin_opt.load_state_dict(stored["o"])
    other.load_state_dict(stored["m"])
    assert other.report() == maintainer.report()

    train(model, opt, range(7, 20), maintainer.step)
    train(twin, twin_opt, range(7, 20), other.step)
    assert same(weights(model), weights(twin))
    assert other.report() == maintainer.report()


@every_maintainer
def test_same_seed_same_run_other_seed_other_run(make):
    def run(seed):
        model = mlp()
        maintainer = make(model, seed=seed)
        train(model, sgd(model), range(6), maintainer.step)
        return weights(model)

    assert same(run(3), run(3))
    deterministic = make(mlp()).knobs.get("reinit") == "mean" or make(mlp()).knobs.get("noise_variance") == 0
    if not deterministic:
        assert not same(run(3), run(4))


@every_maintainer
def test_seed_none_takes_torchs_initial_seed_and_the_parameters(make):
    def seed(of_torch, of_model=0):
        model = mlp(of_model)
        torch.manual_seed(of_torch)
        return make(model).state_dict()["seed"]

    assert seed(123) == seed(123) != seed(124) and seed(123) != seed(123, 1)


@every_maintainer
def test_report_and_repr(make):
    model = mlp()
    maintainer = make(model, seed=1)
    train(model, sgd(model), range(4), maintainer.step)
    report = maintainer.report()
    assert set(report) == {
        "steps", "renewals", "renewed_total", "renewed_last", "share_last", "zero_share_last", "mature_units",
        "skipped_no_grad", "skipped_no_signal", "skipped_nan",
    }  # fmt: skip
    assert all(isinstance(v, int | float) and math.isfinite(v) for v in report.values())
    assert report["steps"] == 4
    if not isinstance(maintainer, regrow.ShrinkPerturb):
        assert report["renewals"] >= 1
        assert 0 < report["renewed_last"] <= report["renewed_total"]
    shown = repr(maintainer)
    assert shown.startswith(type(maintainer).__name__ + "(")
    for name, value in maintainer.knobs.items():
        assert f"{name}={value!r}" in shown
    count = "7 tensors of 300 entries" if make in UNITS.values() else "8 tensors of 303 entries"
    assert count in shown and "not attached" in shown and "step 4" in shown
    maintainer.attach(sgd(model))
    assert "attached to SGD" in repr(maintainer)


@every_maintainer
def test_attached_equals_stepped(make):
    """The optimizer's hooks do what a call of step() after it does (a shrink comes a step earlier)."""
    if "shrink" in make(mlp()).knobs:
        pytest.skip("attached, the shrink comes before the step: test_shrink_perturb compares it with its twin")
    one, two = mlp(), mlp()
    opt_one, opt_two = sgd(one), sgd(two)
    stepped = make(one, seed=1, optimizer=opt_one)
    make(two, seed=1).attach(opt_two)
    train(one, opt_one, range(10), stepped.step)
    train(two, opt_two, range(10))
    assert same(weights(one), weights(two))


@every_maintainer
def test_attach_returns_itself_once_and_detach_undoes_it(make):
    model = mlp()
    opt = sgd(model)
    maintainer = make(model, seed=1)
    assert maintainer.attach(opt) is maintainer
    with pytest.raises(RuntimeError, match="is attached already: detach"):
        maintainer.attach(opt)
    with pytest.raises(RuntimeError, match="is attached, so its optimizer calls it"):
        maintainer.step()
    maintainer.detach()
    maintainer.detach()
    train(model, opt, range(3))
    assert maintainer.report()["steps"] == 0
    maintainer.attach(opt)
    train(model, opt, range(3))
    assert maintainer.report()["steps"] == 3


@every_maintainer
def test_wrapped_models_have_the_same_names_and_draws(make):
    """torch.compile and DataParallel-like wrappers add to names; keys and stored names do not."""

    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            return self.module(x)

    results = []
    for wrap in (lambda m: m, Wrapper, lambda m: torch.compile(m, backend="eager")):
        model = mlp()
        maintainer = make(wrap(model), seed=1)
        train(model, sgd(model), range(3), maintainer.step)
        results.append((weights(model), maintainer.preview().keys()))
    for values, names in results[1:]:
        assert same(values, results[0][0]) and names == results[0][1]


@every_weight_maintainer
def test_only_and_skip(make):
    model = mlp()
    maintainer = make(model, only=["3", "*.bias"], skip="5.*", seed=1)
    for w in model.parameters():
        w.grad = torch.ones_like(w)
    covered = {"0.bias", "2.bias", "3.weight", "3.bias"}
    assert set(maintainer.preview()) == covered
    before = weights(model)
    for _ in range(3):
        maintainer.step()
    changed = {name for name, w in weights(model).items() if not torch.equal(w, before[name])}
    assert "3.weight" in changed and changed <= covered


@every_maintainer
def test_knobs_that_differ_from_the_stored_are_named_in_a_warning(make):
    model = mlp()
    maintainer = make(model, seed=1)
    state = copy.deepcopy(maintainer.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(model, seed=1).load_state_dict(state)
    name, value = next(iter(state["knobs"].items()))
    state["knobs"][name] = value * 2
    with pytest.warns(UserWarning, match=re.escape(f"{name} stored {value * 2!r}, here {value!r}")):
        maintainer.load_state_dict(state)
    assert maintainer.knobs[name] == value


@every_weight_maintainer
def test_frozen_parameters_are_left_alone(make):
    model = mlp()
    model[3].requires_grad_(False)
    maintainer = make(model, seed=1)
    before = weights(model)
    trainable = [w for w in model.parameters() if w.requires_grad]
    train(model, torch.optim.SGD(trainable, lr=0.05), range(3), maintainer.step)
    after = weights(model)
    assert torch.equal(before["3.weight"], after["3.weight"]) and not torch.equal(before["0.weight"], after["0.weight"])


@every_maintainer
def test_non_contiguous_parameters_get_what_contiguous_ones_get(make):
    plain, strided = mlp(), mlp()
    for module in strided:
        if isinstance(module, nn.Linear):
            module.weight = nn.Parameter(module.weight.detach().t().contiguous().t())
            assert not module.weight.is_contiguous()
    for model in (plain, strided):
        maintainer = make(model, seed=1)
        for i in range(3):
            model(batch(i)[0])
            for w in model.parameters():
                w.grad = torch.arange(w.numel(), dtype=torch.float32).view(w.shape).sin()
            maintainer.step()
    if "noise_variance" not in maintainer.knobs or maintainer.knobs["noise_variance"] == 0:
        assert same(weights(plain), weights(strided))


@every_weight_maintainer
def test_tied_weights_are_maintained_once(make):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(5, 4)
            self.head = nn.Linear(4, 5, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, x):
            return self.head(self.embedding(x))

    torch.manual_seed(0)
    model = Tied()
    maintainer = make(model, seed=1)
    opt = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(3):
        opt.zero_grad()
        nn.functional.cross_entropy(model(torch.tensor([0, 1, 2])), torch.tensor([1, 2, step])).backward()
        opt.step()
        maintainer.step()
    assert "1 tensors of 20 entries" in repr(maintainer)
    assert model.head.weight is model.embedding.weight


@every_unit_maintainer
def test_only_and_skip_choose_layers_by_their_incoming_weights(make):
    model = mlp()
    maintainer = make(model, only=["3", "*.bias"], seed=1)
    before = weights(model)
    train(model, torch.optim.SGD(model.parameters(), lr=0.0), range(6), maintainer.step)
    changed = {name for name, w in weights(model).items() if not torch.equal(w, before[name])}
    assert "3.weight" in changed and changed <= {"3.weight", "3.bias", "5.weight"}
    with pytest.raises(
        ValueError, match="`only` and `skip` leave no layer of units: `only` names the layers' incoming"
    ):
        make(model, only="*.bias")


@every_unit_maintainer
def test_layers_with_frozen_weights_are_left_alone(make):
    model = mlp()
    maintainer = make(model, seed=1)
    model[5].requires_grad_(False)
    before = weights(model)
    trainable = [w for w in model.parameters() if w.requires_grad]
    train(model, torch.optim.SGD(trainable, lr=0.0), range(6), maintainer.step)
    after = weights(model)
    assert all(torch.equal(before[k], after[k]) for k in ("5.weight", "3.bias"))
    assert not torch.equal(before["0.weight"], after["0.weight"])
