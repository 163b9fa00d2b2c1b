"""The page: its parts and sections, and the files beside it."""
