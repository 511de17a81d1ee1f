#!/usr/bin/env bash
# Runs a command in a pod and tells Kubernetes whether it is finished: a job that SIGTERM ends early writes a checkpoint
# and ends with 0, which would count as done, so that ends with 143 here. usage: bash launch/pod.sh COMMAND ...
set -euo pipefail

case ${1:-} in
  --help | -h | '')
    sed -n '2,3s/^# //p' "$0"
    exit
    ;;
esac

stopped=0
trap 'stopped=1 interrupted=1; kill -TERM "$child" 2>/dev/null || true' TERM
printf '+ %s\n' "$*"
"$@" &
child=$!
while :; do # the trap ends `wait` before its time, with a status of its own; a second wait has the true one
  interrupted=0 status=0
  wait "$child" || status=$?
  ((interrupted)) || break
done
if ((stopped && !status)); then status=143; fi
exit "$status"
