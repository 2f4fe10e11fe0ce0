//! Messages and descriptors from `proto/`, without a protoc on the machine.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    // For reflection: what it means, without the comments.
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(["grpc_service.proto"])?;
    fs::write(out.join("inference.bin"), compiler.encode_file_descriptor_set())?;

    let files = protox::compile(["grpc_service.proto"], ["proto"])?;
    // `Bytes` share the memory that a message came in; ordered maps make equal messages
    // equal bytes.
    let messages = || tonic_prost_build::configure().bytes(".").btree_map(".").build_server(false);
    messages().build_client(false).compile_fds(files.clone())?;
    // The tests' client.
    let client = out.join("client");
    fs::create_dir_all(&client)?;
    messages().build_transport(false).out_dir(client).compile_fds(files)?;
    Ok(())
}
