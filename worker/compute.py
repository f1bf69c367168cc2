"""How every process that computes is set up, whichever engine starts it."""

from __future__ import annotations

#: Environment of every process that computes, set before TensorFlow is imported. One thread each:
#: sums are then formed in one order however many processes share the machine, so that results
#: are the same to the byte; the processes are what uses the processors.
COMPUTE_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
