#!/bin/sh
# Trains every network of a shipped bundle and assembles it. Interrupted at any point, the same
# command goes on where it was.
#
# usage: tools/train_bundle.sh mnist|fashion DATA_DIR WORK_DIR OUT_DIR
#   DATA_DIR  IDX files: train-images-idx3-ubyte[.gz] and labels, and the same for the held-out split
#             (mnist: dev, or t10k where there is none; fashion: t10k)
#   WORK_DIR  checkpoints, loss curves (CSV), held-out figures
#   OUT_DIR   the bundle
# DIFFSCM names the program (build/diffscm).
set -eu
[ $# -eq 4 ] || { sed -n '5,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
name=$1 data=$2 work=$3 out=$4
program=${DIFFSCM:-build/diffscm}
held=t10k search=
m='train[0:45000]' p='train[50000:60000]' # M and P of docs/evaluation.md; calibrate's default is S
case $name in
mnist)
    [ ! -e "$data/dev-images-idx3-ubyte.gz" ] || held=dev
    labels=0,1,2,3,4,5,6,7,8,9 variable=digit
    provenance="MNIST training images (LeCun, Cortes, Burges; CC BY-SA 3.0)"
    search=" search" # a VAE that searches weigh their results by
    walk="--steps 5 --ratio 0.98" calibrated='[{"sampler":"implicit","steps":5,"scale":1.68},{"sampler":"implicit","steps":20,"scale":1.68}]'
    chosen='"min_change": 56, "change_cost": 0.015, "max_spot": 8' samples=400000 predictor_samples=130000
    ;;
fashion)
    labels="t-shirt,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot" variable=garment
    provenance="Fashion-MNIST training images (Zalando SE; MIT)"
    walk="--steps 5 --ratio 0.98" calibrated='[{"sampler":"implicit","steps":5,"scale":1.12},{"sampler":"implicit","steps":20,"scale":1.12}]'
    chosen='"confidence": 0.5, "min_change": 16' samples=330000 predictor_samples=80000
    ;;
*)
    echo "$0: $name: must be mnist or fashion" >&2
    exit 2
    ;;
esac
mkdir -p "$work"
strokes=$work/strokes.csv

# train FILE TASK OPTION...: skipped when FILE is there
train() {
    file=$1
    shift
    [ -e "$work/$file.st" ] && return
    "$program" train "$@" --data "$data" --out "$work/$file.st" --checkpoint "$work/$file.ck" \
        --log "$work/$file.csv" >"$work/$file.part"
    mv "$work/$file.part" "$work/$file.txt"
    cat "$work/$file.txt"
}

set -f # split names hold brackets
# shellcheck disable=SC2086  # the settings are lists of words
{
    train first score --conditional --parents $variable --prediction v --split $m --attention 7 \
        --batch 32 --samples $samples --lr 1e-3 --seed 1
    if [ "$name" = mnist ]; then # then told thickness and slant too, from these weights on
        if [ ! -e "$strokes" ]; then
            "$program" morpho measure --data "$data" --split train --out "$work/measures.csv"
            cut -d, -f1,2,4 "$work/measures.csv" >"$strokes.part"
            mv "$strokes.part" "$strokes"
        fi
        train told score --conditional --parents digit,thickness,slant --table "$strokes" \
            --prediction v --split $m --attention 7 --batch 32 --samples 190000 --lr 7e-4 --ema .9995 \
            --seed 5 --init "$work/first.st"
        train score score --conditional --parents digit,thickness,slant --table "$strokes" \
            --prediction v --split $m --attention 7 --batch 32 --samples 400000 --lr 6e-4 --ema .9998 \
            --seed 31 --init "$work/told.st"
        for stroke in thickness slant; do
            train $stroke predictor --variable $stroke --table "$strokes" --clean-share .7 --split $m \
                --batch 32 --samples 50000 --blocks 1 --mult 1,1,1 --lr 2e-3 --warmup 100 --ema .998 \
                --seed 3
        done
        head -n 45001 "$strokes" >"$work/strokes-m.csv" # M
        [ -e "$work/model.json" ] || "$program" fit --table "$work/strokes-m.csv" --graph \
            'digit -> thickness; digit -> slant; digit, thickness, slant -> image' \
            --range thickness=.5..10 --range slant=-1.2..1.4 --out "$work/model.json"
    else
        train score score --conditional --parents $variable --prediction v --split $m --attention 7 \
            --batch 32 --samples 67000 --lr 6e-4 --ema .9997 --seed 11 --init "$work/first.st"
    fi
    train predictor predictor --split $m --batch 64 --samples $predictor_samples --mult 1,2,2 \
        --head-channels 64 --lr 1e-3 --seed 2 --eval-split $held --eval-limit 1000
    train baseline_ae autoencoder --samples 120000 --lr 2e-3 --seed 5 --eval-split $held
    for e in 0 1 2; do
        train "ensemble$e" oracle --channels 8 --samples 200000 --lr 2e-3 --seed "10$e" \
            --eval-split $held
    done
}
PARTS="acceptance panel selection$search" tools/train_judges.sh "$data" "$work/judges"
[ -e "$work/measured.json" ] ||
    printf '{"calibration": %s, "scale": "auto", %s}\n' "$calibrated" "$chosen" >"$work/measured.json"

set --
for e in 0 1 2; do set -- "$@" --ensemble "$work/ensemble$e.st"; done
if [ "$name" = mnist ]; then
    set -- "$@" --version 9 --search-split "$m" --causal "$work/model.json" --predictor "digit=$work/predictor.st" \
        --predictor "thickness=$work/thickness.st" --predictor "slant=$work/slant.st" \
        --tolerance thickness=.5 --tolerance slant=.15
else
    set -- "$@" --version 5 --variable $variable --labels "$labels" --predictor "$work/predictor.st"
fi
# shellcheck disable=SC2086
"$program" bundle --out "$out" --name "$name" --licence MIT --provenance "$provenance" \
    --score "$work/score.st" --baseline-autoencoder "$work/baseline_ae.st" \
    --judges "$work/judges" --pool-data "$data" --pool-split "$p" --sampler implicit $walk "$@"
"$program" bundle --out "$out" --measured "$work/measured.json"
[ -e "$work/calibrated.json" ] ||
    "$program" calibrate --model "$out" --data "$data" --references 'train[0:45000]' --out "$work/calibrated.json"
"$program" bundle --out "$out" --measured "$work/calibrated.json"
