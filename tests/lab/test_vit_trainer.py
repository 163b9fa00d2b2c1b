"""The trainer equals a plain loop, restores the best, goes on bit for bit, and ends what diverges."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from vit_cases import SMALL, Twin, plan, problem, trainer

from regrow.core import random
from regrow.lab.data.cifar import find_cifar100, load_cifar100
from regrow.lab.nets import ViT
from regrow.lab.problems.incremental import ClassIncremental
from regrow.lab.runs import manifest
from regrow.lab.runs.columns import VIT_SCHEMAS
from regrow.lab.runs.store import Store
from regrow.lab.runs.tables import load
from regrow.lab.runs.training import train_stack
from regrow.lab.studies import StackPlan
from regrow.lab.vit import measures
from regrow.lab.vit.forward import HostDropout, logits
from regrow.lab.vit.options import Options
from regrow.lab.vit.trainer import ViTTrainer

_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
METHODS = ("shrink-perturb", "cbp", "redo", "swr", "cbp-authors", "redo-authors")
Parameters = dict[str, Tensor]


def parameters(net: ViT) -> Parameters:
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def same(first: Parameters, second: Parameters) -> bool:
    return all(torch.equal(w, second[name]) for name, w in first.items())


# ---- the forward pass


def random_net(dropout: float = 0.0) -> ViT:
    """In double precision, with a head that answers: at first it is 0."""
    generator = torch.Generator().manual_seed(0)
    net = ViT(width=24, depth=3, heads=3, mlp=48, dropout=dropout, norm="reparam").double()
    for p in net.parameters():
        p.data.normal_(0, 0.3, generator=generator)
    return net


def with_gradients(net: ViT, answers: Tensor) -> tuple[Tensor, list[Tensor]]:
    net.zero_grad()
    F.cross_entropy(answers, torch.arange(len(answers))).backward()
    return answers.detach(), [p.grad.clone() for p in net.parameters() if p.grad is not None]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("drop", [None, HostDropout(0.0)])
def test_the_forward_pass_is_the_networks(whole: bool, drop: HostDropout | None) -> None:
    net, x = random_net(), torch.randn(4, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(
        with_gradients(net, logits(net, x, drop, whole)), with_gradients(net, net(x)), rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("whole", [False, True])
def test_dropout_acts_where_the_paper_has_it(whole: bool) -> None:
    """On the first tokens; in each block on the attention, its output, and both layers of the MLP."""
    seen: list[torch.Size] = []

    class Recorder(HostDropout):
        def __call__(self, x: Tensor) -> Tensor:
            seen.append(x.shape)
            return super().__call__(x)

    logits(random_net(), torch.zeros(2, 3, 32, 32, dtype=torch.float64), Recorder(0.1), whole)
    block = [(2, 3, 65, 65), (2, 65, 24), (2, 65, 48), (2, 65, 24)]
    last = block if whole else [(2, 3, 1, 65), (2, 1, 24), (2, 1, 48), (2, 1, 24)]
    assert [tuple(shape) for shape in seen] == [(2, 65, 24), *block, *block, *last]


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_drops_its_share(p: float) -> None:
    drop, x = HostDropout(p), torch.full((1000, 333), 2.0, requires_grad=True)
    drop.seed(5)
    y = drop(x)
    y.sum().backward()
    kept = y != 0
    assert torch.equal(y[kept].unique(), torch.tensor([2.0]) / (1 - drop.p)) and abs(drop.p - p) < 1e-5
    assert x.grad is not None and torch.equal(x.grad != 0, kept) and torch.equal(x.grad * 2, y)
    deviation = math.sqrt(p * (1 - p) / x.numel())
    assert abs(1 - kept.double().mean().item() - p) < 4 * deviation
    neighbours = (kept[:, 1:] == kept[:, :-1]).double().mean().item()  # independent of each other
    assert abs(neighbours - (p * p + (1 - p) ** 2)) < 8 * deviation
    assert not torch.equal(drop(x) != 0, kept)
    drop.seed(5)
    assert torch.equal(drop(x) != 0, kept)


# ---- a whole task


@pytest.mark.parametrize("system", ["base", "shrink-perturb", "cbp", "redo", "swr", "redo-authors"])
def test_it_trains_as_a_plain_loop_does(system: str) -> None:
    """In double precision: the same losses, accuracies and weights."""
    fast = trainer(system, {"precision": "fp64"}, dropout=0.0)
    twin = Twin(plan(system, dropout=0.0), fast.options)
    rows = []
    for k in range(2 if system == "base" else 1):
        rows.append(fast.run_task())
        twin.run_task(k)
    losses = [sum(part) / len(part) for part in (twin.losses[:4], twin.losses[4:]) if part]
    assert [found["results"][0]["loss"] for found in rows] == pytest.approx(losses, rel=1e-9)
    assert [row["test_accuracy"] for found in rows for row in found["epochs"]] == twin.tests
    for name, w in twin.net.named_parameters():
        torch.testing.assert_close(dict(fast.net.named_parameters())[name], w, rtol=1e-7, atol=1e-9, msg=name)
    if system == "redo-authors":
        renewed = sum(found["results"][0]["renewed_units"] for found in rows)
        assert renewed == sum(hook.renewed for hook in twin.inside) > 0


@pytest.mark.parametrize("system", ["cbp-authors", "redo-authors"])
def test_the_authors_order_sends_gradients_through_new_weights(system: str) -> None:
    """The old gradient then moves the new weights: outgoing ones do not stay 0, biases and rows are not the law's."""
    ours, theirs = trainer(system.removesuffix("-authors"), dropout=0.0), trainer(system, dropout=0.0)
    for one in (ours, theirs):
        one.run_epoch()
    first, second = parameters(ours.net), parameters(theirs.net)
    silent = [(net["blocks.1.mlp.fc2.weight"] == 0).all(0).sum().item() for net in (first, second)]
    assert silent[0] > 0 == silent[1]
    assert not torch.equal(first["patch.weight"], second["patch.weight"])


