#!/usr/bin/env python3
"""Runs every shell line of docs/api.md against the real program, in order.

usage: docs.py PROGRAM. Ends with a summary line; exit 0 when no line failed.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def start(program):
    process = subprocess.Popen([program, "serve", "--port", "0", "--admin-port", "0", "--data-dir",
                                ROOT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in process.stdout:
        found = re.search(r"http://([^/\s]+)", line)
        if found:
            return process, found.group(1)
    raise SystemExit("the service did not start")


def check(line, output):
    """What a line printed: JSON where it asks for JSON, and no problem unless shown on purpose."""
    if not output.strip() or "/events" in line or "python3" in line:
        return
    body = json.loads(output)
    if "errors" in body:
        places = {e["pointer"] for e in body["errors"]}
        assert places >= {"/intervention/digit", "/options/steps"}, body
        assert body["code"] == "out-of-range" and body["status"] == 422, body
    if "counterfactuals" in body:
        assert all(c["outcome"] in ("found", "not-found") for c in body["counterfactuals"])
        assert len(body["counterfactuals"]) == (10 if "digit=*" in line else 1)


def codes_are_documented(text):
    """The table of errors and the source's table name the same codes."""
    with open(os.path.join(ROOT, "api/problem.c"), encoding="utf-8") as source:
        codes = set(re.findall(r'\{"([a-z-]+)",\s*[45]\d\d', source.read())) - {"canceled"}
    table = text[text.index("| status | codes |"):]
    return codes - set(re.findall(r"[a-z]+(?:-[a-z]+)*", table))


def main():
    program = os.path.abspath(sys.argv[1])
    with open(os.path.join(ROOT, "docs/api.md"), encoding="utf-8") as source:
        text = source.read()
    lines = re.findall(r"```sh\n(.*?)\n```", text, re.S)
    passed = failed = 0
    missing = codes_are_documented(text)
    if missing:
        failed += 1
        print(f"  FAIL codes without documentation: {sorted(missing)}")
    process, host = start(program)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for line in lines:
                run = subprocess.run(["bash", "-c", line.replace("localhost:8080", host)],
                                     cwd=folder, capture_output=True, text=True, timeout=120)
                try:
                    assert run.returncode == 0, f"status {run.returncode} {run.stdout[:300]}"
                    check(line, run.stdout)
                    passed += 1
                except (AssertionError, ValueError) as error:
                    failed += 1
                    print(f"  FAIL {line}\n       {error}")
            for name in ("seven", "eight", "three"):
                with open(os.path.join(folder, name + ".png"), "rb") as picture:
                    assert picture.read(8) == b"\x89PNG\r\n\x1a\n", name
    finally:
        process.terminate()
        if process.wait(30) != 0:
            failed += 1
            print("  FAIL the service did not end well")
    print(f"api-docs {passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
