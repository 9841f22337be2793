//! `forebay webhooks secret`: what a tenant's receivers verify webhooks with, and the next one when it has become known. It is
//! made of the configured secret, so it is shown where that is: in the project's folder, beside a running server too.

use clap::Subcommand;
use contract::{Secret, TenantId};
use pipeline::runs::signed_with;
use serde_json::json;
use store::SecretNumber;
use webhooks::Signer;

use super::remote::Remote;
use super::storage::{self, Need, failed};
use super::{Global, block_on, print, print_json, project, time};
use crate::{Error, wiring};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the secret of a tenant's receivers, or replace it.
    Secret {
        /// Whose.
        #[arg(long, default_value = TenantId::DEFAULT)]
        tenant: String,
        /// Sign with the next one from now on; for a day messages are signed with the old one too.
        #[arg(long)]
        rotate: bool,
    },
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let Command::Secret { tenant, rotate } = &args.command;
    let folder = "run it without --server, in the project's folder on the server";
    if Remote::of(global)?.is_some() {
        return Err(Error::new(
            "a webhook's secret is made of the configuration, and is shown beside it alone",
            folder,
        ));
    }
    let config = project::checked_but_for_models(global)?;
    let signer = Signer::new(&wiring::secrets(&config.jobs))
        .map_err(|e| Error::new(format!("failed to {e}"), "correct `jobs.webhook` in forebay.yaml"))?;
    let tenant = TenantId::from(tenant.as_str());
    let now = time::now();
    let number = block_on(async {
        let reader = storage::open(global, Need::Keys).await?;
        let number = match rotate {
            true => reader.runs.next_secret(&tenant, now).await,
            false => reader.runs.secret(&tenant).await,
        };
        reader.close().await;
        number.map_err(failed)
    })?;
    let of = |n: u32| {
        let help = "set `jobs.webhook.secret` in forebay.yaml: `whsec_` and base64 of 24 to 64 random bytes";
        signer
            .secret_of(&tenant, n)
            .ok_or_else(|| Error::new("nothing is configured to sign webhooks with", help))
    };
    show(global, &tenant, number, signed_with(number, now).into_iter().map(of).collect::<Result<_, _>>()?)
}

/// The current secret first.
fn show(global: &Global, tenant: &TenantId, number: SecretNumber, secrets: Vec<Secret>) -> Result<(), Error> {
    let all: Vec<&str> = secrets.iter().map(Secret::expose).collect();
    if global.json {
        return print_json(&json!({
            "tenant": tenant, "number": number.number, "since": number.since,
            "secret": all.first(), "old_secret": all.get(1),
        }));
    }
    all.first().iter().for_each(|secret| print(secret));
    if let Some(since) = number.since.filter(|_| all.len() > 1) {
        let text = format!(
            "messages are signed with the one before it too, for a day from {} on",
            time::show(since)
        );
        print(&text);
    }
    Ok(())
}
