//! Who is answered.

use std::net::IpAddr;

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};

use crate::Token;
use crate::problem::Problem;

#[derive(Debug)]
pub(crate) enum Guard {
    /// Who knows this.
    Token(Token),
    /// Programs of this machine. A web page elsewhere can point its own name at 127.0.0.1, or send a form there; the headers
    /// `Host` and `Origin` give it away.
    Local,
    /// Anyone.
    Nobody,
}

impl Guard {
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        match self {
            Self::Token(token) if bearer(headers).is_some_and(|said| token.is(said)) => Ok(()),
            Self::Token(_) => Err(Problem::unauthorized()),
            Self::Local if is_local(uri, headers) => Ok(()),
            Self::Local => Err(Problem::foreign()),
            Self::Nobody => Ok(()),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, secret) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim().as_bytes())
}

fn is_local(uri: &Uri, headers: &HeaderMap) -> bool {
    // A browser always names a host; a program that names none is none.
    let named = uri.authority().map(Authority::as_str).into_iter().map(Some);
    let named = named.chain(headers.get_all(HOST).iter().map(|value| value.to_str().ok()));
    let pages =
        headers.get_all(ORIGIN).iter().map(|value| value.to_str().ok()?.split_once("://").map(|(_, host)| host));
    named.chain(pages).all(|host| host.is_some_and(is_loopback))
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
    fn a_token_is_asked_for_and_nothing_like_it_will_do() {
        let guard = Guard::Token(Token::new("0123456789abcdef").unwrap());
        let status = |value: &str| guard.check(&Uri::from_static("/"), &headers(&[(AUTHORIZATION, value)]));
        for right in ["Bearer 0123456789abcdef", "bearer  0123456789abcdef"] {
            assert_eq!(status(right), Ok(()), "{right}");
        }
        for wrong in ["0123456789abcdef", "Basic 0123456789abcdef", "Bearer", "Bearer 0123456789abcdeg", ""] {
            assert_eq!(status(wrong).unwrap_err().status.as_u16(), 401, "{wrong}");
        }
        assert!(guard.check(&Uri::from_static("/"), &HeaderMap::new()).is_err());
    }

    #[test]
    fn pages_of_other_origins_and_other_names_for_this_machine_are_refused() {
        let check = |pairs: &[(axum::http::HeaderName, &str)]| {
            Guard::Local.check(&Uri::from_static("/"), &headers(pairs)).is_ok()
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
        assert!(Guard::Local.check(&absolute, &headers(&[(HOST, "localhost")])).is_err());
    }
}
