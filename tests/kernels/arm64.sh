#!/usr/bin/env bash
# Puts ARM64's own Python and ONNX Runtime, and a wheel of ours, into a folder, to run under qemu-user. For Debian and its
# like; nothing is installed on the machine.
#
#     tests/kernels/arm64.sh FOLDER WHEEL [PYTHON, with pip]
set -euo pipefail
folder=$(realpath -m "$1") wheel=$(realpath "$2") python=${3:-python3}
rm -rf "$folder"
mkdir -p "$folder"/{root/proc,apt/state/lists/partial,apt/cache/archives/partial}
touch "$folder/apt/state/status"
apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Debug::NoLocking=1
    -o Dir::State="$folder/apt/state" -o Dir::State::status="$folder/apt/state/status" -o Dir::Cache="$folder/apt/cache")
"${apt[@]}" update
"${apt[@]}" install --download-only --no-install-recommends --yes python3-minimal libpython3-stdlib libstdc++6
for package in "$folder"/apt/cache/archives/*.deb; do dpkg -x "$package" "$folder/root"; done
rm -r "$folder/apt"
# What ONNX Runtime reads of the CPU: it dies where that is another kind's.
printf 'processor\t: 0\nFeatures\t: fp asimd fphp asimdhp asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n' \
    >"$folder/root/proc/cpuinfo"
version=$(basename "$(readlink "$folder/root/usr/bin/python3")")
platforms=(--platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64)
"$python" -m pip install --quiet --only-binary :all: "${platforms[@]}" --python-version "${version#python}" \
    --constraint constraints.txt --target "$folder/site" "$wheel[cpu]"
