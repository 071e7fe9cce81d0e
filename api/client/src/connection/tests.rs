use super::*;

#[test]
fn a_request_goes_to_the_servers_authority() {
    let server = server("https://10.0.0.1:6443").expect("valid");
    let request = Uri::from_static("/api/v1/pods?watch=true");
    assert_eq!(join(&server, &request), "https://10.0.0.1:6443/api/v1/pods?watch=true");
}

#[test]
fn a_server_must_be_https() {
    for url in ["http://x", "x:6443", "/x", "https://"] {
        assert!(server(url).is_err(), "{url}");
    }
}
