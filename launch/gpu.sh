#!/usr/bin/env bash
# One job on the NVIDIA GPUs of this host, 1 to 8 of them: one process drives all. docs/launch_gpu.md has the steps.
set -euo pipefail
# shellcheck source=launch/steps.sh
. "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

usage() {
  cat <<'END'
usage: launch/gpu.sh [--gpus=LIST] [--memory=SHARE] [--dry-run] -- COMMAND ...

  --gpus=0,1,2,3     which of nvidia-smi's list; all by default
  --memory=0.9       share of a GPU's memory that JAX takes at its start (its own default is 0.75)
  --dry-run          show the command, do not run it

Sets CUDA_VISIBLE_DEVICES, XLA_PYTHON_CLIENT_MEM_FRACTION, JAX_COMPILATION_CACHE_DIR, and on more than one GPU
XLA_FLAGS=--xla_gpu_enable_latency_hiding_scheduler=true (collectives beside computation: the one flag that both JAX's
GPU page and NVIDIA's images set). What the environment has already stays as it is.

Exit status: 2 for a wrong flag or GPUs that are not there, else that of the command.
END
}

gpus='' memory=0.9
while (($#)); do
  case $1 in
    --gpus=*) gpus=${1#*=} ;;
    --memory=*) memory=${1#*=} ;;
    --dry-run) DRY_RUN=1 ;;
    --help | -h)
      usage
      exit
      ;;
    --)
      shift
      break
      ;;
    *) die "$EXIT_USAGE" "unknown flag '$1'; launch/gpu.sh --help lists them (the command stands behind --)" ;;
  esac
  shift
done
[[ -z $gpus || $gpus =~ ^(0|[1-9][0-9]{0,3})(,(0|[1-9][0-9]{0,3}))*$ ]] || die "$EXIT_USAGE" "--gpus='$gpus' is not like 0,1,2,3"
[[ $memory =~ ^0?\.[0-9]+$|^1(\.0+)?$ ]] || die "$EXIT_USAGE" "--memory='$memory' is no share between 0 and 1"
(($#)) || die "$EXIT_USAGE" "no command: launch/gpu.sh -- python -m consistency_jax.train --config=... --workdir=..."

count=8 # as far as a dry run knows
if ((!DRY_RUN)); then
  count=$(nvidia-smi --list-gpus 2>/dev/null | wc -l) || count=0
  ((count)) || die "$EXIT_USAGE" "nvidia-smi shows no GPU here; on CPU run the command as it is, or launch/local.sh"
  for gpu in ${gpus//,/ }; do
    ((gpu < count)) || die "$EXIT_USAGE" "--gpus=$gpus: this host has $count, numbered from 0"
  done
fi
if [[ $gpus ]]; then
  commas=${gpus//[0-9]/}
  count=$((${#commas} + 1))
fi

variables=()
[[ -z $gpus ]] || variables+=(CUDA_VISIBLE_DEVICES="$gpus")
[[ ${XLA_PYTHON_CLIENT_MEM_FRACTION:-} ]] || variables+=(XLA_PYTHON_CLIENT_MEM_FRACTION="$memory")
[[ ${JAX_COMPILATION_CACHE_DIR:-} ]] || variables+=(JAX_COMPILATION_CACHE_DIR="${XDG_CACHE_HOME:-$HOME/.cache}/consistency_jax/compiled")
if ((count > 1)) && [[ ${XLA_FLAGS:-} != *latency_hiding_scheduler* ]]; then
  variables+=(XLA_FLAGS="${XLA_FLAGS:+$XLA_FLAGS }--xla_gpu_enable_latency_hiding_scheduler=true")
fi
show env "${variables[@]}" "$@"
((DRY_RUN)) || exec env "${variables[@]}" "$@"
