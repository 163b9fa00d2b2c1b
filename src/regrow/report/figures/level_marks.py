"""The levels that the authors published, as triangles at the right of a panel of accuracy."""

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes

from ..margins import PAPER_TASKS
from ..published import level
from ..runs import NEAR, Run, papers_id
from ..style import PAPER, Look
from .line import slug

CAPTION = " Triangles: the levels that the paper's first author published, of 1,000 tasks and 30 runs."


def mark(axes: Axes, lines: Iterable[tuple[tuple[str, str], Look, Sequence[Run]]]) -> bool:
    """Triangles at the levels of lines at the paper's values; whether there are any.

    The axis of runs as long as the paper's takes their levels in; that of shorter ones stays theirs.

    Args:
        axes: with its limits.
        lines: ((setting, system), look, runs)
    """
    marked = False
    for key, look, runs in lines:
        known = level(*key)
        if known is None or runs[0].config_id != papers_id(*key):
            continue
        if runs[0].tasks >= NEAR * PAPER_TASKS:
            low, high = axes.get_ylim()
            gap = 0.03 * (high - low)
            axes.set_ylim(min(low, known.low - gap), max(high, (known.high or known.low) + gap))
        low, high = axes.get_ylim()
        for value in {known.low, known.high or known.low}:
            if low <= value <= high:
                axes.plot(
                    1.02, value, marker="<", markersize=5, color=look.colour, markeredgecolor=PAPER, clip_on=False,
                    markeredgewidth=0.5, transform=axes.get_yaxis_transform(), gid=f"level:{slug(look.label)}",
                )  # fmt: skip
                marked = True
    return marked
