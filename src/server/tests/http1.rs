//! What HTTP/1.1 lets a client do, byte by byte.

use super::*;

/// Reads until the peer closes.
async fn all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[tokio::test]
async fn requests_may_be_sent_without_waiting_for_replies() {
    let running = start_default().await;
    let mut stream = running.connect().await;
    let mut requests: String = (100..200).map(|i| request(&format!("[{i},0.5]"))).collect();
    requests.push_str("GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(requests.as_bytes()).await.unwrap();
    let replies = all(&mut stream).await;
    assert_eq!(count(&replies, "HTTP/1.1 200 OK\r\n"), 101);
    // In the order in which they were asked.
    let mut rest = &replies[..];
    for i in 100..200 {
        let value = format!("\"predictions\":[{i}.5]}}");
        let at = rest.find(&value).unwrap_or_else(|| panic!("{value} is not in {rest}"));
        rest = &rest[at + value.len()..];
    }
    assert_eq!(running.stop().await.accepted, 1);
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let running = start_default().await;
    let mut stream = running.connect().await;
    for byte in request("[1,2]").as_bytes() {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let got = reply(&mut stream).await;
    assert!(got.starts_with("HTTP/1.1 200") && got.ends_with("\"predictions\":[3.0]}"), "{got}");
}

#[tokio::test]
async fn who_asks_before_sending_a_body_is_told_to_go_on() {
    let running = start_default().await;
    let mut stream = running.connect().await;
    let whole = request("[1,2]");
    let (head, body) = whole.split_once("\r\n\r\n").unwrap();
    let head = format!("{head}\r\nExpect: 100-continue\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    let got = ask(&mut stream, body).await;
    assert!(got.starts_with("HTTP/1.1 200") && got.ends_with("\"predictions\":[3.0]}"), "{got}");
}

#[tokio::test]
async fn who_asks_in_vain_is_told_so_instead() {
    let limits = RequestLimits { body_bytes_max: 64, ..RequestLimits::default() };
    let running = start(ServerLimits::default(), limits, sums).await;
    let large = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 65\r\n";
    let lost = "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 65\r\n";
    for (head, status) in [(large, "413"), (lost, "404")] {
        let head = format!("{head}Expect: 100-continue\r\n\r\n");
        let got = ask(&mut running.connect().await, &head).await;
        assert!(got.starts_with(&format!("HTTP/1.1 {status}")), "{got}");
    }
}

#[tokio::test]
async fn a_body_may_come_in_chunks() {
    let running = start_default().await;
    let mut stream = running.connect().await;
    let head = "POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = |text: &str| format!("{:x};note=\"x\"\r\n{text}\r\n", text.len());
    let body = [chunk("{\"instances\":"), chunk("["), chunk("[1,2]]}"), "0\r\nX: y\r\n\r\n".into()];
    // Twice, on one connection: the end of a body is found.
    for _ in 0..2 {
        stream.write_all(head.as_bytes()).await.unwrap();
        for piece in &body[..3] {
            stream.write_all(piece.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
        let got = ask(&mut stream, &body[3]).await;
        assert!(got.ends_with("\"predictions\":[3.0]}"), "{got}");
    }
}

#[tokio::test]
async fn a_body_whose_length_is_ambiguous_is_refused() {
    let running = start_default().await;
    // What a proxy in front of us and we could read differently.
    for lengths in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: +5\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
    ] {
        let request = format!("POST /predict HTTP/1.1\r\nHost: x\r\n{lengths}\r\n");
        let mut stream = running.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let got = all(&mut stream).await;
        assert!(got.starts_with("HTTP/1.1 400"), "{lengths}: {got}");
    }
}

#[tokio::test]
async fn who_says_close_is_closed_and_who_speaks_the_older_one_may_stay() {
    let running = start_default().await;
    let live = "GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut stream = running.connect().await;
    assert!(ask(&mut stream, live).await.contains("connection: close"));
    closed(&mut stream).await;
    let mut stream = running.connect().await;
    let older = "GET /v2/health/live HTTP/1.0\r\n";
    let stay = format!("{older}Connection: keep-alive\r\n\r\n");
    for _ in 0..2 {
        assert!(ask(&mut stream, &stay).await.starts_with("HTTP/1.0 200"));
    }
    ask(&mut stream, &format!("{older}\r\n")).await;
    closed(&mut stream).await;
}
