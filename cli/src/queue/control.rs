//! `exitring queue cancel` and `exitring queue delete`.

use bytes::Bytes;
use serde_json::{Value, json};

use super::connection::{Connection, with_connection};
use super::error::QueueError;
use super::options::ServerOptions;
use crate::code;
use crate::diagnostics::say;
use crate::failure::{Failure, chain};

/// Cancels a run. Returns the exit code.
pub(super) fn cancel(options: &ServerOptions) -> Result<u8, Failure> {
    with_connection(options, async |connection| {
        connection.spec().await?;
        let names = connection.names();
        let what = "cancel the run";
        let at = jiff::Timestamp::now().to_string();
        let payload = json!({ "at": at }).to_string();
        let published = connection.unless_denied(async {
            let sent = connection
                .context
                .publish(names.cancel_subject(), payload.into());
            let confirmed = match sent.await {
                Ok(confirmation) => confirmation.await,
                Err(error) => Err(error),
            };
            confirmed.map_err(|error| QueueError::Refused {
                what,
                reason: chain(&error),
            })
        });
        published.await?;
        say(&format!("the run {} is cancelled\n", connection.run));
        Ok(code::OK)
    })
}

/// Deletes a run. Returns the exit code.
pub(super) fn delete(options: &ServerOptions) -> Result<u8, Failure> {
    with_connection(options, async |connection| {
        let names = connection.names();
        // The stream with the specification is the last one, so that an interrupted deletion can
        // be repeated, and nobody submits to a half-deleted run.
        let mut found = false;
        for stream in [
            &names.jobs,
            &names.records,
            &names.bucket_stream(),
            &names.state,
        ] {
            found |= delete_stream(connection, stream).await?;
        }
        if !found {
            let (run, server) = (connection.run.clone(), connection.server.clone());
            return Err(QueueError::NoRun { run, server }.into());
        }
        say(&format!("the run {} is deleted\n", connection.run));
        Ok(code::OK)
    })
}

/// Deletes a stream. `false`: there is none.
async fn delete_stream(connection: &Connection, stream: &str) -> Result<bool, QueueError> {
    let what = "delete the run";
    let subject = format!("STREAM.DELETE.{stream}");
    match connection
        .api::<Value>(what, &subject, Bytes::new())
        .await?
    {
        Ok(_) => Ok(true),
        Err(error) => match connection.refused(what, &error) {
            QueueError::NoRun { .. } => Ok(false),
            error => Err(error),
        },
    }
}
