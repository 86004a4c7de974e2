"""Signals set the event whatever the main thread is doing: a thousand of them while it waits."""

import os
import signal
import subprocess
import sys

PROGRAM = """
import sys
from davfs.cli.signals import stop_event
stop = stop_event()
print("ready", flush=True)
while not stop.wait(0.0001):
    pass
for _ in range(20000):
    stop.wait(0.0001)
print("stopped", flush=True)
sys.stdin.read()
"""


def test_many_signals_stop_a_waiting_process_and_never_hang_it() -> None:
    program = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdin is not None
            assert process.stdout.readline() == "ready\n"
            for _ in range(1000):
                os.kill(process.pid, signal.SIGTERM)
            assert process.stdout.readline() == "stopped\n"
            process.stdin.close()
            assert process.wait(20) == 0
        finally:
            process.kill()
