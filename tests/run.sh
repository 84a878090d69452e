#!/bin/sh
# Builds and runs the tests: sh tests/run.sh [--all]
# Installs the Debian packages that are missing (as root, or with sudo): 92 MB for the tests, 195 MB
# for the other compilers and systems that the library is tested with. The last lines are CTest's
# summary, the exit code is that of the tests. --all installs LibTorch and the documentation's tools
# too (300 MB more), and goes on, after the release build, with clang++, a debug build, the sanitizers
# (address and undefined behaviour with both compilers, threads), and a minute on each fuzz target.
set -eu

cd "$(dirname "$0")/.."
. .ci/common.sh

presets=release
fuzz=
packages="cmake ninja-build g++ libeigen3-dev nlohmann-json3-dev libcli11-dev libstb-dev libgif-dev \
  catch2 pkg-config"
toolchains="clang libc++-dev libc++abi-dev g++-mingw-w64-x86-64-posix g++-aarch64-linux-gnu qemu-user"
case ${1-} in
  '') ;;
  --all)
    presets="release clang debug asan asan-clang tsan-clang"
    packages="$packages libclang-rt-dev libtorch-dev doxygen graphviz dpkg-dev"
    fuzz=yes
    ;;
  *)
    echo "usage: sh tests/run.sh [--all]" >&2
    exit 2
    ;;
esac

# shellcheck disable=SC2086 # a list of words
install_packages $packages $toolchains

jobs=$(job_count)
for preset in $presets; do
  echo "== $preset"
  cmake --preset "$preset" -D DIFFUSION_TEST_TOOLCHAINS=ON
  cmake --build --preset "$preset" --parallel "$jobs"
  ctest --preset "$preset" --parallel "$jobs"  # the first preset that fails ends the script
done
if [ -n "$fuzz" ]; then
  echo "== fuzz"
  sh tests/fuzz/run.sh 60
fi
