#!/usr/bin/env bash
# One job on a TPU slice of a GKE cluster, as a JobSet (launch/jobset.yaml) or through xpk. Steps: docs/launch_gke.md.
set -euo pipefail
# shellcheck source=launch/steps.sh
. "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

usage() {
  cat <<'END'
usage: launch/gke.sh ACTION --name=NAME [FLAGS] [-- COMMAND ...]

  image     build the image of the working tree and push it  needs --image
  secrets   put HF_TOKEN and WANDB_API_KEY (or the names in CONSISTENCY_SECRETS) of the environment into the cluster;
            xpk takes them at submit
  submit    start COMMAND on all workers                     needs --image and --topology
  wait      until the job has ended
  logs      what the workers print, as it comes
  status    the job and its pods
  delete    end the job (SIGTERM: it writes a checkpoint); the slice stays the cluster's

  --with=kubectl|xpk     JobSet by kubectl, in its present context (default), or xpk, which needs --cluster and --zone
  --cluster=CLUSTER --zone=ZONE --project=PROJECT            of xpk
  --image=REGISTRY/IMAGE:TAG
  --topology=v5e:4x4     as python -m consistency_jax.aot spells it: v4, v5e, v5p, v6e
  --chips-per-host=4     of the node pool's machines; 4, or all chips of a slice that has fewer
  --spot                 only on spot nodes (kubectl; with xpk the cluster's node pools say so)
  --restarts=20          after failures of its own; preempted jobs restart without limit
  --timeout=SECONDS      of wait (86400)
  --dry-run              show every command, and the filled-in JobSet; run none

COMMAND resumes its --workdir=gs://... at every restart. JAX_COMPILATION_CACHE_DIR and LIBTPU_INIT_ARGS of the
environment are passed on.

Exit status: 0 done, 1 refused or failed, 2 a wrong flag, 3 no quota, 5 not ended in time.
END
}

action='' name='' cluster='' zone='' project='' image='' topology='' chips_per_host='' with=kubectl spot=0
restarts=20 timeout=86400 command=()
read_flags() {
  (($#)) || { usage >&2 && exit "$EXIT_USAGE"; }
  action=$1
  shift
  while (($#)); do
    case $1 in
      --name=*) name=${1#*=} ;;
      --with=*) with=${1#*=} ;;
      --cluster=*) cluster=${1#*=} ;;
      --zone=*) zone=${1#*=} ;;
      --project=*) project=${1#*=} ;;
      --image=*) image=${1#*=} ;;
      --topology=*) topology=${1#*=} ;;
      --chips-per-host=*) chips_per_host=${1#*=} ;;
      --spot) spot=1 ;;
      --restarts=*) restarts=${1#*=} ;;
      --timeout=*) timeout=${1#*=} ;;
      --dry-run) DRY_RUN=1 ;;
      --)
        shift
        command=("$@")
        break
        ;;
      *) die "$EXIT_USAGE" "unknown flag '$1'; launch/gke.sh --help lists them (the command stands behind --)" ;;
    esac
    shift
  done
  case $with in
    kubectl) ;;
    xpk) [[ $cluster && $zone ]] || die "$EXIT_USAGE" "--with=xpk needs --cluster and --zone" ;;
    *) die "$EXIT_USAGE" "--with=$with: choose kubectl or xpk" ;;
  esac
  case $action in
    image) ;;
    secrets) ;;
    *) check_name "$name" ;;
  esac
  case $action in
    image | submit)
      [[ $image =~ ^[a-zA-Z0-9._/:@-]+$ ]] ||
        die "$EXIT_USAGE" "--image='$image' is no image; like REGION-docker.pkg.dev/PROJECT/REPOSITORY/consistency_jax:TAG"
      ;;
  esac
  whole --restarts="$restarts" --timeout="$timeout"
  [[ $action == submit ]] || return 0
  read_topology "$topology"
  ((${#command[@]})) || die "$EXIT_USAGE" "submit needs a command: ... -- python -m consistency_jax.train --config=... --workdir=gs://..."
  [[ $(workdir_of "${command[@]}") == gs://* ]] ||
    die "$EXIT_USAGE" "submit needs --workdir=gs://BUCKET/FOLDER: a pod's disk goes with the pod"
  [[ $chips_per_host ]] || chips_per_host=$((CHIPS < 4 ? CHIPS : 4))
  [[ $chips_per_host =~ ^[1-9][0-9]*$ && $((CHIPS % chips_per_host)) == 0 ]] ||
    die "$EXIT_USAGE" "--chips-per-host=$chips_per_host does not divide the $CHIPS chips of $topology"
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
xpk_flags() { xpk_words=(--cluster="$cluster" --zone="$zone" ${project:+--project="$project"}); }

json() { # a word as a JSON string, which is YAML too
  local text=$1
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//$'\n'/\\n}
  text=${text//$'\t'/\\t}
  printf '"%s"' "$text"
}
json_list() {
  local word line=''
  for word in "$@"; do line+="${line:+, }$(json "$word")"; done
  printf '[%s]' "$line"
}

filled_in() { # launch/jobset.yaml for this job
  local line key
  local -A value=(
    [NAME]=$name [RESTARTS]=$restarts [HOSTS]=$((CHIPS / chips_per_host)) [ACCELERATOR]=$GKE_ACCELERATOR [SHAPE]=$SHAPE
    [IMAGE]=$(json "$image") [COMMAND]=$(json_list bash launch/pod.sh "${command[@]}") [CHIPS_PER_HOST]=$chips_per_host
    [CACHE]=$(json "${JAX_COMPILATION_CACHE_DIR:-/tmp/jax_cache}") [LIBTPU_ARGS]=$(json "${LIBTPU_INIT_ARGS:-}")
  )
  while IFS= read -r line; do
    case $line in
      '# '*) continue ;;
      *'# with --spot') ((spot)) || continue ;;
    esac
    # Each line holds one word at most, and what has been filled in is not looked at again.
    key=${line#*'{{'}
    if [[ $key != "$line" ]]; then
      key=${key%%'}}'*}
      line=${line%%'{{'*}${value[$key]}${line#*'}}'}
    fi
    printf '%s\n' "$line"
  done <"$root/launch/jobset.yaml"
}

submit() {
  check_secrets
  local errors=build/launch/$name/errors manifest=build/launch/$name/jobset.yaml
  mkdir -p "build/launch/$name"
  if [[ $with == xpk ]]; then
    # A name without a value: xpk takes it from the environment.
    printf '%s\n' "JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-/tmp/jax_cache}" >"build/launch/$name/env"
    [[ -z ${LIBTPU_INIT_ARGS:-} ]] || echo LIBTPU_INIT_ARGS >>"build/launch/$name/env"
    secrets_here | sed 's/=.*//' >>"build/launch/$name/env"
    step xpk workload create --workload="$name" "${xpk_words[@]}" --tpu-type="$ACCELERATOR_TYPE" --num-slices=1 \
      --docker-image="$image" --max-restarts="$restarts" --restart-on-exit-codes=1-126 \
      --termination-grace-period-seconds=120 --env-file="build/launch/$name/env" \
      --command="$(quoted bash launch/pod.sh "${command[@]}")" 2>"$errors" || explain_refusal "$errors" "the workload $name"
    return
  fi
  filled_in >"$manifest"
  say "$manifest:"
  sed 's/^/  /' "$manifest" >&2
  step kubectl create --filename="$manifest" 2>"$errors" || already_there "$errors" || explain_refusal "$errors" "the JobSet $name"
}

already_there() { # it would be left as it is, or be refused, and what has ended stays for a week
  ! grep -q AlreadyExists "$1" || die "$EXIT_USAGE" "there is a JobSet $name: launch/gke.sh status --name=$name shows it, delete takes it away"
  return 1
}

secrets() {
  check_secrets
  [[ -n $(secrets_here) ]] || die "$EXIT_USAGE" "none of ${CONSISTENCY_SECRETS:-HF_TOKEN WANDB_API_KEY} is set in the environment"
  # Through pipes: no value is on a command line, on the terminal or in a file.
  show kubectl create secret generic consistency-secrets --from-env-file=/dev/stdin --dry-run=client --output=yaml
  show kubectl apply --filename=-
  ((DRY_RUN)) || secrets_here |
    kubectl create secret generic consistency-secrets --from-env-file=/dev/stdin --dry-run=client --output=yaml |
    kubectl apply --filename=-
}

wait_ended() {
  local states told='' failed=0 errors=build/launch/$name/errors
  mkdir -p "build/launch/$name"
  if [[ $with == xpk ]]; then
    step xpk workload list "${xpk_words[@]}" --wait-for-job-completion="$name" --timeout="$timeout" && return
    case $? in
      124) die "$EXIT_LOST" "$name has not ended within $timeout s" ;;
      *) die "$EXIT_JOB" "$name failed; launch/gke.sh logs says why" ;;
    esac
  fi
  for ((second = 0; second < timeout; second += 10)); do
    if ! states=$(ask kubectl get jobset "$name" --output='jsonpath={.status.conditions[?(@.status=="True")].type}' 2>"$errors"); then
      ! grep -q NotFound "$errors" || die "$EXIT_JOB" "there is no JobSet $name to wait for"
      [[ $(<"$errors") == "$told" ]] || cat "$errors" >&2
      told=$(<"$errors")
      ((second && ++failed < 30)) || die "$EXIT_JOB" "Kubernetes did not say how $name is; the reason stands above"
    else
      failed=0
    fi
    case " $states " in
      *' Completed '*) return ;;
      *' Failed '*) die "$EXIT_JOB" "$name failed; launch/gke.sh logs says why" ;;
    esac
    if ((DRY_RUN)); then return; fi
    sleep 10
  done
  die "$EXIT_LOST" "$name has not ended within $timeout s"
}

case ${1:-} in
  --help | -h | help)
    usage
    exit
    ;;
esac
read_flags "$@"
cd "$root"
xpk_flags
pods=(--selector="jobset.sigs.k8s.io/jobset-name=$name")
case $action in
  image)
    step docker build --target=tpu --tag="$image" .
    step docker push "$image"
    ;;
  secrets) secrets ;;
  submit) submit ;;
  wait) wait_ended ;;
  logs) step kubectl logs "${pods[@]}" --follow --prefix --max-log-requests=64 --tail=200 ;;
  status)
    if [[ $with == xpk ]]; then
      step xpk workload list "${xpk_words[@]}" --filter-by-job="$name"
    else
      step kubectl get jobset "$name"
      step kubectl get pods "${pods[@]}" --output=wide
    fi
    ;;
  delete)
    if [[ $with == xpk ]]; then
      step xpk workload delete --workload="$name" "${xpk_words[@]}"
    else
      step kubectl delete jobset "$name"
    fi
    ;;
  *) die "$EXIT_USAGE" "unknown action '$action'; launch/gke.sh --help lists them" ;;
esac
