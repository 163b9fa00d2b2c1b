"""Which arithmetic trains the stacks.

A folder of results names the number it was made with, and a run with another number does not extend it.
"""

ARITHMETIC = 2
"""Raise by one with every change after which equal runs store other numbers, if only in the last digit."""
