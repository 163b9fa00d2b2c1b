"""The laboratory: the paper's study, run on stacks of networks."""
