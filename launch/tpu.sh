#!/usr/bin/env bash
# One job on one Cloud TPU slice, from nothing to its report. The steps, with their costs: docs/launch_tpu.md.
set -euo pipefail
# shellcheck source=launch/steps.sh
. "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

usage() {
  cat <<'END'
usage: launch/tpu.sh ACTION --name=NAME --zone=ZONE [FLAGS] [-- COMMAND ...]

  create    ask for the slice (a queued resource)            needs --topology
  wait      until it is there
  sync      copy the code of --commit, and the secrets, to all workers
  install   Python and the package on all workers; again is free
  run       start COMMAND on all workers; it outlives this connection
  logs      what worker 0 prints, as it comes (or --worker=N)
  status    the slice, and the command on each worker
  stop      SIGTERM to the command: it writes a checkpoint and ends
  delete    give the slice back; it costs until then
  watch     all of these: creates, runs, recreates a preempted slice and resumes, ends with the report there
            and the slice given back. COMMAND needs --workdir=gs://...

  --name=NAME            of the slice        --zone=ZONE   --project=PROJECT (gcloud's default)
  --topology=v5e:4x4     as python -m consistency_jax.aot spells it: v4, v5e, v5p, v6e
  --spot | --reserved    preemptible and cheap | a reservation's; neither: on demand
  --commit=HEAD          what to run; changes that are not committed stay behind
  --data=FOLDER          copied to all workers by sync: ../data/NAME_OF_FOLDER from where COMMAND runs
  --runtime=VERSION      of the VM image; chosen by the generation
  --poll=SECONDS         between looks at the slice (60)     --patience=SECONDS   to wait for it (0: for ever)
  --restarts=N           recreated slices and restarted commands before watch gives up (100)
  --keep                 watch leaves the slice when the job is done
  --dry-run              show every command, run none

Secrets: HF_TOKEN and WANDB_API_KEY (or the names in CONSISTENCY_SECRETS) are taken from the environment, copied to
~/consistency/secrets.env of the workers, and never shown. JAX_COMPILATION_CACHE_DIR (a gs:// folder outlives a slice;
else a folder of each worker) and LIBTPU_INIT_ARGS (none: the compiler's defaults; see the docs page) are passed on.

Exit status: 0 done, 1 the job failed, 2 a wrong flag, 3 no quota, 4 a worker failed, 5 the slice was lost or never came.
END
}

action='' name='' zone='' project='' topology='' tier='' commit=HEAD data='' runtime='' worker=0
poll=60 patience=0 restarts=100 keep=0 command=()
read_flags() {
  (($#)) || { usage >&2 && exit "$EXIT_USAGE"; }
  action=$1
  shift
  while (($#)); do
    case $1 in
      --name=*) name=${1#*=} ;;
      --zone=*) zone=${1#*=} ;;
      --project=*) project=${1#*=} ;;
      --topology=*) topology=${1#*=} ;;
      --spot | --reserved)
        [[ -z $tier || $tier == "$1" ]] || die "$EXIT_USAGE" "--spot and --reserved exclude each other"
        tier=$1
        ;;
      --commit=*) commit=${1#*=} ;;
      --data=*)
        data=${1#*=}
        [[ -d $data ]] || die "$EXIT_USAGE" "--data='$data' is no folder here"
        data=$(cd "$data" && pwd)
        ;;
      --runtime=*) runtime=${1#*=} ;;
      --worker=*) worker=${1#*=} ;;
      --poll=*) poll=${1#*=} ;;
      --patience=*) patience=${1#*=} ;;
      --restarts=*) restarts=${1#*=} ;;
      --keep) keep=1 ;;
      --dry-run) DRY_RUN=1 ;;
      --)
        shift
        command=("$@")
        break
        ;;
      *) die "$EXIT_USAGE" "unknown flag '$1'; launch/tpu.sh --help lists them (the command stands behind --)" ;;
    esac
    shift
  done
  check_name "$name"
  [[ $zone =~ ^[a-z0-9-]+$ ]] || die "$EXIT_USAGE" "--zone='$zone' is no zone; gcloud compute tpus locations list shows them"
  case $action in
    create | watch) read_topology "$topology" ;;
  esac
  whole --patience="$patience" --restarts="$restarts"
  [[ $poll =~ ^[0-9]*\.?[0-9]+$ ]] || die "$EXIT_USAGE" "--poll='$poll' is no number of seconds"
  case $action in
    run | watch)
      ((${#command[@]})) || die "$EXIT_USAGE" "$action needs a command: ... -- python -m consistency_jax.train --config=... --workdir=..."
      workdir=$(workdir_of "${command[@]}")
      if [[ $workdir != gs://* ]]; then
        [[ $action == run ]] || die "$EXIT_USAGE" "watch needs --workdir=gs://BUCKET/FOLDER: a disk of the slice goes with the slice"
        [[ -z $workdir || $workdir == /* || $workdir == ../* ]] ||
          die "$EXIT_USAGE" "--workdir='$workdir' lies in the code, which the next sync replaces; take ../$workdir beside it, or gs://BUCKET/FOLDER"
        [[ -z $workdir ]] || say "note: --workdir='$workdir' lies on the workers' disks and goes with the slice; gs://BUCKET/FOLDER stays"
      fi
      ;;
  esac
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch() { printf 'build/launch/%s' "$name"; } # below the repository's root, which every command starts from
tpu() { # tpu step|ask ARGUMENT ...: gcloud, in our zone and project
  "$1" gcloud compute tpus "${@:2}" --zone="$zone" ${project:+--project="$project"}
}
on_workers() { # on_workers step|ask WORKERS COMMAND
  tpu "$1" tpu-vm ssh "$name" --worker="$2" --command="$3"
}

# ------------------------------------------------------------------------------------------------------------ the slice
slice_state() { # prints ABSENT, READY, or what Google calls it
  local state errors
  errors=$(scratch)/errors
  if ! state=$(tpu ask queued-resources describe "$name" --format='value(state.state)' 2>"$errors"); then
    grep -qiE 'not[ _]found' "$errors" || { cat "$errors" >&2 && echo UNKNOWN && return; }
    state=ABSENT
  fi
  if [[ $state == ACTIVE ]]; then # so it is called for a while after the machines have gone, too
    state=$(tpu ask tpu-vm describe "$name" --format='value(state)' 2>"$errors") || state=UNKNOWN
    ! grep -qiE 'not[ _]found' "$errors" || state=TERMINATED
  fi
  if ((DRY_RUN)); then state=READY; fi
  echo "$state"
}

known() { # a state that could be asked for; else (no login, no such project) there is no point in asking again
  [[ $1 != UNKNOWN ]] || die "$EXIT_LOST" "Google Cloud did not say how $name is; the reason stands above"
}

gone() { # a state that does not lead back to READY
  case $1 in
    FAILED | DELETING | SUSPENDING | SUSPENDED | PREEMPTED | TERMINATED | STOPPED | STOPPING | HIDING | HIDDEN) return 0 ;;
    *) return 1 ;;
  esac
}

create() {
  local image=$runtime errors
  errors=$(scratch)/errors
  if [[ -z $image ]]; then
    case $GENERATION in # https://cloud.google.com/tpu/docs/runtimes
      v4) image=tpu-ubuntu2204-base ;;
      v5e) image=v2-alpha-tpuv5-lite ;;
      v5p) image=v2-alpha-tpuv5 ;;
      v6e) image=v2-alpha-tpuv6e ;;
    esac
  fi
  tpu step queued-resources create "$name" --node-id="$name" --accelerator-type="$ACCELERATOR_TYPE" \
    --runtime-version="$image" ${tier:+"$tier"} 2>"$errors" || explain_refusal "$errors" "the slice $name ($ACCELERATOR_TYPE in $zone)"
}

wait_ready() { # until READY; 1 where that cannot come
  local state before='' started=$SECONDS
  while :; do
    state=$(slice_state)
    [[ $before || ${round:-0} -gt 0 ]] || known "$state" # later, it may be a moment's
    ((DRY_RUN)) || [[ $state == "$before" ]] || say "$(date -u +%H:%M:%S) $name: $state"
    before=$state
    [[ $state != READY ]] || return 0
    if gone "$state" || [[ $state == ABSENT ]]; then return 1; fi
    if ((patience && SECONDS - started >= patience)); then
      die "$EXIT_LOST" "$name did not come within $patience s (it is $state) and stays in the queue; launch/tpu.sh delete takes it out"
    fi
    sleep "$poll"
  done
}

given_back() {
  delete || die "$EXIT_WORKER" "the report is there, but the slice $name was not given back (and costs): launch/tpu.sh delete"
}

delete() {
  tpu step queued-resources delete "$name" --force --quiet
}

# ---------------------------------------------------------------------------------------------------------- the workers
pack() { # the code of the commit, once: a recreated slice runs the same
  local dirty
  step git archive --format=tar.gz --output="$(scratch)/code.tar.gz" "$commit"
  dirty=$(git status --porcelain --untracked-files=no) || return 0
  [[ -z $dirty ]] || say "note: what is not committed stays behind: $(wc -l <<<"$dirty") changed files"
}

sync() {
  local secrets line
  check_secrets
  tpu step tpu-vm scp "$(scratch)/code.tar.gz" "$name:code.tar.gz" --worker=all || return
  on_workers step all 'if bash consistency/code/launch/tpu_worker.sh state 2>/dev/null | grep -qx running; then echo a command runs here: stop it first >&2; exit 1; fi; rm -rf consistency/code && mkdir -p consistency/code consistency/data && tar -xzf code.tar.gz -C consistency/code' || return
  [[ -z $data ]] || tpu step tpu-vm scp "$data" "$name:consistency/data/" --worker=all --recurse || return
  [[ -n $(secrets_here) ]] || return 0
  secrets=$(scratch)/secrets.env
  if ((!DRY_RUN)); then
    # shellcheck disable=SC2064
    trap "rm -f $(quoted "$root/$secrets")" EXIT
    (umask 077 && while IFS= read -r line; do printf '%s=%q\n' "${line%%=*}" "${line#*=}"; done < <(secrets_here) >"$secrets")
  fi
  tpu step tpu-vm scp "$secrets" "$name:consistency/secrets.env" --worker=all --scp-flag=-p || return
  rm -f "$secrets"
}

install() { on_workers step all 'bash consistency/code/launch/tpu_worker.sh install'; }

start() {
  local variables=(JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-/tmp/jax_cache}")
  [[ -z ${LIBTPU_INIT_ARGS:-} ]] || variables+=(LIBTPU_INIT_ARGS="$LIBTPU_INIT_ARGS")
  on_workers step all "$(quoted env "${variables[@]}" bash consistency/code/launch/tpu_worker.sh start "${command[@]}")"
}

worker_states() { # a line from each worker: absent, running, or exited STATUS
  on_workers ask all 'test ! -e consistency/code || bash consistency/code/launch/tpu_worker.sh state'
}

# ------------------------------------------------------------------------------------------------------------ watch
finished() { ask gcloud storage ls "$workdir/report.json" >/dev/null 2>&1; }

prepared() { # runs a step on all workers; a failure counts only where the slice is still there
  "$1" && return
  sleep "$poll"
  [[ $(slice_state) == READY ]] || return 1
  die "$EXIT_WORKER" "$1 failed on a worker of $name; its output stands above. The slice is kept (and costs)." \
    "Mend it and give the same command again, or give the slice back with launch/tpu.sh delete"
}

follow() { # until the job has finished (0), or the slice or the command has to be started again (1)
  local states
  while :; do
    ((DRY_RUN)) || sleep "$poll"
    states=$(worker_states) || states=''
    if ((DRY_RUN)) || [[ -n $states && $states != *running* ]]; then
      # A report may be older than a job that failed.
      if ! grep -qE 'exited [1-9]' <<<"$states" && finished; then return 0; fi
      # One lost machine makes the others fail, and Google may need a moment to say that it is lost.
      sleep "$poll"
      [[ $(slice_state) == READY ]] || return 1
      if grep -qE 'exited [1-9]' <<<"$states"; then
        on_workers step 0 'bash consistency/code/launch/tpu_worker.sh log 100' || true
        die "$EXIT_JOB" "the job failed ($(sort <<<"$states" | uniq -c | xargs)); the last lines of worker 0 stand above." \
          "The slice is kept (and costs): launch/tpu.sh logs, then launch/tpu.sh delete"
      fi
      say "the command ended early and wrote a checkpoint: starting it again"
      return 1
    fi
    [[ -n $states && $(slice_state) == READY ]] || { gone "$(slice_state)" && return 1; }
  done
}

watch() {
  local state round
  pack
  for ((round = 0; round <= restarts; round++)); do
    ((!round)) || say "--- start $((round + 1)): resuming $workdir"
    if ((DRY_RUN)); then
      create
    else
      state=$(slice_state)
      ((round)) || known "$state"
      if gone "$state"; then
        say "$name is $state: taking it out and asking for another"
        delete || true
        state=ABSENT
      fi
      [[ $state != ABSENT ]] || create
    fi
    wait_ready || continue
    if ((round)) || [[ $(worker_states) != *running* ]]; then # else an earlier watch has started it
      { prepared sync && prepared install && prepared start; } || continue
    fi
    if follow; then
      ((DRY_RUN)) || say "done: $workdir/report.json"
      if ((keep)); then say "the slice $name is kept (and costs)"; else given_back; fi
      return
    fi
  done
  die "$EXIT_LOST" "gave up after $restarts restarts (--restarts); the same command goes on from the last checkpoint"
}

# ------------------------------------------------------------------------------------------------------------ actions
case ${1:-} in
  --help | -h | help)
    usage
    exit
    ;;
esac
read_flags "$@"
cd "$root"
mkdir -p "$(scratch)"
case $action in
  create | delete | watch) "$action" ;;
  wait) wait_ready || die "$EXIT_LOST" "$name will not come; launch/tpu.sh delete takes it out of the queue" ;;
  sync)
    pack
    sync || die "$EXIT_WORKER" "the code did not reach all workers; the reason stands above"
    ;;
  install) install || die "$EXIT_WORKER" "install failed on a worker; its output stands above" ;;
  run) start || die "$EXIT_WORKER" "the command did not start on all workers; the reason stands above" ;;
  logs) on_workers step "$worker" 'bash consistency/code/launch/tpu_worker.sh log follow' ;;
  status)
    state=$(slice_state)
    ((DRY_RUN)) || say "$name: $state"
    worker_states
    ;;
  stop) on_workers step all 'bash consistency/code/launch/tpu_worker.sh stop' ;;
  *) die "$EXIT_USAGE" "unknown action '$action'; launch/tpu.sh --help lists them" ;;
esac
