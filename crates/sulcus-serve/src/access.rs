//! Which requests are allowed: the token, and the headers `Host` and `Origin`.

use std::net::IpAddr;

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};

use crate::Token;
use crate::problem_details::ProblemDetails;

/// Who may send requests.
#[derive(Debug)]
pub(crate) enum AccessPolicy {
    /// Clients that send this token.
    Token(Token),
    /// Programs on this machine. A web page of another origin could resolve its own name to 127.0.0.1 (DNS rebinding), or
    /// post a form there; the headers `Host` and `Origin` reveal both.
    LocalPrograms,
    /// Every client. Connections over the loopback interface are restricted like [`AccessPolicy::LocalPrograms`], because the
    /// browser of a local user makes them too.
    Anyone,
}

impl AccessPolicy {
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap, over_loopback: bool) -> Result<(), ProblemDetails> {
        match self {
            Self::Token(token) if bearer_token(headers).is_some_and(|sent| token.matches(sent)) => Ok(()),
            Self::Token(_) => Err(ProblemDetails::unauthorized()),
            Self::Anyone if !over_loopback => Ok(()),
            Self::LocalPrograms | Self::Anyone if is_addressed_locally(uri, headers) => Ok(()),
            Self::LocalPrograms | Self::Anyone => Err(ProblemDetails::foreign_page()),
        }
    }

    /// For the log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::LocalPrograms => "local",
            Self::Anyone => "anyone",
        }
    }
}

fn bearer_token(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, secret) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim().as_bytes())
}

/// Whether each host name in the request names this machine. A request without any host name is not from a browser.
fn is_addressed_locally(uri: &Uri, headers: &HeaderMap) -> bool {
    let target = uri.authority().map(Authority::as_str).into_iter().map(Some);
    let hosts = headers.get_all(HOST).iter().map(|value| value.to_str().ok());
    let origins =
        headers.get_all(ORIGIN).iter().map(|value| value.to_str().ok()?.split_once("://").map(|(_, host)| host));
    target.chain(hosts).chain(origins).all(|host| host.is_some_and(is_loopback))
}

fn is_loopback(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(axum::http::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_the_exact_bearer_token_is_accepted() {
        let policy = AccessPolicy::Token(Token::new("0123456789abcdef").unwrap());
        let check = |value: &str| policy.check(&Uri::from_static("/"), &headers(&[(AUTHORIZATION, value)]), false);
        for right in ["Bearer 0123456789abcdef", "bearer  0123456789abcdef"] {
            assert_eq!(check(right), Ok(()), "{right}");
        }
        for wrong in ["0123456789abcdef", "Basic 0123456789abcdef", "Bearer", "Bearer 0123456789abcdeg", ""] {
            assert_eq!(check(wrong).unwrap_err().status.as_u16(), 401, "{wrong}");
        }
        assert!(policy.check(&Uri::from_static("/"), &HeaderMap::new(), true).is_err());
    }

    #[test]
    fn foreign_origins_and_host_names_are_refused() {
        let check = |pairs: &[(axum::http::HeaderName, &str)]| {
            let check = |policy: AccessPolicy| policy.check(&Uri::from_static("/"), &headers(pairs), true).is_ok();
            let (local, anyone) = (check(AccessPolicy::LocalPrograms), check(AccessPolicy::Anyone));
            assert_eq!(local, anyone, "over loopback both policies are equal");
            local
        };
        for host in ["127.0.0.1:8080", "localhost", "LocalHost:1", "[::1]:8080", "127.1.2.3"] {
            assert!(check(&[(HOST, host)]), "{host}");
        }
        for host in ["evil.example:8080", "localhost.evil.example", "10.0.0.1", "", "127.0.0.1.evil.example"] {
            assert!(!check(&[(HOST, host)]), "{host}");
        }
        assert!(check(&[(HOST, "localhost"), (ORIGIN, "http://localhost:3000")]) && check(&[]));
        for origin in ["https://evil.example", "null", "file://"] {
            assert!(!check(&[(HOST, "localhost"), (ORIGIN, origin)]), "{origin}");
        }
        let absolute = Uri::from_static("http://evil.example/v1/model");
        assert!(AccessPolicy::LocalPrograms.check(&absolute, &headers(&[(HOST, "localhost")]), true).is_err());
        assert!(
            AccessPolicy::Anyone.check(&absolute, &headers(&[(ORIGIN, "https://evil.example")]), false).is_ok()
        );
    }
}
