"""The davfs command. Imports node and below."""
