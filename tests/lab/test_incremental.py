"""Class-incremental CIFAR-100: which images a task and an epoch show, in which order, is as the paper says and pure."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from regrow.lab.data.cifar import LabelledImages, load_cifar100
from regrow.lab.problems.augment import augment, moves, normalise
from regrow.lab.problems.incremental import ClassIncremental, seen_logits

TRAIN, TEST = 80, 10  # images of each class, of which 30 are to train on


def images(each: int, first: int) -> LabelledImages:
    """In shuffled order; each image's first pixel says which it is, the training set's first."""
    labels = torch.arange(100).repeat_interleave(each)[torch.randperm(100 * each)]
    pixels = torch.randint(256, (100 * each, 3, 32, 32), dtype=torch.uint8)
    number = torch.arange(first, first + 100 * each)
    pixels[:, :, 0, 0] = torch.stack([number % 256, number // 256 % 256, number // 65536], 1).byte()
    return LabelledImages(pixels, labels)


@pytest.fixture(scope="module")
def sets() -> tuple[LabelledImages, LabelledImages]:
    torch.manual_seed(0)
    return images(TRAIN, 0), images(TEST, 100 * TRAIN)


Sets = tuple[LabelledImages, LabelledImages]


@pytest.fixture
def problem(sets: Sets) -> ClassIncremental:
    return ClassIncremental(*sets, seed=3)


# ---- tasks


def expected(sets: Sets, classes: list[int], shown: int) -> dict[str, list[int]]:
    """The splits of these classes, counted out one image at a time."""
    found: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for label in classes:
        train, test = ([i for i, other in enumerate(part.labels.tolist()) if other == label] for part in sets)
        found["validation"] += train[:50]
        found["train"] += train[50 : 50 + shown]
        found["test"] += [len(sets[0].labels) + i for i in test]
    return found


@pytest.mark.parametrize(("classes_a_task", "shown", "k"), [(5, None, 0), (5, 18, 2), (5, 29, 19), (20, 5, 1)])
def test_a_task_shows_the_classes_so_far(sets: Sets, classes_a_task: int, shown: int | None, k: int) -> None:
    problem = ClassIncremental(*sets, seed=3, classes_a_task=classes_a_task, images_per_class=shown)
    task, last = problem.task(k), problem.task(problem.tasks - 1)
    count = classes_a_task * (k + 1)
    assert problem.tasks == 100 // classes_a_task and sorted(last.classes.tolist()) == list(range(100))
    assert torch.equal(task.classes, last.classes[:count])
    assert task.seen.nonzero().flatten().tolist() == sorted(task.classes.tolist())
    want = expected(sets, task.classes.tolist(), shown or TRAIN - 50)
    assert {name: getattr(task, name).tolist() for name in want} == want


def test_the_order_of_classes_depends_on_the_seed_alone(sets: Sets, problem: ClassIncremental) -> None:
    other = ClassIncremental(*sets, seed=3, classes_a_task=20, images_per_class=7)
    assert torch.equal(problem.class_order, other.class_order)
    orders = torch.stack([problem.with_seed(seed).class_order for seed in range(200)])
    assert (orders.sort(1).values == torch.arange(100)).all()
    assert len(orders.unique(dim=0)) == 200
    # Each class comes at each place as often as any other: of 10,000 counts of mean 2, none is far off.
    counts = F.one_hot(orders, 100).sum(0)
    assert counts.max() <= 12 and abs(float(counts.float().var()) - 2) < 0.2


def test_another_seed_shares_the_images(sets: Sets, problem: ClassIncremental) -> None:
    other, fresh = problem.with_seed(4), ClassIncremental(*sets, seed=4)
    assert other._pixels.data_ptr() == problem._pixels.data_ptr()
    assert other.seed == 4 and problem.seed == 3
    assert torch.equal(problem.class_order, ClassIncremental(*sets, seed=3).class_order)
    for one, same in zip(
        (other.class_order, other.epoch(1, 0), other.words(1, 0)),
        (fresh.class_order, fresh.epoch(1, 0), fresh.words(1, 0)),
    ):
        assert torch.equal(one, same)


# ---- epochs


def test_an_epoch_shows_each_image_once(sets: Sets) -> None:
    problem = ClassIncremental(*sets, seed=3, images_per_class=18)
    for k in (0, 3, 19):
        order = problem.epoch(k, 2)
        assert order.shape == (k + 1, 90) == (problem.updates(k), 90)
        assert sorted(order.flatten().tolist()) == sorted(problem.task(k).train.tolist())


def test_what_fills_no_batch_is_left_out_and_differs_between_epochs(problem: ClassIncremental) -> None:
    task = problem.task(0)  # 150 images
    assert len(task.train) == 150 and problem.updates(0) == 1
    shown = [set(problem.epoch(0, epoch).flatten().tolist()) for epoch in range(12)]
    assert all(len(epoch) == 90 and epoch <= set(task.train.tolist()) for epoch in shown)
    assert set.union(*shown) == set(task.train.tolist())


def test_order_and_words_are_functions_of_seed_task_and_epoch(problem: ClassIncremental) -> None:
    at = [(seed, k, epoch) for seed in (3, 4) for k in (1, 2) for epoch in (0, 1)]
    made = {(s, k, e): (problem.with_seed(s).epoch(k, e), problem.with_seed(s).words(k, e)) for s, k, e in at}
    for s, k, e in reversed(at):  # in another order, the same
        order, words = made[s, k, e]
        assert torch.equal(problem.with_seed(s).epoch(k, e), order)
        assert torch.equal(problem.with_seed(s).words(k, e), words) and words.shape == order.shape
    every = torch.cat([words.flatten() for _, words in made.values()])
    assert len(every.unique()) == len(every)
    assert len({tuple(order.flatten().tolist()) for order, _ in made.values()}) == len(at)


def test_the_order_is_no_order(sets: Sets) -> None:
    """Where an image comes says nothing of where it lay: rank correlation, and its place in the next epoch."""
    problem = ClassIncremental(*sets, seed=3, images_per_class=18)
    task = problem.task(19)
    place = {int(row): i for i, row in enumerate(task.train)}
    first, second = (torch.tensor([place[int(row)] for row in problem.epoch(19, e).flatten()]) for e in (0, 1))
    ranks = torch.stack([torch.arange(1800), first, second, first.argsort(), second.argsort()]).double()
    off = torch.corrcoef(ranks)[*torch.triu_indices(5, 5, 1)]
    assert off.abs().max() < 4.5 / math.sqrt(1800)


def test_known_answers_never_change(problem: ClassIncremental) -> None:
    """Results of every run rest on these."""
    assert problem.class_order[:8].tolist() == [70, 37, 35, 72, 38, 89, 51, 40]
    assert problem.epoch(0, 0)[0, :4].tolist() == problem.task(0).train[[120, 30, 31, 133]].tolist()
    assert problem.words(0, 0)[0, :2].tolist() == [-5112094786512348041, -7586447243824622077]


# ---- batches


def test_a_batch_is_these_images_and_their_labels(sets: Sets, problem: ClassIncremental) -> None:
    task = problem.task(1)
    for indices in (task.train[5:95], task.validation[:50], task.test):
        x, y = problem.batch(indices)
        pixels, labels = (torch.cat([part[i] for part in sets])[indices] for i in (0, 1))
        assert torch.equal(x, normalise(pixels)) and x.dtype == torch.float32
        assert torch.equal(y, labels) and y.dtype == torch.int64 and task.seen[y].all()
        code = pixels[:, :, 0, 0].long()
        assert torch.equal(code @ torch.tensor([1, 256, 65536]), indices)


def test_a_training_batch_is_augmented_image_by_image(problem: ClassIncremental) -> None:
    order, words = problem.epoch(4, 0), problem.words(4, 0)
    x, y = problem.batch(order[1], words[1])
    plain, labels = problem.batch(order[1])
    assert torch.equal(x, augment(plain, moves(words[1]))) and torch.equal(y, labels)
    assert not torch.equal(x, plain)
    for i in (0, 89):
        one, _ = problem.batch(order[1, i : i + 1], words[1, i : i + 1])
        assert torch.equal(one[0], x[i])


def test_batches_may_be_made_several_at_once(problem: ClassIncremental) -> None:
    order, words = problem.epoch(4, 0), problem.words(4, 0)
    x, y = problem.batch(order[:3], words[:3])
    assert x.shape == (3, 90, 3, 32, 32) and y.shape == (3, 90)
    for u in range(3):
        assert all(map(torch.equal, (x[u], y[u]), problem.batch(order[u], words[u])))


def test_making_batches_leaves_images_and_generator_alone(problem: ClassIncremental) -> None:
    before, state = problem._pixels.clone(), torch.get_rng_state()
    problem.batch(problem.epoch(0, 0), problem.words(0, 0))
    problem.batch(problem.task(0).test)
    assert torch.equal(problem._pixels, before) and torch.equal(torch.get_rng_state(), state)


def test_evaluation_covers_every_image_in_order(problem: ClassIncremental) -> None:
    indices = problem.task(3).test  # 200
    batches = list(problem.evaluation(indices, size=60))
    assert [len(y) for _, y in batches] == [60, 60, 60, 20]
    x, y = problem.batch(indices)
    assert torch.equal(torch.cat([part for part, _ in batches]), x)
    assert torch.equal(torch.cat([part for _, part in batches]), y)


def test_a_batch_compiles_to_one_graph(problem: ClassIncremental) -> None:
    torch.compiler.reset()
    order, words = problem.epoch(0, 0)[0], problem.words(0, 0)[0]
    compiled = torch.compile(problem.batch, fullgraph=True, backend="aot_eager")
    assert all(map(torch.equal, compiled(order, words), problem.batch(order, words)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_same_stream_on_cuda(sets: Sets, problem: ClassIncremental) -> None:
    there = ClassIncremental(*sets, seed=3, device="cuda")
    assert torch.equal(there.epoch(2, 1).cpu(), problem.epoch(2, 1))
    assert torch.equal(there.words(2, 1).cpu(), problem.words(2, 1))
    x, y = there.batch(there.epoch(2, 1)[0], there.words(2, 1)[0])
    want, labels = problem.batch(problem.epoch(2, 1)[0], problem.words(2, 1)[0])
    assert torch.equal(y.cpu(), labels) and torch.allclose(x.cpu(), want, rtol=0, atol=1e-6)


# ---- logits


def test_only_seen_classes_count(problem: ClassIncremental) -> None:
    task = problem.task(2)
    torch.manual_seed(1)
    features, head = torch.randn(90, 16).double(), torch.randn(100, 16).double().requires_grad_()
    labels = task.classes[torch.randint(15, (90,))]
    logits = seen_logits(features @ head.T, task.seen)
    loss = F.cross_entropy(logits, labels)
    (gradient,) = torch.autograd.grad(loss, head)
    # The authors pick the seen columns instead.
    picked = (features @ head.T)[:, task.classes]
    places = (labels[:, None] == task.classes).long().argmax(1)
    (want,) = torch.autograd.grad(F.cross_entropy(picked, places), head)
    assert torch.allclose(loss, F.cross_entropy(picked, places), rtol=1e-14)
    assert torch.allclose(gradient, want, rtol=0, atol=1e-15)
    assert (gradient[~task.seen] == 0).all() and (gradient[task.seen] != 0).all()
    assert torch.equal(logits.argmax(1), task.classes[picked.argmax(1)])


def test_a_huge_or_undefined_unseen_logit_has_no_effect() -> None:
    seen = torch.tensor([True, True, False])
    logits = torch.tensor([[1.0, 2.0, math.inf], [2.0, 1.0, math.nan]], requires_grad=True)
    F.cross_entropy(seen_logits(logits, seen), torch.tensor([0, 0])).backward()
    assert logits.grad is not None and logits.grad.isfinite().all() and (logits.grad[:, 2] == 0).all()


# ---- what is refused


def changed(images: LabelledImages, row: int, label: int) -> LabelledImages:
    labels = images.labels.clone()
    labels[row] = label
    return images._replace(labels=labels)


def of(images: LabelledImages, label: int) -> int:
    return int((images.labels == label).int().argmax())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"classes_a_task": 7}, "`classes_a_task` must divide 100; got 7: give one of 1, 2, 4, 5, 10, 20, 25, 50, 100"),
        ({"classes_a_task": 0}, "`classes_a_task` must be at least 1 (new classes in each task); got 0"),
        ({"classes_a_task": 200}, "`classes_a_task` must divide 100; got 200"),
        (
            {"images_per_class": 17},
            "`images_per_class` must be at least 18 (the first 5 classes must fill a batch of 90",
        ),
        (
            {"images_per_class": 31},
            "`images_per_class` must be at most 30 (what 50 for validation leave of each class)",
        ),
        ({"classes_a_task": 2}, "`images_per_class` must be at least 45 (the first 2 classes must fill a batch of 90"),
        ({"seed": -1}, "`seed` must be at least 0"),
    ],
    ids=lambda value: "-".join(map(str, value.items()))[:40] if isinstance(value, dict) else "",
)
def test_a_value_out_of_range_is_refused(sets: Sets, arguments: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError) as caught:
        ClassIncremental(*sets, **{"seed": 0, **arguments})
    assert str(caught.value).startswith(says) and "\n" not in str(caught.value)


def test_images_that_are_not_what_they_should_be_are_refused(sets: Sets) -> None:
    train, test = sets
    short = LabelledImages(train.pixels[:-1], train.labels[:-1])
    few = LabelledImages(*(part[train.labels.argsort(stable=True).view(100, -1)[:, :50].flatten()] for part in train))
    wrong = {
        "at least 51; got from 79 (class 7) to 81 (class 9)": (changed(train, of(train, 7), 9), test),
        "at least 51; got from 50 (class 0) to 50 (class 0)": (few, test),
        "at least 51; got from 79 (class ": (short, test),
        "`test` must hold equally many images of each of 100 classes, at least 1; got from 9 (class": (
            train,
            changed(test, 0, 5),
        ),
        "`train` must have labels 0 to 99; got 0 to 100: give the fine labels": (changed(train, 0, 100), test),
        "got torch.float32 of (1000, 3, 32, 32) for 1000 labels": (train, test._replace(pixels=test.pixels.float())),
        "got torch.uint8 of (1000, 3072) for 1000 labels": (train, test._replace(pixels=test.pixels.flatten(1))),
        "for 999 labels": (train, test._replace(labels=test.labels[:-1])),
        "got from 0 (class 0) to 0": (train, LabelledImages(test.pixels[:0], test.labels[:0])),
    }
    for says, pair in wrong.items():
        with pytest.raises(ValueError) as caught:
            ClassIncremental(*pair, seed=0)
        assert says in str(caught.value) and str(caught.value).endswith(("see load_cifar100", "give the fine labels"))
        assert "\n" not in str(caught.value)


def test_a_task_that_does_not_exist_is_refused(problem: ClassIncremental) -> None:
    for ask in (problem.task, problem.updates, lambda k: problem.epoch(k, 0), lambda k: problem.words(k, 0)):
        with pytest.raises(ValueError, match="`k` must be below 20, the number of tasks; got 20: count from 0"):
            ask(20)


# ---- the real images


@pytest.fixture(scope="module")
def real() -> Sets:
    folder = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not (folder / "cifar-100-python.tar.xz").exists():
        pytest.skip(f"needs cifar-100-python.tar.xz in {folder}")
    return load_cifar100(folder)


def test_real_cifar100_as_the_paper_splits_it(real: Sets) -> None:
    problem = ClassIncremental(*real, seed=0)
    assert problem.tasks == 20
    assert [problem.updates(k) for k in range(20)] == [25 * (k + 1) for k in range(20)]
    for k in (0, 19):
        task, classes = problem.task(k), 5 * (k + 1)
        assert [len(part) for part in (task.train, task.validation, task.test)] == [n * classes for n in (450, 50, 100)]
        assert sorted(problem.epoch(k, 7).flatten().tolist()) == sorted(task.train.tolist())  # none is left out
    assert len(set(torch.cat([task.train, task.validation, task.test]).tolist())) == 60_000
    first = task.validation.view(100, 50)[3]
    assert first.tolist() == (real[0].labels == task.classes[3]).nonzero().flatten()[:50].tolist()


def test_real_images_are_normalised(real: Sets) -> None:
    problem = ClassIncremental(*real, seed=0)
    x = torch.cat([x for x, _ in problem.evaluation(problem.task(19).train[::9])])
    assert x.mean((0, 2, 3)).abs().max() < 0.02 and (x.std((0, 2, 3)) - 1).abs().max() < 0.02
    order, words = problem.epoch(19, 0), problem.words(19, 0)
    shown, labels = problem.batch(order[:20], words[:20])
    assert torch.equal(labels, problem.batch(order[:20])[1])
    # A turn by 7.5 degrees about uncovers some of the corners, and only there.
    uncovered = (shown == 0).all(2).float().mean((0, 1))
    assert 0.02 < uncovered.mean() < 0.06 and uncovered[8:24, 8:24].max() == 0
