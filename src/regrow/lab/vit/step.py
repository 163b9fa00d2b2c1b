"""Forward and backward passes of a vision transformer, of one batch at a time.

Shapes: B images, K classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cuda_graph import Captured
from ..nets import ViT
from ..problems.incremental import CLASSES, ClassIncremental, seen_logits
from .forward import Dropout, logits
from .options import Options


class Shown(NamedTuple):
    """Metrics of a batch: its mean loss, and the number of correctly classified images, both ()."""

    loss: Tensor
    right: Tensor


class Passes:
    """Computes gradients of batches, and outputs for evaluation.

    Args:
        net: its parameters get the gradients.
        problem: the images.
        options: precision, compilation, graphs.
        drop: of the training passes.
    """

    def __init__(self, net: ViT, problem: ClassIncremental, options: Options, drop: Dropout) -> None:
        self._net, self._problem, self._options, self._drop = net, problem, options, drop
        self._parameters = list(net.parameters())
        self._logits: Callable[..., Tensor] = torch.compile(logits) if options.compiled else logits
        self._seen = torch.zeros(CLASSES, dtype=torch.bool, device=problem.device)
        # The optimizer's step stays outside, since its hyper-parameters change at each update, and so do maintainers.
        self._captured = Captured(self._shown_and_gradients) if options.graphs else None

    def begin_task(self, seen: Tensor) -> None:
        """Classes that count from now on, bool (K)."""
        if torch.equal(self._seen, seen):
            return
        self._seen = seen
        if self._captured is not None:
            self._captured.forget()

    def train(self, indices: Tensor, words: Tensor, whole: bool = False) -> Shown:
        """Leave the gradient of a batch in the parameters.

        Args:
            indices, words: (B), of the problem's `epoch` and `words`.
            whole: make all activations, and let hooks see them.
        """
        if self._captured is None or whole:
            return self._run(indices, words, whole)
        shown, gradients = self._captured(indices, words)
        for p, gradient in zip(self._parameters, gradients, strict=True):
            p.grad = gradient
        return Shown(shown.loss.clone(), shown.right.clone())  # the next replay writes over them

    def _shown_and_gradients(self, indices: Tensor, words: Tensor) -> tuple[Shown, list[Tensor | None]]:
        shown = self._run(indices, words)
        return shown, [p.grad for p in self._parameters]

    def _run(self, indices: Tensor, words: Tensor, whole: bool = False) -> Shown:
        """`train`, one operation after the other."""
        for p in self._parameters:
            p.grad = None
        images, labels = self._problem.batch(indices, words)
        forward = logits if whole else self._logits
        with self._options.mixed(images.device):
            answers = forward(self._net, images.to(self._options.dtype), self._drop, whole)
        answers = self._counted(answers)
        loss = F.cross_entropy(answers, labels)
        loss.backward()
        return Shown(loss.detach(), (answers.detach().argmax(1) == labels).sum())

    @torch.no_grad()
    def right(self, indices: Tensor) -> Tensor:
        """Which of these images are classified correctly, without augmentation and dropout: bool, one per image."""
        right = []
        for images, labels in self._problem.evaluation(indices):
            with self._options.mixed(images.device):
                answers = logits(self._net, images.to(self._options.dtype))
            right.append(self._counted(answers).argmax(1) == labels)
        return torch.cat(right)

    def _counted(self, answers: Tensor) -> Tensor:
        return seen_logits(answers.to(self._options.dtype), self._seen)
