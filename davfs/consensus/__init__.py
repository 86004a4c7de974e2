"""Raft by PySyncObj: what the cluster agrees on. Imports core only; alone knows PySyncObj."""
