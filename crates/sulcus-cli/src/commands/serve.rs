//! `sulcus serve`: segments scans that are sent over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{ErrorKind, Segmenter};
use sulcus_serve::{Options, ServeError, Server, Token};

use super::segmenter;
use crate::args::ServeArgs;
use crate::environment::Environment;
use crate::error::{CliError, Context, with_causes};
use crate::interrupt;
use crate::output::{self, Ui, count};

/// The output of `--json` when the server is ready.
#[derive(Serialize)]
struct Started<'a> {
    url: String,
    models: Vec<String>,
    engine: String,
    device: String,
    precision: Vec<&'a str>,
    workers: usize,
    queue: usize,
    /// Whether clients need a token.
    token: bool,
}

pub(crate) fn run(
    args: &ServeArgs,
    environment: &Environment,
    library: OrtLibrary,
    ui: Ui,
) -> Result<(), CliError> {
    segmenter::check(&args.compute)?;
    let address = SocketAddr::new(args.host, args.port);
    let token = token(args, environment)?;
    let asks = token.is_some();
    let mut options =
        Options::default().queue(args.queue).workers(args.workers).max_body(args.max_body).timeout(args.timeout);
    if let Some(token) = token {
        options = options.token(token);
    }
    if args.allow_anyone {
        options = options.allow_anyone();
    }
    if let Some(bytes) = args.max_memory {
        options = options.max_memory(bytes);
    }
    Server::check_exposure(address, &options).map_err(|error| refused(&error))?;

    // The server divides the limit among its workers.
    let segmenter = segmenter::load(&args.models, &args.compute, None, library, environment, ui)?;
    check(&segmenter, ui);
    let mut started = Started {
        url: String::new(),
        models: segmenter::paths(&args.models),
        engine: segmenter.engine().to_string(),
        device: segmenter.device().to_string(),
        precision: segmenter.specs().map(|spec| spec.precision().name()).collect(),
        workers: args.workers,
        queue: args.queue,
        token: asks,
    };
    let server = Server::bind(segmenter, address, options).map_err(|error| refused(&error))?;
    let shutdown = server.shutdown_handle();
    interrupt::on_signals(move |_| shutdown.shutdown())?;
    started.url = format!("http://{}", server.address());
    if args.json {
        output::json(&started)?;
    } else {
        output::line(&started.url)?;
    }
    let whom = match (asks, args.allow_anyone || !args.host.is_loopback()) {
        (true, _) => "clients with the token",
        (false, true) => "anyone",
        (false, false) => "this machine only",
    };
    ui.note(format_args!("serving {whom}; Ctrl-C ends it"));
    let ended = server.run().context("serving")?;
    match ended.abandoned {
        0 => Ok(()),
        scans => Err(CliError::failed(format_args!("stopped at once: {} cancelled", count(scans, "scan")))),
    }
}

/// The token, from the file or the environment. It is not an option, because every user of a machine can read the
/// arguments of a process.
fn token(args: &ServeArgs, environment: &Environment) -> Result<Option<Token>, CliError> {
    if args.allow_anyone {
        return Ok(None);
    }
    let (secret, place) = match (&args.token_file, &environment.token) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| {
                CliError::failed(format_args!("could not read the token: {error}: {}", path.display()))
            })?;
            (text, path.clone())
        }
        (None, Some(secret)) => (secret.0.to_string_lossy().into_owned(), PathBuf::from("$SULCUS_TOKEN")),
        (None, None) => return Ok(None),
    };
    let token = Token::new(&secret).map_err(|error| {
        CliError::failed(format_args!("{error}: {}", place.display()))
            .hint("`openssl rand -hex 32` generates a token")
    })?;
    Ok(Some(token))
}

/// Replays the golden cases of the models. This also warms up the engine, and deviations are reported.
fn check(segmenter: &Segmenter, ui: Ui) {
    match segmenter.replay_golden() {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NoGoldenCase { .. }) => {
            ui.note("a model contains no golden case, so its results on this machine were not checked");
        }
        Err(error) => ui.warn(format_args!(
            "the golden case of the model gives another mask here: {}; `sulcus doctor -m` shows details",
            with_causes(&error)
        )),
    }
}

fn refused(error: &ServeError) -> CliError {
    match error {
        ServeError::Unprotected { .. } => CliError::usage(error)
            .hint("--token-file F or $SULCUS_TOKEN sets a token, --allow-anyone serves clients without one"),
        ServeError::MemoryLimit { .. } => CliError::usage(error),
        ServeError::Listen { .. } => CliError::failed(with_causes(error))
            .hint("another program may use this port: choose another one, or 0 for a free port"),
        _ => CliError::failed(with_causes(error)),
    }
}
