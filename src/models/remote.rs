//! Models behind foreign servers of the wrapper `pg_rag_remote`.
//!
//! PostgreSQL keeps where a server is, who may use it and which key belongs to whom; a model only names its server.
//! Rights and options are looked up for the current user at every call, so a revoked right or a changed
//! address counts at once. What a file of this machine is named in is for superusers: a key file's name in a mapping, and
//! a server that is owned by somebody else is never sent a key.

use crate::error::{error, invalid_parameter, OrError, Result};
use crate::pg::foreign::{self, Owner};
use pg_rag_protocol::remote::{OptionError, RemoteServer, MAPPING_OPTIONS, REMOTE_SOURCE, SERVER_OPTIONS};
use pgrx::prelude::*;
use pgrx::PgSqlErrorCode;

/// Name of the foreign-data wrapper.
const WRAPPER: &str = "pg_rag_remote";

/// Server options that name a file of this machine.
const FILE_OPTIONS: [&str; 1] = ["ca_file"];

/// The foreign server that a model's source names, if it names one.
pub fn server_of(source: &str) -> Option<&str> {
    source.strip_prefix(REMOTE_SOURCE)
}

/// How the current user reaches the foreign server `name`.
///
/// Errors: PostgreSQL's own without the right to use it; 42704 where there is none, 42809 where it is of another kind, 42501
/// where a key would go to somebody else's server.
pub fn resolve(name: &str) -> Result<RemoteServer> {
    let Some(server) = foreign::server(name) else {
        return Err(error(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("server \"{name}\" does not exist"))
            .set_hint(
                "A superuser creates it: CREATE SERVER … FOREIGN DATA WRAPPER pg_rag_remote OPTIONS (base_url '…').",
            ));
    };
    if server.wrapper != WRAPPER {
        return Err(error(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("server \"{name}\" is not of foreign-data wrapper \"{WRAPPER}\""),
        ));
    }
    server.require_usage();
    let mut remote = RemoteServer::new(name);
    for (option, value) in server.options.iter().chain(&server.mapping_options()) {
        remote.set(option, value).map_err(invalid_option)?;
    }
    remote.check().map_err(invalid_option)?;
    if remote.api_key_file.is_some() && !server.belongs_to_superuser() {
        return Err(error(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("server \"{name}\" may not be sent a key, because its owner is not a superuser"),
        )
        .set_hint("Whoever owns a server can change its address. Change its owner with ALTER SERVER … OWNER TO."));
    }
    Ok(remote)
}

fn invalid_option(failure: OptionError) -> pgrx::pg_sys::panic::ErrorReport {
    match failure {
        OptionError::Unknown(_) => error(PgSqlErrorCode::ERRCODE_FDW_INVALID_OPTION_NAME, failure.to_string()),
        OptionError::Invalid { .. } => invalid_parameter(failure.to_string()),
    }
}

/// The validator of the wrapper: called with all options that an object is about to have.
#[pg_extern(sql = false)]
fn remote_validator(options: Vec<Option<String>>, catalogue: pg_sys::Oid) -> Result<()> {
    let owner = Owner::of_catalogue(catalogue);
    let known: &[&str] = match owner {
        Owner::Server => &SERVER_OPTIONS,
        Owner::UserMapping => &MAPPING_OPTIONS,
        Owner::Other => &[],
    };
    let mut server = RemoteServer::new("");
    for option in options.iter().flatten() {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        if !known.contains(&name) {
            let hint = match known {
                [] => "There are no valid options in this context.".to_owned(),
                known => format!("Valid options in this context are: {}", known.join(", ")),
            };
            return Err(invalid_option(OptionError::Unknown(name.to_owned())).set_hint(hint));
        }
        server.set(name, value).map_err(invalid_option)?;
        let names_file = owner == Owner::UserMapping || FILE_OPTIONS.contains(&name);
        if names_file && !foreign::is_superuser() {
            return Err(error(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied to set option \"{name}\""),
            )
            .set_detail("Only superusers may name files of the server's machine."));
        }
    }
    match owner {
        Owner::Server => server.check().map_err(invalid_option),
        _ => Ok(()),
    }
}

/// Body of the event triggers: a server that models name can neither be dropped nor renamed.
#[pg_extern(sql = false)]
fn check_servers() -> Result<()> {
    // With a snapshot of its own, which sees what the command has just done.
    let orphans = Spi::connect_mut(|client| {
        let query = "SELECT pg_catalog.string_agg(pg_catalog.format('model %I on server %I', name, pg_catalog.substr(source, $2)),
                                      ', ' ORDER BY name)
           FROM rag.model
          WHERE dropped_at IS NULL AND pg_catalog.starts_with(source, $1)
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_foreign_server
                             WHERE srvname OPERATOR(pg_catalog.=) pg_catalog.substr(source, $2)::pg_catalog.name)";
        let arguments = [REMOTE_SOURCE.into(), (REMOTE_SOURCE.len() as i32 + 1).into()];
        client.update(query, Some(1), &arguments)?.first().get::<String>(1)
    })
    .or_error()?;
    match orphans {
        None => Ok(()),
        Some(orphans) => Err(error(
            PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            "cannot drop or rename a server because models use it",
        )
        .set_detail(format!("Without it: {orphans}."))
        .set_hint("Drop the models with rag_drop_model() first.")),
    }
}
