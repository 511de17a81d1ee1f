#!/usr/bin/env bash
# The part of launch/tpu.sh that runs on each worker of a slice; everything it keeps lies in ~/consistency.
set -euo pipefail

usage() {
  cat <<'END'
usage: bash tpu_worker.sh install                 Python 3.11 and the package, as constraints.txt pins them
       bash tpu_worker.sh start COMMAND ...       runs a command that outlives this connection
       bash tpu_worker.sh state                   prints: absent, running, or exited STATUS
       bash tpu_worker.sh stop                    SIGTERM (a checkpoint is written), then waits for the end
       bash tpu_worker.sh log [LINES]             what the command printed; follows it where LINES is "follow"
END
}

home=${CONSISTENCY_HOME:-$HOME/consistency}
code=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

install() {
  local versions
  versions=$(cat "$code/setup.py" "$code/constraints.txt" | cksum)
  if [[ -f $home/installed && $(<"$home/installed") == "$versions" ]]; then
    echo "already installed"
    return
  fi
  # The image's own Python is older than what JAX asks for; uv brings one without root.
  rm -f "$home/installed"
  python3 -m pip install --quiet --user uv
  python3 -m uv venv --quiet --clear --python 3.11 "$home/venv"
  python3 -m uv pip install --quiet --python "$home/venv/bin/python" --constraint "$code/constraints.txt" --editable "${code}[tpu,wandb]"
  printf '%s\n' "$versions" >"$home/installed"
  echo "installed"
}

state() {
  if [[ -f $home/exit ]]; then
    echo "exited $(<"$home/exit")"
  elif [[ -f $home/pid ]] && kill -0 "$(<"$home/pid")" 2>/dev/null; then
    echo "running"
  elif [[ -f $home/pid ]]; then
    echo "exited 137" # killed with its shell, or the machine was started anew
  else
    echo "absent"
  fi
}

start() {
  (($#)) || { usage >&2 && exit 2; }
  [[ $(state) != running ]] || { echo "a command is running here already; stop it first" >&2 && exit 1; }
  rm -f "$home/exit"
  setsid nohup bash "${BASH_SOURCE[0]}" _run "$@" >>"$home/log" 2>&1 </dev/null &
  echo $! >"$home/pid"
  echo "started"
}

run() { # the command itself, in a session of its own
  trap : TERM # sent to the whole group: the command ends by it, this shell lives to write its status
  if [[ -f $home/secrets.env ]]; then
    set -a
    # shellcheck disable=SC1091
    . "$home/secrets.env"
    set +a
  fi
  export PATH="$home/venv/bin:$PATH"
  cd "$code"
  local status=0
  "$@" || status=$?
  echo "$status" >"$home/exit.partial"
  mv "$home/exit.partial" "$home/exit"
}

stop() {
  [[ $(state) == running ]] || { state && return; }
  local grace=${CONSISTENCY_GRACE:-300} second
  [[ $grace =~ ^(0|[1-9][0-9]{0,8})$ ]] || { echo "error: CONSISTENCY_GRACE=$grace is not a whole number" >&2 && exit 2; }
  kill -TERM -- "-$(<"$home/pid")"
  for ((second = 0; second < grace; second++)); do
    [[ $(state) != running ]] || { sleep 1 && continue; }
    state
    return
  done
  echo "still running after $grace s" >&2
  exit 1
}

mkdir -p "$home"
case ${1:-} in
  install | state | stop) "$1" ;;
  start) start "${@:2}" ;;
  log)
    if [[ ${2:-} == follow ]]; then
      tail -n 200 -F "$home/log"
    else
      tail -n "${2:-200}" "$home/log"
    fi
    ;;
  _run) run "${@:2}" ;;
  --help | -h) usage ;;
  *) usage >&2 && exit 2 ;;
esac
