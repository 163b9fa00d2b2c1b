"""Systems that share a panel are distinct, to colour-blind readers and on a dark page too."""

from itertools import combinations

import numpy as np
import pytest

from regrow.lab.studies import ALIASES, SYSTEMS
from regrow.report import style
from regrow.report.figures import dense, permuted
from regrow.report.figures.against_fresh import AGAINST_FRESH
from regrow.report.figures.renewals import RENEWALS_SYSTEMS
from regrow.report.runs import FRESH

# Machado, Oliveira & Fernandes, "A physiologically-based model for simulation of color vision deficiency" (2009),
# severity 1, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
FAR = 15.0  # in CIE Lab, where 2.3 can just be noticed


def linear(colour: str) -> np.ndarray:
    srgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(colour: str, sight: str) -> np.ndarray:
    seen = np.clip(np.array(SIGHT[sight]) @ linear(colour), 0, 1)
    x = TO_XYZ @ seen / (0.95047, 1.0, 1.08883)
    f = np.where(x > 216 / 24389, np.cbrt(x), (24389 / 27 * x + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    light, dark = sorted((float(TO_XYZ[1] @ linear(colour)) for colour in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def at_night(colour: str) -> str:
    return {light.lower(): night for light, night in style.DARK.items()}.get(colour.lower(), colour)


def panels() -> list[set[str]]:
    """The systems that figures show side by side."""
    shown = [{line.system for line in panel.lines} for plan in permuted.PLANS.values() for panel in plan.panels]
    return [*shown, {*AGAINST_FRESH, FRESH}, set(RENEWALS_SYSTEMS), set(dense.METHODS)]


def test_the_simulation_is_what_it_says() -> None:
    """White stays white; red and green come close to each other for those who confuse them, and for no one else."""
    for sight in SIGHT:
        assert lab("#FFFFFF", sight) == pytest.approx([100, 0, 0], abs=0.1), sight
    distance = {sight: np.linalg.norm(lab("#B04030", sight) - lab("#607020", sight)) for sight in SIGHT}
    assert distance["normal"] > 55 and distance["tritanopia"] > 55
    assert distance["deuteranopia"] < 30 and distance["protanopia"] < 30
    assert lab("#FF0000", "normal") == pytest.approx([53.24, 80.09, 67.20], abs=0.05)  # the textbook's


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("page", ["light", "dark"])
def test_systems_of_a_panel_differ_in_colour(sight: str, page: str) -> None:
    close = {}
    for systems in panels():
        for one, other in combinations(sorted(systems), 2):
            colours = [style.SYSTEMS[name].colour for name in (one, other)]
            colours = [at_night(colour) for colour in colours] if page == "dark" else colours
            distance = np.linalg.norm(lab(colours[0], sight) - lab(colours[1], sight))
            if distance < FAR:
                close[one, other] = round(float(distance), 1)
    assert not close


def test_no_panel_is_crowded() -> None:
    assert max(map(len, panels())) <= 9  # eight systems and the yardstick


def test_every_system_has_a_look_of_its_own() -> None:
    stored = {ALIASES.get(name, name) for name in SYSTEMS}
    assert stored == set(style.SYSTEMS)
    looks = style.SYSTEMS.values()
    assert len({look.label for look in looks}) == len({look.colour for look in looks}) == len(stored)
    assert all(contrast(look.colour, style.PAPER) >= 2.2 for look in looks)
    assert all(contrast(at_night(look.colour), style.NIGHT) >= 2.6 for look in looks)


def test_ordered_lines_go_from_dark_to_light_and_the_other_way_at_night() -> None:
    lightness = [lab(colour, "normal")[0] for colour, _ in style.SERIES]
    night = [lab(at_night(colour), "normal")[0] for colour, _ in style.SERIES]
    assert (np.diff(lightness) > 8).all() and (np.diff(night) < -5).all()
    assert len({marker for _, marker in style.SERIES}) == len(style.SERIES)
    assert min(contrast(at_night(colour), style.NIGHT) for colour, _ in style.SERIES) >= 3


def test_text_is_readable_on_both_pages() -> None:
    for colour in (style.INK, style.FAINT):
        assert contrast(colour, style.PAPER) >= 4.5 and contrast(at_night(colour), style.NIGHT) >= 4.5
