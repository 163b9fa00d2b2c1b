"""The vision transformer of class-incremental CIFAR-100: how it is trained, tuned and measured."""
