//! bpf(2), for device filters. Runs in RUNTIME.
