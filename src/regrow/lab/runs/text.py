"""Numbers and durations as text."""

import itertools


def duration(seconds: float) -> str:
    """Seconds as text, in the two largest units.

    Example:
        >>> duration(8.2), duration(100), duration(5000), duration(200_000)
        ('8 s', '1 min 40 s', '1 h 23 min', '2 d 7 h')
    """
    whole = round(seconds)
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    for (large, big), (small, little) in itertools.pairwise(units):
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large} {big}" + (f" {rest} {little}" if rest else "")
    return f"{whole} s"


def counted(count: int, noun: str) -> str:
    """A number and a noun, in the plural where needed.

    Example:
        >>> counted(1, "stack"), counted(2000, "task")
        ('1 stack', '2,000 tasks')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"
