#!/usr/bin/env python3
"""Lays out pictures of several origins in one random order, numbered, for readers who know none of it.

usage: tools/blind_sheet.py OUT [--seed N] [--zoom N] ORIGIN=IMAGES[:TARGETS[:COUNT]] ...

IMAGES and TARGETS are IDX files (gz or not) of grey images and of the class each is meant to be; COUNT
are taken from the first on. OUT-1.png, OUT-2.png … show fifty each, ten in a row, enlarged ZOOM (3) times, its
number above it. OUT-key.json lists, in order, {"number", "origin", "index",
"target"}: not for the readers. With a file of answers, one "NUMBER CLASS" per line:

    tools/blind_sheet.py --score OUT-key.json ANSWERS

prints how many of each origin were called what they are meant to be. tools/read_blind.sh makes the whole test of mnist.
"""
import gzip
import json
import random
import struct
import sys

import grey_png

COLUMNS, ROWS, GAP = 10, 5, 6
# 3x5 dots of the ten digits, a row per octal digit
GLYPHS = ["75557", "26227", "71747", "71717", "55711", "74717", "74757", "71122", "75757", "75717"]


def read_idx(path):
    with open(path, "rb") as f:
        raw = f.read()
    raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    dims = struct.unpack(">" + "I" * raw[3], raw[4:4 + 4 * raw[3]])
    return dims, raw[4 + 4 * raw[3]:]


class Page:
    def __init__(self, width, height, zoom):
        self.cell = (width * zoom + GAP, height * zoom + GAP + 14)
        self.size, self.zoom = (COLUMNS * self.cell[0] + GAP, ROWS * self.cell[1] + GAP), zoom
        self.pixels = bytearray([128]) * (self.size[0] * self.size[1])

    def block(self, x, y, side, level):
        for line in range(y, y + side):
            at = line * self.size[0] + x
            self.pixels[at:at + side] = bytes([level]) * side

    def number(self, x, y, value):
        for k, digit in enumerate(str(value)):
            for row, bits in enumerate(GLYPHS[int(digit)]):
                for column in range(3):
                    if int(bits) >> (2 - column) & 1:
                        self.block(x + 8 * k + 2 * column, y + 2 * row, 2, 255)

    def picture(self, place, number, width, image):
        x, y = GAP + place % COLUMNS * self.cell[0], GAP + place // COLUMNS * self.cell[1]
        self.number(x, y, number)
        for i, level in enumerate(image):
            self.block(x + i % width * self.zoom, y + 14 + i // width * self.zoom, self.zoom, level)


def gather(origins):
    items, size = [], None
    for text in origins:
        name, _, files = text.partition("=")
        images, targets, count = (files.split(":") + ["", ""])[:3]
        dims, pixels = read_idx(images)
        if size and dims[1:] != size:
            sys.exit(f"blind_sheet: {images}: {dims[2]}x{dims[1]} pixels among images of {size[1]}x{size[0]}")
        size = dims[1:]
        labels = read_idx(targets)[1] if targets else None
        each = size[0] * size[1]
        for i in range(min(int(count or dims[0]), dims[0])):
            items.append(({"origin": name, "index": i, "target": labels[i] if labels else None},
                          pixels[i * each:(i + 1) * each]))
    return items, size


def score(key, answers):
    said = dict(line.split()[:2] for line in open(answers) if line.strip())
    counts = {}
    for entry in json.load(open(key)):
        total, right = counts.get(entry["origin"], (0, 0))
        right += said.get(str(entry["number"])) == str(entry["target"])
        counts[entry["origin"]] = total + 1, right
    for name, (total, right) in sorted(counts.items()):
        print(f"{name}: {right} of {total} called what they are meant to be")


def main(words):
    options = {"--seed": 1, "--zoom": 3}
    if words[:1] == ["--score"] and len(words) == 3:
        return score(*words[1:])
    rest = []
    while words:
        word = words.pop(0)
        if word in options and words:
            options[word] = int(words.pop(0))
        else:
            rest.append(word)
    if len(rest) < 2 or any("=" not in word for word in rest[1:]):
        sys.exit(__doc__)
    items, (height, width) = gather(rest[1:])
    random.Random(options["--seed"]).shuffle(items)
    for first in range(0, len(items), COLUMNS * ROWS):
        page = Page(width, height, options["--zoom"])
        for place, (_, image) in enumerate(items[first:first + COLUMNS * ROWS]):
            page.picture(place, first + place + 1, width, image)
        with open(f"{rest[0]}-{first // (COLUMNS * ROWS) + 1}.png", "wb") as f:
            f.write(grey_png.png(*page.size, page.pixels))
    with open(f"{rest[0]}-key.json", "w") as f:
        json.dump([{"number": i + 1, **entry} for i, (entry, _) in enumerate(items)], f, indent=1)


if __name__ == "__main__":
    main(sys.argv[1:])
