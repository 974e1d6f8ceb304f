#!/usr/bin/env bash
# One training run on one or several machines, started by torchrun. Run it on every machine, with the same RUN on a disk
# that all of them see. A run that was broken off goes on when the script is started again.
#
#   NODES=2 NODE_RANK=0 MAIN=10.0.0.1:29500 RUN=/shared/runs/stage1 cluster/torchrun.sh stage=1 model=cogvideox ...
set -euo pipefail

NODES=${NODES:-1}                      # machines
NODE_RANK=${NODE_RANK:-0}              # which of them this is, from 0
GPUS=${GPUS:-8}                        # processes on each of them, one a GPU
MAIN=${MAIN:-127.0.0.1:29500}          # address of the first machine and a free port on it
RUN=${RUN:?set RUN to the run folder, on a disk that all machines see}

# A broken link shows after ten minutes instead of never.
export TORCH_NCCL_ASYNC_ERROR_HANDLING=1
# Threads of a process beside its loader processes.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

exec torchrun \
  --nnodes "$NODES" --node-rank "$NODE_RANK" --nproc-per-node "$GPUS" \
  --rdzv-backend c10d --rdzv-endpoint "$MAIN" --rdzv-id "$(basename "$RUN")" \
  --no-python sparkvsr train \
  paths.output_dir="$RUN" ckpt=auto \
  trainer.num_nodes="$NODES" trainer.devices="$GPUS" \
  "$@"
