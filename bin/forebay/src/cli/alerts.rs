//! `forebay alerts …`: what the project's monitors have to say. It is read where a server keeps it, whether one runs or not; a silence
//! is heard by the server within a second.

use ::watch::alert::{Listed, Matcher, Silence, State};
use ::watch::monitor::Monitor;
use ::watch::performance::Maturity;
use clap::Subcommand;
use comfy_table::{Table, presets};
use contract::UnixMillis;
use serde_json::{Value, json};
use store::Reader;

use super::remote::Remote;
use super::storage::{self, Need, clean, failed};
use super::{Global, block_on, print, print_json, project, time};
use crate::Error;
use crate::config::Config;
use crate::config::units::Time;
use crate::watching::{SILENCES, kept, silences};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what fires or is about to.
    List {
        /// What does not fire, too.
        #[arg(long)]
        all: bool,
    },
    /// Show a monitor: its series, when it last looked, what it started.
    Show {
        /// Its name.
        monitor: String,
    },
    /// Say nothing of a monitor for a while, or of one of its columns.
    Silence(SilenceArgs),
    /// List the silences.
    Silences,
    /// End a silence.
    Unsilence {
        /// Its id.
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct SilenceArgs {
    /// The monitor.
    monitor: String,
    /// For how long, such as 2h.
    #[arg(long = "for", value_name = "TIME")]
    lasting: Time,
    /// Only this column.
    #[arg(long)]
    column: Option<String>,
    /// Why, for others.
    #[arg(long, default_value = "")]
    why: String,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    local(global)?;
    let config = project::checked_but_for_models(global)?;
    block_on(async {
        let reader = storage::open(global, Need::Records).await?;
        let done = act(global, &config, &reader, &args.command).await;
        reader.close().await;
        done
    })
}

/// Refuses a server: what is kept is read beside it alone.
pub(super) fn local(global: &Global) -> Result<(), Error> {
    if Remote::of(global)?.is_some() {
        let help = "run it without --server and FOREBAY_URL, in the project's folder on the server";
        return Err(Error::new("alerts are read beside the configuration alone", help));
    }
    Ok(())
}

async fn act(global: &Global, config: &Config, reader: &Reader, command: &Command) -> Result<(), Error> {
    match command {
        Command::List { all } => list(global, config, reader, *all).await,
        Command::Show { monitor } => show(global, config, reader, monitor).await,
        Command::Silence(args) => silence(global, config, reader, args).await,
        Command::Silences => {
            let all = silences(&*reader.watching).await.map_err(unread)?.1;
            if global.json {
                return print_json(&json!({"object": "list", "data": all}));
            }
            let mut table = table(["id", "of", "until", "by", "why"]);
            for s in &all {
                let of: Vec<String> = s.matchers.iter().map(|m| format!("{}={}", m.label, m.value)).collect();
                let row = [s.id.clone(), of.join(" "), time::show(s.ends), s.by.clone(), s.why.clone()];
                table.add_row(row.map(|cell| clean(&cell)));
            }
            print(&if all.is_empty() { "there are no silences".to_owned() } else { table.trim_fmt() });
            Ok(())
        }
        Command::Unsilence { id } => {
            let ended = change(reader, |all| {
                let before = all.len();
                all.retain(|s| s.id != *id);
                all.len() < before
            });
            if !ended.await? {
                return Err(Error::new(
                    format!("there is no silence {}", clean(id)),
                    "`forebay alerts silences` lists them",
                ));
            }
            print(&format!("{} ended", clean(id)));
            Ok(())
        }
    }
}

fn unread(why: String) -> Error {
    Error::new(why, "check the disk and the files in .forebay, or the database of `storage.url`")
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

/// What is kept of a monitor; nothing when it has not looked yet.
pub(super) async fn monitor(reader: &Reader, name: &str) -> Result<Option<Monitor>, Error> {
    let stored = reader.watching.get(&kept(name)).await.map_err(failed)?;
    let Some(stored) = stored else { return Ok(None) };
    let mut monitor: Monitor = serde_json::from_str(&stored.memory).map_err(|e| failed(e.into()))?;
    monitor.silence(&silences(&*reader.watching).await.map_err(unread)?.1);
    Ok(Some(monitor))
}

/// The monitor, if the configuration has it.
pub(super) fn named<'a>(config: &'a Config, name: &str) -> Result<&'a str, Error> {
    match config.monitors.get_key_value(name) {
        Some((name, _)) => Ok(name),
        None => {
            let names: Vec<&str> = config.monitors.keys().map(String::as_str).collect();
            let help = match names.as_slice() {
                [] => "`monitors` in forebay.yaml names what is watched".to_owned(),
                names => format!("there are {}", names.join(", ")),
            };
            Err(Error::new(format!("there is no monitor `{}`", clean(name)), help))
        }
    }
}

fn row(monitor: &str, listed: &Listed, said: Option<&str>) -> Value {
    json!({
        "monitor": monitor, "alert": listed.key.rule, "labels": listed.key.labels, "state": listed.state,
        "since": listed.episode.map(time::show), "value": listed.value, "severity": listed.severity,
        "flaps": listed.flaps, "silenced": listed.silenced, "inhibited_by": listed.inhibited_by, "said": said,
    })
}

async fn list(global: &Global, config: &Config, reader: &Reader, all: bool) -> Result<(), Error> {
    let mut rows = Vec::new();
    for name in config.monitors.keys() {
        let Some(monitor) = monitor(reader, name).await? else { continue };
        let listed = monitor.list();
        let shown = listed.iter().filter(|(listed, _)| all || listed.state != State::Inactive);
        rows.extend(shown.map(|(listed, said)| row(name, listed, *said)));
    }
    if global.json {
        return print_json(&json!({"object": "list", "data": rows}));
    }
    if rows.is_empty() {
        print("nothing fires");
        return Ok(());
    }
    print(&series(&rows).trim_fmt());
    Ok(())
}

