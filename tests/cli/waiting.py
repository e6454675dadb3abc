"""Waiting for something to be so, however slow the machine is; and not waiting for it."""
import os, signal, subprocess, time

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


def killed_after(command, seconds):
    """Runs the command and kills it (SIGKILL) after so long; False when it had ended by itself."""
    p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        p.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        os.kill(p.pid, signal.SIGKILL)
        p.wait()
        return True
