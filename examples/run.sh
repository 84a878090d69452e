#!/bin/sh
# Samples a grid of pictures of all 20 classes from the trained network: sh examples/run.sh
# Installs the Debian packages that are missing (as root, or with sudo) and builds with -O3.
set -eu

cd "$(dirname "$0")/.."
. .ci/common.sh

install_packages cmake ninja-build g++ libeigen3-dev nlohmann-json3-dev libcli11-dev libstb-dev \
  libgif-dev

cmake --preset examples
cmake --build --preset examples --parallel "$(job_count)" --target sample-images

picture=build/digits-and-clothing.png
build/examples/examples/sample-images examples/models/digits-and-clothing \
  --sampler ddim --steps 50 --spacing trailing --guidance 2 \
  --class 0-19 --count 5 --seed 1 \
  --threads "$(nproc)" --output "$picture"
echo "The pictures are in $PWD/$picture"
