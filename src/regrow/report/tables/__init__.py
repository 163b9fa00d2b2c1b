"""The tables, each a function from results."""
