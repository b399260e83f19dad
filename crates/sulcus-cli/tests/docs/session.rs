//! A folder in which the commands of a page run, one after the other.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::root;

/// Commands on pages, and the programs that replace them here, which cargo has built.
const PROGRAMS: [(&str, &str); 5] = [
    ("cargo run --release -p sulcus-examples --bin embed --", "embed"),
    ("cargo run --release -p sulcus-examples --bin compare_engines --", "compare_engines"),
    ("cargo run --release -p sulcus-examples --bin train --", "train"),
    ("cargo run --release -p embed-burn --", "embed-burn"),
    ("cargo run --release -p embed-burn", "embed-burn"),
];
/// Shorter training, of which only the form of the output is compared.
const SHORTER: [(&str, &str); 3] = [
    ("--time-budget 2m", "--time-budget 20s"),
    ("sulcus demo", "sulcus demo --minutes 0.2"),
    ("walk/example 30", "walk/example 5"),
];
/// Options that affect only the opening of windows and the port.
const QUIET: [(&str, &str); 2] =
    [("sulcus view ", "sulcus view --no-open "), ("sulcus serve ", "sulcus serve --port 0 ")];
/// The address on pages for `sulcus serve`.
const ADDRESS: &str = "127.0.0.1:8080";
/// Time limit for the first lines of a server.
const STARTING: Duration = Duration::from_secs(60);

pub(crate) struct Session {
    folder: tempfile::TempDir,
    shorter: bool,
    /// Programs that run until the session ends.
    servers: Vec<Child>,
    /// The address of `sulcus serve`.
    address: Option<String>,
}

impl Session {
    /// `shorter`: with a shorter training.
    pub(crate) fn new(shorter: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["examples", "models"] {
            symlink(root().join(name), at(name)).unwrap();
        }
        for name in ["bin", "home", "walk"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        let sulcus = Path::new(env!("CARGO_BIN_EXE_sulcus"));
        symlink(sulcus, at("bin/sulcus")).unwrap();
        for (_, program) in PROGRAMS {
            let built = sulcus.with_file_name(program);
            if built.is_file() && !at("bin").join(program).exists() {
                symlink(built, at("bin").join(program)).unwrap();
            }
        }
        Self { folder, shorter, servers: Vec::new(), address: None }
    }

    /// Paths of this machine and their form on pages, longest first.
    pub(crate) fn paths(&self) -> Vec<(String, &'static str)> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let built = Path::new(env!("CARGO_BIN_EXE_sulcus")).parent().unwrap().to_path_buf();
        vec![
            (text(self.folder.path().join("home")), "~"),
            (text(self.folder.path().join("bin")), "target/release"),
            (text(built), "target/release"),
            (text(self.folder.path().to_path_buf()) + "/", ""),
            (text(root()) + "/", ""),
        ]
    }

    /// The output of a command on stdout and stderr; empty if its program is not available. A server is left running
    /// after as many lines as the page shows.
    pub(crate) fn run(&mut self, command: &str, shown: usize) -> Option<Vec<String>> {
        let mut line = command.replace("cargo run --release -- ", "sulcus ");
        for (words, program) in PROGRAMS {
            if line.starts_with(words) && !self.folder.path().join("bin").join(program).exists() {
                sulcus_harness::skip_part(
                    "the programs of the examples are not built: `cargo build --release --workspace --bins`",
                );
                return None;
            }
            line = line.replace(words, program);
        }
        for (words, with) in QUIET.iter().chain(if self.shorter { &SHORTER[..] } else { &[] }) {
            line = line.replace(words, with);
        }
        if let Some(address) = &self.address {
            line = line.replace(ADDRESS, address);
        }
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec 2>&1\n{line}")).current_dir(self.folder.path());
        shell.env_clear().env("HOME", self.folder.path().join("home")).env("LANG", "C.UTF-8");
        shell.env("PATH", format!("{}:/usr/bin:/bin", self.folder.path().join("bin").display()));
        shell.stdin(Stdio::null());
        if QUIET.iter().any(|(server, _)| command.starts_with(server)) {
            return Some(self.serve(&mut shell, &line, shown));
        }
        let output = shell.output().unwrap();
        Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
    }

    /// Creates the files that later commands need from a command that is not run.
    pub(crate) fn stand_in_for(&self, command: &str) {
        if command != "sulcus runtime install" {
            return;
        }
        let Some(library) = std::env::var_os("SULCUS_ORT_LIB").map(PathBuf::from) else {
            sulcus_harness::skip("the rest, which needs ONNX Runtime; set SULCUS_ORT_LIB");
        };
        let folder = self.folder.path().join("home/.local/share/sulcus/onnxruntime");
        std::fs::create_dir_all(&folder).unwrap();
        // A symbolic link would be resolved, and another path be printed.
        std::fs::copy(&library, folder.join(library.file_name().unwrap())).unwrap();
    }

    fn serve(&mut self, shell: &mut Command, line: &str, shown: usize) -> Vec<String> {
        // Without `exec`, only the shell would be ended, not the server.
        let mut parts = line.splitn(2, "sulcus ");
        let (Some(""), Some(rest)) = (parts.next(), parts.next()) else {
            panic!("a server must be the only command of its line: {line}")
        };
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("exec sulcus {rest} 2>&1")).current_dir(self.folder.path()).env_clear();
        command.envs(shell.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        self.servers.push(child);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The remaining output is not compared and not read.
                let _ = sender.send(line);
            }
        });
        let lines: Vec<String> = std::iter::from_fn(|| receiver.recv_timeout(STARTING).ok()).take(shown).collect();
        if line.starts_with("sulcus serve ") {
            let url = lines.iter().find_map(|line| line.strip_prefix("http://"));
            self.address = url.map(|rest| rest.trim_end_matches('/').to_owned());
        }
        lines
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for server in &mut self.servers {
            // The program may have ended by itself.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}
