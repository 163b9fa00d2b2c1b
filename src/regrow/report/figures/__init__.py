"""The figures, each a function from results to a drawing, or to what is missing and the command that makes it."""
