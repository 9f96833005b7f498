//! Models that run in a server of other people, through SQL: llama-cpp-python's, which speaks the protocol of OpenAI.
//!
//! `PG_RAG_LLAMA_PYTHON` names a Python that has it (`pip install 'llama-cpp-python[server]' gguf safetensors`). Without
//! the variable these tests ask nothing and say so.

use pg_rag_cluster_tests::session::{execute, expect_error, rows, run_in_background, value};
use pg_rag_cluster_tests::{account, wait_until, Cluster, ClusterOptions};
use postgres::error::SqlState;
use postgres::Client;
use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const KEY: &str = "sk-cluster-4711-do-not-print";

/// llama-cpp-python's server on loopback, until it is dropped.
struct Llama {
    python: String,
    process: Child,
    port: u16,
}

impl Drop for Llama {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn python() -> Option<String> {
    let python = std::env::var("PG_RAG_LLAMA_PYTHON").ok();
    if python.is_none() {
        eprintln!("PG_RAG_LLAMA_PYTHON names no Python with llama_cpp.server: nothing to ask");
    }
    python
}

/// A file or folder of the local models.
fn model(name: &str) -> PathBuf {
    let models = std::env::var("PG_RAG_MODELS").unwrap_or_else(|_| "/usr/local/share/pg_rag/models".to_owned());
    Path::new(&models).join(name)
}

impl Llama {
    /// Serves the GGUF file to those who have the key.
    fn serve(python: String, file: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(&python);
        command.args(["-m", "llama_cpp.server", "--n_ctx", "2048", "--n_threads", "2", "--host", "127.0.0.1"]);
        command.args(["--port", &port.to_string(), "--embedding", "true", "--api_key", KEY, "--model"]).arg(file);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let llama = Self { python, process, port };
        wait_until("the server listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        llama
    }

    /// Creates the foreign server "llama".
    fn create_server(&self, client: &mut Client) {
        let create = "CREATE SERVER llama FOREIGN DATA WRAPPER pg_rag_remote OPTIONS";
        execute(client, &format!("{create} (base_url 'http://127.0.0.1:{}/v1')", self.port));
    }

    /// What the server says to somebody who asks it without pg_rag.
    fn ask_directly(&self, question: &str, max_tokens: u32) -> String {
        const ASK: &str = "import json, sys, urllib.request as r
port, key, question, most = sys.argv[1:]
body = {'model': 'smol', 'temperature': 0, 'max_tokens': int(most), 'messages': [{'role': 'user', 'content': question}]}
headers = {'authorization': 'Bearer ' + key, 'content-type': 'application/json'}
answer = r.urlopen(r.Request(f'http://127.0.0.1:{port}/v1/chat/completions', json.dumps(body).encode(), headers))
sys.stdout.buffer.write(json.load(answer)['choices'][0]['message']['content'].encode())";
        run(Command::new(&self.python)
            .args(["-c", ASK, &self.port.to_string(), KEY, question])
            .arg(max_tokens.to_string()))
    }
}

/// What the command prints.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Lets everybody use the server "llama" with its key.
fn give_key(cluster: &Cluster, client: &mut Client) {
    let path = cluster.data().join("llama.key");
    fs::write(&path, KEY).unwrap();
    account::give(&path);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let mapping = "CREATE USER MAPPING FOR PUBLIC SERVER llama OPTIONS";
    execute(client, &format!("{mapping} (api_key_file '{}')", path.display()));
}

#[test]
fn a_server_of_other_people_answers() {
    let Some(python) = python() else { return };
    let llama = Llama::serve(python, &model("SmolLM2-135M-Instruct/SmolLM2-135M-Instruct.Q4_1.gguf"));
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let mut client = cluster.connect();
    llama.create_server(&mut client);
    let add =
        "SELECT rag_add_model('llama', 'generate', 'remote:llama', '{\"model\": \"smol\", \"max_tokens\": 2048}')";
    execute(&mut client, add);
    expect_error(
        client.batch_execute("SELECT generate('Say hello.', 'llama')"),
        &SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
    );
    give_key(&cluster, &mut client);

    let whole =
        value(&mut client, "SELECT generate('What is the capital of France?', 'llama', max_tokens => 24)").unwrap();
    assert_eq!(whole, llama.ask_directly("What is the capital of France?", 24));
    let pieces =
        rows(&mut client, "SELECT * FROM generate_stream('What is the capital of France?', 'llama', max_tokens => 24)");
    assert!(pieces.len() > 4, "{pieces:?}");
    assert_eq!(pieces.into_iter().map(|row| row[0].clone().unwrap()).collect::<String>(), whole);
    let stop = whole.split(|c: char| !c.is_alphabetic()).filter(|word| word.len() > 1).nth(3).expect("some words");
    let stopped = value(
        &mut client,
        &format!("SELECT generate('What is the capital of France?', 'llama', max_tokens => 24, stop => '{{{stop}}}')"),
    );
    assert_eq!(stopped.as_deref(), whole.split(stop).next());

    // A model that writes has no pooling: this server gives a vector for each token, which is no vector of a text.
    let add = "SELECT rag_add_model('llama vectors', 'embed', 'remote:llama', '{\"model\": \"smol\"}')";
    let refused = expect_error(client.batch_execute(add), &SqlState::PROTOCOL_VIOLATION);
    assert!(refused.message.contains("its JSON has another shape"), "{}", refused.message);

    execute(
        &mut client,
        "CREATE TABLE notes (id integer PRIMARY KEY, body text);
         INSERT INTO notes VALUES (1, 'Bread is made of flour, water, yeast and salt.');
         SELECT rag_create_index('notes', 'body', sync => 'manual')",
    );
    let said = value(&mut client, "SELECT rag_answer('What is bread made of?', model => 'llama', max_tokens => 32)");
    assert!(said.as_ref().is_some_and(|text| text.contains("flour")), "{said:?}");
    // A long answer is given up by cancelling.
    let long = "SELECT * FROM generate_stream('Write a long story about a lighthouse.', 'llama', max_tokens => 1900)";
    let background = run_in_background(&cluster, long);
    std::thread::sleep(Duration::from_millis(500));
    let from = Instant::now();
    client.execute("SELECT pg_cancel_backend($1)", &[&background.backend]).unwrap();
    expect_error(background.join().result, &SqlState::QUERY_CANCELED);
    assert!(from.elapsed() < Duration::from_secs(1));
}

/// The same weights there and here: MiniLM, which llama.cpp computes in single precision.
#[test]
fn a_server_of_other_people_embeds() {
    let Some(python) = python() else { return };
    let cluster = Cluster::with_extension(ClusterOptions::default());
    let file = cluster.data().join("minilm.gguf");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/make_minilm_gguf.py");
    run(Command::new(&python).arg(script).arg(model("all-MiniLM-L6-v2")).arg(&file));
    let llama = Llama::serve(python, &file);
    let mut client = cluster.connect();
    llama.create_server(&mut client);
    give_key(&cluster, &mut client);

    // It is asked for a vector, so that the number of dimensions is known.
    let add = "SELECT rag_add_model('llama vectors', 'embed', 'remote:llama', '{\"model\": \"minilm\", \"max_tokens\": 256}')";
    execute(&mut client, add);
    let known = "SELECT dimensions || ' ' || max_tokens FROM rag_models WHERE name = 'llama vectors'";
    assert_eq!(value(&mut client, known).as_deref(), Some("384 256"));

    execute(
        &mut client,
        "CREATE TABLE notes (id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY, body text);
         INSERT INTO notes (body) VALUES
             ('Bread is made of flour, water, yeast and salt.'), ('The moon goes round the earth once in about a month.'),
             ('index'), ('Ünïcödé naïve café résumé Łódź Ångström'), ('数据库中的向量索引 データベース'),
             (E'SELECT id FROM articles\\n WHERE lang = ''en'' AND v <=> $1 < 0.3;'), ('Быстрая лисица. Γειά σου Κόσμε.');
         INSERT INTO notes (body) SELECT 'Note ' || i || ' says ' || repeat('something new, ', i) FROM generate_series(1, 40) i",
    );
    let one_by_one = "SELECT max(embed(body, 'llama vectors') <=> embed(body)) < 1e-5 FROM notes";
    assert_eq!(value(&mut client, one_by_one).as_deref(), Some("t"));
    let together = "SELECT max(far <=> near) < 1e-5
                      FROM (SELECT array_agg(body ORDER BY id) AS bodies FROM notes) n,
                           unnest(embed(bodies, 'llama vectors'), embed(bodies, 'all-MiniLM-L6-v2')) v(far, near)";
    assert_eq!(value(&mut client, together).as_deref(), Some("t"));

    // The worker of the index asks it, too.
    execute(&mut client, "SELECT rag_create_index('notes', 'body', model => 'llama vectors')");
    execute(&mut client, "SELECT rag_wait('notes_rag')");
    let indexed =
        "SELECT count(DISTINCT id) || ' ' || (max(embedding <=> embed(chunk, 'llama vectors')) < 1e-5) FROM notes_rag";
    assert_eq!(value(&mut client, indexed).as_deref(), Some("47 true"));
    let found = "SELECT source_key FROM rag_search('What do bakers need?', k => 1)";
    assert_eq!(value(&mut client, found).as_deref(), Some("{\"id\": 1}"));
}
