//! Software bills of materials: lists of the crates in each shipped binary, in CycloneDX 1.6.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::rules::VIEWER;
use crate::step;

/// A shipped package, the kind of its component, and other packages whose built files it embeds.
const SHIPPED: [(&str, &str, &[&str]); 3] =
    [("sulcus-cli", "application", &VIEWER), ("sulcus-capi", "library", &[]), ("sulcus-python", "library", &[])];

/// Writes `NAME.cdx.json` for each shipped package into `target/sbom`.
///
/// # Errors
/// If cargo cannot describe the workspace, a crate lacks required data, or a file cannot be written.
pub(crate) fn write(root: &Path) -> Result<(), String> {
    let folder = step::target_folder(root).join("sbom");
    std::fs::create_dir_all(&folder).map_err(|e| format!("creating a folder: {e}: {}", folder.display()))?;
    for (name, bill) in bills(root)? {
        let file = folder.join(format!("{name}.cdx.json"));
        let text = serde_json::to_string_pretty(&bill).map_err(|e| format!("writing JSON: {e}"))?;
        std::fs::write(&file, text + "\n").map_err(|e| format!("writing a file: {e}: {}", file.display()))?;
        println!("{}", file.display());
    }
    Ok(())
}

/// The bill of each shipped package, for this platform.
fn bills(root: &Path) -> Result<Vec<(&'static str, Value)>, String> {
    let platform = host()?;
    let mut command = step::cargo();
    command.current_dir(root).args(["metadata", "--format-version", "1", "--locked"]);
    command.args(["--filter-platform", &platform]);
    let metadata: Value = serde_json::from_str(&step::capture(&mut command)?)
        .map_err(|e| format!("reading the output of cargo metadata: {e}"))?;
    let lock = root.join("Cargo.lock");
    let lock =
        std::fs::read_to_string(&lock).map_err(|e| format!("reading the lock file: {e}: {}", lock.display()))?;
    let workspace = Workspace { packages: packages(&metadata)?, checksums: checksums(&lock) };
    SHIPPED
        .into_iter()
        .map(|(name, kind, embedded)| {
            let members: Vec<&str> = std::iter::once(name).chain(embedded.iter().copied()).collect();
            let linked = resolved(root, &members, "normal", &platform)?;
            let built_with = resolved(root, &members, "normal,build", &platform)?;
            Ok((name, workspace.bill(name, kind, embedded, &linked, &built_with)?))
        })
        .collect()
}

