#!/bin/sh
# Makes the pictures of docs/gallery.md anew, and prints how long each took:
#
#     sh examples/gallery.sh [--score] [--build FOLDER] [--output FOLDER] [PROGRAM...]
#
# FOLDER of the programs: build/examples/examples, where `cmake --preset examples && cmake --build
# --preset examples --parallel` puts them; of the pictures: docs/images. --score has the classifier
# judge 240 pictures a row as well, and prints the page's numbers: that takes some 15 times as long.
# PROGRAM: only these, by the names that the page has for them.
set -eu
cd "$(dirname "$0")/.."

build=build/examples/examples
output=docs/images
score=
chosen=
while [ $# -gt 0 ]; do
  case $1 in
    --score) score=--score ;;
    --build | --output)
      [ $# -gt 1 ] || { echo "gallery.sh: $1 needs a folder" >&2; exit 2; }
      if [ "$1" = --build ]; then build=$2; else output=$2; fi
      shift ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' examples/gallery.sh; exit 0 ;;
    -*) echo "gallery.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
    *) chosen="$chosen $1" ;;
  esac
  shift
done
[ -d "$build" ] || { echo "gallery.sh: there is no folder $build; build the examples" >&2; exit 2; }
mkdir -p "$output"

# Their pictures are judged by a classifier where --score asks for it.
judged='negative-conditions guidance-interval cfg-plus-plus projected-guidance autoguidance
classifier-guidance loss-guidance lcm-steps inpaint repaint differential ilvr inversion
edit-friendly attention-edit interpolate ddnm ddrm pigdm dps diffusion-forcing noise-priors
free-noise free-init continuation'
# These have no class to be recognised.
others='slice-schedules per-token fifo panorama tiled-decode'

failed=0
for name in ${chosen:-$judged $others}; do
  case $name in
    fifo | noise-priors) picture=$output/$name.gif ;;
    *) picture=$output/$name.png ;;
  esac
  case " $(echo $others) " in
    *" $name "*) options= ;;
    *) options=$score ;;
  esac
  echo "== $name"
  start=$(date +%s)
  if "$build/$name" --output "$picture" $options; then
    echo "-- $name: $(($(date +%s) - start)) s"
  else
    echo "-- $name: failed" >&2
    failed=1
  fi
done
exit $failed
