//! Runs each check in a process of its own.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::training::{self, KILLED};
use crate::{Args, Check, Failure};

/// The text before the result of a check in the output of its process.
const RESULT: &str = "result: ";
/// How often the end of a process is checked.
const PAUSE: Duration = Duration::from_millis(20);
/// The number of bytes at the end of the messages of a failed process that are recorded.
const MESSAGE_BYTES: usize = 4000;

/// Runs a check in this process and prints its result as one line.
pub(crate) fn run_here(checks: &[Check], name: &str, args: &Args) -> ExitCode {
    let outcome = match checks.iter().find(|check| check.name == name) {
        Some(check) => (check.run)(args),
        None if name == KILLED => training::killed(args),
        None => {
            eprintln!("there is no check `{name}`");
            return ExitCode::from(2);
        }
    };
    let (status, details) = match outcome {
        Ok(details) => ("ok", details),
        Err(Failure::Skipped(reason)) => ("skipped", json!(reason)),
        Err(Failure::Failed(reason)) => ("failed", json!(reason)),
    };
    println!("{RESULT}{}", json!({ "status": status, "details": details }));
    ExitCode::SUCCESS
}

/// Runs all chosen checks. The exit code is 1 if one failed or had no time, 2 if the arguments are wrong.
pub(crate) fn run_all(checks: &[Check], args: &Args) -> ExitCode {
    let unknown = args.only.iter().chain(&args.skip).find(|name| checks.iter().all(|check| check.name != **name));
    if let Some(name) = unknown {
        eprintln!("there is no check `{name}`; --list shows them");
        return ExitCode::from(2);
    }
    let start = Instant::now();
    let (mut failed, mut skipped) = (0, 0);
    let chosen = checks.iter().filter(|check| {
        let name = check.name.to_owned();
        (args.only.is_empty() || args.only.contains(&name)) && !args.skip.contains(&name)
    });
    for check in chosen {
        let left = args.budget - start.elapsed().as_secs_f64();
        let begun = Instant::now();
        let (status, details) = if left <= 0.0 {
            ("no time", json!(format!("the budget of {} s is used up", args.budget)))
        } else {
            run(check, args, (check.limit * args.patience).min(left))
        };
        let seconds = begun.elapsed().as_secs_f64();
        match status {
            "ok" => {}
            "skipped" => skipped += 1,
            _ => failed += 1,
        }
        println!("{status:<8} {:<18} {seconds:>6.1} s  {}", check.name, summary(&details));
        let record = json!({ "check": check.name, "status": status, "seconds": seconds, "device": args.device.to_string(), "details": details });
        if let Err(error) = append(args, &record) {
            eprintln!("cannot write {}: {error}", args.output.display());
            return ExitCode::from(2);
        }
    }
    println!("{failed} failed, {skipped} skipped, {:.0} s", start.elapsed().as_secs_f64());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// One line about a result.
fn summary(details: &Value) -> String {
    let text = match details {
        Value::String(text) => text.clone(),
        Value::Object(fields) => match fields.get("summary") {
            Some(Value::String(text)) => text.clone(),
            _ => details.to_string(),
        },
        other => other.to_string(),
    };
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(160).collect()
}

fn append(args: &Args, record: &Value) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(&args.output)?;
    writeln!(file, "{record}")?;
    file.sync_data()
}

fn run(check: &Check, args: &Args, limit: f64) -> (&'static str, Value) {
    match observe(check, args, limit) {
        Ok(result) => result,
        Err(error) => ("failed", json!(format!("its process could not be run: {error}"))),
    }
}

/// Runs a check in a child process and stops it at its limit.
fn observe(check: &Check, args: &Args, limit: f64) -> std::io::Result<(&'static str, Value)> {
    let (output, messages) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child = command(check.name, args)?
        .stdin(Stdio::null())
        .stdout(Stdio::from(output.try_clone()?))
        .stderr(Stdio::from(messages.try_clone()?))
        .spawn()?;
    let status = wait(&mut child, Duration::from_secs_f64(limit))?;
    let (output, messages) = (text(output)?, text(messages)?);
    let Some(status) = status else {
        return Ok(("too long", json!(format!("stopped after {limit:.0} s\n{output}{}", tail(&messages)))));
    };
    let result = output.lines().rev().find_map(|line| line.strip_prefix(RESULT));
    let Some(result) = result.and_then(|line| serde_json::from_str::<Value>(line).ok()) else {
        return Ok(("failed", json!(format!("its process ended with {status}\n{}", tail(&messages)))));
    };
    let status = match result["status"].as_str() {
        Some("ok") => "ok",
        Some("skipped") => "skipped",
        _ => "failed",
    };
    Ok((status, result["details"].clone()))
}

/// This program with the arguments of a single check.
pub(crate) fn command(check: &str, args: &Args) -> std::io::Result<Command> {
    let mut words = start_of_this_program()?.into_iter();
    let program = words.next().ok_or_else(|| std::io::Error::other("this process has no name"))?;
    let mut command = Command::new(program);
    command.args(words).args(["--run", check, "--device", &args.device.to_string()]);
    command.arg("--data").arg(&args.data);
    command.arg("--train-seconds").arg(args.train_seconds.to_string());
    command.arg("--steps").arg(args.steps.to_string());
    for model in &args.models {
        command.arg("--models").arg(model);
    }
    if let Some(scan) = &args.scan {
        command.arg("--scan").arg(scan);
    }
    if let Some(library) = &args.ort_library {
        command.arg("--ort-library").arg(library);
    }
    Ok(command)
}

/// The words that start this program again. A packed program is started through its own loader, which is then the executable: the
/// loader, its options and the program come before the program's arguments on the command line of the process.
fn start_of_this_program() -> std::io::Result<Vec<OsString>> {
    let executable = std::env::current_exe()?;
    let is_loader = executable.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-"));
    if !is_loader {
        return Ok(vec![executable.into_os_string()]);
    }
    let line = std::fs::read_to_string("/proc/self/cmdline")?;
    let words: Vec<OsString> = line.trim_end_matches('\0').split('\0').map(Into::into).collect();
    let arguments = std::env::args_os().count() - 1;
    Ok(words[..words.len().saturating_sub(arguments)].to_vec())
}

/// The exit status, or `None` if the process was stopped at its limit.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

fn text(mut file: File) -> std::io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn tail(messages: &str) -> &str {
    let mut start = messages.len().saturating_sub(MESSAGE_BYTES);
    while !messages.is_char_boundary(start) {
        start += 1;
    }
    &messages[start..]
}
