#!/bin/sh
# All tests of `dieharder -a` on the random words of PhiloxNoise, every test on words of its own
# (samples 101, 102, ...), the long ones last:
#   sh tests/noise_statistics/dieharder.sh PATH/noise-statistics [SEED [ORDER]]
# Prints one line a result as dieharder does, and at the end how many were weak or failed. An hour
# or two on one core, of which the lagged sums take nearly all. Needs Debian's package dieharder.
set -eu

if [ $# -lt 1 ] || [ $# -gt 3 ]; then
  echo "usage: sh tests/noise_statistics/dieharder.sh PATH/noise-statistics [SEED [ORDER]]" >&2
  exit 2
fi
program=$1
seed=${2-1}
order=${3-elements}
results=$(mktemp)
trap 'rm -f "$results"' EXIT
sample=100

one() {  # test, and its tuple length where it has several
  sample=$((sample + 1))
  "$program" --bits --seed "$seed" --start "$sample" --order "$order" |
    dieharder -g 200 -d "$1" ${2:+-n "$2"} | grep 'PASSED\|WEAK\|FAILED' | tee -a "$results"
}

for d in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 100 101 102 204 205 206 207; do one $d; done
one 208 0
one 208 1
one 209
for n in 1 2 3 4 5 6 7 8 9 10 11 12; do one 200 $n; done
for n in 2 3 4 5; do one 201 $n; done
for n in 2 3 4 5; do one 202 $n; done
one 17
n=0
while [ $n -le 32 ]; do
  one 203 $n
  n=$((n + 1))
done
echo "$(wc -l <"$results") results: $(grep -c PASSED "$results" || true) passed, \
$(grep -c WEAK "$results" || true) weak, $(grep -c FAILED "$results" || true) failed"
! grep -q FAILED "$results"
