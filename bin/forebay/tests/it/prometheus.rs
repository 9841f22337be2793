//! A real Prometheus and Alertmanager: what the server tells them, the rules that are shipped, and the queries of the dashboard.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Script};

use crate::models::fixture;
use crate::server::{Server, answer, forebay, open};
use crate::watching::until;

/// Debian's binaries, unpacked.
pub struct Tools(tempfile::TempDir);

impl Tools {
    /// Nothing, and a line that says so, where they are not among the fixtures.
    pub fn new() -> Option<Tools> {
        Tools::of("prometheus.tar")
    }

    fn of(archive: &str) -> Option<Tools> {
        let archive = fixture(archive)?;
        let folder = tempfile::tempdir().unwrap();
        tar::Archive::new(File::open(archive).unwrap()).unpack(folder.path()).unwrap();
        for tool in std::fs::read_dir(folder.path()).unwrap() {
            std::fs::set_permissions(tool.unwrap().path(), Permissions::from_mode(0o755)).unwrap();
        }
        Some(Tools(folder))
    }

    fn tool(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Gives the text to `promtool`, which finds nothing to say about it.
    #[track_caller]
    pub fn has_nothing_to_say(&self, command: &str, text: &str) {
        let mut child = Command::new(self.tool("promtool"))
            .args(command.split(' '))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success() && said.trim().is_empty(), "promtool {command}: {said}\n{text}");
    }
}

/// The folder of the documentation.
fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

#[test]
fn the_shipped_rules_are_sound_and_fire_when_they_should() {
    let Some(tools) = Tools::new() else { return };
    for args in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        let out = Command::new(tools.tool("promtool")).args(args).current_dir(docs()).output().unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success() && said.contains("SUCCESS"), "{args:?}: {said}");
    }
}

/// A server that is told where to listen. Killed with this.
struct Peer {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// Starts a binary in a folder that has its configuration, in which it keeps what it has at `storage`.
    fn start(
        binary: &Path,
        folder: tempfile::TempDir,
        (config, storage): (&str, &str),
        more: &[&str],
    ) -> Peer {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let child = Command::new(binary)
            .current_dir(folder.path())
            .arg(format!("--config.file={}", folder.path().join(config).display()))
            .arg(format!("--{storage}={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            .args(more)
            .spawn()
            .unwrap();
        Peer { child, address, _folder: folder }
    }

    /// An answer; nothing before it listens.
    fn ask(&self, path: &str) -> Option<Json> {
        let socket = TcpStream::connect(&self.address).ok()?;
        serde_json::from_str(&answer(open(socket, ("GET", path), &[], b"")).2).ok()
    }
}

/// A server of Prometheus.
struct Prometheus(Peer);

impl Prometheus {
    fn start(tools: &Tools, target: &str) -> Prometheus {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [docs().join("alerts.yml")],
            "scrape_configs": [{"job_name": "forebay", "static_configs": [{"targets": [target]}]}],
        });
        // JSON is YAML.
        std::fs::write(folder.path().join("prometheus.yml"), config.to_string()).unwrap();
        let files = ("prometheus.yml", "storage.tsdb.path");
        Prometheus(Peer::start(&tools.tool("prometheus"), folder, files, &[]))
    }

    /// What a query gives.
    fn query(&self, expression: &str) -> Json {
        let escaped: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.0.ask(&format!("/api/v1/query?query={escaped}")).unwrap_or_default()
    }

