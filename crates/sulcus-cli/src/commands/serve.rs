//! `sulcus serve`: a held model behind HTTP.

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

/// What `--json` says when clients may come.
#[derive(Serialize)]
struct Started<'a> {
    url: String,
    models: Vec<String>,
    engine: String,
    device: String,
    precision: Vec<&'a str>,
    workers: usize,
    queue: usize,
    /// Whether clients need one.
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

    // The limit is the server's, which shares it out.
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
        (true, _) => "those who send the token",
        (false, true) => "anyone",
        (false, false) => "this machine alone",
    };
    ui.note(format_args!("serving {whom}; Ctrl-C ends it"));
    let ended = server.run().context("serving")?;
    match ended.abandoned {
        0 => Ok(()),
        scans => Err(CliError::failed(format_args!("stopped at once: {} given up", count(scans, "scan")))),
    }
}

/// The token in the file or the environment. It is no argument: every user of a machine can read those.
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
            .hint("`openssl rand -hex 32` prints a good one")
    })?;
    Ok(Some(token))
}

/// Replays the models' golden cases: the engine is warm for the first client, and what computes otherwise here is said.
fn check(segmenter: &Segmenter, ui: Ui) {
    match segmenter.replay_golden() {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NoGoldenCase { .. }) => {
            ui.note("a model carries no golden case: whether it computes here what it should was not checked");
        }
        Err(error) => ui.warn(format_args!(
            "the model's golden case did not get the mask that it should: {}; `sulcus doctor -m` says more",
            with_causes(&error)
        )),
    }
}

fn refused(error: &ServeError) -> CliError {
    match error {
        ServeError::Unprotected { .. } => CliError::usage(error)
            .hint("--token-file F or $SULCUS_TOKEN names a token, --allow-anyone does without"),
        ServeError::MemoryLimit { .. } => CliError::usage(error),
        ServeError::Listen { .. } => CliError::failed(with_causes(error))
            .hint("another program may use this port: choose another one, or 0 for a free port"),
        _ => CliError::failed(with_causes(error)),
    }
}
