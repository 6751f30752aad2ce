#!/bin/sh
# install-cron.sh: let cron run the loop, with this PATH and AO_HOME. The crontab gets the line of config/crontab, once
# however often this runs, and keeps its others; where it cannot be read for certain it is left alone.
set -eu
here=$(cd "$(dirname "$0")" && pwd -P)

quoted() { printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g; s/%/\\\\%/g")"; } # for sh; cron wants \% for %
fill() { printf 's|{%s}|%s|' "$1" "$(quoted "$2" | sed 's/[\&|]/\\&/g')"; }         # for sed

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if ! LC_ALL=C crontab -l >"$scratch/old" 2>"$scratch/why"; then
    if ! grep -qi 'no crontab for' "$scratch/why"; then
        echo "install-cron: cannot read the crontab, so it is left as it is: $(cat "$scratch/why")" >&2
        exit 1
    fi
    : >"$scratch/old"
fi
mine=" AO_HOME=$(quoted "${AO_HOME:-~/.ao}") "
{
    mine="$mine" awk '!(index($0, ENVIRON["mine"]) && /\/ao-watch.* --for 1m --quiet$/)' "$scratch/old"
    sed -e '/^#/d' -e "$(fill PATH "$PATH")" -e "$(fill AO_HOME "${AO_HOME:-~/.ao}")" -e "$(fill BIN "${here%/*}/bin")" \
        "$here/crontab"
} >"$scratch/new"
crontab - <"$scratch/new"
echo "cron looks and acts each minute; see: crontab -l"
