//! Refuses to be built without optimization: children unmap the memory that they do not need, and would crash if what they call
//! there were not inlined.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("OPT_LEVEL").as_deref() == Ok("0") {
        println!(
            "cargo::error=the load generator has to be optimized (the workspace has opt-level 2 for it in dev)"
        );
    }
}
