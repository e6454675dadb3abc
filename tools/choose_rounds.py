#!/usr/bin/env python3
"""Measures how many evaluations each step of a bundle's abductions needs: how far pictures made from the noise
alone are from their factuals, for candidate numbers per step. Images are of the selection split.

usage: choose_rounds.py BUNDLE IMAGES WORK_DIR ROUNDS...
  BUNDLE    of sampler implicit; it is copied
  IMAGES    an IDX file of the training images, gzip or not
  WORK_DIR  gets the copies
  ROUNDS    a digit 1..3 per default step, from the image to the noise: 333333
Prints a line per candidate: evaluations of an abduction and mean absolute error, 0..255. DIFFSCM names the
program (build/diffscm), LIMIT the images (200), FIRST the first of them (45000).
"""
import gzip, json, os, shutil, struct, subprocess, sys


def read(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        magic, count, height, width = struct.unpack(">IIII", file.read(16))
        if magic != 0x803:
            sys.exit(f"{path}: no IDX file of grey images")
        return count, height, width, file.read()


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    bundle, images, work, *candidates = sys.argv[1:]
    program = os.environ.get("DIFFSCM", "build/diffscm")
    limit, first = int(os.environ.get("LIMIT", "200")), int(os.environ.get("FIRST", "45000"))
    count, height, width, pixels = read(images)
    if first + limit > count:
        sys.exit(f"{images}: {count} images, but {first + limit} are needed")
    pixels = pixels[first * height * width:(first + limit) * height * width]
    os.makedirs(work, exist_ok=True)
    chosen, alone = os.path.join(work, "images-idx3-ubyte"), os.path.join(work, "alone-idx3-ubyte")
    with open(chosen, "wb") as file:
        file.write(struct.pack(">IIII", 0x803, limit, height, width) + pixels)
    print("| rounds | evaluations | L1 from the noise alone |\n|---|--:|--:|")
    for rounds in candidates:
        model, measured = os.path.join(work, rounds), os.path.join(work, rounds + ".json")
        shutil.rmtree(model, ignore_errors=True)
        shutil.copytree(bundle, model)
        with open(measured, "w", encoding="utf-8") as file:
            json.dump({"rounds": [int(digit) for digit in rounds]}, file)
        subprocess.run([program, "bundle", "--out", model, "--measured", measured], check=True,
                       stdout=subprocess.DEVNULL)
        subprocess.run([program, "counterfactual", "--model", model, "--images", chosen, "--null", "--noise-only",
                        "--out", alone], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        again = read(alone)[3]
        error = sum(abs(a - b) for a, b in zip(pixels, again)) / len(pixels)
        print(f"| {rounds} | {1 + sum(map(int, rounds))} | {error:.2f} |", flush=True)


if __name__ == "__main__":
    main()
