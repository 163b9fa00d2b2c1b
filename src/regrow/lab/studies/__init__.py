"""What the laboratory runs: studies, their settings and systems, and the values of the hyper-parameters."""

from .catalog import (
    ALL_SETTINGS,
    PROBE,
    SETTINGS,
    STUDIES,
    TASKS,
    VIT_SETTINGS,
    Config,
    Member,
    Setting,
    StackPlan,
    Study,
    ViTSetting,
    choose,
)
from .systems import ALIASES, CONTROLS, SIX, SYSTEMS, VARIANTS, VIT_SYSTEMS, System, system_name

__all__ = [
    "ALIASES",
    "ALL_SETTINGS",
    "CONTROLS",
    "PROBE",
    "SETTINGS",
    "SIX",
    "STUDIES",
    "SYSTEMS",
    "TASKS",
    "VARIANTS",
    "VIT_SETTINGS",
    "VIT_SYSTEMS",
    "Config",
    "Member",
    "Setting",
    "StackPlan",
    "Study",
    "System",
    "ViTSetting",
    "choose",
    "system_name",
]
