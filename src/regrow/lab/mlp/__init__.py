"""Stacks of multilayer perceptrons: the network, its loss and measures, and what trains it on permuted images."""
