"""diffscm beside PyTorch and ONNX Runtime: the same weights, images and settings, in one run.

    python3 bench/compare.py                        the ten example digits, this machine's python3
    python3 bench/compare.py --data DIR             MNIST images (DIR/dev-images-idx3-ubyte.gz …)
    python3 bench/compare.py --root DIR             also the python3-torch of a Debian root at DIR
    python3 bench/compare.py --rows batch-1,training --prefix "nice -n -5" --json all.json

The peer is bench/torch_peer.py: our own module of the same networks and the `published` sampler,
with PyTorch's defaults. A row "batch B" is a job of B images handed over at once: seconds until all
are done, per image; diffscm cuts it into parts of at most 8, at least one for each thread, and a
single image is worked on by all threads. A row "forward B" is one pass of the score network on B
images, which ONNX Runtime makes too where the python3 has onnxruntime (with the network as
torch.onnx.export writes it). "default" is the model's own sampler, a scale searched for each image,
and its guidance, beside the peer's published sampler. Each side takes the better of the thread counts, the peers
the better of all their versions; what starts and loads is not timed. A root (made, for example, by
`mmdebstrap --include=python3-torch,python3-onnxruntime,python3-onnx trixie DIR`, with /proc and /sys mounted in it)
needs the right to chroot. --json keeps every measurement and adds to those of earlier runs, so rows
can be measured one at a time.
"""
import argparse
import gzip
import json
import os
import re
import shlex
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.append(os.path.join(ROOT, "tools"))
import grey_png  # noqa: E402

PEER = os.path.join(ROOT, "bench", "torch_peer.py")
PUBLISHED = ["--sampler", "published", "--steps", "100", "--ratio", "0.75", "--dynamic", "--guidance",
             "anti-causal", "--min-change", "0"]
# row: images per job, jobs of the peer, jobs of diffscm, least factor wanted
ROWS = {"forward-1": (1, 30, 0, None), "forward-16": (16, 10, 0, None), "batch-1": (1, 5, 10, 10), "batch-10": (10, 2, 4, 8), "batch-100": (100, 1, 2, 5),
        "default": (1, 5, 40, 40), "default-10": (10, 2, 4, None), "training": (64, 8, 0, 6)}


# ---- files --------------------------------------------------------------------------------------
def read_idx(path):
    raw = open(path, "rb").read()
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    dims = struct.unpack(">" + "I" * raw[3], raw[4:4 + 4 * raw[3]])
    return dims, raw[4 + 4 * raw[3]:]


def write_idx(path, dims, data):
    with open(path, "wb") as f:
        f.write(bytes([0, 0, 8, len(dims)]) + struct.pack(">" + "I" * len(dims), *dims) + data)


def read_picture(name):
    """The rows of a picture of examples/mnist."""
    with open(os.path.join(ROOT, "examples", "mnist", name), "rb") as f:
        return grey_png.rows(f.read())


def job_files(folder, args):
    """100 images with a target unlike their label, as IDX files; without --data the examples in turn."""
    images, targets = os.path.join(folder, "images"), os.path.join(folder, "targets")
    if args.data:
        dims, pixels = read_idx(os.path.join(args.data, f"{args.split}-images-idx3-ubyte.gz"))
        labels = read_idx(os.path.join(args.data, f"{args.split}-labels-idx1-ubyte.gz"))[1][:100]
        size = dims[1] * dims[2]
        side, pixels = dims[1:], pixels[:100 * size]
    else:
        pictures = [read_picture(f"{k}.png") for k in range(10)]
        side = len(pictures[0]), len(pictures[0][0])
        pixels = b"".join(b"".join(rows) for rows in pictures) * 10
        labels = bytes(range(10)) * 10
    write_idx(images, (100, *side), pixels)
    write_idx(targets, (100,), bytes((y + 1 + i % 9) % 10 for i, y in enumerate(labels)))
    return images, targets


