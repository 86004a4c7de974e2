"""The protocols under a seeded loop with simulated network, disk and clock. Imports cluster and below."""
