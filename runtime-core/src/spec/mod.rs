//! Runs in: RUNTIME. config.json and process files: bytes in, typed and validated values out. No side effects.
