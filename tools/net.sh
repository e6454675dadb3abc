# Sourced by tools/train_cifar10.sh and tools/train_pneumonia.sh, which set data, work, program, s (the split that
# held-out figures are made on) and every (options of each training).

# net FILE SPLIT TASK OPTION...: skipped when its figures are there
net() {
    file=$1 split=$2
    shift 2
    [ ! -e "$work/$file.txt" ] || return 0
    # shellcheck disable=SC2154,SC2086
    "$program" train "$@" $every --data "$data" --split "$split" --eval-split "$s" --threads 1 --quiet \
        --out "$work/$file.st" --checkpoint "$work/$file.ck" --log "$work/$file.csv" >"$work/$file.part"
    mv "$work/$file.part" "$work/$file.txt"
    echo "$file: $(cat "$work/$file.txt")"
}
