#!/bin/sh
# Trains the networks that judge a model's images and take no part in making them. Training images are
# split by file order: M 0..44999 (score network, predictors, acceptance nets, selection judges),
# S 45000..49999 (choices, temperatures, quantiles), P 50000..59999 (the panel only).
#
# usage: tools/train_judges.sh DATA_DIR OUT_DIR
#   DATA_DIR  IDX files: train-images-idx3-ubyte[.gz] and labels, 60,000 of them
#   OUT_DIR   gets FILE.st (float16 weights), FILE.ck (checkpoint), FILE.csv (losses), FILE.txt
#             (figures on S); what is there already is not trained again
# DIFFSCM names the program (build/diffscm), PARTS what is trained (acceptance panel selection, of
# them and search: the VAE that searches weigh their results by, which is trained on M).
set -eu
[ $# -eq 2 ] || { sed -n '6,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$1 out=$2
program=${DIFFSCM:-build/diffscm}
m='train[0:45000]' s='train[45000:50000]' p='train[50000:60000]'
mkdir -p "$out"

# net FILE SPLIT TASK OPTION...
net() {
    file=$1 split=$2
    shift 2
    [ ! -e "$out/$file.txt" ] || return 0
    "$program" train "$@" --data "$data" --split "$split" --eval-split "$s" --threads 1 --lr 2e-3 \
        --out "$out/$file.st" --checkpoint "$out/$file.ck" --log "$out/$file.csv" >"$out/$file.part"
    mv "$out/$file.part" "$out/$file.txt"
    echo "$file: $(cat "$out/$file.txt")"
}

acceptance() { # light augmentation: these also see what people draw
    net acceptance-0 "$m" oracle --arch plain_cnn --channels 8 --samples 250000 --dropout 0.2 --seed 21
    net acceptance-1 "$m" oracle --arch resnet --channels 8 --samples 200000 --seed 22
}
selection() { # clean
    net selection-classifier "$m" oracle --arch cnn --channels 16 --still --batch 64 --samples 80000 --dropout 0.2 --seed 31
    net selection-vae "$m" vae --still --channels 6 --latent 18 --batch 64 --samples 120000 --seed 32
}
search() { # clean
    net search-vae "$m" vae --still --channels 6 --latent 16 --batch 64 --samples 120000 --seed 23
}
panel() { # clean
    net panel-classifier-0 "$p" oracle --arch cnn --channels 16 --still --samples 120000 --dropout 0.3 --seed 41
    net panel-classifier-1 "$p" oracle --arch plain_cnn --channels 12 --still --samples 200000 --dropout 0.4 --seed 42
    net panel-classifier-2 "$p" oracle --arch resnet --channels 8 --still --samples 100000 --batch 64 --dropout 0.2 --seed 43
    net panel-vae-0 "$p" vae --arch mlp_vae --still --channels 24 --latent 16 --batch 64 --samples 120000 --seed 44
    net panel-vae-1 "$p" vae --still --channels 6 --latent 16 --batch 64 --samples 120000 --seed 45
    net panel-vae-2 "$p" vae --still --channels 5 --latent 20 --batch 64 --samples 120000 --seed 46
    net panel-autoencoder "$p" autoencoder --batch 64 --samples 40000 --seed 47
    for label in 0 1 2 3 4 5 6 7 8 9; do
        net "panel-autoencoder-$label" "$p" autoencoder --class $label --batch 32 --samples 12000 --seed "5$label"
    done
}
for part in ${PARTS:-acceptance panel selection}; do
    case $part in
    acceptance | selection | search | panel) $part ;;
    *) echo "$0: PARTS: $part: must be of acceptance, selection, search, panel" >&2; exit 2 ;;
    esac
done
