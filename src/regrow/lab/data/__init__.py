"""Images: where they lie, how they are read, and how they get there."""
