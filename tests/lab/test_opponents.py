"""What the laboratory is timed against does the same work: each opponent equals a plain loop, written out by hand.

Shapes: B images a batch, I inputs, O outputs of a layer.
"""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from regrow.lab.data.mnist import Images, load_digits_images

BATCH, UPDATES, STEP_SIZE, HIDDEN = 30, 50, 0.05, 20
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32, fifty updates, sums in another order


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(__file__).parents[2] / "benchmarks"
    if not folder.is_dir():
        pytest.skip("the benchmarks are part of the repository only")
    monkeypatch.syspath_prepend(str(folder))


@pytest.fixture
def authors(benchmarks: None) -> ModuleType:
    import authors_loop  # type: ignore[import-not-found]

    return authors_loop


@pytest.fixture
def images() -> Images:
    return load_digits_images()


Renew = Callable[[int, Tensor, list[Tensor], list[Tensor]], None]


def plain_loop(
    weights: list[Tensor], biases: list[Tensor], x: Tensor, y: Tensor, renew: Renew | None = None
) -> list[tuple[float, float]]:
    """Updates weights (O, I) and biases in place on x (U, B, I) and y (U, B); returns loss and accuracy of each.

    `renew(l, h, weights, biases)` acts on hidden layer l, of activations h (B, O), as soon as the slope at h is known.
    """
    seen = []
    for inputs, labels in zip(x, y):
        acts = [inputs]
        for w, b in zip(weights, biases):
            acts.append(acts[-1] @ w.T + b)
            if len(acts) <= 4:
                acts[-1] = acts[-1].clamp(min=0)
        log_p = acts[-1].log_softmax(1)
        seen.append((-log_p[range(BATCH), labels].mean().item(), (log_p.argmax(1) == labels).float().mean().item()))
        slope = (log_p.exp() - F.one_hot(labels, 10)) / BATCH
        gradients = []
        for layer in (3, 2, 1, 0):
            gradients.append((layer, slope.T @ acts[layer], slope.sum(0)))
            if layer:
                slope = (slope @ weights[layer]) * (acts[layer] > 0)
                if renew:
                    renew(layer, acts[layer], weights, biases)
        for layer, of_weight, of_bias in gradients:
            weights[layer] -= STEP_SIZE * of_weight
            biases[layer] -= STEP_SIZE * of_bias
    return seen


def batches(images: Images, permutation: object, updates: int) -> tuple[Tensor, Tensor]:
    shown = updates * BATCH
    x = images.scaled()[:shown, torch.as_tensor(permutation)]
    return x.view(updates, BATCH, -1), images.labels[:shown].view(updates, BATCH)


