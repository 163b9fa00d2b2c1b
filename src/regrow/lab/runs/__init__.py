"""Runs: what is trained where and when, and what is stored of it."""
