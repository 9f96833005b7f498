//! Models from a hub through SQL: downloaded, used, watched, cancelled, and missed where they are not.

use pg_rag_cluster_tests::session::{expect_error, rows, run_in_background_of, value};
use pg_rag_cluster_tests::small_hub::SmallHub;
use pg_rag_cluster_tests::{account, wait_until, Cluster, ClusterOptions};
use postgres::error::SqlState;
use postgres::Client;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data").join(name)
}

/// A hub with a tiny embedding model, `org/tiny`, and its commit.
fn hub() -> (SmallHub, String) {
    let hub = SmallHub::start();
    let card: &[u8] = b"---\nlicense: apache-2.0\n---\n";
    let commit = hub.push_folder("org/tiny", "main", &data("encoder_families/distilbert"), &[("README.md", card)]);
    (hub, commit)
}

fn settings(hub: &SmallHub) -> [(&str, &str); 2] {
    [("pg_rag.allow_download", "on"), ("pg_rag.hub_endpoint", &hub.endpoint)]
}

#[test]
fn a_downloaded_model_embeds_as_its_reference_says() {
    let (hub, commit) = hub();
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    let refused = client.batch_execute("SELECT rag_download_model('org/tiny')");
    let refused = expect_error(refused, &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
    assert!(refused.hint.contains("pg_rag.allow_download"), "{}", refused.hint);
    assert!(hub.seen().is_empty());

    hub.behave(|conduct| conduct.redirects = true);
    cluster.configure(&settings(&hub));
    cluster.reload();
    let mut client = cluster.connect();
    wait_until("downloads are allowed", || value(&mut client, "SHOW pg_rag.allow_download").as_deref() == Some("on"));
    assert_eq!(value(&mut client, "SELECT rag_download_model('org/tiny')").as_deref(), Some("tiny"));
    let described = rows(
        &mut client,
        "SELECT kind, architecture, license, repository, revision, source LIKE 'server:hub/org--tiny/%', owner, granted_to
           FROM rag_models WHERE name = 'tiny'",
    );
    let expected = ["embed", "distilbert", "apache-2.0", "org/tiny", &commit, "t", "postgres", "{public}"];
    assert_eq!(described, [expected.map(|text| Some(text.to_owned()))]);
    let reference = std::fs::read_to_string(data("encoder_families/distilbert/reference.json")).unwrap();
    let distance = format!(
        "SELECT max(embed(e ->> 'text', 'tiny') <-> (e -> 'passage' ->> 'vector')::vector) < 1e-4, count(*) > 3
           FROM jsonb_array_elements($reference${reference}$reference$::jsonb -> 'entries') e"
    );
    assert_eq!(rows(&mut client, &distance), [["t", "t"].map(|text| Some(text.to_owned()))]);
    let states = "SELECT DISTINCT state FROM rag_model_files WHERE model = 'tiny'";
    assert_eq!(value(&mut client, states).as_deref(), Some("present"));
    assert_eq!(value(&mut client, "SELECT DISTINCT state FROM rag_check_model('tiny')").as_deref(), Some("ok"));

    // Names, kinds, patterns, commits.
    let again = client.batch_execute("SELECT rag_download_model('org/tiny')");
    expect_error(again, &SqlState::DUPLICATE_OBJECT);
    let none = client.batch_execute("SELECT rag_download_model('org/tiny', 'x', files => '{*.gguf}')");
    expect_error(none, &SqlState::INVALID_PARAMETER_VALUE);
    let unknown = client.batch_execute("SELECT rag_download_model('org/none')");
    expect_error(unknown, &SqlState::UNDEFINED_OBJECT);
    let bad = client.batch_execute("SELECT rag_download_model('../etc')");
    expect_error(bad, &SqlState::INVALID_PARAMETER_VALUE);

    // The branch moves on; the name stays with its commit, which needs no hub any more.
    hub.push("org/tiny", "main", &[("config.json", b"{}"), ("model.safetensors", b"x")]);
    assert_eq!(rows(&mut client, &distance), [["t", "t"].map(|text| Some(text.to_owned()))]);
    client.batch_execute("SET pg_rag.hub_endpoint = 'http://127.0.0.1:1'").unwrap();
    let pinned = format!("SELECT rag_download_model('org/tiny', 'pinned', revision => '{commit}')");
    assert_eq!(value(&mut client, &pinned).as_deref(), Some("pinned"));
    let same = "SELECT embed('a text', 'pinned') = embed('a text', 'tiny')";
    assert_eq!(value(&mut client, same).as_deref(), Some("t"));
    let unreachable = client.batch_execute("SELECT rag_download_model('org/tiny', 'moved')");
    let unreachable = expect_error(unreachable, &SqlState::CONNECTION_EXCEPTION);
    assert!(unreachable.hint.contains(&commit), "{}", unreachable.hint);
}

#[test]
fn a_download_is_watched_cancelled_and_continued() {
    let (hub, _) = hub();
    let cluster = Cluster::with_extension(ClusterOptions { conf: &settings(&hub), ..ClusterOptions::default() });
    let mut observer = cluster.connect();
    observer.batch_execute("SELECT count(*) FROM rag_server_status").unwrap();
    hub.behave(|conduct| conduct.drip = Some(Duration::from_millis(2)));
    let download = run_in_background_of(cluster.connect(), "SELECT rag_download_model('org/tiny')");
    wait_until("some bytes are there", || {
        assert!(!download.is_finished(), "it ended before the test could look at it");
        let progress =
            rows(&mut observer, "SELECT pid, phase FROM rag_model_progress WHERE model = 'tiny' AND done > 100");
        progress == [[Some(download.backend.to_string()), Some("download".to_owned())]]
    });
    let works = value(&mut observer, "SELECT works[1] FROM rag_server_status").unwrap_or_default();
    assert!(works.starts_with("tiny: download ") && works.ends_with(" %"), "{works}");
    let cancelled_at = Instant::now();
    value(&mut observer, &format!("SELECT pg_cancel_backend({})", download.backend));
    let ended = download.join();
    expect_error(ended.result, &SqlState::QUERY_CANCELED);
    assert!(ended.at.duration_since(cancelled_at) < Duration::from_secs(2));
    wait_until("the server has stopped", || {
        value(&mut observer, "SELECT count(*) FROM rag_model_progress").as_deref() == Some("0")
    });
    let sent_before: usize = hub.seen().iter().map(|seen| seen.sent).sum();
    assert!(sent_before > 0);
    hub.behave(|conduct| conduct.drip = None);
    value(&mut observer, "SELECT rag_download_model('org/tiny')");
    let seen = hub.seen();
    assert!(seen.iter().any(|seen| seen.range.is_some()), "{seen:?}");
    assert_eq!(value(&mut observer, "SELECT vector_norm(embed('a text', 'tiny')) > 0").as_deref(), Some("t"));
}

#[test]
fn tokens_are_secret_and_downloads_are_for_those_who_may() {
    let (hub, _) = hub();
    hub.behave(|conduct| conduct.token = Some("hf_secret".to_owned()));
    let cluster = Cluster::with_extension(ClusterOptions { conf: &settings(&hub), ..ClusterOptions::default() });
    let file = cluster.data().join("hub_token");
    std::fs::write(&file, "hf_secret\n").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    account::give(&file);
    let mut client = cluster.connect();
    let denied = client.batch_execute("SELECT rag_download_model('org/tiny')");
    let denied = expect_error(denied, &SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
    assert!(denied.hint.contains("pg_rag.hub_token_file"), "{}", denied.hint);
    client.batch_execute(&format!("ALTER SYSTEM SET pg_rag.hub_token_file = '{}'", file.display())).unwrap();
    cluster.reload();
    wait_until("the setting is known", || value(&mut client, "SHOW pg_rag.hub_token_file").as_deref() != Some(""));
    let open = client.batch_execute("SELECT rag_download_model('org/tiny')");
    let open = expect_error(open, &SqlState::CONFIG_FILE_ERROR);
    assert!(!open.message.contains("hf_secret"), "{}", open.message);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();

    client.batch_execute("CREATE ROLE alice LOGIN").unwrap();
    let mut alice = cluster.connect_as("alice", "postgres");
    value(&mut alice, "SELECT embed('a text')");
    for statement in [
        "SELECT rag_download_model('org/tiny')",
        "SHOW pg_rag.hub_token_file",
        "SET pg_rag.hub_token_file = '/etc/passwd'",
        "SET pg_rag.hub_endpoint = 'http://127.0.0.1:1'",
        "SET pg_rag.allow_download = on",
        "SET pg_rag.max_download_size = '1TB'",
        "SELECT * FROM rag_check_model('all-MiniLM-L6-v2')",
    ] {
        expect_error(alice.batch_execute(statement), &SqlState::INSUFFICIENT_PRIVILEGE);
    }
    client
        .batch_execute("GRANT EXECUTE ON FUNCTION rag_download_model(text, text, text, text, text[], jsonb) TO alice")
        .unwrap();
    assert_eq!(value(&mut alice, "SELECT rag_download_model('org/tiny', 'hers')").as_deref(), Some("hers"));
    let owner = "SELECT owner FROM rag_models WHERE name = 'hers'";
    assert_eq!(value(&mut alice, owner).as_deref(), Some("alice"));
    assert!(!cluster.log().contains("hf_secret"));
}

#[test]
fn what_dropped_models_have_left_can_be_deleted_and_had_again() {
    let (hub, _) = hub();
    let cluster = Cluster::with_extension(ClusterOptions { conf: &settings(&hub), ..ClusterOptions::default() });
    let mut client = cluster.connect();
    client.batch_execute("CREATE DATABASE another").unwrap();
    let mut another = cluster.connect_to("another");
    another.batch_execute("CREATE EXTENSION pg_rag").unwrap();
    for database in [&mut client, &mut another] {
        assert_eq!(value(database, "SELECT rag_download_model('org/tiny')").as_deref(), Some("tiny"));
    }
    let stored = "SELECT path, repository, models::text FROM rag_stored_models";
    let path = value(&mut client, "SELECT substr(source, 8) FROM rag_models WHERE name = 'tiny'").unwrap();
    let row = |models: &str| [[path.as_str(), "org/tiny", models].map(|text| Some(text.to_owned()))];
    assert_eq!(rows(&mut client, stored), row("{tiny}"));
    let delete = format!("SELECT rag_delete_stored_model('{path}')");
    expect_error(client.batch_execute(&delete), &SqlState::DEPENDENT_OBJECTS_STILL_EXIST);
    client.batch_execute("SELECT rag_drop_model('tiny')").unwrap();
    assert_eq!(rows(&mut client, stored), row("{}"));
    let refused = expect_error(client.batch_execute(&delete), &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
    assert!(refused.hint.contains("rag_stored_models"), "{}", refused.hint);
    assert_eq!(rows(&mut another, stored), row("{tiny}"));
    assert_eq!(value(&mut another, "SELECT vector_norm(embed('a text', 'tiny')) > 0").as_deref(), Some("t"));

    // Whoever says that it is unused and is wrong can have it again.
    let delete = format!("SELECT rag_delete_stored_model('{path}', unused_elsewhere => true) > 10000");
    assert_eq!(value(&mut client, &delete).as_deref(), Some("t"));
    assert!(rows(&mut client, stored).is_empty());
    let folder = cluster.data().join("pg_rag_models/hub");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    another.batch_execute("SELECT rag_unload_model('tiny')").unwrap();
    expect_error(another.batch_execute("SELECT embed('another text', 'tiny')"), &SqlState::UNDEFINED_FILE);
    assert_eq!(value(&mut client, "SELECT rag_download_model('org/tiny')").as_deref(), Some("tiny"));
    assert_eq!(value(&mut another, "SELECT vector_norm(embed('another text', 'tiny')) > 0").as_deref(), Some("t"));
}

fn wait_for_replay(primary: &mut Client, standby: &mut Client) {
    let position = value(primary, "SELECT pg_current_wal_lsn()").expect("a position");
    wait_until("the standby has replayed everything", || {
        value(standby, &format!("SELECT pg_last_wal_replay_lsn() >= '{position}'")).as_deref() == Some("t")
    });
}

#[test]
fn a_standby_tells_which_files_it_lacks() {
    let (hub, _) = hub();
    let primary = Cluster::with_extension(ClusterOptions { conf: &settings(&hub), ..ClusterOptions::default() });
    let standby = Cluster::standby_of(&primary);
    let (mut on_primary, mut on_standby) = (primary.connect(), standby.connect());
    value(&mut on_primary, "SELECT rag_download_model('org/tiny')");
    wait_for_replay(&mut on_primary, &mut on_standby);
    let states = "SELECT model, state, count(*) > 0 FROM rag_model_files WHERE model <> 'SmolLM2-135M-Instruct'
                  GROUP BY model, state ORDER BY 1, 2";
    let row = |model: &str, state: &str| [model, state, "t"].map(|text| Some(text.to_owned()));
    assert_eq!(rows(&mut on_primary, states), [row("all-MiniLM-L6-v2", "present"), row("tiny", "present")]);
    assert_eq!(rows(&mut on_standby, states), [row("all-MiniLM-L6-v2", "present"), row("tiny", "missing")]);
    assert!(standby.server_pids().is_empty(), "looking at files needs no server");
    let missing = on_standby.batch_execute("SELECT embed('a text', 'tiny')");
    expect_error(missing, &SqlState::UNDEFINED_FILE);
    let write = on_standby.batch_execute("SELECT rag_download_model('org/tiny', 'x')");
    expect_error(write, &SqlState::READ_ONLY_SQL_TRANSACTION);
}
