#!/bin/sh
# Builds and runs the tests: sh tests/run.sh [--all]
# Installs the Debian packages that are missing (as root, or with sudo). The last lines are CTest's
# summary, the exit code is that of the tests. --all goes on, after the release build, with clang++,
# a debug build, and the sanitizers: address and undefined behaviour (both compilers), threads.
set -eu

cd "$(dirname "$0")/.."
. .ci/common.sh

presets=release
packages="cmake ninja-build g++ libeigen3-dev nlohmann-json3-dev libcli11-dev libstb-dev libgif-dev \
  catch2"
case ${1-} in
  '') ;;
  --all)
    presets="release clang debug asan asan-clang tsan-clang"
    packages="$packages clang libclang-rt-dev"
    ;;
  *)
    echo "usage: sh tests/run.sh [--all]" >&2
    exit 2
    ;;
esac

# shellcheck disable=SC2086 # a list of words
install_packages $packages

jobs=$(job_count)
for preset in $presets; do
  echo "== $preset"
  cmake --preset "$preset"
  cmake --build --preset "$preset" --parallel "$jobs"
  ctest --preset "$preset" --parallel "$jobs"  # the first preset that fails ends the script
done
