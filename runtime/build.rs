//! Writes down the table of calls, and builds the kernel image that the commands embed: a freestanding ELF, in a target folder of its own so that the nested cargo
//! does not wait for the lock of the outer one.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the image is linked: no libc, no start files, position independent without a loader.
const FLAGS: &[&str] = &[
    "-Cpanic=abort",
    "-Crelocation-model=pie",
    "-Ctarget-feature=+crt-static",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-static-pie",
    "-Clink-arg=-Wl,--no-undefined",
    "-Clink-arg=-Wl,-z,noexecstack",
    // Text, constants and data each begin a huge page, so that the text can be put on one (`kernel::mm::text`).
    "-Clink-arg=-Wl,-z,max-page-size=2097152",
    // Nobody protects what was relocated.
    "-Clink-arg=-Wl,-z,norelro",
    "-Clink-arg=-Wl,-z,separate-code",
    "-Clink-arg=-Wl,--build-id=none",
    "-Cforce-unwind-tables=no",
    "-Cforce-frame-pointers=yes",
];

/// Crates that make the image.
const CRATES: &[&str] = &["boundary", "trap-handler", "kernel", "vfs", "netstack", "loader", "syscalls"];

fn main() {
    let workspace = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("..");
    let out = PathBuf::from(env::var("OUT_DIR").expect("set by cargo"));
    for name in CRATES {
        let path = workspace.join(name);
        if path.exists() {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    for name in ["Cargo.lock", "Cargo.toml"] {
        println!("cargo:rerun-if-changed={}", workspace.join(name).display());
    }
    let listing = out.join("syscalls.txt");
    std::fs::write(&listing, syscalls::names::listing()).expect("the output folder can be written");
    println!("cargo:rustc-env=TRAPBOX_SYSCALLS={}", listing.display());
    let image = build(&workspace, &out.join("image"));
    let embedded = out.join("trapbox-kernel");
    strip(&image, &embedded);
    println!("cargo:rustc-env=TRAPBOX_IMAGE={}", embedded.display());
}

/// The image without what only debuggers read. The other one stays, for the names of addresses.
fn strip(image: &Path, stripped: &Path) {
    let status = Command::new("objcopy").arg("--strip-debug").arg(image).arg(stripped).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "objcopy (package binutils) cannot strip {}",
        image.display()
    );
}

fn build(workspace: &Path, target: &Path) -> PathBuf {
    let triple = "x86_64-unknown-linux-gnu";
    let status = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .current_dir(workspace)
        .args(["build", "--release", "--package", "image", "--bin", "trapbox-kernel"])
        .args(["--features", "image/freestanding", "--target", triple])
        .arg("--target-dir")
        .arg(target)
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_TARGET_DIR")
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the kernel image does not build: see cargo's messages above");
    target.join(triple).join("release/trapbox-kernel")
}
