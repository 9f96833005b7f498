//! Ends a cluster without warning, and waits until it is back.

use crate::{process, wait_until, Cluster, Stop};

/// How a cluster crashes.
#[derive(Clone, Copy, Debug)]
pub enum Crash {
    /// Every process ends at once; the next start recovers.
    ImmediateStop,
    /// This backend is killed; PostgreSQL ends all others and recovers by itself.
    KilledBackend(i32),
}

/// Crashes the cluster. Returns when it has recovered; all sessions are gone then.
pub fn crash(cluster: &Cluster, how: Crash) {
    match how {
        Crash::ImmediateStop => {
            cluster.stop(Stop::Immediate);
            cluster.start_server();
        }
        Crash::KilledBackend(pid) => {
            let mut witness = cluster.connect();
            process::send_signal("KILL", pid);
            // Until PostgreSQL has noticed, it may still take a connection only to end it.
            wait_until("PostgreSQL has ended its sessions", || witness.batch_execute("SELECT 1").is_err());
            wait_until("PostgreSQL has recovered", || {
                let Ok(mut client) = cluster.try_connect("postgres", "postgres") else { return false };
                client.batch_execute("SELECT 1").is_ok()
            });
        }
    }
}
