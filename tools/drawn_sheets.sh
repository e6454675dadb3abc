#!/bin/sh
# Draws the pictures of docs/evaluation-mnist.md: each method's sheet on digits that the model itself drew,
# since the images of MNIST are not shown.
#
# usage: tools/drawn_sheets.sh DATA_DIR WORK_DIR OUT_DIR
#   DATA_DIR  IDX files of MNIST: train-… are the pool of real images
#   WORK_DIR  the drawn digits and their report
#   OUT_DIR   gets drawn-<method>.png
# DIFFSCM names the program (build/diffscm).
set -eu
[ $# -eq 3 ] || { sed -n '5,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$1 work=$2 out=$3
program=${DIFFSCM:-build/diffscm}
each=6 # of every digit
mkdir -p "$work" "$out"

images=$work/drawn-images-idx3-ubyte labels=$work/drawn-labels-idx1-ubyte
# Big-endian numbers of an IDX header, a byte each: \0 and octal digits.
zeros='\0000\0000\0000'
count=$(printf '\\0%03o' $((10 * each)))
printf '%b' '\0000\0000\0010\0003' "$zeros" "$count" "$zeros" '\0034' "$zeros" '\0034' >"$images"
printf '%b' '\0000\0000\0010\0001' "$zeros" "$count" >"$labels"
for digit in 0 1 2 3 4 5 6 7 8 9; do
    "$program" sample --count $each --seed "10$digit" --do "digit=$digit" --out "$work/$digit-idx3"
    label=$(printf '\\0%03o' $digit)
    tail -c +17 "$work/$digit-idx3" >>"$images"
    for _ in $(seq $each); do printf '%b' "$label"; done >>"$labels"
done

"$program" evaluate --data "$work" --split drawn --pool-data "$data" --report "$work/report" \
    --methods ours,published:ratio=0.95:dynamic=0:scale=64,pgd,greedy,prototype --frontier '' \
    --study-limit 0 --slow-study-limit 0 --no-cost
for method in ours published pgd greedy prototype; do
    cp "$work/report/sheet-$method"*.png "$out/drawn-$method.png"
done
