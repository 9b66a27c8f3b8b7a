#!/usr/bin/env bash
# ONNX Runtime's Java binding, compiled from the sources that Debian carries, in front of the library of the installed
# Python package: Maven Central, where the jar lives, is not reached from everywhere. Needs apt-get, a JDK and gcc.
#
#     binding.sh FOLDER PYTHON
#
# leaves FOLDER/classes and FOLDER/lib, for -Donnxruntime.native.path. Ends with 75 where the sources cannot be fetched.
set -euo pipefail

out=$(mkdir -p "$1" && cd "$1" && pwd)
python=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Debian 13's sources, by apt-get and its key, without touching the machine's own lists.
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/sources"
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" \
    > "$work/sources.list"
apt=(apt-get -q -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache")
"${apt[@]}" update > /dev/null || exit 75
(cd "$work/sources" && "${apt[@]}" source --tar-only --download-only onnxruntime > /dev/null) || exit 75
tar -xf "$work"/sources/onnxruntime_*.orig.tar.* -C "$work" --wildcards '*/java/src/main/*' '*/include/*'
sources=$(echo "$work"/onnxruntime-*/)

rm -rf "$out/classes" "$out/lib"
mkdir -p "$out/classes" "$out/lib" "$work/headers"
# shellcheck disable=SC2046  # one word a file
javac -nowarn -d "$out/classes" -h "$work/headers" $(find "$sources/java/src/main/java" "$sources/java/src/main/jvm" -name '*.java')

capi=$("$python" -c 'import onnxruntime, pathlib; print(pathlib.Path(onnxruntime.__file__).parent / "capi")')
version=$("$python" -c 'import onnxruntime; print(onnxruntime.__version__)')
# The library under the name that it knows itself by, and under the one that Java asks for.
cp "$capi/libonnxruntime.so.$version" "$out/lib/libonnxruntime.so"
jdk=$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")
touch "$work/headers/onnxruntime_config.h" # what CMake makes: warnings to leave out
gcc -O1 -w -shared -fPIC -o "$out/lib/libonnxruntime4j_jni.so" "-DORT_VERSION=\"$version\"" \
    -I"$work/headers" -I"$sources/include" -I"$sources/include/onnxruntime/core/session" \
    -I"$sources/include/onnxruntime/core/providers/cpu" -I"$jdk/include" -I"$jdk/include/linux" \
    $(find "$sources/java/src/main/native" -name '*.c' ! -name '*Training*') "$out/lib/libonnxruntime.so"
echo "binding of $(basename "$sources") in front of ONNX Runtime $version in $out"
