#!/bin/sh
# Draws loss curves: tools/plot_loss.sh OUT.svg LOG.csv...   (logs of diffscm train --log)
set -eu
[ $# -ge 2 ] || { sed -n '2s/^# //p' "$0" >&2; exit 2; }
out=$1
shift
plots=
for log in "$@"; do
    plots="$plots${plots:+, }'$log' using (\$2/1000):3 skip 1 with lines lw 1.5 title '$(basename "$log" .csv)'"
done
gnuplot <<PLOT
set terminal svg size 720,400 font 'sans-serif,12' background 'white'
set output '$out'
set datafile separator ','
set logscale y
set grid
set xlabel 'thousand samples'
set ylabel 'loss'
plot $plots
PLOT
