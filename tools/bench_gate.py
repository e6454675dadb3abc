"""Compares the ratios of `diffscm bench --quick` with the recorded ones: see bench_gate.sh.

A ratio is time over (direct FLOPs over multiply-add peak), so it hardly depends on how fast the
machine is. Compared are one-thread rows by their fastest repeat: neighbours of a shared machine make
repeats slower, never faster. A row that looks worse is measured again before it counts. Records are
kept per instruction set and kind of processor; on a kind without a record of its own, single rows may
differ for good reasons (cache sizes, units), so only the median of each section of another kind's
record decides, without OpenBLAS's own products: which of its kernels it takes there is its choice (SSE2
ones where it does not know the processor).
"""
import json
import statistics
import subprocess
import sys

RECORDED = "bench/recorded.json"
LIMIT = 1.5
TRIES = 3
PATIENCE = 8  # measurements before a row that stays worse fails: neighbours come and go


def measure(program, isa):
    """The machine, and {row: ratio}."""
    report = json.loads(subprocess.run([program, "bench", "--quick", "--json", *isa], check=True,
                                       stdout=subprocess.PIPE).stdout)
    rows = {}
    for row in report["rows"]:
        if row["threads"] == 1 and "ratio_min" in row:
            name = "/".join(str(row[key]) for key in ("section", "name", "pass", "batch"))
            rows[name] = row["ratio_min"]
    return report["machine"], rows


def record(program, isa):
    try:
        kept = json.load(open(RECORDED))
    except FileNotFoundError:
        kept = {}
    machine, rows = measure(program, isa)
    for _ in range(TRIES - 1):
        again = measure(program, isa)[1]
        rows = {name: min(ratio, again[name]) for name, ratio in rows.items()}
    kept.setdefault(machine["isa"], {})[machine["cpu"]] = {name: round(ratio, 3)
                                                           for name, ratio in rows.items()}
    with open(RECORDED, "w") as f:
        json.dump(kept, f, indent=1, sort_keys=True)
        f.write("\n")
    print(f"bench gate: {len(rows)} ratios of {machine['isa']} recorded")
    return 0


def worse_rows(now, then):
    return {name: now[name] / then[name] for name in then
            if name in now and now[name] > LIMIT * then[name]}


def worse_sections(now, then):
    sections = {}
    for name in then:
        if name in now and "(BLAS)" not in name:
            sections.setdefault(name.split("/")[0], []).append(now[name] / then[name])
    medians = {name: statistics.median(factors) for name, factors in sections.items()}
    return {name: factor for name, factor in medians.items() if factor > LIMIT}


def compare(program, isa):
    recorded = json.load(open(RECORDED))
    machine, now = measure(program, isa)
    entry = recorded.get(machine["isa"])
    if not entry:
        print(f"bench gate: nothing is recorded for {machine['isa']}; "
              f"there are {', '.join(sorted(recorded))}")
        return 0
    then, worse = entry.get(machine["cpu"]), worse_rows
    if not then:
        kind, then = sorted(entry.items())[0]
        print(f"bench gate: recorded on {kind}, this is {machine['cpu']}: "
              "only the median of each section decides")
        worse = worse_sections
    for _ in range(PATIENCE - 1):
        if not worse(now, then):
            break
        again = measure(program, isa)[1]
        now = {name: min(ratio, again.get(name, ratio)) for name, ratio in now.items()}
    compared = sum(name in now for name in then)
    for name, factor in sorted(worse(now, then).items()):
        print(f"bench gate: {name}: {factor:.2f} times the recorded ratio, at most {LIMIT}")
    print(f"bench gate: {compared} ratios compared, {len(worse(now, then))} worse")
    return 1 if worse(now, then) or not compared else 0


def main():
    program, *rest = sys.argv[1:]
    recording = rest[:1] == ["--record"]
    return (record if recording else compare)(program, rest[recording:])


if __name__ == "__main__":
    sys.exit(main())
