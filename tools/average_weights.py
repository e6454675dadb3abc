#!/usr/bin/env python3
"""Averages the weights of two networks of one architecture, of which one was trained on from the other
(Izmailov et al. 2018; Wortsman et al. 2022).

usage: average_weights.py A.st B.st SHARE OUT.st     OUT = (1 - SHARE) A + SHARE B, SHARE in 0..1, float16
"""
import json, struct, sys

KINDS = {"F16": ("e", 2), "F32": ("f", 4)}


def read(path):
    """Values and shapes of the tensors by name, and the file's metadata."""
    with open(path, "rb") as file:
        data = file.read()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:end])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, about in header.items():
        if about["dtype"] not in KINDS:
            sys.exit(f"{path}: {name}: {about['dtype']}: must be F16 or F32")
        first, last = about["data_offsets"]
        letter, size = KINDS[about["dtype"]]
        values = struct.unpack(f"<{(last - first) // size}{letter}", data[end + first:end + last])
        tensors[name] = values, about["shape"]
    return tensors, metadata


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__.strip())
    a, b, share, out = sys.argv[1:]
    try:
        weight = float(share)
    except ValueError:
        weight = -1
    if not 0 <= weight <= 1:
        sys.exit(f"SHARE {share}: must be a number in 0..1")
    (first, _), (second, metadata) = read(a), read(b)
    if {k: v[1] for k, v in first.items()} != {k: v[1] for k, v in second.items()}:
        sys.exit(f"{a} and {b}: not of one architecture: tensors or their shapes differ")
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, (values, shape) in second.items():
        mean = [(1 - weight) * x + weight * y for x, y in zip(first[name][0], values)]
        part = struct.pack(f"<{len(mean)}e", *mean)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    with open(out, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


main()
