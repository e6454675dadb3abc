#!/bin/sh
# Makes the pictures of the blind reading in docs/evaluation.md: counterfactuals of development digits and of digits drawn on
# the page, those of the published sampler, and real digits, in one random order.
#
# usage: tools/read_blind.sh DATA_DIR OUT_DIR
#   DATA_DIR  IDX files of MNIST: dev-…
#   OUT_DIR   gets sheet-1.png … (for the readers), key.json (not for them) and the images
# Then: tools/blind_sheet.py --score OUT_DIR/key.json ANSWERS. Needs chromium and chromedriver.
# DIFFSCM names the program (build/diffscm).
set -eu
[ $# -eq 2 ] || { sed -n '5,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$1 out=$2
program=${DIFFSCM:-build/diffscm}
here=$(dirname "$0")
mkdir -p "$out"

# 140 images in a random order of a fixed seed: 100 with another class each, then 40 as they are.
python3 - "$here" "$data" "$out" <<'END'
import random, struct, sys
sys.path.append(sys.argv[1])
from blind_sheet import read_idx
data, out = sys.argv[2:]
dims, pixels = read_idx(data + "/dev-images-idx3-ubyte.gz")
labels = read_idx(data + "/dev-labels-idx1-ubyte.gz")[1]
size, draw = dims[1] * dims[2], random.Random(77)
order = draw.sample(range(dims[0]), 140)

def write(stem, items, targets):
    with open(f"{out}/{stem}-images", "wb") as f:
        f.write(struct.pack(">IIII", 0x803, len(items), *dims[1:]) + b"".join(pixels[i * size:(i + 1) * size] for i in items))
    with open(f"{out}/{stem}-targets", "wb") as f:
        f.write(struct.pack(">II", 0x801, len(items)) + bytes(targets))

write("pairs", order[:100], [(labels[i] + 1 + draw.randrange(9)) % 10 for i in order[:100]])
write("real", order[100:], [labels[i] for i in order[100:]])
END

"$program" counterfactual --images "$out/pairs-images" --targets "$out/pairs-targets" --out "$out/ours-images"
"$program" counterfactual --images "$out/pairs-images" --targets "$out/pairs-targets" --limit 30 --sampler published \
    --guidance anti-causal --steps 100 --ratio .75 --dynamic --scale 24 --min-change 0 --out "$out/published-images"
python3 tests/browser/run.py "$program" --drawings "$out/drawn"
"$here/blind_sheet.py" "$out/sheet" --seed 20261129 "ours=$out/ours-images:$out/pairs-targets" \
    "drawn=$out/drawn-images:$out/drawn-targets" "published=$out/published-images:$out/pairs-targets" \
    "real=$out/real-images:$out/real-targets"
mv "$out/sheet-key.json" "$out/key.json"
