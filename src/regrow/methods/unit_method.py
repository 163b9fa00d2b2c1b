"""What methods that renew hidden units have in common."""

from typing import ClassVar

from .method import Method

UTILITIES = ("contribution", "contribution-by-position", "activation", "gradient", "magnitude")


class UnitMethod(Method):
    """A method that renews the hidden units of lowest utility, by whatever rule.

    utility: one of `UTILITIES`; a knob of the method.
    """

    by_unit: ClassVar[bool] = True
    utility: str

    @property
    def needs_gradient(self) -> bool:
        return self.utility == "gradient"

    @property
    def reads_activations(self) -> bool:
        return self.utility in ("activation", "contribution") or self.reads_positions

    @property
    def reads_positions(self) -> bool:
        return self.utility == "contribution-by-position"
