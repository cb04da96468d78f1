//! Rejects a build without optimization. Children unmap the memory that they do not need, and would
//! crash if the functions that they call afterwards were not inlined.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("OPT_LEVEL").as_deref() == Ok("0") {
        println!(
            "cargo::error=the load generator needs optimization; build it in the workspace, which sets opt-level 2 in the dev profile"
        );
    }
}
