"""A table that can be written as Markdown, LaTeX and HTML; every string in it is text, never markup."""

import re
import unicodedata
from dataclasses import dataclass

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # after a line end it would open an option
    "]": "{]}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≈": r"$\approx$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "γ": r"$\gamma$",
    "λ": r"$\lambda$",
    "μ": r"$\mu$",
    "σ": r"$\sigma$",
    "²": r"\textsuperscript{2}",
    "₁": r"\textsubscript{1}",
    "₂": r"\textsubscript{2}",
    "†": r"\dag{}",
    "…": r"\dots{}",
    "–": "--",
    "—": "---",
} | {mark: f"\\{mark}" for mark in "{}$&#_%"}
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~$&])")
_AUTOLINK = re.compile(r"(?i)\b(https?|ftp)://|\bwww\.")


@dataclass(frozen=True)
class Table:
    """Rows of text under a caption.

    name: for files and labels.
    title: one line.
    caption: what it shows, one paragraph or nothing.
    columns: the heads of its columns.
    rows: a cell for each column.
    notes: lines below it.
    heads: how many columns on the left name the row.
    numbers: columns that are aligned to the right.

    Raises:
        ValueError: for a row of another length.

    Example:
        >>> table = Table("t", "Sizes", "", ("network", "units"), (("large", "100"),), numbers=frozenset({1}))
        >>> print(table.to_markdown())
        **Sizes**
        <BLANKLINE>
        | network | units |
        | :--- | ---: |
        | large | 100 |
        <BLANKLINE>
    """

    name: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    heads: int = 1
    numbers: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.name!r}: a row must have {len(self.columns)} cells; got {len(row)}")

    def to_markdown(self) -> str:
        """The table as GitHub's Markdown."""
        rules = [("---:" if i in self.numbers else ":---") for i in range(len(self.columns))]
        lines = [f"**{markdown(self.title)}**" + (f" {markdown(self.caption)}" if self.caption else ""), ""]
        lines += [_row(map(markdown, self.columns)), _row(rules)]
        lines += [_row(map(markdown, row)) for row in self.rows]
        for note in self.notes:
            lines += ["", f"Note: {markdown(note)}"]
        return "\n".join(lines) + "\n"

    def to_latex(self) -> str:
        """The table as LaTeX; needs the packages `booktabs` and `textcomp`, and `fontenc` with T1."""
        align = "".join("r" if i in self.numbers else "l" for i in range(len(self.columns)))
        caption = latex(f"{self.title}. {self.caption}".strip() if self.caption else self.title)
        label = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\label{{tab:{label}}}"]
        lines += [rf"\begin{{tabular}}{{{align}}}", r"\toprule", _line(self.columns), r"\midrule"]
        lines += [*map(_line, self.rows), r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par\footnotesize {latex(note)}" for note in self.notes]
        return "\n".join([*lines, r"\end{table}"]) + "\n"


def one_line(text: str) -> str:
    """The text without control characters, line ends as spaces."""
    spaced = re.sub(r"\s+", " ", text).strip()
    return "".join(mark for mark in spaced if unicodedata.category(mark) not in ("Cc", "Cf", "Cs", "Co", "Cn"))


def markdown(text: str) -> str:
    """The text as Markdown that shows it.

    Example:
        >>> print(markdown("a_b | <b>"))
        a\\_b \\| \\<b\\>
    """
    escaped = _MARKDOWN.sub(r"\\\1", one_line(text))
    # A zero-width space would be a hidden character, so an address is broken by an escaped mark instead.
    return _AUTOLINK.sub(lambda match: match[0].replace(":", r"\:").replace(".", r"\."), escaped)


def latex(text: str) -> str:
    """The text as LaTeX that shows it.

    Example:
        >>> print(latex("50 % of a_b"))
        50 \\% of a\\_b
    """
    return "".join(_LATEX.get(mark, mark) for mark in one_line(text))


def _row(cells) -> str:
    return f"| {' | '.join(cells)} |"


def _line(cells: tuple[str, ...]) -> str:
    return " & ".join(map(latex, cells)) + r" \\"
