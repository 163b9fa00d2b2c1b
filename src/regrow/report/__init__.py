"""Figures and tables. Needs the packages of `regrow[lab]`."""
