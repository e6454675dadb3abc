#!/bin/sh
# Trains every network of the cifar10 bundle and assembles it. Interrupted at any point, the same command
# goes on where it was. Shares are of each class: M 0 to 60 per cent (score network, predictor, acceptance
# nets, a selection judge), S 60 to 70 (settings, bounds), P 70 to 100 (the panel only).
#
# usage: tools/train_cifar10.sh DATA WORK_DIR OUT_DIR
#   DATA      folder or tar archive with train/CLASS/FILE.jpg
#   WORK_DIR  weights, checkpoints, loss curves (CSV), figures on S
#   OUT_DIR   the bundle
# DIFFSCM names the program (build/diffscm), PARTS what is done
# (score classifiers acceptance selection predictor encoders bundle).
set -eu
[ $# -eq 3 ] || { sed -n '6,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$1 work=$2 out=$3
program=${DIFFSCM:-build/diffscm}
m='train[0%:60%]' s='train[60%:70%]' p='train[70%:100%]'
mkdir -p "$work/judges"

every=--flip
. "$(dirname "$0")/net.sh"
# Moved by whole pixels whose edges are repeated; turned pictures would have black corners.
classifier() {
    file=$1 split=$2
    shift 2
    net "judges/$file" "$split" oracle --still --shift 3 --batch 64 --lr 2e-3 "$@"
}

score() {
    net first "$m" score --conditional --parents class --prediction v --batch 32 --samples 320000 --channels 32 \
        --mult 1,2,3 --attention 8 --lr 1e-3 --ema .9995 --seed 1
    net score "$m" score --conditional --parents class --prediction v --batch 32 --samples 320000 --channels 32 \
        --mult 1,2,3 --attention 8 --lr 8e-4 --ema .9998 --seed 7 --init "$work/first.st"
}
classifiers() {
    net panel-first "$p" oracle --still --shift 3 --batch 64 --lr 2e-3 --arch resnet --channels 32 --samples 420000 \
        --dropout 0.1 --seed 41
    classifier panel-classifier-0 "$p" --arch resnet --channels 32 --samples 430000 --dropout 0.15 \
        --weight-decay 1e-3 --seed 61 --init "$work/panel-first.st"
    classifier panel-classifier-1 "$p" --arch cnn --channels 16 --samples 200000 --dropout 0.1 --seed 42
}
acceptance() {
    net acceptance-first "$m" oracle --still --shift 3 --batch 64 --lr 2e-3 --arch resnet --channels 32 \
        --samples 290000 --dropout 0.1 --seed 63
    classifier acceptance-0 "$m" --arch resnet --channels 32 --samples 400000 --dropout 0.15 --weight-decay 1e-3 \
        --seed 71 --init "$work/acceptance-first.st"
    classifier acceptance-1 "$m" --arch resnet --channels 32 --samples 450000 --dropout 0.1 --weight-decay 5e-4 --seed 72
}
selection() {
    classifier selection-classifier "$m" --arch resnet --channels 16 --samples 300000 --dropout 0.1 --seed 22
}
predictor() {
    net predictor "$m" predictor --mult 1,1,1 --head-channels 32 --batch 32 --shift 2 --samples 50000 \
        --clean-share .7 --lr 2e-3 --seed 2
}
encoders() {
    net judges/panel-vae-0 "$p" vae --still --channels 6 --latent 24 --batch 64 --samples 60000 --lr 2e-3 --seed 44
}
# What the card's evaluation found.
quality='{"poor": true, "poor_because": "many counterfactuals are crude: colours and textures of the target on the old shapes",
 "would_help": "training the score network on for many hours"}'
bundle() {
    [ -e "$work/measured.json" ] ||
        printf '{"calibration": [{"sampler":"implicit","steps":10,"scale":2}], "scale": "auto", "quality": %s}\n' \
            "$quality" >"$work/measured.json"
    "$program" bundle --out "$out" --name cifar10 --version 3 --licence "not stated" \
        --provenance "CIFAR-10 training images (Krizhevsky 2009; no licence stated), a public copy of JPEG files" \
        --variable class --labels "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck" \
        --score "$work/score.st" --predictor "$work/predictor.st" --judges "$work/judges" \
        --pool-data "$data" --pool-split "$p" --sampler implicit --steps 10 --ratio 0.98
    "$program" bundle --out "$out" --measured "$work/measured.json"
    [ -e "$work/calibrated.json" ] ||
        "$program" calibrate --model "$out" --data "$data" --split "$s" --familiarity-limit 150 \
            --references "$m" --out "$work/calibrated.json"
    "$program" bundle --out "$out" --measured "$work/calibrated.json"
}
for part in ${PARTS:-score classifiers acceptance selection predictor encoders bundle}; do
    case $part in
    score | classifiers | acceptance | selection | predictor | encoders | bundle) $part ;;
    *) echo "$0: PARTS: $part: must be of score, classifiers, acceptance, selection, predictor, encoders, bundle" >&2; exit 2 ;;
    esac
done
