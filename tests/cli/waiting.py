"""Waiting for something to be so, however slow the machine is."""
import time

PATIENCE = 300  # seconds: what never happens fails then; no test passes by waiting for it


def until(condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"waited {PATIENCE} s in vain")


def catches(pid, number):
    """The process has a handler of its own for this signal."""
    with open(f"/proc/{pid}/status") as f:
        caught = next((line for line in f if line.startswith("SigCgt")), "SigCgt 0")
    return int(caught.split()[1], 16) >> (number - 1) & 1
