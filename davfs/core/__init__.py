"""Pure logic of the drive: no IO, threads, clocks or randomness inside."""
