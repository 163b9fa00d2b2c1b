"""Data sets: where they are kept, how they are read and downloaded."""
