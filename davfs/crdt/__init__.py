"""A volume's documents in automerge. Imports core only; alone knows automerge."""
