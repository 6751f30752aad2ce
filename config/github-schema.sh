#!/bin/sh
# github-schema.sh FILE: fetch GitHub's published GraphQL schema, in the version that FILE's name ends with. The tests
# check every query of ours against it.
set -eu
version=${1##*-}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
echo "setup: fetching GitHub's schema ${version%.graphql}" >&2
(cd "$folder" && npm pack --silent "@octokit/graphql-schema@${version%.graphql}" >/dev/null && tar xzf ./*.tgz)
mkdir -p "$(dirname "$1")"
cp "$folder/package/schema.graphql" "$1.new" && mv "$1.new" "$1"
