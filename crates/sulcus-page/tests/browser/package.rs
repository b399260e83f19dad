//! The npm package as its users have it: packed, installed into a new project, type-checked, and bundled with React.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use sulcus_page::npm_package;
use sulcus_testing::{repository, write_file};

use crate::case;
use crate::devtools::Page;
use crate::server::serve;

/// Pinned, so that a new release never turns a green tree red.
const TOOLS: [&str; 5] =
    ["typescript@7.0.2", "esbuild@0.28.2", "react@19.3.1", "react-dom@19.3.1", "@types/react@19.3.3"];
const HOST: &str = "<!DOCTYPE html><meta charset=\"utf-8\"><title>app</title><body style=\"margin:0\"><div id=\"app\"></div><script type=\"module\" src=\"app.js\"></script>";
/// An image that is replaced, a mask that is closed, and a reference to the element.
const APP: &str = "
import { createElement as h, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { SulcusViewer } from 'sulcus-viewer/react';

globalThis.log = [];
function App() {
  const [files, setFiles] = useState({ image: 'image.nii.gz', mask: 'truth.nii.gz' });
  globalThis.setFiles = setFiles;
  return h(SulcusViewer, {
    ...files,
    ref: (element) => { globalThis.viewer = element; },
    style: { height: '100vh' },
    onLoad: ({ files }) => log.push(Object.values(files).map((name) => name ?? '-').join(' ')),
    onLocation: ({ mask }) => { globalThis.at = mask?.name; },
    onError: ({ message }) => log.push(message),
  });
}
createRoot(document.getElementById('app')).render(h(App));
";

/// Runs a program in a folder. Returns its output, or why it failed.
fn run(folder: &Path, program: &str, arguments: &[&dyn AsRef<OsStr>]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.current_dir(folder).args(arguments.iter().map(|argument| argument.as_ref())).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// A project that has installed the package as `npm pack` makes it. Skips the test where npm cannot install what it needs.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (source, project) = (folder.path().join("source"), folder.path().join("project"));
    for (path, content) in npm_package().unwrap() {
        write_file(&source.join(path), &content);
    }
    fs::create_dir(&project).unwrap();
    fs::write(project.join("package.json"), r#"{ "name": "app", "type": "module", "private": true }"#).unwrap();
    if run(folder.path(), "npm", &[&"--version"]).is_err() {
        sulcus_harness::skip("there is no npm");
    }
    run(&source, "npm", &[&"pack", &"--pack-destination", &project]).unwrap();
    let archive = format!("./sulcus-viewer-{}.tgz", env!("CARGO_PKG_VERSION"));
    let options =
        ["install", "--prefer-offline", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=60000"];
    let mut arguments: Vec<&dyn AsRef<OsStr>> = options.iter().map(|option| option as &dyn AsRef<OsStr>).collect();
    arguments.extend(TOOLS.iter().map(|tool| tool as &dyn AsRef<OsStr>));
    if let Err(reason) = run(&project, "npm", &arguments) {
        let reason = reason.lines().find(|line| line.contains("error")).unwrap_or("no reason").to_owned();
        sulcus_harness::skip(format!("npm cannot install TypeScript and React: {reason}"));
    }
    run(&project, "npm", &[&"install", &"--offline", &"--no-audit", &"--no-fund", &archive]).unwrap();
    folder
}

#[test]
fn package_is_installed_type_checked_and_used_with_react() {
    let folder = project();
    let project = folder.path().join("project");
    let tests = repository().join("wasm/npm/test");
    for name in ["use.ts", "use-react.tsx"] {
        fs::copy(tests.join(name), project.join(name)).unwrap();
    }
    let strict =
        ["--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom,dom.iterable", "--jsx", "react-jsx"];
    for (module, resolution) in [("nodenext", "nodenext"), ("esnext", "bundler")] {
        let mut arguments: Vec<&dyn AsRef<OsStr>> = vec![&"tsc"];
        arguments.extend(strict.iter().map(|option| option as &dyn AsRef<OsStr>));
        let more = ["--module", module, "--moduleResolution", resolution, "use.ts", "use-react.tsx"];
        arguments.extend(more.iter().map(|option| option as &dyn AsRef<OsStr>));
        run(&project, "npx", &arguments).unwrap_or_else(|said| panic!("{resolution}: {said}"));
    }
    // A server renders the element without a browser.
    run(
        &project,
        "node",
        &[&"--input-type=module", &"--eval", &"import 'sulcus-viewer'; import 'sulcus-viewer/react';"],
    )
    .unwrap();

    fs::write(project.join("app.js"), APP).unwrap();
    let bundle =
        ["esbuild", "app.js", "--bundle", "--splitting", "--format=esm", "--outdir=out", "--log-level=warning"];
    let arguments: Vec<&dyn AsRef<OsStr>> = bundle.iter().map(|option| option as &dyn AsRef<OsStr>).collect();
    run(&project, "npx", &arguments).unwrap();
    let mut files: HashMap<String, Vec<u8>> = fs::read_dir(project.join("out"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())
        })
        .collect();
    files.insert("index.html".to_owned(), HOST.as_bytes().to_vec());
    for name in ["image.nii.gz", "truth.nii.gz"] {
        files.insert(name.to_owned(), case(name));
    }
    let mut page = Page::open(&format!("{}/index.html", serve(files)));
    page.wait_for("globalThis.log?.includes('image.nii.gz truth.nii.gz - -')");
    page.value("viewer.goTo({ label: 1 })");
    page.wait_for("globalThis.at === 'label 1'");
    page.picture("react.png");
    page.value("setFiles({ image: 'image.nii.gz' })");
    page.wait_for("log.at(-1) === 'image.nii.gz - - -'");
    page.value("setFiles({ image: 'image.nii.gz', truth: 'gone.nii.gz' })");
    page.wait_for("log.at(-1).startsWith('gone.nii.gz: could not be loaded')");
    page.value("setFiles({ image: new File([new Uint8Array(9)], 'nine.nii') })");
    page.wait_for("log.at(-1).startsWith('nine.nii: ')");
    assert_eq!(page.value("log.filter((line) => line.startsWith('nine.nii')).length"), 1);
}
