#!/bin/sh
# Searches over 7 to 256 values at equal cost, eight seeds each. Goes on where it was.
# DATA=... FILE=results.csv sh experiments/many_values/run.sh [digits|mnist|averaged]
set -e
seeds='1100 1108'
study() {
    task=$1 data=$2
    shift 2
    OMP_NUM_THREADS=1 ${PYTHON:-python} -m benchmarks.many_values "$task" "$data" $seeds \
        "${FILE:-outputs/many_values.csv}" --root "${DATA:-../shared/data}" "$@"
}
if [ "${1:-digits}" = digits ]; then
    study weights digits --values 64 7 16 256
    study weights digits --values 64 --optimizer adamw
    study rates digits --values 7 64 16
fi
if [ "${1:-mnist}" = mnist ]; then
    study weights mnist --values 64 7
    study rates mnist --values 64 7
fi
if [ "${1:-averaged}" = averaged ]; then
    seeds='1200 1208' # its own file: FILE
    study weights digits --values 64 256 7 --searches averaged hypergradients tpe uniform
fi
