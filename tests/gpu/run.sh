#!/bin/sh
# Runs all checks on a machine with an NVIDIA GPU, from the root of the project:
#
#   tests/gpu/run.sh FOLDER_OF_PACK RESULTS
#
# The exit status is that of the checks. Environment: SULCUS_ORT_LIB names ONNX Runtime with its CUDA provider, SCAN a scan.
set -u
. "$(dirname "$0")/start.sh"
nvidia-smi >"$results/nvidia-smi.txt" 2>&1 || true
check --device "${DEVICE:-cuda}" --output "$results/gpu-check.jsonl" --budget "${BUDGET:-300}" \
  ${SULCUS_ORT_LIB:+--ort-library "$SULCUS_ORT_LIB"} ${SCAN:+--scan "$SCAN"} 2>&1 | tee "$results/gpu-check.txt"
grep -q '^0 failed' "$results/gpu-check.txt"
status=$?
if python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
  for mode in fp32 tf32 bf16 compile; do
    timeout 60 python3 tests/peers/pytorch_step.py --device cuda --mode "$mode" >>"$results/pytorch.jsonl"
  done
fi
exit $status
