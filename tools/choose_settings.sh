#!/bin/sh
# Measures candidate settings of a bundle on the selection split by its selection judges: what steps and
# usual scale are chosen by. Nothing of the panel or of the development images takes part.
#
# usage: tools/choose_settings.sh BUNDLE DATA_DIR WORK_DIR STEPS:SCALE[:MIN_CHANGE[:CONFIDENCE[:CHANGE_COST[:MAX_SPOT]]]]...
#   BUNDLE    with selection judges (tools/train_judges.sh)
#   DATA_DIR  IDX files of the training images
#   WORK_DIR  gets a report per candidate and settings.md, the table
# DIFFSCM names the program (build/diffscm), LIMIT the images (400), SPLIT them (train[45000:50000]).
set -eu
[ $# -ge 4 ] || { sed -n '5,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
bundle=$1 data=$2 work=$3
shift 3
program=${DIFFSCM:-build/diffscm}
sampler=$(sed -n 's/.*"sampler": *"\([a-z]*\)".*/\1/p' "$bundle/manifest.json" | head -n 1)
mkdir -p "$work"
for setting; do
    name=$(printf %s "$setting" | tr : -)
    IFS=: read -r steps scale keep sure cost spot <<EOF
$setting
EOF
    [ ! -e "$work/$name/judges.md" ] || continue
    rm -rf "$work/$name-model"
    cp -r "$bundle" "$work/$name-model"
    printf '{"calibration": [{"sampler": "%s", "steps": %s, "scale": %s}], "scale": "auto"%s%s%s%s}\n' \
        "$sampler" "$steps" "$scale" "${keep:+, \"min_change\": $keep}" \
        "${sure:+, \"confidence\": $sure}" "${cost:+, \"change_cost\": $cost}" "${spot:+, \"max_spot\": $spot}" \
        >"$work/$name.json"
    "$program" bundle --out "$work/$name-model" --measured "$work/$name.json" >/dev/null
    "$program" evaluate --model "$work/$name-model" --data "$data" --split "${SPLIT:-train[45000:50000]}" \
        --limit "${LIMIT:-400}" --methods ours --steps "$steps" --judges selection --frontier '' \
        --study-limit 1 --no-sheets --no-cost --threads 1 --report "$work/$name" >"$work/$name.log"
done
{
    first=true
    for setting; do
        name=$(printf %s "$setting" | tr : -)
        [ $first = false ] || grep -m 3 '^|' "$work/$name/judges.md"
        first=false
        grep '^| diffscm:' "$work/$name/judges.md" | sed "s/^| [^|]*/| $setting /"
    done
} | tee "$work/settings.md"