def copies(net: torch.nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    linears = net.linears[:]  # type: ignore[index]
    return [w.weight.detach().clone() for w in linears], [w.bias.detach().clone() for w in linears]


def reset(units: Tensor, layer: int, weights: list[Tensor], biases: list[Tensor]) -> None:
    if len(units):
        inputs = weights[layer - 1].shape[1]
        weights[layer - 1][units] = torch.empty(len(units), inputs).normal_(0, (2 / inputs) ** 0.5)
        biases[layer - 1][units] = 0
        weights[layer][:, units] = 0


def assert_equal_nets(net: torch.nn.Module, weights: list[Tensor], biases: list[Tensor]) -> None:
    for found, expected in zip(copies(net), (weights, biases)):
        for a, b in zip(found, expected):
            torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("permute", ["task", "sample"])
def test_the_authors_loop_is_a_plain_loop(authors: ModuleType, images: Images, permute: str) -> None:
    loop = authors.AuthorsLoop(images, hidden=HIDDEN, permute=permute, shuffle=False)
    weights, biases = copies(loop.net)
    loop.run(UPDATES)
    seen = plain_loop(weights, biases, *batches(images, loop.dataset.permutation, UPDATES))
    assert_equal_nets(loop.net, weights, biases)
    loss, accuracy = torch.tensor(seen).view(-1, 10, 2).mean(1).unbind(1)
    torch.testing.assert_close(torch.tensor(loop.log["loss"]), loss, **CLOSE)
    torch.testing.assert_close(torch.tensor(loop.log["accuracy"]), accuracy, **CLOSE)
    assert loss[-1] < loss[0] and len(loop.log["gradient"]) == 5 and min(loop.log["gradient"]) > 0


def test_the_authors_cbp_renews_in_the_backward_pass(
    authors: ModuleType, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authors, "CBP", {"maturity": 5, "rate": 0.02})
    loop = authors.AuthorsLoop(images, "cbp", hidden=HIDDEN, shuffle=False)
    weights, biases = copies(loop.net)
    ages, owed = torch.zeros(3, HIDDEN), torch.zeros(3)

    def renew(layer: int, h: Tensor, weights: list[Tensor], biases: list[Tensor]) -> None:
        age = ages[layer - 1]
        age += 1
        owed[layer - 1] += 0.02 * int((age > 5).sum())
        if owed[layer - 1] >= 1:
            owed[layer - 1] -= 1
            utility = weights[layer].abs().mean(0) * h.abs().mean(0)
            eligible = torch.where(age > 5)[0]
            unit = eligible[utility[eligible].topk(1, largest=False)[1]]  # of several dead units, whichever topk takes
            reset(unit, layer, weights, biases)
            age[unit] = 0

    loop.run(1)  # whose loader draws a random number
    torch.manual_seed(1)
    loop.run(UPDATES - 1)
    x, y = batches(images, loop.dataset.permutation, UPDATES)
    plain_loop(weights, biases, x[:1], y[:1], renew)
    torch.manual_seed(1)
    plain_loop(weights, biases, x[1:], y[1:], renew)
    assert_equal_nets(loop.net, weights, biases)
    assert [renewal.renewed for renewal in loop.net.renewals] == [16, 16, 16]  # whatever the data


def test_the_authors_redo_renews_in_the_backward_pass(
    authors: ModuleType, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authors, "REDO", {"every": 8, "threshold": 0.2})
    loop = authors.AuthorsLoop(images, "redo", hidden=HIDDEN, shuffle=False)
    weights, biases = copies(loop.net)
    calls = [0, 0, 0]

    def renew(layer: int, h: Tensor, weights: list[Tensor], biases: list[Tensor]) -> None:
        calls[layer - 1] += 1
        if calls[layer - 1] % 8 == 0:
            utility = h.abs().mean(0)
            reset(torch.where(utility <= 0.2 * utility.mean())[0], layer, weights, biases)

    loop.run(1)
    torch.manual_seed(1)
    loop.run(UPDATES - 1)
    x, y = batches(images, loop.dataset.permutation, UPDATES)
    plain_loop(weights, biases, x[:1], y[:1], renew)
    torch.manual_seed(1)
    plain_loop(weights, biases, x[1:], y[1:], renew)
    assert_equal_nets(loop.net, weights, biases)
    assert sum(renewal.renewed for renewal in loop.net.renewals) > 10


def test_the_jax_twin_is_a_plain_loop_for_each_member(benchmarks: None, images: Images) -> None:
    jax = pytest.importorskip("jax", reason="the twin needs jax, which is no dependency")
    import jax_twin  # type: ignore[import-not-found]

    twin = jax_twin.JaxTwin(images, 3, hidden=HIDDEN, step_size=STEP_SIZE, window=UPDATES)
    weights, biases = ([torch.tensor(jax.device_get(pair[i])) for pair in twin.weights] for i in (0, 1))
    assert not torch.equal(weights[0][0], weights[0][1])
    x, y = (torch.tensor(jax.device_get(each)) for each in twin.windows[0])
    twin.run()
    for member in range(3):
        own = [w[member].clone() for w in weights], [b[member].clone() for b in biases]
        seen = plain_loop(*own, x.mT, y.long())
        for (w, b), expected_w, expected_b in zip(twin.weights, *own):
            torch.testing.assert_close(torch.tensor(jax.device_get(w))[member], expected_w, **CLOSE)
            torch.testing.assert_close(torch.tensor(jax.device_get(b))[member], expected_b, **CLOSE)
        accuracy = torch.tensor(twin.accuracy[0])[:, member]
        torch.testing.assert_close(accuracy, torch.tensor([right for _, right in seen]), **CLOSE)
