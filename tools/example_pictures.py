#!/usr/bin/env python3
"""Writes the example pictures of a bundle: of each class the first real image of the selection split.

usage: example_pictures.py IMAGES LABELS NAMES OUT_DIR [FIRST]
  IMAGES, LABELS  IDX files (gz or not) of the data set's training part
  NAMES           labels in their order, separated by commas
  OUT_DIR         gets <label>.png
  FIRST           index of the first image that is looked at (45000, where the selection split begins)
"""
import gzip, os, struct, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from grey_png import png


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def main():
    if len(sys.argv) not in (5, 6):
        sys.exit(__doc__.strip())
    images, labels = read(sys.argv[1]), read(sys.argv[2])
    names, out = sys.argv[3].split(","), sys.argv[4]
    count, height, width = struct.unpack(">III", images[4:16])
    left = set(range(len(names)))
    for k in range(int(sys.argv[5]) if len(sys.argv) == 6 else 45000, count):
        label = labels[8 + k]
        if label not in left:
            continue
        left.remove(label)
        at = 16 + k * height * width
        with open(os.path.join(out, names[label] + ".png"), "wb") as file:
            file.write(png(width, height, images[at:at + height * width]))
        print(f"{names[label]}: image {k}")
    if left:
        sys.exit(f"no image of {', '.join(names[k] for k in sorted(left))} from there on")


main()