/// This platform's name.
fn host() -> Result<String, String> {
    let said = step::capture(std::process::Command::new("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc -vV names no host".to_owned())
}

/// Name, version and whether it is a procedural macro.
type Resolved = BTreeMap<(String, String), bool>;

/// The packages that cargo compiles into `members` with default features, through these kinds of dependencies. The graph
/// of `cargo metadata` alone contains more, because it has the features of all members together.
fn resolved(root: &Path, members: &[&str], edges: &str, platform: &str) -> Result<Resolved, String> {
    let mut found = Resolved::new();
    for member in members {
        let target = if member.starts_with("sulcus-viewer") { "wasm32-unknown-unknown" } else { platform };
        let mut command = step::cargo();
        command.current_dir(root).args(["tree", "--locked", "--prefix", "none", "--no-dedupe", "-p", member]);
        command.args(["-e", edges, "--target", target]);
        for line in step::capture(&mut command)?.lines() {
            let mut words = line.split_whitespace();
            if let (Some(name), Some(version)) = (words.next(), words.next()) {
                let version = version.trim_start_matches('v').to_owned();
                found.insert((name.to_owned(), version), line.contains("(proc-macro)"));
            }
        }
    }
    Ok(found)
}

struct Workspace {
    packages: Vec<Package>,
    /// Name and version → SHA-256 of the package's archive.
    checksums: BTreeMap<(String, String), String>,
}

struct Package {
    id: String,
    name: String,
    version: String,
    licence: Option<String>,
    description: Option<String>,
    /// Whether a package is from a registry and not from this repository.
    is_external: bool,
    /// Ids of dependencies that are not only dev-dependencies.
    dependencies: Vec<String>,
}

impl Package {
    fn key(&self) -> (String, String) {
        (self.name.clone(), self.version.clone())
    }

    /// Package URL. The crates of this project are not on a registry.
    fn purl(&self) -> String {
        let kind = if self.is_external { "cargo" } else { "generic" };
        format!("pkg:{kind}/{}@{}", self.name, self.version.replace('+', "%2B"))
    }
}

impl Workspace {
    /// The bill of `name`. Packages in `built_with` but not in `linked` are used only while building.
    fn bill(
        &self,
        name: &str,
        kind: &str,
        embedded: &[&str],
        linked: &Resolved,
        built_with: &Resolved,
    ) -> Result<Value, String> {
        let root = self.packages.iter().find(|package| package.name == name && !package.is_external);
        let root = root.ok_or_else(|| format!("the workspace has no package {name}"))?;
        let included: Vec<&Package> =
            self.packages.iter().filter(|package| built_with.contains_key(&package.key())).collect();
        let missing = built_with.len() - included.len();
        if missing > 0 {
            return Err(format!("{missing} packages of {name} are in cargo tree but not in cargo metadata"));
        }
        let scope = |package: &Package| match linked.get(&package.key()) {
            Some(false) => "required",
            // A procedural macro generates code while building and is not linked.
            Some(true) | None => "excluded",
        };
        let mut components = Vec::new();
        for package in included.iter().filter(|package| package.id != root.id) {
            components.push(self.component(package, "library", Some(scope(package)))?);
        }
        let refs: BTreeMap<&str, String> =
            included.iter().map(|package| (package.id.as_str(), package.purl())).collect();
        let dependencies: Vec<Value> = included
            .iter()
            .map(|package| {
                let mut on: BTreeSet<&String> =
                    package.dependencies.iter().filter_map(|id| refs.get(id.as_str())).collect();
                if package.id == root.id {
                    let embedded = included.iter().filter(|other| embedded.contains(&other.name.as_str()));
                    on.extend(embedded.filter_map(|other| refs.get(other.id.as_str())));
                }
                json!({"ref": package.purl(), "dependsOn": on})
            })
            .collect();
        let mut bill = json!({
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {
                "lifecycles": [{"phase": "build"}],
                "component": self.component(root, kind, None)?,
            },
            "components": components,
            "dependencies": dependencies,
        });
        // The same sources give the same bill, so its serial number is computed from its content and it has no date.
        let number = serial_number(&bill);
        if let Some(fields) = bill.as_object_mut() {
            fields.insert("serialNumber".to_owned(), number.into());
        }
        Ok(bill)
    }

    fn component(&self, package: &Package, kind: &str, scope: Option<&str>) -> Result<Value, String> {
        let licence = package.licence.as_ref().ok_or_else(|| {
            format!("the package {} {} states no licence expression", package.name, package.version)
        })?;
        let mut component = json!({
            "type": kind,
            "bom-ref": package.purl(),
            "name": package.name,
            "version": package.version,
            "licenses": [{"expression": licence.replace('/', " OR ")}],
            "purl": package.purl(),
        });
        let Some(fields) = component.as_object_mut() else { return Ok(component) };
        if let Some(description) = &package.description {
            fields.insert("description".to_owned(), description.trim().into());
        }
        if let Some(scope) = scope {
            fields.insert("scope".to_owned(), scope.into());
        }
        if package.is_external {
            let checksum = self
                .checksums
                .get(&package.key())
                .ok_or_else(|| format!("Cargo.lock has no checksum of {} {}", package.name, package.version))?;
            fields.insert("hashes".to_owned(), json!([{"alg": "SHA-256", "content": checksum}]));
        }
        Ok(component)
    }
}

/// The packages in the output of `cargo metadata`.
fn packages(metadata: &Value) -> Result<Vec<Package>, String> {
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let needed = |value: &Value, key: &str| {
        text(value, key).ok_or_else(|| format!("cargo metadata has a package without '{key}'"))
    };
    let nodes = metadata.get("resolve").map(|resolve| list(resolve, "nodes")).unwrap_or_default();
    let mut dependencies: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in &nodes {
        let not_only_for_tests = |dependency: &Value| {
            list(dependency, "dep_kinds").iter().any(|kind| text(kind, "kind").as_deref() != Some("dev"))
        };
        let on = list(node, "deps").into_iter().filter(not_only_for_tests);
        dependencies.insert(needed(node, "id")?, on.map(|one| needed(&one, "pkg")).collect::<Result<_, _>>()?);
    }
    list(metadata, "packages")
        .iter()
        .map(|package| {
            let id = needed(package, "id")?;
            Ok(Package {
                name: needed(package, "name")?,
                version: needed(package, "version")?,
                licence: text(package, "license"),
                description: text(package, "description"),
                is_external: text(package, "source").is_some(),
                dependencies: dependencies.remove(&id).unwrap_or_default(),
                id,
            })
        })
        .collect()
}

/// The checksums in a lock file, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""))?;
        line.strip_suffix('"').map(str::to_owned)
    };
    lock.split("[[package]]")
        .filter_map(|block| Some(((value(block, "name")?, value(block, "version")?), value(block, "checksum")?)))
        .collect()
}

