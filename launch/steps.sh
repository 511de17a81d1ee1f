# shellcheck shell=bash
# What the launchers share: how a step is shown and taken, how one stops, and what a slice is called. Sourced, not run.
#
# Every command that changes or asks something outside goes through `step` or `ask`, which show it first as
# "+ COMMAND", quoted so that it can be pasted. With DRY_RUN=1 it is shown and not run.

# Exit statuses of the launchers.
# shellcheck disable=SC2034
{
  EXIT_JOB=1      # the job, or a command, failed
  EXIT_USAGE=2    # a flag or a name that cannot be right; nothing was started
  EXIT_QUOTA=3    # refused for want of quota
  EXIT_WORKER=4   # a worker could not be reached or prepared
  EXIT_LOST=5     # the machines are gone, or did not come
}
DRY_RUN=${DRY_RUN:-0}
exec 3>&1 # where steps are shown, also from inside $(...)

say() { printf '%s\n' "$*" >&2; }

die() { # die STATUS MESSAGE
  local status=$1
  shift
  printf 'error: %s\n' "$*" >&2
  exit "$status"
}

whole() { # whole NAME=VALUE ...: each a whole number, before bash computes with it: it runs what other words hold
  local word
  for word in "$@"; do
    [[ ${word#*=} =~ ^(0|[1-9][0-9]{0,8})$ ]] || die "$EXIT_USAGE" "$word is not a whole number"
  done
}
check_environment() {
  local name
  whole DRY_RUN="$DRY_RUN"
  for name in ${CONSISTENCY_SECRETS:-}; do
    [[ $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || die "$EXIT_USAGE" "CONSISTENCY_SECRETS: '$name' is no name of a variable"
  done
}
check_environment

((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 501)) || die "$EXIT_USAGE" "bash 5.1 or newer is needed, this is $BASH_VERSION"
declare -A SHOWN=()

quoted() { # the words as one line of shell
  local word line=''
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
    line+="${line:+ }$word"
  done
  printf '%s' "$line"
}

show() { printf '+ %s\n' "$(quoted "$@")" >&3; }

step() { # shows a command and runs it
  show "$@"
  ((DRY_RUN)) || "$@"
}

ask() { # runs a command for what it prints; shown the first time only, since questions are asked again and again
  local text
  text=$(quoted "$@")
  [[ ${SHOWN[$text]:-} ]] || printf '+ %s\n' "$text" >&3
  SHOWN[$text]=1
  ((DRY_RUN)) || "$@"
}

explain_refusal() { # explain_refusal FILE_OF_ERRORS WHAT: ends the launcher, saying why WHAT was refused
  cat "$1" >&2
  if grep -qiE 'quota|RESOURCE_EXHAUSTED' "$1"; then
    die "$EXIT_QUOTA" "$2 was refused for want of quota. See what the project has at" \
      "https://console.cloud.google.com/iam-admin/quotas (spot, reserved and on-demand count apart), ask for more there," \
      "or take a smaller slice or another zone. Nothing was started."
  fi
  die "$EXIT_JOB" "$2 was refused; the reason stands above"
}

check_name() { # names of Google Cloud and of Kubernetes
  [[ $1 =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] ||
    die "$EXIT_USAGE" "--name='$1' cannot be a name there: lower case letters, digits and -, a letter first, 40 at most"
}

# The slice of "v5e:4x4", the spelling of `python -m consistency_jax.aot`: sets GENERATION, SHAPE, CHIPS,
# ACCELERATOR_TYPE (how gcloud and xpk call it: v4 and v5p count cores, two a chip) and GKE_ACCELERATOR (a node's label).
read_topology() {
  GENERATION=${1%%:*}
  SHAPE=${1#*:}
  [[ $1 == *:* && $SHAPE =~ ^[1-9][0-9]*(x[1-9][0-9]*){1,2}$ ]] ||
    die "$EXIT_USAGE" "--topology='$1' is not like v5e:4x4 (the spelling of python -m consistency_jax.aot)"
  CHIPS=$((${SHAPE//x/*}))
  # shellcheck disable=SC2034
  case $GENERATION in
    v4) ACCELERATOR_TYPE=v4-$((2 * CHIPS)) GKE_ACCELERATOR=tpu-v4-podslice ;;
    v5e) ACCELERATOR_TYPE=v5litepod-$CHIPS GKE_ACCELERATOR=tpu-v5-lite-podslice ;;
    v5p) ACCELERATOR_TYPE=v5p-$((2 * CHIPS)) GKE_ACCELERATOR=tpu-v5p-slice ;;
    v6e) ACCELERATOR_TYPE=v6e-$CHIPS GKE_ACCELERATOR=tpu-v6e-slice ;;
    *) die "$EXIT_USAGE" "--topology=$1: the generations are v4, v5e, v5p and v6e" ;;
  esac
}

workdir_of() { # the --workdir of a command
  local word after=0
  for word in "$@"; do
    if ((after)); then
      printf '%s' "$word"
      return
    fi
    case $word in
      --workdir=*)
        printf '%s' "${word#*=}"
        return
        ;;
      --workdir) after=1 ;;
    esac
  done
}

check_secrets() { # before any of them is sent: files of variables have a line each
  local name value
  for name in ${CONSISTENCY_SECRETS:-HF_TOKEN WANDB_API_KEY}; do
    value=${!name:-}
    [[ ${value%$'\n'} != *$'\n'* ]] || die "$EXIT_USAGE" "$name holds several lines; a secret here is one line"
  done
}

secrets_here() { # lines NAME=value of the secrets that the environment has; values go to files and pipes only
  local name
  for name in ${CONSISTENCY_SECRETS:-HF_TOKEN WANDB_API_KEY}; do
    [[ -z ${!name:-} ]] || printf '%s=%s\n' "$name" "${!name%$'\n'}"
  done
}
