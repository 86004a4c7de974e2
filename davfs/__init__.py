"""davfs: a network drive that survives the loss of a machine."""

__version__ = "0.1.0"
