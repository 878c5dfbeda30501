#!/bin/sh
# Trains the package's demonstration model anew, in FOLDER (build/demo), on made-up landscapes whose every pixel is
# labelled: first a pair of transformers, then one of them together with the local student, in two runs. Takes about an
# hour and a half on a core of its own. Run it from the project's root, with co2s on the path.
set -eu
folder=${1:-build/demo}

scenes() {  # LIST FIRST LAST: made-up scenes of those seeds, listed in LIST
    mkdir -p "$folder/images" "$folder/labels"
    for seed in $(seq "$2" "$3"); do
        co2s sample "$folder/new" --size 512 --seed "$seed" --overwrite -q > /dev/null
        mv "$folder/new/scene.tif" "$folder/images/$seed.tif"
        mv "$folder/new/labels.tif" "$folder/labels/$seed.tif"
        echo "$seed.tif" >> "$folder/$1"
    done
    rm -r "$folder/new"
}

mkdir -p "$folder"
: > "$folder/labeled.txt"
: > "$folder/val.txt"
cp sample_data/demo_data.yaml "$folder/data.yaml"
scenes val.txt 1120 1125

scenes labeled.txt 1000 1079
co2s train "$folder/data.yaml" --config sample_data/pair.yaml --out "$folder/pair"

scenes labeled.txt 1080 1099
co2s train "$folder/data.yaml" --config sample_data/demo.yaml --init "$folder/pair/best.safetensors" --out "$folder/first"
co2s train "$folder/data.yaml" --config sample_data/demo.yaml --init "$folder/first/last.safetensors" --out "$folder/run" \
    --steps 1800 --seed 8 --set lr=1e-3 --set balance=none --set val_every=300
cp "$folder/run/best.safetensors" co2s_cli/assets/demo.safetensors
