#!/bin/sh
# Renders the chart with each file of examples/ into rendered/, which is what tests and readers
# without helm look at. The first line says of which chart: tests compare it.
set -eu
export LC_ALL=C
cd "$(dirname "$0")"
for values in examples/*.yaml; do
    sum=$(cat screen/*.yaml screen/*.json screen/templates/* screen/files/* "$values" | sha256sum)
    {
        echo "# Rendered by render.sh from a chart with SHA-256 ${sum%% *}"
        "${HELM:-helm}" template screen screen --namespace screen --values "$values"
    } > "rendered/$(basename "$values")"
done
