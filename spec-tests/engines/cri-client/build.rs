//! Compiles the interface, so that no `protoc` is needed.

use prost::Message;
use std::{env, fs, path::Path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/api.proto");
    let files = protox::compile(["api.proto"], ["proto"])?;
    let out = env::var_os("OUT_DIR").ok_or("no OUT_DIR")?;
    fs::write(Path::new(&out).join("api.bin"), files.encode_to_vec())?;
    Ok(())
}
