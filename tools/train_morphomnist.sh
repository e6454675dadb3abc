#!/bin/sh
# Trains every network of the morphomnist bundle and its judges, fits its mechanisms and assembles it.
# Interrupted at any point, the same command goes on where it was.
#
# usage: tools/train_morphomnist.sh DATA_DIR WORK_DIR OUT_DIR
#   DATA_DIR  `diffscm morpho render --split train`: train-images-idx3-ubyte[.gz] and labels,
#             train-variables.csv, 60,000 images; the first 45,000 make the model and its acceptance nets,
#             the last 10,000 the panel
#   WORK_DIR  checkpoints, loss curves (CSV), held-out figures
#   OUT_DIR   the bundle
# DIFFSCM names the program (build/diffscm), SCORE a score network to take instead of training one.
set -eu
[ $# -eq 3 ] || { sed -n '5,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$1 work=$2 out=$3
program=${DIFFSCM:-build/diffscm}
m='train[0:45000]' held='train[45000:50000]' p='train[50000:60000]' # M, S and P of docs/evaluation.md
mkdir -p "$work"

# train FILE TASK OPTION...: skipped when FILE is there
train() {
    file=$1
    shift
    [ -e "$work/$file.st" ] && return
    "$program" train "$@" --data "$data" --split "$m" --threads 1 --batch 32 --out "$work/$file.st" \
        --checkpoint "$work/$file.ck" --log "$work/$file.csv" >"$work/$file.part"
    mv "$work/$file.part" "$work/$file.txt"
    cat "$work/$file.txt"
}

# Predictors observe images without noise, so most of theirs have none.
predictor() {
    file=$1
    shift
    train "$file" predictor --clean-share .7 --lr 2e-3 --warmup 100 --ema .998 \
        --blocks 1 --eval-split "$held" --eval-limit 1000 "$@"
}

if [ -z "${SCORE:-}" ]; then
    train first score --conditional --parents digit,thickness,intensity \
        --prediction v --attention 7 --samples 250000 --lr 1e-3 --seed 1
    train second score --conditional --parents digit,thickness,intensity \
        --prediction v --attention 7 --samples 77600 --lr 5e-4 --ema .9997 --seed 12 --init "$work/first.st"
    train third score --conditional --parents digit,thickness,intensity \
        --prediction v --attention 7 --samples 200000 --lr 6e-4 --ema .9998 --seed 33 --init "$work/second.st"
    # The third hits numbers better, the second is nearer to the truth: shares of both, chosen on S.
    tools/average_weights.py "$work/second.st" "$work/third.st" .75 "$work/score.st"
fi
predictor thickness --variable thickness --samples 60000 --mult 1,1,1 --seed 2
predictor first-intensity --variable intensity --samples 50000 --mult 1,1,1 --seed 3
train intensity predictor --variable intensity --clean-share .85 --lr 1.5e-3 --warmup 200 --ema .9995 --blocks 1 \
    --mult 1,1,1 --eval-split "$held" --eval-limit 1000 --samples 240000 --seed 23 --init "$work/first-intensity.st"
predictor digit --variable digit --samples 60000 --mult 1,1,2 --seed 4
head -n 45001 "$data/train-variables.csv" >"$work/variables.csv"
[ -e "$work/model.json" ] || "$program" fit --table "$work/variables.csv" \
    --graph 'thickness -> intensity; digit, thickness, intensity -> image' \
    --range thickness=.5..9 --range intensity=64..255 --out "$work/model.json"
printf '{"calibration": [{"sampler":"implicit","steps":6,"scale":1.2},{"sampler":"implicit","steps":10,"scale":1.2},{"sampler":"implicit","steps":20,"scale":1.2}], "scale": "auto", "min_change": 6, "rounds": [3, 3, 2, 1, 1, 1]}\n' \
    >"$work/measured.json"

DIFFSCM=$program PARTS="${PARTS:-panel acceptance}" tools/train_judges.sh "$data" "$work/judges"

# Tolerances and what the predictor of the intensity reads too much in results: tools/choose_tolerances.py, on 120
# images of S.
"$program" bundle --out "$out" --name morphomnist --version 5 --licence MIT \
    --provenance "MNIST training digits (LeCun, Cortes, Burges; CC BY-SA 3.0), rendered as MorphoMNIST" \
    --causal "$work/model.json" --score "${SCORE:-$work/score.st}" \
    --predictor "digit=$work/digit.st" --predictor "thickness=$work/thickness.st" \
    --predictor "intensity=$work/intensity.st" --tolerance thickness=.15 --tolerance intensity=2 \
    --result-bias intensity=1.7 \
    --judges "$work/judges" --pool-data "$data" --pool-split "$p" --sampler implicit --steps 6
"$program" bundle --out "$out" --measured "$work/measured.json"
[ -e "$work/calibrated.json" ] || "$program" calibrate --model "$out" --data "$data" --references "$m" \
    --familiarity-limit 500 --out "$work/calibrated.json"
"$program" bundle --out "$out" --measured "$work/calibrated.json"
