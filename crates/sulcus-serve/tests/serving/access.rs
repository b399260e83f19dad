use sulcus_serve::{Options, ServeError, Server, Token};

use crate::client::{request, segment};
use crate::scans::scan;
use crate::server::{Running, segmenter};

#[test]
fn token_is_required_for_all_paths_except_health() {
    let token = "correct-horse-battery";
    let running = Running::start(segmenter(), Options::default().token(Token::new(token).unwrap()));
    let bearer = format!("Bearer {token}");
    let wrong = format!("Bearer {token}x");
    for path in ["/v1/model", "/metrics", "/v1/openapi.json", "/nothing"] {
        let line = format!("GET {path}");
        for headers in [&[][..], &[("Authorization", wrong.as_str())], &[("Authorization", "Basic Y29ycmVjdA==")]]
        {
            let response = request(running.address, &line, headers, b"");
            assert!(!response.problem(401, "token-needed").contains(token));
            assert_eq!(response.header("www-authenticate"), Some("Bearer realm=\"sulcus\""));
        }
        let status = request(running.address, &line, &[("Authorization", bearer.as_str())], b"").status;
        assert_eq!(status, if path == "/nothing" { 404 } else { 200 }, "{path}");
    }
    segment(running.address, &scan(0), &[]).problem(401, "token-needed");
    // With the token, web pages and proxies under another name are allowed.
    let headers =
        [("Authorization", bearer.as_str()), ("Host", "scans.example"), ("Origin", "https://scans.example")];
    assert_eq!(segment(running.address, &scan(0), &headers).status, 200);
    assert_eq!(request(running.address, "GET /healthz", &[], b"").status, 200);
    let described =
        request(running.address, "GET /v1/openapi.json", &[("Authorization", bearer.as_str())], b"").json();
    assert_eq!(described["security"][0]["token"].as_array().map(Vec::len), Some(0));
}

#[test]
fn pages_of_other_origins_are_refused_without_a_token() {
    let running = Running::with_defaults();
    let from = |headers: &[(&str, &str)]| segment(running.address, &scan(0), headers);
    from(&[("Host", "evil.example")]).problem(403, "foreign-page");
    from(&[("Origin", "https://evil.example")]).problem(403, "foreign-page");
    assert_eq!(from(&[("Host", "127.0.0.1:1"), ("Origin", "http://localhost:3000")]).status, 200);
    // The option does not open the server to pages in the browser of a local user.
    let anyone = Running::start(segmenter(), Options::default().allow_anyone());
    let from = |headers: &[(&str, &str)]| segment(anyone.address, &scan(0), headers);
    from(&[("Host", "scans.example")]).problem(403, "foreign-page");
    from(&[("Origin", "https://evil.example")]).problem(403, "foreign-page");
    assert_eq!(from(&[("Host", "localhost:8080")]).status, 200);
}

#[test]
fn address_that_others_can_reach_needs_a_token_or_allow_anyone() {
    let bind = |options| Server::bind(segmenter(), "0.0.0.0:0".parse().unwrap(), options);
    let error = bind(Options::default()).unwrap_err();
    assert!(matches!(error, ServeError::Unprotected { .. }), "{error}");
    assert!(bind(Options::default().allow_anyone()).is_ok());
    let taken = Running::with_defaults();
    let error = Server::bind(segmenter(), taken.address, Options::default()).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot listen on {}", taken.address)), "{error}");
}
