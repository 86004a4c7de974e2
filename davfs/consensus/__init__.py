"""Raft, by PySyncObj. The only package that imports it; may import nothing of davfs but core."""
