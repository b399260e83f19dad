#!/bin/sh
# Measures which kernels take the time of a training step, with CubeCL's profiler:
#
#   tests/gpu/profile.sh FOLDER_OF_PACK RESULTS [CHECK]     CHECK: steps-nnunet (default) or another check of gpu_check
set -eu
. "$(dirname "$0")/start.sh"
CUBECL_DEBUG_OPTION=profile-full CUBECL_DEBUG_LOG="$results/kernels.log" \
  check --device "${DEVICE:-cuda}" --run "${3:-steps-nnunet}" --steps 4 | tee "$results/profile.txt"
ls -l "$results/kernels.log"