fn series(rows: &[Value]) -> Table {
    let mut table = table(["state", "alert", "of", "since", "what"]);
    for row in rows {
        let word = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        let labels = row.get("labels").and_then(Value::as_object).into_iter().flatten();
        let of: Vec<&str> = labels.filter(|(n, _)| *n != "monitor").filter_map(|(_, v)| v.as_str()).collect();
        let muted = match (row.get("silenced") == Some(&Value::Bool(true)), word("inhibited_by")) {
            (true, _) => " (silenced)".to_owned(),
            (_, "") => String::new(),
            (_, by) => format!(" (not told: {by} fires)"),
        };
        let state = format!("{}{muted}", word("state"));
        let row = [
            state,
            word("alert").to_owned(),
            of.join(", "),
            word("since").to_owned(),
            word("said").to_owned(),
        ];
        table.add_row(row.map(|cell| clean(&cell)));
    }
    table
}

async fn show(global: &Global, config: &Config, reader: &Reader, name: &str) -> Result<(), Error> {
    let name = named(config, name)?;
    let Some(monitor) = monitor(reader, name).await? else {
        return Err(Error::new(
            format!("`{name}` has not looked yet"),
            "`forebay up` looks; wait for its first round",
        ));
    };
    let rows: Vec<Value> = monitor.list().iter().map(|(listed, said)| row(name, listed, *said)).collect();
    let at = |at: Option<UnixMillis>| at.map(time::show);
    let all = json!({
        "monitor": name, "problem": monitor.problem(), "looked_at": at(monitor.looked().map(|l| l.0)),
        "version": monitor.looked().map(|l| l.1), "window_end": at(monitor.seen()), "newest": at(monitor.newest()),
        "retraining": monitor.retraining(), "running": monitor.running(), "waiting": monitor.waiting().len(),
        "lost": monitor.lost(), "performance": monitor.performance(), "estimates": monitor.estimates(), "series": rows,
    });
    if global.json {
        return print_json(&all);
    }
    let apart = |key: &str| matches!(key, "series" | "performance" | "estimates");
    for (key, value) in all.as_object().into_iter().flatten().filter(|(k, v)| !apart(k) && !v.is_null()) {
        let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        print(&format!("{key}: {}", clean(&text)));
    }
    print(&series(&rows).trim_fmt());
    if !monitor.performance().is_empty() {
        print(&performance(&monitor).trim_fmt());
    }
    if let Some(test) = monitor.estimates() {
        let (n, off, bias) = (test.windows, test.mean_absolute_error, test.bias);
        print(&format!("estimates of {n} windows were off by {off:.4} on average, {bias:+.4} with its sign"));
    }
    Ok(())
}

/// How right the model was, window by window.
fn performance(monitor: &Monitor) -> Table {
    let mut table = table(["until", "rows", "labelled", "labels", "measured", "estimated"]);
    let number = |x: Option<f64>| x.map_or_else(String::new, |x| format!("{x:.4}"));
    for p in monitor.performance().iter().filter(|p| p.rows > 0) {
        let maturity = match p.maturity {
            Maturity::Open | Maturity::Waiting => "come",
            Maturity::Mature => "are in",
            Maturity::Incomplete => "too few",
        };
        let sure = p.interval.map_or_else(String::new, |i| format!(" ({:.4} to {:.4})", i.low, i.high));
        let measured = format!("{}{sure}", number(p.value));
        let row = [
            time::show(p.end),
            p.rows.to_string(),
            p.labelled.to_string(),
            maturity.to_owned(),
            measured,
            number(p.estimate),
        ];
        table.add_row(row);
    }
    table
}

async fn silence(global: &Global, config: &Config, reader: &Reader, args: &SilenceArgs) -> Result<(), Error> {
    let name = named(config, &args.monitor)?;
    let now = time::now();
    let matcher = |label: &str, value: &str| Matcher { label: label.to_owned(), value: value.to_owned() };
    let mut matchers = vec![matcher("monitor", name)];
    matchers.extend(args.column.iter().map(|column| matcher("column", column)));
    let sum = blake3::hash(format!("{matchers:?} {}", now.0).as_bytes()).to_hex().to_string();
    let silence = Silence {
        id: sum.get(..8).unwrap_or_default().to_owned(),
        matchers,
        starts: now,
        ends: UnixMillis(now.0.saturating_add(time::millis(args.lasting))),
        by: std::env::var("USER").unwrap_or_default(),
        why: args.why.clone(),
    };
    change(reader, |all| {
        all.retain(|s| s.ends > now);
        all.push(silence.clone());
        true
    })
    .await?;
    if global.json {
        return print_json(&silence);
    }
    print(&format!("{}: nothing is said of {name} until {}", silence.id, time::show(silence.ends)));
    Ok(())
}

/// Changes the silences, on what others left meanwhile.
async fn change(reader: &Reader, mut change: impl FnMut(&mut Vec<Silence>) -> bool) -> Result<bool, Error> {
    for _ in 0..16 {
        let (version, mut all) = silences(&*reader.watching).await.map_err(unread)?;
        if !change(&mut all) {
            return Ok(false);
        }
        let text = serde_json::to_string(&all).map_err(|e| failed(e.into()))?;
        if reader.watching.set(SILENCES, version, &text).await.map_err(failed)? {
            return Ok(true);
        }
    }
    Err(Error::new("others change the silences all the time", "try again"))
}
