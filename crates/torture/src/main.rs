//! cohort-wal on the real kernel; `docs/TESTING.md` says what each command is for. Linux only; a
//! rig that this machine cannot have is skipped with a message.

#![allow(clippy::print_stdout, reason = "a message where there is nothing to run")]
#![allow(clippy::print_stderr, reason = "a message where there is nothing to run")]

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("skipped: these rigs need Linux");
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    commands::main()
}

#[cfg(target_os = "linux")]
mod commands;
