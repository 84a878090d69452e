#!/bin/sh
# Builds the fuzz targets with clang++ and runs each for a minute, or longer:
#   sh tests/fuzz/run.sh [SECONDS [TARGET...]]
# The targets are npy, safetensors, scheduler_config and unet_config; by default all of them.
# Prints inputs run, edges covered and findings of each. The exit code is 1 when there is a finding;
# its input lies in build/fuzz/findings/TARGET, and this shows it again:
#   build/fuzz/tests/fuzz/fuzz-TARGET build/fuzz/findings/TARGET/FILE
# What a run learns stays in build/fuzz/learned/TARGET; the committed corpus does not change.
set -eu

cd "$(dirname "$0")/../.."
seconds=${1-60}
case $seconds in
  '' | *[!0-9]*)
    echo "usage: sh tests/fuzz/run.sh [SECONDS [TARGET...]]" >&2
    exit 2
    ;;
esac
[ $# -eq 0 ] || shift
targets=${*:-npy safetensors scheduler_config unet_config}
build=${DIFFUSION_FUZZ_BUILD-build/fuzz}

mkdir -p "$build"
cmake -S . -B "$build" -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=None \
  -DDIFFUSION_FUZZ=ON -DDIFFUSION_WARNINGS=ON -DDIFFUSION_BUILD_EXAMPLES=OFF \
  -DDIFFUSION_TEST_HEADERS=OFF >"$build/configure.log" 2>&1 || {
  cat "$build/configure.log" >&2
  exit 2
}
cmake --build "$build" --parallel "${DIFFUSION_FUZZ_JOBS-2}" --target fuzzers

failed=0
for target in $targets; do
  program=$build/tests/fuzz/fuzz-$(echo "$target" | tr _ -)
  findings=$build/findings/$target
  learned=$build/learned/$target
  mkdir -p "$findings" "$learned"
  log=$build/$target.log
  status=0
  # An input that allocates 256 MB at once, or a gigabyte in all, or takes ten seconds is a finding.
  "$program" -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=1024 \
    -malloc_limit_mb=256 -use_value_profile=1 -print_final_stats=1 -seed=1 \
    -dict="tests/fuzz/dictionaries/$target.dict" -artifact_prefix="$findings/" \
    "$learned" "tests/fuzz/corpus/$target" >"$log" 2>&1 || status=$?
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  edges=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
  echo "$target: ${runs:-no} inputs in $seconds s, ${edges:-no} edges covered"
  if [ "$status" -ne 0 ]; then
    failed=1
    echo "$target: a finding, exit code $status; the end of $log:"
    grep -n -m 5 'finding:\|ERROR\|SUMMARY\|runtime error\|unit written' "$log" || tail -n 20 "$log"
  fi
done
exit $failed
