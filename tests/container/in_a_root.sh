#!/usr/bin/env bash
# Follows the Dockerfile where there is no Docker, and serves an artifact from what it makes. As root on Debian, with
# debootstrap and a network.
#
#     tests/container/in_a_root.sh FOLDER ARTIFACT [PYTHON, with stcompile]
#
# Each stage is a root of its own in FOLDER, with Debian's Python in the place of the image's. The last one is served as
# `docker run --read-only` does it: nothing can be written, by a user who is not root, as process 1 of its own namespaces.
# It must answer as the artifact does on this machine, end with 0, and be small enough.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(realpath -m "$1") artifact=$(realpath "$2") python=${3:-python3}
# Megabytes: what an image may take, and what of it python:3.13-slim-trixie does.
most=300 base=125

# The instructions of a stage, each on a line of its own.
stage() {
    sed -e ':join' -e '/\\$/{N;s/\\\n *//;b join' -e '}' -e '/^#/d' Dockerfile |
        awk -v wanted="$1" '/^FROM/ { stage++; next } NF && stage == wanted'
}

# What stands behind a word in the last stage; a list as words of a shell.
said() { stage 2 | sed -n "s/^$1 //p"; }
words() { python3 -c 'import json, shlex, sys; print(shlex.join(json.loads(sys.argv[1])))' "$1"; }
megabytes() { du --apparent-size --summarize --block-size=1MB "$1" | cut -f1; }

# A copy of Debian's base with packages, and with the way to the network that this machine has.
renew() {
    rm -rf "$1"
    cp --archive "$folder/base" "$1"
    cp /etc/resolv.conf "$1/etc"
    chroot "$1" apt-get -qq update
    chroot "$1" apt-get -qq install --yes --no-install-recommends "${@:2}" >/dev/null
    mkdir -p "$1/etc/ssl/certs"
    cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs"
}

# Does in a root what a stage says about files.
build() {
    local root=$1 place=/ from
    while read -r word rest; do
        case $word in
        WORKDIR) place=$rest && mkdir -p "$root$place" ;;
        RUN) chroot "$root" sh -ec "cd $place; $rest" </dev/null ;;
        COPY)
            from=$folder/context
            [[ $rest == --from=* ]] && from=$folder/${rest#--from=} && from=${from%% *} && rest=${rest#* }
            read -ra paths <<<"$rest"
            if ((${#paths[@]} > 2)); then
                (cd "$from" && cp --archive "${paths[@]::${#paths[@]}-1}" "$root$place")
            else
                [[ ${paths[1]} == /* ]] || paths[1]=$place/${paths[1]}
                cp --archive --no-target-directory "$from/${paths[0]}" "$root${paths[1]}"
            fi
            ;;
        esac
    done < <(stage "$2")
}

mkdir -p "$folder"
[[ -d $folder/base ]] || debootstrap --variant=minbase trixie "$folder/base" http://deb.debian.org/debian >/dev/null
rm -rf "$folder/context" && mkdir "$folder/context"
mapfile -t sent < <(sed -n 's/^!//p' .dockerignore)
tar --create --exclude-from=<(grep -v '^[!#]\|^\*$' .dockerignore) "${sent[@]}" | tar --extract --directory "$folder/context"
renew "$folder/builder" python3 python3-pip
build "$folder/builder" 1
renew "$folder/final" python3
build "$folder/final" 2

environment=(HOME=/)
while read -r line; do
    environment+=("$(PATH=/usr/local/bin:/usr/bin:/bin && eval "echo $line")")
done < <(said ENV)
eval "command=($(words "$(said ENTRYPOINT)") $(words "$(said CMD)"))"
eval "health=($(words "$(said HEALTHCHECK | sed 's/.* CMD //')"))"
user=$(said USER)

mkdir -p "$folder/final/artifact"
# shellcheck disable=SC2016 # expanded by the other shell
unshare --mount --net --pid --fork --kill-child sh -ec '
    root=$1 artifact=$2 user=$3
    shift 3
    mount --bind "$root" "$root"
    mount --rbind /dev "$root/dev"
    mount --bind "$artifact" "$root/artifact"
    mount -t proc proc "$root/proc"
    mount -o remount,bind,ro "$root/artifact"
    mount -o remount,bind,ro "$root"
    ip link set lo up
    exec chroot --userspec="$user" "$root" env --ignore-environment "$@"
' sh "$folder/final" "$artifact" "$user" "${environment[@]}" "${command[@]}" 2>"$folder/log" &
outer=$!
trap 'kill -KILL $outer 2>/dev/null || true' EXIT
until server=$(pgrep --parent $outer); do kill -0 $outer; sleep 0.1; done
inside() {
    nsenter --target "$server" --mount --net --pid --root --wd=/ --setuid "${user%:*}" --setgid "${user#*:}" \
        env --ignore-environment "${environment[@]}" "$@"
}

for ((tries = 0; ; tries++)); do
    inside "${health[@]}" 2>/dev/null && break
    ((tries < 60)) || { cat "$folder/log" && exit 1; }
    sleep 0.5
done
inside python -c '
import json, urllib.request as ask
body = json.dumps({"model": "artifact", "input": ["a dog", "a cat and a dog"]}).encode()
print(ask.urlopen(ask.Request("http://127.0.0.1:8080/v1/embeddings", body)).read().decode())
' >"$folder/answer"
"$python" - "$artifact" "$folder/answer" <<'HERE'
import json, sys
import numpy as np, stcompile
found = [one["embedding"] for one in json.load(open(sys.argv[2]))["data"]]
assert np.allclose(found, stcompile.load(sys.argv[1]).encode(["a dog", "a cat and a dog"]), atol=1e-4)
HERE
for place in / /tmp /artifact /opt/stcompile; do
    if inside touch "$place/written" 2>/dev/null; then echo "$place can be written" && exit 1; fi
done
[[ $(inside python -c 'import os; print(*os.getresuid())') == "${user%:*} ${user%:*} ${user%:*}" ]]

kill -TERM "$server"
ended=0
wait $outer || ended=$?
added=$(megabytes "$folder/final/opt/stcompile")
echo "ended with $ended; /opt/stcompile: $added MB, an image about $((base + added)) MB;" \
    "debootstrap's minbase: $(megabytes "$folder/base") MB"
((ended == 0 && base + added < most))
