//! The messages of `run --grpc`, and the service of `bare --grpc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../proto");
    let files = protox::compile(["grpc_service.proto"], ["../proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_client(false)
        .generate_default_stubs(true)
        .compile_fds(files)?;
    Ok(())
}
