//! `forebay data list`: the datasets there are, and those that are configured and have no version yet.

use data::At;
use serde_json::json;

use super::{Global, Project, failed, size, table};
use crate::Error;
use crate::cli::{print, print_json};

pub(super) async fn run(global: &Global, project: Option<&Project>) -> Result<(), Error> {
    const NONE: &str = "there are no datasets yet: `forebay data add NAME FILE` makes one";
    let Some(project) = project else {
        return match global.json {
            true => print_json(&json!({"datasets": [], "without_version": []})),
            false => {
                print(NONE);
                Ok(())
            }
        };
    };
    let names = project.warehouse.datasets().await.map_err(failed)?;
    let mut found = Vec::with_capacity(names.len());
    let mut damaged: Vec<(&String, Error)> = Vec::new();
    let mut table = table(["dataset", "version", "rows", "size", "name"]);
    for name in &names {
        let shown = match project.dataset(name)?.show(&At::Newest).await {
            Ok(shown) => shown,
            Err(error) => {
                let error = failed(error);
                found.push(json!({"dataset": name, "error": error.to_string()}));
                table.add_row([name.as_str(), "damaged", "", "", ""]);
                damaged.push((name, error));
                continue;
            }
        };
        table.add_row([
            name.clone(),
            shown.version.version.to_string(),
            shown.rows.to_string(),
            size(shown.bytes),
            shown.name.short().to_owned(),
        ]);
        found.push(json!({
            "dataset": name,
            "version": shown.version.version,
            "rows": shown.rows,
            "bytes": shown.bytes,
            "name": shown.name.as_str(),
        }));
    }
    let empty: Vec<&String> = project.config.datasets.keys().filter(|n| !names.contains(n)).collect();
    if global.json {
        print_json(&json!({"datasets": found, "without_version": empty}))?;
    } else {
        print(&if found.is_empty() { NONE.to_owned() } else { table.trim_fmt() });
        for name in empty {
            print(&format!("{name} is configured and has no version yet: `forebay data add {name}`"));
        }
    }
    // What can be listed is; the first that cannot says why.
    match damaged.as_slice() {
        [] => Ok(()),
        [(name, error), more @ ..] => {
            let others =
                if more.is_empty() { String::new() } else { format!(" ({} more like it)", more.len()) };
            let help =
                format!("look at `{name}` with another reader of Delta tables; `--json` has every reason");
            Err(Error::new(format!("{error}{others}"), help))
        }
    }
}
