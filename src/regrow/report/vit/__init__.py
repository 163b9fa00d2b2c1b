"""The part of a report on class-incremental CIFAR-100: figures 3 and 15 to 18, tables D and 6, claims 13 to 18."""
