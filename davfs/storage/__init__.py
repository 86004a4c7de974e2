"""What lies on a node's disk: chunks, records, index, journal. Imports core only; alone knows SQLite."""
