//! The model server's life: one process for all sessions, started when needed and again when it dies.

use pg_rag_cluster_tests::session::{backend_pid, describe, expect_error, generating, start_long_generation, value};
use pg_rag_cluster_tests::{holds_within, process, wait_until, Cluster, ClusterOptions};
use postgres::error::SqlState;
use postgres::Client;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::sync::Barrier;
use std::time::Duration;

fn embeds(client: &mut Client) {
    assert_eq!(value(client, "SELECT vector_dims(embed('a short text', 'all-MiniLM-L6-v2'))").as_deref(), Some("384"));
}

fn preloaded() -> ClusterOptions<'static> {
    ClusterOptions { preload: true, ..Default::default() }
}

#[test]
fn first_call_starts_the_server_when_the_library_is_not_preloaded() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    assert!(cluster.server_pids().is_empty(), "no server before the first call");
    assert!(cluster.supervisor_pids().is_empty(), "no supervisor before the first call");

    embeds(&mut cluster.connect());
    assert_eq!(cluster.server_pids().len(), 1);
    assert_eq!(cluster.supervisor_pids().len(), 1);

    let socket = std::fs::metadata(cluster.data().join("pg_stat_tmp/pg_rag.sock")).expect("the socket is there");
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
}

#[test]
fn preloaded_library_starts_the_server_with_the_cluster() {
    let cluster = Cluster::with_extension(preloaded());
    wait_until("the server runs without a call", || cluster.server_pids().len() == 1);
    let server = cluster.server_pid();
    embeds(&mut cluster.connect());
    assert_eq!(cluster.server_pids(), [server]);
}

#[test]
fn databases_of_a_cluster_share_one_server() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    cluster.connect().batch_execute("CREATE DATABASE other").unwrap();
    let mut other = cluster.connect_to("other");
    other.batch_execute("CREATE EXTENSION pg_rag").unwrap();
    embeds(&mut cluster.connect());
    let server = cluster.server_pid();
    embeds(&mut other);
    assert_eq!(cluster.server_pids(), [server]);
}

#[test]
fn simultaneous_first_calls_start_one_server() {
    const SESSIONS: usize = 10;
    let cluster =
        Cluster::with_extension(ClusterOptions { conf: &[("max_worker_processes", "16")], ..Default::default() });
    let start = Barrier::new(SESSIONS);
    std::thread::scope(|scope| {
        for _ in 0..SESSIONS {
            scope.spawn(|| {
                let mut client = cluster.connect();
                start.wait();
                embeds(&mut client);
            });
        }
    });
    assert_eq!(cluster.server_pids().len(), 1);
    wait_until("all but one supervisor have left", || cluster.supervisor_pids().len() == 1);
}

#[test]
fn twenty_sessions_hold_no_model() {
    const LIMIT_KIB: u64 = 20 * 1024;
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut fresh = cluster.connect();
    value(&mut fresh, "SELECT 1");
    let fresh_kib = process::private_kib(backend_pid(&mut fresh));

    let mut sessions: Vec<Client> = (0..20).map(|_| cluster.connect()).collect();
    for session in &mut sessions {
        embeds(session);
        value(session, "SELECT generate('Say hello.', max_tokens => 4)");
    }
    let mut most_kib = 0;
    for session in &mut sessions {
        most_kib = most_kib.max(process::private_kib(backend_pid(session)).saturating_sub(fresh_kib));
    }
    eprintln!("private memory: fresh backend {fresh_kib} KiB, at most {most_kib} KiB more after embed and generate");
    assert!(most_kib < LIMIT_KIB, "a backend grew by {most_kib} KiB");
    assert_eq!(cluster.server_pids().len(), 1);
    let loaded = value(&mut fresh, "SELECT string_agg(name, ' ' ORDER BY name COLLATE \"C\") FROM rag_loaded_models");
    assert_eq!(loaded.as_deref(), Some("SmolLM2-135M-Instruct all-MiniLM-L6-v2"));
}

#[test]
fn killed_server_fails_the_running_call_and_nothing_else() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut bystander = cluster.connect();
    bystander.batch_execute("CREATE TABLE kept (id integer); BEGIN; INSERT INTO kept VALUES (1)").unwrap();
    let bystander_pid = backend_pid(&mut bystander);
    let mut observer = cluster.connect();

    let call = start_long_generation(&cluster, &mut observer);
    cluster.kill_server_process();
    let mut ended = call.join();
    let reported = expect_error(ended.result, &SqlState::CONNECTION_FAILURE);
    assert_eq!(reported.message, "connection to the model server was lost");
    assert!(reported.hint.contains("Try again"), "{}", reported.hint);

    assert_eq!(backend_pid(&mut bystander), bystander_pid);
    bystander.batch_execute("INSERT INTO kept VALUES (2); COMMIT").unwrap();
    assert_eq!(value(&mut bystander, "SELECT count(*) FROM kept").as_deref(), Some("2"));

    assert!(value(&mut ended.client, "SELECT generate('Say hello.', max_tokens => 4)").is_some());
    embeds(&mut ended.client);
    assert_eq!(generating(&mut observer), 0);
}

