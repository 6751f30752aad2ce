#!/bin/sh
# install-cron.sh: let cron run the loop, with this PATH and AO_HOME. The crontab gets one line, however often this runs,
# and keeps its others; where it cannot be read for certain it is left alone.
set -eu
bin=$(cd "$(dirname "$0")/../bin" && pwd -P)

quoted() { printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g; s/%/\\\\%/g")"; } # for sh; cron wants \% for %

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if ! LC_ALL=C crontab -l >"$scratch/old" 2>"$scratch/why"; then
    if ! grep -qi 'no crontab for' "$scratch/why"; then
        echo "install-cron: cannot read the crontab, so it is left as it is: $(cat "$scratch/why")" >&2
        exit 1
    fi
    : >"$scratch/old"
fi
{
    grep -v '/ao-watch.* --for 1m --quiet$' "$scratch/old" || [ $? = 1 ]
    printf '* * * * * PATH=%s LANG=C.UTF-8 ' "$(quoted "$PATH")"
    [ -z "${AO_HOME:-}" ] || printf 'AO_HOME=%s ' "$(quoted "$AO_HOME")"
    printf '%s --for 1m --quiet\n' "$(quoted "$bin/ao-watch")"
} >"$scratch/new"
crontab - <"$scratch/new"
echo "cron looks and acts each minute; see: crontab -l"
