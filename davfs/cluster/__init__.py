"""The protocols at work: assign, seal, commit, quorum write and read, catch-up. Imports the layers below."""
