"""Growth: does a volume that changes without end stay as small as what is in it? ``python -m tests.growth``."""
