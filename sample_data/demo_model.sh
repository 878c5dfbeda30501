#!/bin/sh
# Trains the package's demonstration model anew, in FOLDER (build/demo), on made-up landscapes whose every pixel is
# labelled. Takes about half an hour on a core of its own. Run it from the project's root, with co2s on the path.
set -eu
folder=${1:-build/demo}

scenes() {  # LIST FIRST LAST: made-up scenes of those seeds, listed in LIST
    mkdir -p "$folder/images" "$folder/labels"
    : > "$folder/$1"
    for seed in $(seq "$2" "$3"); do
        co2s sample "$folder/new" --size 512 --seed "$seed" --overwrite -q > /dev/null
        mv "$folder/new/scene.tif" "$folder/images/$seed.tif"
        mv "$folder/new/labels.tif" "$folder/labels/$seed.tif"
        echo "$seed.tif" >> "$folder/$1"
    done
    rm -r "$folder/new"
}

scenes labeled.txt 1000 1079
scenes val.txt 1120 1125
cp sample_data/demo_data.yaml "$folder/data.yaml"

co2s train "$folder/data.yaml" --config co2s_cli/assets/demo.yaml --out "$folder/run"
cp "$folder/run/best.safetensors" co2s_cli/assets/demo.safetensors
