//! Arguments → command → exit code.

use std::process::ExitCode;

/// Shadow threads run in the kernel's idle class and free tensors that
/// request threads allocated. With arenas behind locks, a preempted shadow
/// could hold one that a request waits for; mimalloc frees across threads
/// with an atomic list instead.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    foreshadow::cli::main()
}