def test_the_laws_of_the_authors_order() -> None:
    """Incoming weights wider by the square root of 3, biases 0; or as initialised."""
    bound = 16**-0.5
    for law, wide in (("authors", 3**0.5), ("initial", 1.0)):
        found = trainer("redo-authors", law=law).method._net.laws
        assert found["blocks.0.mlp.fc1.weight"].high == pytest.approx(bound * wide)
        assert found["blocks.0.mlp.fc1.bias"].std == pytest.approx(0.0 if law == "authors" else bound / 3**0.5)
        assert found["blocks.0.mlp.fc2.weight"].high == pytest.approx(64**-0.5)


def test_the_best_epoch_comes_back_and_nothing_else() -> None:
    """Parameters of the first epoch of the highest validation accuracy; momentum and steps stay."""
    one = trainer("swr", {"epochs_per_task": 4}, optimizer="clean")
    seen = []
    for _ in range(4):
        one.run_epoch()
        seen.append(parameters(one.net))
    momentum, method = one.descent.state_dict(), one.method.state_dict()
    rows = one.run_task()  # nothing is left but its end
    validation = [row["validation_accuracy"] for row in rows["epochs"]]
    tests = [row["test_accuracy"] for row in rows["epochs"]]
    best = validation.index(max(validation))
    (row,) = rows["results"]
    assert same(seen[best], parameters(one.net)) and row["best_epoch"] == best != 3
    assert row["best_validation_accuracy"] == max(validation) and row["best_test_accuracy"] == max(tests)
    assert row["test_accuracy"] == pytest.approx(tests[best]) == pytest.approx(sum(row["class_accuracy"]) / 2)
    assert same(momentum["momentum"], one.descent.state_dict()["momentum"])
    assert method["step"] == one.method.state_dict()["step"] == one.step == 8
    assert one.task == 1 and one.epoch == 0


def test_accuracies_are_of_the_classes_seen_in_their_order() -> None:
    one = trainer(dropout=0.0)
    one.run_task()
    (row,) = one.run_task()["results"]
    order = problem().with_seed(3).class_order[:4]
    own = []
    for label in order.tolist():
        rows = 14_000 + torch.arange(4) + 4 * label  # of the test set, which is sorted
        x, _ = one.problem.batch(rows)
        with torch.no_grad():
            answers = one.net.eval()(x)[:, order]
        own.append((order[answers.argmax(1)] == label).double().mean().item())
    assert row["class_accuracy"] == own and row["classes"] == 4
    unseen = torch.ones(100, dtype=torch.bool)
    unseen[order] = False
    assert not one.net.head.weight[unseen].any() and one.net.head.weight[order].any(1).all()


def test_scratch_begins_anew_with_each_task() -> None:
    one, base = trainer("scratch"), trainer("base")
    first = one.run_task()
    assert first["results"][0]["loss"] == base.run_task()["results"][0]["loss"]
    generator = torch.Generator().manual_seed(int(random.key(3, "scratch", 1)))
    fresh = Options(width=16, depth=2).network("reparam", 0.1, generator)
    untouched = measures.weights(fresh)["weight_magnitude"]
    row = one.run_task()["epochs"][0]
    assert row["weight_magnitude"] == pytest.approx(untouched, rel=0.02)
    assert base.run_task()["epochs"][0]["weight_magnitude"] > 1.5 * untouched  # the momentum flips it, and more
    alone = trainer("scratch")
    alone.task, alone.step = 1, one.step - 8
    assert alone.run_task()["epochs"][0]["train_loss"] == row["train_loss"]  # nothing of task 0 is left


