"""Crash points: what davfs writes is recorded, and davfs is restarted from every state that a power loss may leave of it."""
