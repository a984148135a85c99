# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts share; sourced, never run. Leaves the shell in the repository's root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# run_logged LOG COMMAND...: quiet while all goes well; on failure the log's end and where the rest is.
run_logged() {
  local log=$1
  shift
  mkdir -p "$(dirname "$log")"
  if "$@" >"$log" 2>&1 </dev/null; then return 0; fi
  {
    printf 'failed: %s\n' "$*"
    tail -n 60 "$log"
    printf 'the whole log: %s\n' "$log"
  } >&2
  return 1
}

# build_preset PRESET [TARGET...]: configures and builds; log in build/logs.
build_preset() {
  local preset=$1
  shift
  say "building preset $preset${*:+ ($*)}"
  run_logged "build/logs/configure-$preset.log" cmake --preset "$preset" &&
    run_logged "build/logs/build-$preset.log" cmake --build --preset "$preset" ${1:+--target "$@"}
}