def test_systems_of_one_seed_see_the_same() -> None:
    """Before anything is renewed, losses with dropout are equal to the bit; of another seed they are not."""
    late = {"every": 100}
    losses = [
        trainer(s, **c).run_task()["results"][0]["loss"] for s, c in (("base", {}), ("swr", late), ("redo", late))
    ]
    assert losses[0] == losses[1] == losses[2] != trainer("base", seed=4).run_task()["results"][0]["loss"]


@pytest.mark.parametrize("system", METHODS)
def test_renewals_are_counted(system: str) -> None:
    one = trainer(system)
    rows = [one.run_task()["results"][0] for _ in range(2)]
    for row in rows:
        if system == "shrink-perturb":
            assert row["renewals"] == row["renewed"] == 0
            continue
        assert row["renewals"] > 0 and row["renewed"] > 0
        assert (row["renewed_units"] > 0) == (system != "swr")
        assert row["renewed"] == row["renewed_units"] * 33 or system == "swr"  # 16 in, a bias, 16 out
        assert (row["mature"] is None) == ("cbp" not in system)
        assert (row["overlap"] is None) == (system != "swr")
    assert (rows[1].get("loss_jump") is None) == (system == "shrink-perturb")
    if system == "swr":
        assert [row["renewals"] for row in rows] == [2, 4] and 0 < rows[1]["overlap"] < 1
        assert 0 < rows[1]["renewed_zero"] <= rows[1]["renewed"]


def test_rows_fit_their_tables() -> None:
    found = trainer("cbp").run_task()
    frames = {name: Store(Path(), "vit-cifar", schemas=VIT_SCHEMAS).frame(name, rows) for name, rows in found.items()}
    assert frames["results"].height == 1 and frames["epochs"].height == 2
    null = {name for name in frames["results"].columns if frames["results"][name].null_count()}
    assert null == {"overlap", "scratch_difference"}
    assert frames["epochs"].null_count().sum_horizontal().item() == 0
    assert frames["epochs"]["epoch"].to_list() == [0, 1] and json.loads(frames["epochs"]["config"][0])["maturity"] == 1
    assert frames["results"].schema == pl.Schema(VIT_SCHEMAS["results"])


def test_weights_are_measured_as_they_are() -> None:
    net = random_net()
    found, last = measures.weights(net), net.blocks[2].mlp
    mlp = torch.cat([last.fc1.weight.flatten(), last.fc2.weight.flatten()])
    everything = torch.cat([p.flatten() for p in net.parameters()])
    scales = torch.cat([p for name, p in net.named_parameters() if "norm" in name and name.endswith("weight")]) + 1
    qkv = [block.attention.qkv.weight for block in net.blocks]
    assert found["weight_magnitude"] == pytest.approx(everything.abs().mean().item())
    assert found["ln_scale"] == pytest.approx(scales.abs().mean().item()) and len(scales) == 7 * 24
    assert found["qkv_mean"] == pytest.approx(torch.stack(qkv).abs().mean().item())
    assert found["qkv_median_last"] == qkv[2].abs().median() and found["mlp_median_last"] == mlp.abs().median()
    assert found["qk_median_last"] == qkv[2][:48].abs().median()
    assert measures.weights(ViT(width=24, depth=1, heads=1, mlp=8))["ln_scale"] == 1.0


