#!/bin/sh
# Trains every network of the pneumonia bundle and assembles it. Interrupted at any point, the same command
# goes on where it was. Shares are of each class: M 0 to 60 per cent (score network, predictor, acceptance
# nets, selection judges), S 60 to 75 (settings, bounds), P 75 to 100 (the panel only).
#
# usage: tools/train_pneumonia.sh DATA_DIR WORK_DIR OUT_DIR
#   DATA_DIR  IDX files train-images-idx3-ubyte[.gz] and labels: 0 normal, 1 pneumonia
#   WORK_DIR  weights, checkpoints, loss curves (CSV), figures on S
#   OUT_DIR   the bundle
# DIFFSCM names the program (build/diffscm), INIT the weights that the score network begins with
# (models/fashion/score.safetensors), PARTS what is done (score predictor judges bundle).
set -eu
[ $# -eq 3 ] || { sed -n '6,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$1 work=$2 out=$3
program=${DIFFSCM:-build/diffscm}
m='train[0%:60%]' s='train[60%:75%]' p='train[75%:100%]'
mkdir -p "$work/judges"

# One picture in ten is of a normal chest: both classes are drawn alike.
every=--balance
. "$(dirname "$0")/net.sh"

# Hearts lie on the left: pictures are moved, never mirrored.
score() {
    net score "$m" score --conditional --parents class --prediction v --attention 7 --batch 32 --shift 1 \
        --init "${INIT:-models/fashion/score.safetensors}" --samples 31000 --lr 1e-3 --seed 1
}
predictor() {
    net predictor "$m" predictor --mult 1,2,2 --head-channels 64 --batch 64 --shift 1 --samples 23600 \
        --lr 1e-3 --seed 2
}
judges() {
    net judges/panel-classifier-0 "$p" oracle --arch cnn --channels 16 --samples 60000 --dropout 0.3 --lr 2e-3 --seed 41
    net judges/panel-classifier-1 "$p" oracle --arch plain_cnn --channels 12 --samples 80000 --dropout 0.4 --lr 2e-3 --seed 42
    net judges/panel-classifier-2 "$p" oracle --arch resnet --channels 8 --batch 64 --samples 60000 --dropout 0.2 --lr 2e-3 --seed 43
    net judges/acceptance-0 "$m" oracle --arch plain_cnn --channels 8 --samples 100000 --dropout 0.2 --lr 2e-3 --seed 21
    net judges/acceptance-1 "$m" oracle --arch resnet --channels 8 --samples 80000 --lr 2e-3 --seed 22
    net judges/panel-vae-0 "$p" vae --arch mlp_vae --still --shift 1 --channels 24 --latent 16 --batch 64 --samples 60000 --lr 2e-3 --seed 44
    net judges/panel-vae-1 "$p" vae --still --shift 1 --channels 6 --latent 16 --batch 64 --samples 60000 --lr 2e-3 --seed 45
    net judges/panel-vae-2 "$p" vae --still --shift 1 --channels 5 --latent 20 --batch 64 --samples 60000 --lr 2e-3 --seed 46
    net judges/panel-autoencoder "$p" autoencoder --batch 64 --samples 40000 --lr 2e-3 --seed 47
    for label in 0 1; do
        net "judges/panel-autoencoder-$label" "$p" autoencoder --class $label --batch 32 --samples 20000 --lr 2e-3 --seed "5$label"
    done
    net judges/selection-classifier "$m" oracle --arch cnn --channels 16 --batch 64 --samples 60000 --dropout 0.2 --lr 2e-3 --seed 31
    net judges/selection-vae "$m" vae --still --shift 1 --channels 6 --latent 18 --batch 64 --samples 60000 --lr 2e-3 --seed 32
}
bundle() {
    warning="An example for research and teaching, not a medical device: nothing here says anything about a patient."
    [ -e "$work/measured.json" ] ||
        printf '{"calibration": [{"sampler":"implicit","steps":6,"scale":1}], "scale": "auto"}\n' \
            >"$work/measured.json"
    "$program" bundle --out "$out" --name pneumonia --version 1 --licence "CC BY 4.0" \
        --provenance "PneumoniaMNIST of MedMNIST (Yang et al. 2023) from Kermany et al. 2018, CC BY 4.0; a public copy with 3,882 training images" \
        --warning "$warning" --variable class --labels "normal,pneumonia" --score "$work/score.st" \
        --predictor "$work/predictor.st" --judges "$work/judges" --pool-data "$data" --pool-split "$p" \
        --sampler implicit --steps 6 --ratio 0.98
    "$program" bundle --out "$out" --measured "$work/measured.json"
    [ -e "$work/calibrated.json" ] ||
        "$program" calibrate --model "$out" --data "$data" --split "$s" --out "$work/calibrated.json"
    "$program" bundle --out "$out" --measured "$work/calibrated.json"
}
for part in ${PARTS:-score predictor judges bundle}; do
    case $part in
    score | predictor | judges | bundle) $part ;;
    *) echo "$0: PARTS: $part: must be of score, predictor, judges, bundle" >&2; exit 2 ;;
    esac
done
