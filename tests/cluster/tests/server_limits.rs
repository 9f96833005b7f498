//! Limits of the model server: memory, models that nobody uses, and what a role may ask for at once.

use pg_rag_cluster_tests::session::{execute, expect_error, start_long_generation, value};
use pg_rag_cluster_tests::{wait_until, Cluster, ClusterOptions};
use postgres::error::SqlState;
use postgres::Client;

fn with_conf<'a>(conf: &'a [(&'a str, &'a str)]) -> Cluster {
    Cluster::with_extension(ClusterOptions { conf, ..Default::default() })
}

fn embed(client: &mut Client, text: &str) -> Result<(), postgres::Error> {
    client.batch_execute(&format!("SELECT embed('{text}', 'all-MiniLM-L6-v2')"))
}

fn loaded(client: &mut Client) -> String {
    let names = "SELECT coalesce(string_agg(name, ' ' ORDER BY name COLLATE \"C\"), '') FROM rag_loaded_models";
    value(client, names).expect("a text")
}

#[test]
fn a_model_that_does_not_fit_is_refused_before_it_is_loaded() {
    let cluster = with_conf(&[("pg_rag.max_memory", "64MB")]);
    let mut client = cluster.connect();
    let reported = expect_error(embed(&mut client, "a text"), &SqlState::OUT_OF_MEMORY);
    assert!(reported.message.starts_with("model \"all-MiniLM-L6-v2\" needs 1"), "{}", reported.message);
    assert!(reported.hint.contains("pg_rag.max_memory"), "{}", reported.hint);
    assert_eq!(loaded(&mut client), "");
    assert_eq!(value(&mut client, "SELECT memory_bytes FROM rag_server_status").as_deref(), Some("0"));
    assert_eq!(value(&mut client, "SELECT max_memory_bytes FROM rag_server_status").as_deref(), Some("67108864"));
}

#[test]
fn idle_models_make_room_for_others() {
    // Room for either of the two default models, not for both.
    let cluster = with_conf(&[("pg_rag.max_memory", "240MB")]);
    let mut client = cluster.connect();
    embed(&mut client, "a text").unwrap();
    assert_eq!(loaded(&mut client), "all-MiniLM-L6-v2");
    value(&mut client, "SELECT generate('Say hello.', max_tokens => 4)");
    assert_eq!(loaded(&mut client), "SmolLM2-135M-Instruct");
    embed(&mut client, "another text").unwrap();
    assert_eq!(loaded(&mut client), "all-MiniLM-L6-v2");
}

#[test]
fn a_model_that_nobody_uses_is_unloaded_and_comes_back() {
    let cluster = with_conf(&[("pg_rag.idle_unload", "1s")]);
    let mut client = cluster.connect();
    embed(&mut client, "a text").unwrap();
    wait_until("the model is unloaded", || loaded(&mut client).is_empty());
    embed(&mut client, "another text").unwrap();
}

#[test]
fn a_role_has_as_many_requests_as_its_setting_says() {
    let cluster = with_conf(&[]);
    let mut superuser = cluster.connect();
    execute(
        &mut superuser,
        "CREATE ROLE application LOGIN; ALTER ROLE application SET pg_rag.max_concurrent_requests = 1;
         ALTER ROLE application SET pg_rag.max_tokens = 3",
    );
    let mut application = cluster.connect_as("application", "postgres");
    let short = "SELECT token_count(generate('Count from one to twenty.', max_tokens => 100), 'SmolLM2-135M-Instruct')";
    let tokens: u32 = value(&mut application, short).expect("a number").parse().expect("a number");
    assert!(tokens <= 3, "{tokens} tokens");
    expect_error(application.batch_execute("SET pg_rag.max_tokens = 0"), &SqlState::INSUFFICIENT_PRIVILEGE);

    let running = start_long_generation(&cluster, &mut superuser);
    // The superuser's does not count.
    embed(&mut application, "a text").unwrap();
    execute(&mut superuser, "SET pg_rag.max_concurrent_requests = 1");
    let reported = expect_error(embed(&mut superuser, "another text"), &SqlState::CONFIGURATION_LIMIT_EXCEEDED);
    assert_eq!(reported.message, "too many requests of this role");
    execute(&mut superuser, &format!("SELECT pg_cancel_backend({})", running.backend));
    expect_error(running.join().result, &SqlState::QUERY_CANCELED);
    wait_until("the generation has ended", || embed(&mut superuser, "another text").is_ok());
}