#[test]
fn server_comes_back_every_time_it_is_killed() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    embeds(&mut client);
    for round in 0..4 {
        let killed = cluster.server_pid();
        cluster.kill_server_process();
        // A text of its own, so that no memo answers.
        let dims = value(&mut client, &format!("SELECT vector_dims(embed('round {round}', 'all-MiniLM-L6-v2'))"));
        assert_eq!(dims.as_deref(), Some("384"));
        assert_ne!(cluster.server_pid(), killed);
    }
}

#[test]
fn stopped_supervisor_takes_the_server_along_and_the_next_call_starts_both() {
    for options in [ClusterOptions::default(), preloaded()] {
        let cluster = Cluster::with_extension(options);
        let mut client = cluster.connect();
        embeds(&mut client);
        let [supervisor] = cluster.supervisor_pids()[..] else { panic!("one supervisor expected") };
        let server = cluster.server_pid();
        process::send_signal("TERM", supervisor);
        wait_until("supervisor and server are gone", || !process::is_alive(supervisor) && !process::is_alive(server));
        let dims = value(&mut client, "SELECT vector_dims(embed('after it', 'all-MiniLM-L6-v2'))");
        assert_eq!(dims.as_deref(), Some("384"));
        assert_ne!(cluster.server_pid(), server);
    }
}

#[test]
fn missing_program_is_reported_with_a_hint() {
    let conf = [("pg_rag.server_binary", "/nonexistent/pg_rag_server")];
    let cluster = Cluster::with_extension(ClusterOptions { conf: &conf, ..Default::default() });
    let mut client = cluster.connect();
    let reported = expect_error(client.batch_execute("SELECT embed('a text')"), &SqlState::UNDEFINED_FILE);
    assert!(reported.message.contains("\"/nonexistent/pg_rag_server\""), "{}", reported.message);
    assert!(reported.hint.contains("pg_rag.server_binary"), "{}", reported.hint);
    assert!(cluster.supervisor_pids().is_empty(), "no worker is started for nothing");

    cluster.configure(&[("pg_rag.server_binary", "")]);
    cluster.reload();
    wait_until("the setting is read", || value(&mut client, "SHOW pg_rag.server_binary").as_deref() == Some(""));
    embeds(&mut client);
}

#[test]
fn a_device_that_cannot_be_used_is_said_in_the_log() {
    let conf = [("pg_rag.device", "cuda:4711"), ("pg_rag.server_start_timeout", "1s")];
    let cluster = Cluster::with_extension(ClusterOptions { conf: &conf, ..Default::default() });
    let mut client = cluster.connect();
    let failure = client.batch_execute("SELECT embed('a text')").unwrap_err();
    let reported = failure.as_db_error().unwrap();
    assert!(reported.hint().is_some_and(|hint| hint.contains("See the PostgreSQL log")), "{reported:?}");
    wait_until("the reason is in the log", || cluster.log().contains("device \"cuda:4711\""));

    cluster.configure(&[("pg_rag.device", "cpu"), ("pg_rag.server_start_timeout", "30s")]);
    cluster.reload();
    wait_until("the setting is read", || value(&mut client, "SHOW pg_rag.device").as_deref() == Some("cpu"));
    embeds(&mut client);
    let devices = "SELECT count(*) FROM rag_devices WHERE kind = 'cpu'";
    assert_eq!(value(&mut client, devices).as_deref(), Some("1"));
}

#[test]
fn no_free_worker_slot_is_reported_with_a_hint() {
    let conf = [("max_worker_processes", "0")];
    let cluster = Cluster::with_extension(ClusterOptions { conf: &conf, ..Default::default() });
    let mut client = cluster.connect();
    let reported =
        expect_error(client.batch_execute("SELECT embed('a text')"), &SqlState::CONFIGURATION_LIMIT_EXCEEDED);
    assert!(reported.hint.contains("max_worker_processes"), "{}", reported.hint);
    assert_eq!(value(&mut client, "SELECT 1").as_deref(), Some("1"), "the session goes on");
}

#[test]
fn idle_server_uses_no_processor_time() {
    const OBSERVED: Duration = Duration::from_secs(2);
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    embeds(&mut client);
    value(&mut client, "SELECT generate('Say hello.', max_tokens => 4)");
    let server = cluster.server_pid();
    let idle = holds_within(Duration::from_secs(10), || {
        let before = process::cpu_ticks(server);
        std::thread::sleep(OBSERVED);
        process::cpu_ticks(server) <= before + 1
    });
    assert!(idle, "the server still computes {OBSERVED:?} after {OBSERVED:?}");
}

#[test]
fn restarted_cluster_serves_again_and_leaves_no_old_server() {
    let cluster = Cluster::with_extension(ClusterOptions::default());
    embeds(&mut cluster.connect());
    let before = cluster.server_pid();
    cluster.restart();
    assert!(!process::is_alive(before), "the old server survived its cluster");
    let mut client = cluster.connect();
    client.batch_execute("SELECT embed('again')").unwrap_or_else(|failure| panic!("{}", describe(&failure)));
    assert_ne!(cluster.server_pid(), before);
}
