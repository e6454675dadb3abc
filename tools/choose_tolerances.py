#!/usr/bin/env python3
"""Measures tolerances of a morphomnist bundle on images of the selection split: how near to what was asked
for counts as met decides how often a walk is corrected, and what the intensity's predictor reads in results
beyond what is there is the bundle's --result-bias. Morphometry judges; no network does.

usage: choose_tolerances.py BUNDLE DATA_DIR WORK_DIR THICKNESS:INTENSITY...
  BUNDLE    the bundle, which is copied
  DATA_DIR  train-images-idx3-ubyte.gz and train-variables.csv of `diffscm morpho render`
  WORK_DIR  gets the copies, tables and images; what is asked is the same for every candidate
Prints a line per candidate and intervention: mean absolute error, bias and deviation of thickness and
intensity, the same of the predictor's reading of the intensity beside morphometry's (which cuts off half a level),
and processor seconds per image. DIFFSCM names the program (build/diffscm), LIMIT the images
(120), FIRST the first image that may be drawn (45000), SPAN how many after it (5000).
"""
import csv, gzip, json, math, os, random, resource, shutil, struct, subprocess, sys

VARIABLES = ("digit", "thickness", "intensity")
INTERVENTIONS = {"thickness": VARIABLES[1:2], "intensity": VARIABLES[2:], "digit": VARIABLES[:1],
                 "joint": VARIABLES}


def prepare(data, work, limit, first, span):
    """Images, their factual values, and as interventions the values of other images."""
    with gzip.open(os.path.join(data, "train-images-idx3-ubyte.gz")) as file:
        _, count, height, width = struct.unpack(">IIII", file.read(16))
        pixels = file.read()
    with open(os.path.join(data, "train-variables.csv"), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if len(rows) != count or first + span > count:
        sys.exit(f"{data}: {count} images and {len(rows)} rows; {first + span} are needed")
    random.seed(1)
    chosen, others = (random.sample(range(first, first + span), limit) for _ in range(2))
    size = height * width
    with open(os.path.join(work, "images-idx3-ubyte"), "wb") as file:
        file.write(struct.pack(">IIII", 0x803, limit, height, width))
        for k in chosen:
            file.write(pixels[k * size:(k + 1) * size])
    tables = {"factuals": (VARIABLES, chosen), **{n: (v, others) for n, v in INTERVENTIONS.items()}}
    for name, (variables, indices) in tables.items():
        with open(os.path.join(work, name + ".csv"), "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(variables)
            writer.writerows([rows[k][v] for v in variables] for k in indices)


def set_tolerances(bundle, copy, tolerances):
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(bundle, copy)
    path = os.path.join(copy, "manifest.json")
    with open(path, encoding="utf-8") as file:
        manifest = json.load(file)
    for variable in manifest["variables"]:
        if variable["name"] in tolerances:
            variable["tolerance"] = tolerances[variable["name"]]
    with open(path, "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)


def column(path, name):
    with open(path, newline="", encoding="utf-8") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def errors(measured, asked):
    e = [a - b for a, b in zip(measured, asked)]
    n, mean = len(e), sum(e) / len(e)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in e) / n)
    return f"{sum(map(abs, e)) / n:8.3f} {mean:+8.3f} {deviation:8.3f}"


def measure(program, work, copy, name, limit):
    """Runs one intervention and returns its line."""
    files = {k: os.path.join(work, f"{os.path.basename(copy)}-{name}-{k}") for k in
             ("idx3-ubyte", "parents.csv", "measured.csv", "null-idx3-ubyte", "seen.csv")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([program, "counterfactual", "--model", copy, "--images", os.path.join(work, "images-idx3-ubyte"),
                    "--factuals", os.path.join(work, "factuals.csv"), "--do-file", os.path.join(work, name + ".csv"),
                    "--out", files["idx3-ubyte"], "--parents", files["parents.csv"], "--threads", "1", "--batch",
                    "16"], check=True, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([program, "morpho", "measure", "--images", files["idx3-ubyte"], "--out", files["measured.csv"],
                    "--threads", "1"], check=True, stderr=subprocess.DEVNULL)
    subprocess.run([program, "counterfactual", "--model", copy, "--null", "--steps", "2", "--images",
                    files["idx3-ubyte"], "--out", files["null-idx3-ubyte"], "--parents", files["seen.csv"],
                    "--threads", "1", "--batch", "16"], check=True, stderr=subprocess.DEVNULL)
    parts = [errors(column(files["measured.csv"], v), column(files["parents.csv"], v)) for v in VARIABLES[1:]]
    parts.append(errors(column(files["seen.csv"], "intensity"), column(files["measured.csv"], "intensity")))
    return "  ".join(parts) + f"  {(after.ru_utime - before.ru_utime) / limit:7.3f}"


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__.strip())
    bundle, data, work = sys.argv[1:4]
    limit, first, span = (int(os.environ.get(k, v)) for k, v in
                          (("LIMIT", "120"), ("FIRST", "45000"), ("SPAN", "5000")))
    program = os.environ.get("DIFFSCM", "build/diffscm")
    os.makedirs(work, exist_ok=True)
    prepare(data, work, limit, first, span)
    print(f"{'tolerances':14} {'do':10} {'thickness: mean |e|, bias, deviation':26}  "
          f"{'intensity: the same':26}  {'its reading':26}  seconds")
    for candidate in sys.argv[4:]:
        thickness, intensity = map(float, candidate.split(":"))
        copy = os.path.join(work, "model-" + candidate.replace(":", "-"))
        set_tolerances(bundle, copy, {"thickness": thickness, "intensity": intensity})
        for name in INTERVENTIONS:
            print(f"{candidate:14} {name:10} {measure(program, work, copy, name, limit)}", flush=True)


main()