/// A UUID of version 8 (RFC 9562) from the hash of the bill.
fn serial_number(bill: &Value) -> String {
    let mut bytes: Vec<u8> = Sha256::digest(bill.to_string()).iter().copied().take(16).collect();
    if let [_, _, _, _, _, _, version, _, variant, ..] = bytes.as_mut_slice() {
        *version = (*version & 0x0f) | 0x80;
        *variant = (*variant & 0x3f) | 0x80;
    }
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let groups: Vec<&str> =
        [0..8, 8..12, 12..16, 16..20, 20..32].into_iter().filter_map(|range| hex.get(range)).collect();
    format!("urn:uuid:{}", groups.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, external: bool, dependencies: &[&str]) -> Package {
        Package {
            id: format!("id+{name}"),
            name: name.into(),
            version: "1.0.0".into(),
            licence: Some("MIT/Apache-2.0".into()),
            description: None,
            is_external: external,
            dependencies: dependencies.iter().map(|name| format!("id+{name}")).collect(),
        }
    }

    fn workspace() -> Workspace {
        let checksums =
            ["serde", "serde_derive", "cc"].map(|name| ((name.to_owned(), "1.0.0".to_owned()), "ab".repeat(32)));
        Workspace {
            packages: vec![
                package("app", false, &["serde", "cc"]),
                package("page", false, &[]),
                package("serde", true, &["serde_derive"]),
                package("serde_derive", true, &[]),
                package("cc", true, &[]),
                package("of-another-member", true, &[]),
            ],
            checksums: checksums.into(),
        }
    }

    fn resolved(names: &[(&str, bool)]) -> Resolved {
        names.iter().map(|(name, macros)| (((*name).to_owned(), "1.0.0".to_owned()), *macros)).collect()
    }

    fn bill(workspace: &Workspace) -> Result<Value, String> {
        let linked = [("app", false), ("page", false), ("serde", false), ("serde_derive", true)];
        let built_with = [&linked[..], &[("cc", false)]].concat();
        workspace.bill("app", "application", &["page"], &resolved(&linked), &resolved(&built_with))
    }

    #[test]
    fn bill_distinguishes_linked_packages_and_build_tools() {
        let bill = bill(&workspace()).unwrap();
        let components = bill["components"].as_array().unwrap();
        let scopes: Vec<_> =
            components.iter().map(|c| (c["name"].as_str().unwrap(), c["scope"].as_str().unwrap())).collect();
        assert_eq!(
            scopes,
            [("page", "required"), ("serde", "required"), ("serde_derive", "excluded"), ("cc", "excluded")]
        );
        assert_eq!(components[1]["purl"], "pkg:cargo/serde@1.0.0");
        assert_eq!(components[1]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(components[1]["hashes"][0]["content"], "ab".repeat(32));
        assert_eq!(bill["metadata"]["component"]["purl"], "pkg:generic/app@1.0.0");
    }

    #[test]
    fn graph_contains_only_components_of_the_bill() {
        let bill = bill(&workspace()).unwrap();
        let root = &bill["dependencies"][0];
        assert_eq!(root["ref"], "pkg:generic/app@1.0.0");
        let on = ["pkg:cargo/cc@1.0.0", "pkg:cargo/serde@1.0.0", "pkg:generic/page@1.0.0"];
        assert_eq!(root["dependsOn"], json!(on));
    }

    #[test]
    fn same_content_has_the_same_serial_number() {
        let (one, again) = (bill(&workspace()).unwrap(), bill(&workspace()).unwrap());
        assert_eq!(one, again);
        let mut other = workspace();
        other.packages[2].licence = Some("MIT".into());
        assert_ne!(bill(&other).unwrap()["serialNumber"], one["serialNumber"]);
        let number = one["serialNumber"].as_str().unwrap();
        assert!(number.starts_with("urn:uuid:") && number.len() == 45, "{number}");
    }

    #[test]
    fn crate_without_licence_or_checksum_is_an_error() {
        let mut without = workspace();
        without.packages[2].licence = None;
        assert!(bill(&without).unwrap_err().contains("serde 1.0.0 states no licence"));
        let mut without = workspace();
        without.checksums.clear();
        assert!(bill(&without).unwrap_err().contains("no checksum of serde 1.0.0"));
    }

    #[test]
    fn checksums_are_parsed_from_a_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.0\"\nsource = \"registry\"\nchecksum = \"abc\"\n";
        assert_eq!(checksums(lock), BTreeMap::from([(("serde".into(), "1.0.0".into()), "abc".into())]));
    }
}