# ---- running ------------------------------------------------------------------------------------
def run(args, command):
    done = subprocess.run([*shlex.split(args.prefix), *command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"compare: {shlex.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return done


class Peer:
    """A python3 with torch: this machine's, or one inside a root that sees a copy of the files."""

    def __init__(self, args, root, folder):
        self.args, self.command, self.folder = args, ["python3"], folder
        self.inside, self.script, self.model = folder, PEER, args.model
        if not root:
            self.command = shlex.split(args.python)
            return
        self.folder = tempfile.mkdtemp(prefix="compare-", dir=os.path.join(root, "tmp"))
        self.inside = self.folder[len(root.rstrip("/")):]
        self.command = ["chroot", root, "python3"]
        self.script, self.model = self.inside + "/torch_peer.py", self.inside + "/model"
        shutil.copy(PEER, self.folder)
        shutil.copytree(args.model, self.folder + "/model")
        for name in ("images", "targets"):
            shutil.copy(os.path.join(folder, name), self.folder)

    def measure(self, what, *options):
        done = run(self.args, [*self.command, self.script, what, self.model, *options])
        return json.loads(done.stdout.splitlines()[-1])

    def counterfactual(self, batch, jobs, threads):
        files = [f"{self.inside}/{name}" for name in ("images", "targets", "peer")]
        found = self.measure("counterfactual", *files, "--batch", str(batch), "--count",
                             str(batch * jobs), "--threads", str(threads), "--scale",
                             self.args.scale)
        return found["seconds_per_image"], found["torch"], read_idx(self.folder + "/peer")[1]

    def forward(self, batch, count, threads):
        """One entry of PyTorch and, where it is installed, one of ONNX Runtime."""
        found = self.measure("forward", "--batch", str(batch), "--count", str(count), "--threads",
                             str(threads))
        entries = [{"name": "PyTorch " + found["torch"], "threads": threads, "value": found["seconds"]}]
        if "onnxruntime" in found:
            entries.append({"name": "ONNX Runtime " + found["onnxruntime"], "threads": threads,
                            "value": found["onnx_seconds"]})
        return entries

    def train(self, batch, steps, threads):
        found = self.measure("train", "--batch", str(batch), "--count", str(steps), "--threads",
                             str(threads))
        return found["samples_per_second"], found["torch"]


def ours(args, folder, batch, jobs, threads, options):
    """Seconds per image of the program's own clock, and the images."""
    out, times = os.path.join(folder, "ours"), []
    single = ["--batch", "1", "--sessions", "1"] if batch == 1 else []  # one after the other
    for _ in range(1 if single else jobs):
        count = batch * jobs if single else batch
        done = run(args, [args.program, "counterfactual", "--model", args.model, "--images",
                          os.path.join(folder, "images"), "--targets", os.path.join(folder, "targets"),
                          "--out", out, "--limit", str(count), "--threads", str(threads), *single,
                          *options])
        times.append(float(re.search(r"images in ([0-9.]+) s", done.stderr).group(1)) / count)
    return statistics.median(times), read_idx(out)[1]


def bench_rows(args, part, threads):
    done = run(args, [args.program, "bench", "--model", args.model, "--only", part, "--json",
                      "--threads", str(threads)])
    return [r for r in json.loads(done.stdout)["rows"] if r["threads"] == threads]


def ours_training(args, threads):
    return max(r["images_per_second"] for r in bench_rows(args, "training", threads))


def ours_forward(args, batch, threads):
    return next(r["seconds"] for r in bench_rows(args, "networks", threads)
                if (r["name"], r["pass"], r["batch"]) == ("score", "forward", batch))


# ---- rows ---------------------------------------------------------------------------------------
def far(a, b):
    """Share of pixels more than 2/255 apart, over the images both sides made."""
    n = min(len(a), len(b))
    return sum(abs(x - y) > 2 for x, y in zip(a[:n], b[:n])) / n


def measure(args, row, folder, peers, kept):
    batch, peer_jobs, our_jobs, _ = ROWS[row]
    default = row.startswith("default")
    options = [] if default else [*PUBLISHED, "--scale", args.scale]
    found = kept.setdefault(row, {"ours": [], "peers": []})
    mine = None
    for threads in args.threads:
        if row == "training":
            found["ours"].append({"threads": threads, "value": ours_training(args, threads)})
        elif row.startswith("forward"):
            found["ours"].append({"threads": threads, "value": ours_forward(args, batch, threads)})
        else:
            seconds, mine = ours(args, folder, batch, our_jobs, threads, options)
            found["ours"].append({"threads": threads, "value": seconds})
    for peer in peers:
        for threads in args.threads:
            if row == "training":
                rate, version = peer.train(batch, peer_jobs, threads)
                found["peers"].append({"name": "PyTorch " + version, "threads": threads, "value": rate})
                continue
            if row.startswith("forward"):
                found["peers"] += peer.forward(batch, peer_jobs, threads)
                continue
            seconds, version, theirs = peer.counterfactual(batch, peer_jobs, threads)
            entry = {"name": "PyTorch " + version, "threads": threads, "value": seconds}
            if not default:
                entry["far"] = far(mine, theirs)
            found["peers"].append(entry)


def table(kept):
    print("| row | peer, version × threads | diffscm | factor | wanted "
          "| pixels beyond 2/255 |\n|---|---|---|---|---|---|")
    for row, (_, _, _, wanted) in ROWS.items():
        if not kept.get(row, {}).get("ours") or not kept[row]["peers"]:
            continue
        rate = row == "training"
        best = max if rate else min
        show = (lambda v: f"{v:.0f} samples/s") if rate else (lambda v: f"{v:.3g} s")
        mine = best(kept[row]["ours"], key=lambda m: m["value"])
        peer = best(kept[row]["peers"], key=lambda m: m["value"])
        factor = mine["value"] / peer["value"] if rate else peer["value"] / mine["value"]
        peers = ", ".join(f"{p['name']} × {p['threads']}: {show(p['value'])}"
                          for p in kept[row]["peers"])
        gaps = ", ".join(sorted({f"{p['name']}: {100 * p['far']:.2f} %"
                                 for p in kept[row]["peers"] if "far" in p}))
        print(f"| {row} | {peers} | ×{mine['threads']}: {show(mine['value'])} | {factor:.1f} "
              f"| {wanted or ''} | {gaps} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--program", default=os.path.join(ROOT, "build", "diffscm"))
    parser.add_argument("--model", default=os.path.join(ROOT, "models", "mnist"), metavar="DIR")
    parser.add_argument("--data", metavar="DIR", help="IDX files; without: examples/mnist")
    parser.add_argument("--split", default="dev", help="which files of --data (dev)")
    parser.add_argument("--python", default="python3", help="a python3 with torch; '' for none")
    parser.add_argument("--root", action="append", default=[], metavar="DIR")
    parser.add_argument("--rows", default=",".join(ROWS), help="of: " + ", ".join(ROWS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--scale", default="10", help="guidance, strong enough to change digits (10)")
    parser.add_argument("--prefix", default="", help="put before every measured command")
    parser.add_argument("--json", metavar="FILE", help="measurements, added to those there")
    args = parser.parse_args()
    rows = args.rows.split(",") if args.rows else []
    for row in rows:
        if row not in ROWS:
            parser.error(f"--rows {row}: must be of {', '.join(ROWS)}")
    args.program, args.model = os.path.abspath(args.program), os.path.abspath(args.model)
    kept = json.load(open(args.json)) if args.json and os.path.exists(args.json) else {}
    with tempfile.TemporaryDirectory() as folder:
        job_files(folder, args)
        peers = [Peer(args, None, folder)] if args.python else []
        try:
            for root in args.root:
                peers.append(Peer(args, os.path.abspath(root), folder))
            for row in rows:
                print(f"compare: {row}", file=sys.stderr)
                measure(args, row, folder, peers, kept)
                if args.json:
                    with open(args.json, "w") as f:
                        json.dump(kept, f, indent=1)
        finally:
            for peer in peers:
                if peer.folder != folder:
                    shutil.rmtree(peer.folder)
    table(kept)


if __name__ == "__main__":
    main()
