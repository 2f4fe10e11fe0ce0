//! `foreshadow token`: who may use the admin API, and for what.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app;
use crate::cli::client::{ChangeArgs, ClientArgs};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::table::Sheet;
use crate::error::Error;

/// Make, show and revoke the tokens of the admin API.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token; its secret is shown once
    #[command(after_help = "\
The token's name is the actor of what is done with it. Roles:
  viewer    looks at everything but tokens
  operator  changes who answers, too
  admin     makes and revokes tokens, too

Examples:
  foreshadow token create eve --role operator
  foreshadow token create ci --role viewer --expires 90d --state /var/lib/foreshadow")]
    Create(CreateArgs),
    /// Show the tokens, without their secrets
    List(WhereArgs),
    /// Revoke a token
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Its name: 1 to 64 letters, digits or .-_@
    name: String,
    /// What it may do
    #[arg(long, value_parser = PossibleValuesParser::new(["viewer", "operator", "admin"]))]
    role: String,
    /// How long it is good (90d, 12h); until it is revoked, if absent
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
    #[command(flatten)]
    place: WhereArgs,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    place: WhereArgs,
}

/// Where the tokens are.
#[derive(Debug, Args)]
struct WhereArgs {
    /// The state folder of a gateway on this machine, instead of its admin API: for
    /// the first token, and where none is at hand
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

/// A token, as the admin API shows it.
#[derive(Debug, Deserialize)]
struct Shown {
    name: String,
    role: String,
    creator: String,
    created: String,
    expires: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Made {
    secret: String,
}

#[derive(Debug, Deserialize)]
struct List {
    tokens: Vec<Shown>,
}

pub(super) async fn run(args: &TokenArgs) -> Result<(), Failure> {
    match &args.command {
        TokenCommand::Create(args) => create(args).await,
        TokenCommand::List(place) => list(place).await,
        TokenCommand::Revoke(args) => revoke(args).await,
    }
}

async fn create(args: &CreateArgs) -> Result<(), Failure> {
    let CreateArgs { name, role, expires, place } = args;
    let reply = if let Some(state) = &place.state {
        let role = role.parse().map_err(failed)?;
        let tokens = app::open_tokens(state).await.map_err(failed)?;
        let made = tokens.create(name, role, &user(), *expires).await.map_err(failed)?;
        let row = made.row;
        let token = json!({"name": row.name, "role": row.role, "creator": row.creator,
            "created": row.created, "expires": row.expires});
        json!({"secret": made.secret, "token": token})
    } else {
        let expires = expires.map(|life| humantime::format_duration(life).to_string());
        let body = json!({"name": name, "role": role, "actor": user(), "expires": expires});
        place.client.connect()?.send(Method::POST, "/v1/tokens", Some(body)).await?
    };
    if place.client.json {
        return output::print_json(&reply);
    }
    let Made { secret } = parsed(reply)?;
    output::progress(&format!(
        "token {name} ({role}); nobody can show it again. Use it as FORESHADOW_ADMIN_TOKEN, or \
         in a file as --token-file:"
    ));
    output::print(&secret);
    Ok(())
}

async fn list(place: &WhereArgs) -> Result<(), Failure> {
    let reply = if let Some(state) = &place.state {
        let tokens = app::open_tokens(state).await.map_err(failed)?;
        let rows = tokens.all().await.map_err(failed)?;
        let rows = rows.into_iter().map(|row| {
            json!({"name": row.name, "role": row.role, "creator": row.creator,
                "created": row.created, "expires": row.expires})
        });
        json!({"tokens": rows.collect::<Vec<_>>()})
    } else {
        place.client.connect()?.get_json("/v1/tokens").await?
    };
    if place.client.json {
        return output::print_json(&reply);
    }
    output::print(&render(parsed::<List>(reply)?.tokens));
    Ok(())
}

async fn revoke(args: &RevokeArgs) -> Result<(), Failure> {
    let RevokeArgs { name, place } = args;
    let reply = if let Some(state) = &place.state {
        let tokens = app::open_tokens(state).await.map_err(failed)?;
        tokens.revoke(name, &user()).await.map_err(failed)?;
        json!({"revoked": name})
    } else {
        // Other names than these cannot be those of tokens.
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_@".contains(c)) {
            return Err(Failure::usage(format!("there can be no token {name:?}")));
        }
        let admin = place.client.connect()?;
        admin.send(Method::DELETE, &format!("/v1/tokens/{name}"), None).await?
    };
    if place.client.json {
        return output::print_json(&reply);
    }
    output::print(&format!("token {name} is revoked"));
    Ok(())
}

fn render(tokens: Vec<Shown>) -> String {
    if tokens.is_empty() {
        return "there are no tokens".into();
    }
    let mut table = Sheet::new(&["name", "role", "made by", "made", "expires"]);
    for Shown { name, role, creator, created, expires } in tokens {
        table.row([name, role, creator, created, expires.unwrap_or_else(|| "never".into())]);
    }
    table.render()
}

/// Who sits here.
fn user() -> String {
    ChangeArgs::default().actor().unwrap_or_else(|| "unnamed".into())
}

fn parsed<T: serde::de::DeserializeOwned>(reply: Value) -> Result<T, Failure> {
    serde_json::from_value(reply)
        .map_err(|error| Failure::failed(format!("the reply is not that of a gateway: {error}")))
}

fn failed(error: Error) -> Failure {
    Failure::failed(error.message().to_owned())
}