def test_activations_are_measured_as_they_are() -> None:
    net, x = random_net(), torch.randn(40, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        net.blocks[1].mlp.fc1.bias[:6] = -1e3
    found = measures.activations(net, x.split(16))
    read = []
    net.head.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    net.eval()(x)
    values = torch.linalg.svdvals(read[0])
    assert found["dead_units"] == pytest.approx(6 / 144) and not net.blocks[0].mlp.gelu._forward_hooks
    assert found["stable_rank"] == pytest.approx((values.square().sum() / values[0] ** 2).item())
    assert found["rank99"] == int((values.cumsum(0) < 0.99 * values.sum()).sum()) + 1


# ---- going on, ending, guarding


@pytest.mark.parametrize("system", ["scratch", "shrink-perturb", "cbp", "swr", "redo-authors"])
def test_it_goes_on_bit_for_bit(system: str, tmp_path: Path) -> None:
    """From a state stored between two epochs, and from one stored between two tasks."""
    way = "clean" if system in ("swr", "cbp") else "authors"
    one = trainer(system, optimizer=way)
    states = []

    def store() -> None:
        torch.save(one.state_dict(), tmp_path / f"{len(states)}")
        states.append((one.task, one.epoch))

    one.between = store
    rows = [one.run_task()]
    store()
    rows.append(one.run_task())
    assert states == [(0, 1), (1, 0), (1, 1)]
    for number in {"scratch": (1,), "swr": (0, 2)}.get(system, (0,)):
        other = trainer(system, optimizer=way)
        other.load_state_dict(torch.load(tmp_path / str(number), weights_only=True))
        again = [other.run_task() for _ in range(2 - other.task)]
        assert again == rows[-len(again) :]
        assert same(parameters(other.net), parameters(one.net))


def test_a_worker_stores_it_and_goes_on(tmp_path: Path) -> None:
    """One task, and the other after a new start, are both tasks at once."""
    tables = []
    for name, parts in (("at once", (2,)), ("in parts", (1, 2))):
        folder = tmp_path / name
        folder.mkdir()
        config = {"tasks": 2, "seeds": 1}
        manifest.write(folder, manifest.describe("vit-cifar", config, [plan("swr")], "cpu", ["run", "vit-cifar"]))
        store = Store(folder, "vit-cifar", schemas=VIT_SCHEMAS)
        store.prepare()
        for tasks in parts:
            train_stack(plan("swr"), make, store, tasks)
        tables.append((load(folder), load(folder, "epochs")))
    assert tables[0][0].equals(tables[1][0]) and tables[0][1].equals(tables[1][1])
    assert tables[0][0].height == 2 and tables[0][1].height == 4


def make(plan: StackPlan, progress: Callable[[int], None]) -> ViTTrainer:
    return ViTTrainer(plan, problem(), options=Options(**SMALL), progress=progress)


def test_a_network_that_diverges_ends_and_says_so() -> None:
    done: list[int] = []
    options = Options(epochs_per_task=3, width=16, depth=2)
    one = ViTTrainer(plan(step_size=1e9), problem(), options=options, progress=done.append)
    first, second = one.run_task(), one.run_task()
    assert one.diverged and len(first["epochs"]) < 3 and second["epochs"] == []
    for found in (first, second):
        (row,) = found["results"]
        assert row["diverged"] is True and row.get("loss") is None
    assert first["epochs"][-1]["train_loss"] is None and "test_accuracy" not in first["epochs"][-1]
    assert (one.task, sum(done)) == (2, one.updates(0) + one.updates(1)) == (2, 6 + 12)
    other = trainer(options={"epochs_per_task": 3}, step_size=1e9)
    other.load_state_dict(one.state_dict())
    assert other.run_task()["results"][0]["diverged"] is True


def test_no_generator_of_torchs_is_touched() -> None:
    before = torch.get_rng_state()
    trainer("shrink-perturb").run_task()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("precision", ["fp64", "bf16"])
def test_precisions(precision: str) -> None:
    before = torch.get_float32_matmul_precision()
    losses = {
        p: trainer("redo-authors", {"precision": p}).run_task()["results"][0]["loss"] for p in (precision, "fp32")
    }
    assert 0 < abs(losses[precision] - losses["fp32"]) < (1e-5 if precision == "fp64" else 2e-2)
    one = trainer("base", {"precision": precision})
    assert {p.dtype for p in one.net.parameters()} == {torch.float64 if precision == "fp64" else torch.float32}
    assert torch.get_float32_matmul_precision() == before


def test_guards_act_at_each_update() -> None:
    one = trainer("shrink-perturb", {"flush_below": 1e-3, "clip_at": 0.1})
    one.run_task()
    magnitudes = torch.cat([p.detach().abs().flatten() for p in one.net.parameters()])
    assert magnitudes.max() <= 0.1 and (magnitudes == 0).any()
    assert magnitudes[magnitudes > 0].min() >= 1e-3


def test_it_learns() -> None:
    """Ten epochs of two classes that have a pattern each."""
    row = trainer(options={"epochs_per_task": 10}, optimizer="clean", setting="vit").run_task()["results"][0]
    assert row["best_test_accuracy"] > 0.8 and row["loss"] < math.log(2) and row["gradient_magnitude"] > 0


def test_the_time_of_an_update_is_sampled() -> None:
    assert 0 < trainer("redo").sample(0.05) < 10


@pytest.mark.parametrize("changed", [{"system": "swr"}, {"optimizer": "clean"}])
def test_real_images(changed: dict[str, Any]) -> None:
    if find_cifar100(_DATA) is None:
        pytest.skip(f"needs CIFAR-100 in {_DATA}")
    real = ClassIncremental(*load_cifar100(_DATA), seed=0, images_per_class=18)
    one = ViTTrainer(plan(**changed), real, options=Options(epochs_per_task=1, images_per_class=18, width=24, depth=1))
    (row,) = one.run_task()["results"]
    assert not row["diverged"] and len(row["class_accuracy"]) == 5 and 0 < row["best_test_accuracy"] < 1
