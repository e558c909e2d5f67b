//! One linker flag: Lua unloads its libraries when it ends, but this one has threads, so it stays.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
