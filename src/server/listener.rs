//! Binds a listener.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::error::{Error, ErrorCode, Result};

/// Listens on `address`; `option` is the setting that an error message tells
/// to change.
pub async fn bind(address: SocketAddr, option: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let why = match error.kind() {
            ErrorKind::AddrInUse => "address already in use".to_owned(),
            ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
            ErrorKind::PermissionDenied => {
                "permission denied (ports below 1024 need a privilege)".to_owned()
            }
            _ => error.to_string(),
        };
        let message = format!("cannot listen on {address}: {why}; choose another with {option}");
        Error::new(ErrorCode::Conflict, message).with_detail(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_in_use_is_said_so() {
        let first = bind("127.0.0.1:0".parse().unwrap(), "--listen").await.unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address, "--listen").await.unwrap_err();
        assert_eq!(
            error.message(),
            format!(
                "cannot listen on {address}: address already in use; choose another with --listen"
            )
        );
    }
}
