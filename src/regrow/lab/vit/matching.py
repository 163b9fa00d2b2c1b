"""Shrunk runs of the authors' optimizer that do to weights and units what runs of the paper's size do.

The optimizer's momentum buffer, full of decay divided by a step size near 0, outlives its task: see
`optimizer.Authors`. What it does to weights at the boundary depends on the decay W and on how many updates a task has:
at W = 6e-6 the paper's tasks multiply them by about -0.4, tasks a fiftieth as long by -3 to -4. The decay here is the
one that comes closest to the paper's factors. What hangs on decay that accumulates over the run is then not at the
paper's scale.

Shapes: D decays, K tasks.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..problems.incremental import BATCH, CLASSES
from ..studies import Config
from .job import CLASSES_A_TASK
from .options import PAPERS_EPOCHS, PAPERS_IMAGES, Options
from .schedule import RISE, one_cycle

PAPERS_TASKS = CLASSES // CLASSES_A_TASK
_SHARES = np.arange(1, 201) / 100  # of the paper's decay that are tried


def updates(tasks: int, epochs: int = PAPERS_EPOCHS, images: int = PAPERS_IMAGES) -> list[int]:
    """Updates of each task, (K).

    Example:
        >>> updates(3), updates(3, epochs=40)
        ([2500, 5000, 7500], [1000, 2000, 3000])
    """
    return [epochs * (k * CLASSES_A_TASK * images // BATCH) for k in range(1, tasks + 1)]


def boundary_factors(decays: Sequence[float] | np.ndarray, peak: float, of_tasks: Sequence[int]) -> np.ndarray:
    """By what the kept buffer multiplies a weight at each boundary, whatever the loss: without a gradient of it.

    factor = theta with the buffer kept / theta with it cleared, of one start, at the next task's largest step size

    By then the buffer's own content is forgotten; the decay of these updates, in both, cancels.

    Args:
        decays: W, (D).
        peak: largest step size.
        of_tasks: updates of each task, (K).

    Returns:
        (K - 1, D)

    Example:
        >>> boundary_factors([6e-6, 2e-6], 0.01, updates(3)).round(2).tolist()
        [[-0.47, 0.51], [-0.4, 0.53]]
    """
    w = np.asarray(decays, np.float64)
    theta, buffer = np.ones((2, len(w))), np.zeros((2, len(w)))  # the buffer kept, and cleared
    factors = []
    for number, count in enumerate(of_tasks):
        buffer[1] = 0
        top = int(RISE * count)
        for update in range(count):
            step_size, momentum = one_cycle(update, count, peak)
            buffer = momentum * buffer + w / step_size * theta
            theta = theta - step_size * buffer
            if update == top and number:
                factors.append(theta[0] / theta[1])
        theta[1], buffer[1] = theta[0], buffer[0]
        buffer, theta = buffer / theta[0], np.ones_like(theta)
    return np.array(factors)


def matched_decay(decay: float, peak: float, of_tasks: Sequence[int]) -> float:
    """The decay at which shorter tasks come closest to the paper's boundaries, those of its first K tasks.

    least mean over boundaries of |log(factor / the paper's factor)|, both of one sign; W in steps of 1 % of the paper's

    Args:
        decay: the paper's W.
        peak: largest step size.
        of_tasks: updates of each task, (K), K >= 2.

    Raises:
        ValueError: where no decay has the paper's signs.

    Example:
        >>> matched_decay(6e-6, 0.01, updates(3)) == 6e-6  # tasks of the paper's length
        True
    """
    return _matched_decay(decay, peak, tuple(of_tasks))


@functools.cache
def _matched_decay(decay: float, peak: float, of_tasks: tuple[int, ...]) -> float:
    paper = boundary_factors([decay], peak, updates(len(of_tasks)))
    tried = boundary_factors(decay * _SHARES, peak, of_tasks)
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = np.abs(np.log(tried / paper)).mean(0)
    distance[~np.isfinite(distance)] = np.inf
    if not math.isfinite(distance.min()):
        raise ValueError(f"tasks of {[*of_tasks]} updates have no decay with the paper's boundaries: take longer tasks")
    return float(f"{decay * _SHARES[distance.argmin()]:.3g}")


def matched_rate(rate: float, paper_maturity: int, maturity: int, of_tasks: Sequence[int]) -> float:
    """The replacement rate at which a run renews the share of units that the paper's whole run does.

    rate * (updates of the paper's run - its maturity) = r * (updates of the run - its maturity)

    At an equal share of each task a small network would renew none: of 192 units the paper's rate takes half a unit in
    its first five tasks, and less than a whole one is none.

    Args:
        rate, paper_maturity: of the paper's run of 20 tasks.
        maturity: of the run.
        of_tasks: updates of each of its tasks.

    Raises:
        ValueError: where no unit ever matures.
    """
    left = sum(of_tasks) - maturity
    if left <= 0:
        raise ValueError(f"no unit matures in {sum(of_tasks)} updates (`maturity` {maturity}): take longer tasks")
    return min(1.0, rate * (sum(updates(PAPERS_TASKS)) - paper_maturity) / left)


def matched(config: Config, paper: Config, scaled_decay: bool, options: Options, tasks: int) -> Config:
    """The config of a shrunk run whose boundaries, and whose share of renewed units, are the paper's.

    Args:
        config: as `vit_values.scaled` has it.
        paper: as `vit_values.chosen` has it.
        scaled_decay: whether the decay follows the step size, so that boundaries do nothing.
        options: how long tasks are.
        tasks: of the run.

    Raises:
        ValueError: for a single task, which has no boundary, and where nothing matches.
    """
    if tasks < 2:
        raise ValueError(
            f"`matched` compares what happens to weights between tasks, so `tasks` must be at least 2; got {tasks}"
        )
    of_tasks = updates(tasks, options.epochs_per_task, options.images_per_class or PAPERS_IMAGES)
    new: dict[str, Any] = dict(config) | {"source": "ours"}
    if not scaled_decay:
        new["decay"] = matched_decay(float(paper["decay"]), float(paper["step_size"]), of_tasks)
    if "replacement_rate" in new:
        rate, maturity = float(paper["replacement_rate"]), int(paper["maturity"])
        new["replacement_rate"] = matched_rate(rate, maturity, int(new["maturity"]), of_tasks)
    return new