    /// The first number that a query gives.
    fn number(&self, expression: &str) -> Option<f64> {
        self.query(expression)["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_the_server_and_evaluates_its_rules_and_dashboard() {
    let Some(tools) = Tools::new() else { return };
    let script: Script = serde_json::from_value(json!({"text": "yes"})).unwrap();
    let up = FakeUpstream::start(script).await.unwrap();
    let test = move || {
        let server = Server::with_model(&up.base_url(), "", "");
        for _ in 0..3 {
            assert_eq!(server.ask("POST", "/v1/pipelines/shout", &[], "a document").0, 200);
        }
        let prometheus = Prometheus::start(&tools, &server.address.to_string());
        until("it scrapes the server", || prometheus.number("up{job=\"forebay\"}") == Some(1.0));
        let requests = "sum(forebay_requests_total{ending=\"complete\"})";
        until("requests are counted there", || prometheus.number(requests) == Some(3.0));
        assert!(prometheus.number("sum(forebay_tokens_total)") > Some(0.0));
        let p99 = "histogram_quantile(0.99, sum by (le) (forebay_request_duration_seconds_bucket))";
        assert!(prometheus.number(p99) > Some(0.0));
        // Every rule is evaluated without an error, and none fires.
        let rules = |prometheus: &Prometheus| -> Vec<Json> {
            let all = prometheus.0.ask("/api/v1/rules").unwrap_or_default();
            all["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default()
        };
        until("its rules are evaluated", || {
            let all = rules(&prometheus);
            all.len() >= 12 && all.iter().all(|rule| rule["health"] == "ok" && rule["state"] != "firing")
        });
        // Every query of the dashboard is one.
        let dashboard = std::fs::read_to_string(docs().join("dashboards/forebay.json")).unwrap();
        let dashboard: Json = serde_json::from_str(&dashboard).unwrap();
        let targets = dashboard["panels"].as_array().unwrap().iter().filter_map(|p| p["targets"].as_array());
        let queries: Vec<&str> = targets.flatten().map(|t| t["expr"].as_str().unwrap()).collect();
        assert!(queries.len() >= 10, "{queries:?}");
        for query in queries {
            let filled = query.replace("$__rate_interval", "1m").replace("$__interval", "1m");
            let answer = prometheus.query(&filled);
            assert_eq!(answer["status"], "success", "{query}: {answer}");
        }
    };
    tokio::task::spawn_blocking(test).await.unwrap();
}

/// A server of Alertmanager.
struct Alertmanager(Peer);

/// A copy of Debian's Alertmanager that finds its templates where it is started: its own are where only its package can write, at a
/// path that has as many bytes as this one.
fn at_home(binary: &Path, folder: &Path) -> PathBuf {
    let theirs: &[u8] = b"/usr/share/prometheus/alertmanager";
    let here = "./".repeat(17);
    assert_eq!(here.len(), theirs.len());
    let mut bytes = std::fs::read(binary).unwrap();
    let places: Vec<usize> = memchr::memmem::find_iter(&bytes, theirs).collect();
    for at in places {
        bytes[at..at + theirs.len()].copy_from_slice(here.as_bytes());
    }
    for template in ["default.tmpl", "email.tmpl"] {
        std::fs::write(folder.join(template), format!("{{{{ define \"{template}\" }}}}{{{{ end }}}}"))
            .unwrap();
    }
    let own = folder.join("alertmanager");
    std::fs::write(&own, bytes).unwrap();
    std::fs::set_permissions(&own, Permissions::from_mode(0o755)).unwrap();
    own
}

impl Alertmanager {
    fn start(tools: &Tools) -> Alertmanager {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]});
        std::fs::write(folder.path().join("alertmanager.yml"), config.to_string()).unwrap();
        let binary = at_home(&tools.tool("prometheus-alertmanager"), folder.path());
        let files = ("alertmanager.yml", "storage.path");
        Alertmanager(Peer::start(&binary, folder, files, &["--cluster.listen-address="]))
    }

    /// What it knows to fire.
    fn alerts(&self) -> Vec<Json> {
        let all = self.0.ask("/api/v2/alerts?active=true");
        all.and_then(|all| all.as_array().cloned()).unwrap_or_default()
    }
}

#[test]
fn a_real_alertmanager_is_told_what_fires_and_that_it_is_over() {
    let Some(tools) = Tools::of("alertmanager.tar") else { return };
    let alertmanager = Alertmanager::start(&tools);
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "monitors:\n  sales: {{watch: orders, freshness: 1h, every: 100ms, alert: {{runbook: Ask the shop., severity: critical}}}}\n\
         alerts: {{alertmanager: ['http://{}/'], interval: 0s}}\njobs: {{webhook: {{allow_private: true}}}}\n",
        alertmanager.0.address
    );
    std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
    let path = folder.path().to_owned();
    let add = |row: &str| {
        std::fs::write(path.join("rows.csv"), format!("n,at\n{row}\n")).unwrap();
        let args = ["data", "add", "orders", "rows.csv"];
        let out = forebay(&path).current_dir(&path).args(args).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    add("1,2026-01-01T00:00:00Z");
    let server = Server::in_folder(folder);
    until("it is told", || alertmanager.alerts().len() == 1);
    let told = alertmanager.alerts()[0].clone();
    let labels = &told["labels"];
    assert_eq!(
        (&labels["alertname"], &labels["monitor"]),
        (&"sales/freshness".into(), &"sales".into()),
        "{told}"
    );
    assert_eq!(
        (&labels["severity"], &told["status"]["state"]),
        (&"critical".into(), &"active".into()),
        "{told}"
    );
    assert_eq!(told["annotations"]["runbook"], "Ask the shop.", "{told}");
    let now = contract::Clock::wall(&contract::SystemClock::default()).rfc3339();
    add(&format!("2,{now}"));
    until("it is told that it is over", || alertmanager.alerts().is_empty());
    drop(server);
}
