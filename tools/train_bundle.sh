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
held=t10k
case $name in
mnist)
    [ ! -e "$data/dev-images-idx3-ubyte.gz" ] || held=dev
    labels=0,1,2,3,4,5,6,7,8,9 variable=digit
    provenance="MNIST training images (LeCun, Cortes, Burges; CC BY-SA 3.0)"
    walk="--steps 5 --ratio 0.98"
    score="--samples 800000 --ema 0.9995" predictor="--samples 320000" oracle="--samples 260000" vae="--latent 16"
    ;;
fashion)
    labels="t-shirt,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot" variable=garment
    provenance="Fashion-MNIST training images (Zalando SE; MIT)"
    walk="--steps 20 --ratio 0.95 --limit --noise-limit 2.5 --eta 0.3"
    score="--samples 420000 --ema 0.999" predictor="--samples 240000" oracle="--still --samples 500000" vae="--latent 8"
    ;;
*)
    echo "$0: $name: must be mnist or fashion" >&2
    exit 2
    ;;
esac
mkdir -p "$work"

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

# shellcheck disable=SC2086  # the settings are lists of words
{
    train score score $score --lr 1e-3 --seed 1 --eval-split $held --eval-limit 1000
    train predictor predictor $predictor --mult 1,2,4,4 --head-channels 64 --lr 1e-3 --seed 2 \
        --eval-split $held --eval-limit 1000
    train oracle oracle $oracle --channels 32 --lr 1.5e-3 --dropout 0.2 --seed 7 --eval-split $held
    train vae vae --samples 120000 --channels 16 $vae --lr 2e-3 --seed 3 --eval-split $held
    train ae autoencoder --samples 120000 --lr 2e-3 --seed 4 --eval-split $held
    train baseline_ae autoencoder --samples 120000 --lr 2e-3 --seed 5 --eval-split $held
    for c in 0 1 2 3 4 5 6 7 8 9; do
        train "ae$c" autoencoder --class $c --samples 90000 --lr 2e-3 --seed "1$c"
    done
    for m in 0 1 2; do
        train "ensemble$m" oracle --channels 8 --samples 200000 --lr 2e-3 --seed "10$m" \
            --eval-split $held
    done
}

set --
for c in 0 1 2 3 4 5 6 7 8 9; do set -- "$@" --class-autoencoder "$work/ae$c.st"; done
for m in 0 1 2; do set -- "$@" --ensemble "$work/ensemble$m.st"; done
[ ! -e "$work/measured.json" ] || set -- "$@" --measured "$work/measured.json"
# shellcheck disable=SC2086
"$program" bundle --out "$out" --name "$name" --provenance "$provenance" --variable $variable \
    --labels "$labels" --score "$work/score.st" --predictor "$work/predictor.st" \
    --oracle "$work/oracle.st" --vae "$work/vae.st" --autoencoder "$work/ae.st" \
    --baseline-autoencoder "$work/baseline_ae.st" \
    --pool-data "$data" --sampler residual $walk "$@"
