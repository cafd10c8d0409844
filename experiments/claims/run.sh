#!/bin/sh
# Claims 3, 4 and 5 on 12,000 MNIST images: six settings, eight seeds each. Goes on where it was.
# DATA=... OUTPUTS=... sh experiments/claims/run.sh
set -e
outputs=${OUTPUTS:-outputs/claims}
run() {
    name=$1
    shift
    found=$(ls -d "$outputs/$name"/fig1_mnist/*/ 2>/dev/null | head -1)
    if [ -z "$found" ]; then
        ${HYPERGRAD:-hypergrad} run fig1_mnist data.root="${DATA:-../shared/data}" data.train_size=12000 \
            seed=100 repeats=8 hd.enabled=false baseline.enabled=false threads=1 method.mode=forward \
            rows_per_epoch=1 outputs="$outputs/$name" "$@"
    else
        ${HYPERGRAD:-hypergrad} run --resume "$found"
    fi
}
moves() {
    echo "hyperparameters.learning_rate.first_move=$1 hyperparameters.momentum.first_move=$2 hyperparameters.weight_decay.first_move=$3"
}
run base method.truncation=0.15
run double method.truncation=0.15 $(moves 0.1 0.15 4e-4)
run half method.truncation=0.15 $(moves 0.025 0.0375 1e-4)
run validation_20 method.truncation=0.15 method.validation_fraction=0.2
run truncation_0 method.truncation=0
run truncation_50 method.truncation=0.5
