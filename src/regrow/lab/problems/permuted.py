"""Permuted images: a task is a fresh random permutation of the pixels, the labels stay.

Shapes: S streams, U updates a pass, P pixels, B images a batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .data import Images


class PermutedStreams:
    """One stream of tasks for each generator: it alone decides a stream's permutations and the order of its images.

    Args:
        images: the images, the same for all streams.
        generators: one per stream.
        batch: images a batch, B.
        updates: batches a pass, U; a pass shows U * B of the images in a random order, none twice.

    Raises:
        ValueError: where a pass would need more images than there are.

    Example:
        >>> import torch
        >>> from regrow.lab.problems.data import load_digits_images
        >>> streams = PermutedStreams(load_digits_images(), [torch.Generator()], batch=16, updates=112)
        >>> streams.next_task()
        >>> x, y = streams.one_pass()
        >>> x.shape, y.shape
        (torch.Size([112, 1, 64, 16]), torch.Size([112, 1, 16]))

    Reference:
        Goodfellow et al. 2014; Hernandez-Garcia et al. 2025, section 3.
    """

    def __init__(self, images: Images, generators: Sequence[torch.Generator], *, batch: int, updates: int) -> None:
        self._pixels, self._labels, self._white = images
        if batch * updates > len(self._labels):
            raise ValueError(f"a pass of {updates} batches of {batch} needs more than {len(self._labels)} images")
        self._generators, self._batch, self._updates = generators, batch, updates
        self._permutations: list[Tensor] = []

    def next_task(self) -> None:
        """Draw a new permutation for every stream."""
        pixels = self._pixels.shape[1]
        self._permutations = [torch.randperm(pixels, generator=g) for g in self._generators]

    def one_pass(self) -> tuple[Tensor, Tensor]:
        """Inputs in [0, 1] of shape (U, S, P, B) and labels of shape (U, S, B)."""
        inputs, labels = [], []
        for generator, permutation in zip(self._generators, self._permutations, strict=True):
            order = torch.randperm(len(self._labels), generator=generator)[: self._updates * self._batch]
            pixels = self._pixels.index_select(0, order).float().index_select(1, permutation)
            inputs.append(pixels.view(self._updates, self._batch, -1).mT)
            labels.append(self._labels[order].view(self._updates, self._batch))
        return torch.stack(inputs, 1) / self._white, torch.stack(labels, 1)
