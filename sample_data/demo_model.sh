#!/bin/sh
# Trains the package's demonstration model anew, in FOLDER (build/demo): made-up landscapes, labels alone first, then
# co2s with scenes that have no labels. Takes an hour or two on two processor cores. Run it from the project's root.
set -eu
folder=${1:-build/demo}
settings=co2s_cli/assets/demo.yaml

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
scenes unlabeled.txt 1080 1119
scenes val.txt 1120 1125
cp sample_data/demo_data.yaml "$folder/data.yaml"

co2s train "$folder/data.yaml" --config "$settings" --out "$folder/first" --method supervised --steps 2400
co2s train "$folder/data.yaml" --config "$settings" --out "$folder/second" --method co2s --steps 400 \
    --init "$folder/first/best.safetensors" --set lr=2e-4
cp "$folder/second/best.safetensors" co2s_cli/assets/demo.safetensors
