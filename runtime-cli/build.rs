//! Makes `early::onggi_entry` the first instruction of an optimised binary. Without optimisation the compiler calls
//! even trivial functions through addresses that a static program relocates only later; `sealed_exe::ensure` then
//! does the whole work.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ONGGI_COMMIT");
    let is =
        |name: &str, values: &[&str]| std::env::var(name).is_ok_and(|value| values.contains(&value.as_str()));
    if is("CARGO_CFG_TARGET_ARCH", &["x86_64", "aarch64"]) && is("OPT_LEVEL", &["2", "3", "s", "z"]) {
        println!("cargo::rustc-link-arg-bins=-Wl,-e,onggi_entry");
    }
}
