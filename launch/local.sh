#!/usr/bin/env bash
# N processes of one job on this machine, over 127.0.0.1 and on CPU: what a cluster does, without one.
set -euo pipefail
# shellcheck source=launch/steps.sh
. "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

usage() {
  cat <<'END'
usage: launch/local.sh [-n N] [--devices=N] [--port=PORT] [--grace=SECONDS] [--dry-run] -- COMMAND ...

  -n N               processes (2)
  --devices=N        CPU devices that each process sees (1)
  --port=PORT        of the coordinator; a free one by default
  --grace=SECONDS    that processes have to end by SIGTERM before SIGKILL (60)
  --dry-run          show the commands, run none

Each process gets JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, and its lines are
printed behind its number. When one fails, the others get SIGTERM. Ctrl-C and SIGTERM are passed on as SIGTERM (train.py
writes a checkpoint and ends), the second time as SIGKILL. COMMAND is one that joins them: train, evaluate, pairs, ask, export.

Exit status: 0 where all ended well, else that of the first that failed (128 + N for signal N).
END
}

number=2 devices=1 port='' grace=60
while (($#)); do
  case $1 in
    -n)
      (($# > 1)) || die "$EXIT_USAGE" "-n takes a number of processes"
      number=$2
      shift
      ;;
    -n*) number=${1#-n} ;;
    --devices=*) devices=${1#*=} ;;
    --port=*) port=${1#*=} ;;
    --grace=*) grace=${1#*=} ;;
    --dry-run) DRY_RUN=1 ;;
    --help | -h)
      usage
      exit
      ;;
    --)
      shift
      break
      ;;
    *) die "$EXIT_USAGE" "unknown flag '$1'; launch/local.sh --help lists them (the command stands behind --)" ;;
  esac
  shift
done
[[ $number =~ ^[1-9][0-9]*$ && $devices =~ ^[1-9][0-9]*$ && $grace =~ ^[0-9]+$ && $port =~ ^[0-9]*$ ]] ||
  die "$EXIT_USAGE" "-n, --devices, --port and --grace take whole numbers"
(($#)) || die "$EXIT_USAGE" "no command: launch/local.sh -n $number -- python -m consistency_jax.train --config=... --workdir=..."

listening() { (exec 4<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
while [[ -z $port ]]; do
  port=$((20000 + RANDOM % 10000))
  if listening "$port"; then port=''; fi
done

pids=()
prefixed() { # copies lines, each behind the process's number
  trap '' INT TERM
  local line
  while IFS= read -r line || [[ -n $line ]]; do printf '[%s] %s\n' "$1" "$line"; done
}

start() { # start PROCESS COMMAND ...
  local id=$1 out
  local -a variables=(
    JAX_COORDINATOR_ADDRESS="127.0.0.1:$port" JAX_NUM_PROCESSES="$number" JAX_PROCESS_ID="$id"
    JAX_PLATFORMS=cpu XLA_FLAGS="${XLA_FLAGS:+$XLA_FLAGS }--xla_force_host_platform_device_count=$devices"
  )
  shift
  show env "${variables[@]}" "$@"
  if ((DRY_RUN)); then return; fi
  exec {out}> >(prefixed "$id" 3>&-)
  prefixers+=($!)
  env "${variables[@]}" "$@" >&"$out" 2>&1 3>&- {out}>&- &
  pids+=($!)
  exec {out}>&-
}

signalled=0
pass_on() {
  ((signalled += 1))
  if ((signalled > 1)); then end_all KILL; else say "passing the signal on to ${#pids[@]} processes" && end_all TERM; fi
}
end_all() { # end_all SIGNAL
  local pid
  for pid in "${pids[@]}"; do kill -"$1" "$pid" 2>/dev/null || true; done
}

prefixers=()
trap pass_on INT TERM
for ((id = 0; id < number; id++)); do start "$id" "$@"; done
if ((DRY_RUN)); then exit; fi

# Each process is waited for in the order in which they end, so that the first failure is the one that is told.
result=0
while ((${#pids[@]})); do
  status=0 ended=''
  wait -n -p ended "${pids[@]}" 2>/dev/null || status=$?
  if [[ -z ${ended:-} ]]; then # a signal came, or one ended beside another: bash forgets the job and keeps the status
    for id in "${pids[@]}"; do kill -0 "$id" 2>/dev/null || ended=$id; done
    [[ ${ended:-} ]] || continue
    status=0
    wait "$ended" || status=$?
  fi
  for i in "${!pids[@]}"; do [[ ${pids[i]} != "$ended" ]] || unset "pids[$i]"; done
  if ((status && !result)); then
    result=$status
    if ((${#pids[@]})); then
      say "a process ended with status $status: ending the other ${#pids[@]}"
      end_all TERM
      (sleep "$grace" && kill -KILL "${pids[@]}") >/dev/null 2>&1 3>&- &
      killer=$!
    fi
  fi
done
[[ -z ${killer:-} ]] || kill "$killer" 2>/dev/null || true
for ((tenth = 0; tenth < 50; tenth++)); do # what is still on its way to the terminal
  kill -0 "${prefixers[@]}" 2>/dev/null || break
  sleep 0.1
done
((!result)) || exit "$result"
