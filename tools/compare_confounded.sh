#!/bin/sh
# A confounded MorphoMNIST: thick strokes go with high digits (thickness = 1 + .3 digit + .3 noise). Trains a score
# network that is told digit, thickness and intensity, and one of observations that is told the digit alone, asks both
# for another digit, and prints how far the thickness, which the graph does not move, went along. About 40 minutes of
# one core with AVX-512. Interrupted at any point, the same command goes on where it was.
#
# usage: tools/compare_confounded.sh DATA_DIR WORK_DIR
#   DATA_DIR  IDX files of MNIST: train, and dev or t10k
#   WORK_DIR  gets images, weights and results
# DIFFSCM names the program (build/diffscm).
set -eu
[ $# -eq 2 ] || { sed -n '7,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$1 work=$2
program=${DIFFSCM:-build/diffscm}
held=t10k m='train[0:20000]'
[ ! -e "$data/dev-images-idx3-ubyte.gz" ] || held=dev
mkdir -p "$work"

render() { # split, part of it, seed
    [ -e "$work/$1-variables.csv" ] ||
        "$program" morpho render --data "$data" --split "$1$2" --seed "$3" --confounded --out "$work"
}
train() { # file, task, options
    file=$1
    shift
    [ -e "$work/$file.st" ] ||
        "$program" train "$@" --data "$work" --split "$m" --batch 32 --threads 1 --out "$work/$file.st" \
            --checkpoint "$work/$file.ck"
}
predictor() { # variable, network's mult, seed
    train "$1" predictor --variable "$1" --mult "$2" --seed "$3" --samples 40000 --clean-share .7 --lr 2e-3 --warmup 100 \
        --ema .998 --blocks 1
}
score() { # file, parents, samples
    train "$1" score --conditional --parents "$2" --prediction v --attention 7 --samples "$3" --lr 1e-3 --ema .9995 --seed 1
}
bundle() { # name, options
    name=$1
    shift
    "$program" bundle --out "$work/$name" --name "$name" --licence "CC BY-SA 3.0" --sampler implicit --steps 6 "$@"
    "$program" bundle --out "$work/$name" --measured "$work/measured.json"
}
ask() { # model, factual values
    "$program" counterfactual --model "$work/$1" --images "$work/$held-images-idx3-ubyte.gz" --factuals "$2" \
        --do-file "$work/do.csv" --out "$work/$1-idx3-ubyte" --threads 1
    "$program" morpho measure --images "$work/$1-idx3-ubyte" --out "$work/$1.csv"
}

render train '[0:24000]' 3
render $held '[0:300]' 4
predictor thickness 1,1,1 2
predictor intensity 1,1,1 3
predictor digit 1,1,2 4
score told digit,thickness,intensity 150000
score observed digit 100000
head -n 20001 "$work/train-variables.csv" >"$work/variables.csv"
"$program" fit --table "$work/variables.csv" --graph 'thickness -> intensity; digit, thickness, intensity -> image' \
    --range thickness=.5..9 --range intensity=64..255 --out "$work/graph.json"
printf '{"calibration": [{"sampler":"implicit","steps":6,"scale":1.2}], "scale": "auto", "min_change": 6}\n' \
    >"$work/measured.json"
bundle told --causal "$work/graph.json" --score "$work/told.st" --predictor "digit=$work/digit.st" \
    --predictor "thickness=$work/thickness.st" --predictor "intensity=$work/intensity.st" --tolerance thickness=.15 \
    --tolerance intensity=2
bundle observed --variable digit --score "$work/observed.st" --predictor "$work/digit.st"
cut -d, -f1 "$work/$held-variables.csv" >"$work/digits.csv"
# Another digit each.
awk 'NR == 1 { print; srand(5); next } { print ($1 + 1 + int(rand() * 9)) % 10 }' "$work/digits.csv" >"$work/do.csv"
ask told "$work/$held-variables.csv"
ask observed "$work/digits.csv"
for model in told observed; do
    paste -d, "$work/$held-variables.csv" "$work/do.csv" "$work/$model.csv" | awk -F, -v model=$model '
        NR == 1 { for (i = 1; i <= NF; i++) if ($i == "thickness") at[++n] = i; next }
        { x = $4 - $1; y = $at[2] - $at[1]; far += y < 0 ? -y : y; sx += x; sy += y; sxx += x * x; sxy += x * y; count++ }
        END {
            printf "%s: thickness moved by %.2f pixels in the mean, by %.3f per digit\n", model, far / count,
                (sxy - sx * sy / count) / (sxx - sx * sx / count)
        }'
done
