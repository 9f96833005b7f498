//! A throwaway PostgreSQL cluster.
//!
//! A guard process removes the cluster when the test's end of a pipe closes, which also happens when the test is killed.
//! Everything lies in one short folder under `/tmp`: data directory, log, and the socket, the only way in.

use crate::{account, process, wait_until};
use postgres::{Client, Config, NoTls};
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

/// The port only names the socket's file; nothing listens on a network.
const PORT: u16 = 5432;

/// Name of the model server's program.
const SERVER: &str = "pg_rag_server";

#[derive(Clone, Copy, Default)]
pub struct ClusterOptions<'a> {
    /// Whether `shared_preload_libraries` names pg_rag.
    pub preload: bool,
    /// Whether the cluster writes to disk as it should: for tests of crashes.
    pub durable: bool,
    /// More settings for `postgresql.conf`.
    pub conf: &'a [(&'a str, &'a str)],
}

/// How a cluster is stopped.
#[derive(Clone, Copy)]
pub enum Stop {
    Fast,
    Immediate,
}

impl Stop {
    fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Immediate => "immediate",
        }
    }
}

pub struct Cluster {
    folder: PathBuf,
    guard: Child,
}

impl Cluster {
    /// A new cluster that runs, without pg_rag in any database.
    pub fn start(options: ClusterOptions<'_>) -> Self {
        let cluster = Self::empty();
        let mut initdb = cluster.program("initdb");
        initdb.arg("-D").arg(cluster.data()).args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
        ]);
        run(&mut initdb);
        let models = std::env::var("PG_RAG_MODELS").unwrap_or_else(|_| "/usr/local/share/pg_rag/models".to_owned());
        let folder = cluster.folder.display().to_string();
        let mut settings = vec![
            ("listen_addresses", ""),
            ("unix_socket_directories", &folder),
            ("max_connections", "60"),
            ("pg_rag.model_path", &models),
        ];
        if options.preload {
            settings.push(("shared_preload_libraries", "pg_rag"));
        }
        if !options.durable {
            settings.push(("fsync", "off"));
        }
        settings.extend(options.conf);
        cluster.configure(&settings);
        cluster.start_server();
        cluster
    }

    /// As [`Cluster::start`], with pg_rag in the database `postgres`.
    pub fn with_extension(options: ClusterOptions<'_>) -> Self {
        let cluster = Self::start(options);
        cluster.connect().batch_execute("CREATE EXTENSION pg_rag").expect("pg_rag is installed in this PostgreSQL");
        cluster
    }

    /// A hot standby of `primary`, made from a base backup.
    pub fn standby_of(primary: &Self) -> Self {
        let standby = Self::empty();
        let mut backup = primary.client_program("pg_basebackup");
        backup.arg("-D").arg(standby.data()).args(["-X", "stream", "--checkpoint=fast", "-R", "--no-sync"]);
        run(&mut backup);
        standby.configure(&[("unix_socket_directories", &standby.folder.display().to_string())]);
        standby.start_server();
        standby
    }

    /// A folder with its guard.
    fn empty() -> Self {
        let folder = tempfile::Builder::new().prefix("pg_rag-").tempdir_in("/tmp").expect("/tmp is writable").keep();
        account::give(&folder);
        let guard = account::command("sh")
            .args(["-c", "cat; \"$1/pg_ctl\" -D \"$2/data\" stop -m immediate -w -t 30; rm -rf \"$2\"", "guard"])
            .args([bindir(), folder.as_path()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // a Ctrl-C is for the tests; the guard then does its work
            .spawn()
            .expect("sh runs");
        Self { folder, guard }
    }

    /// Appends settings to `postgresql.conf`; later ones win. They count from the next start or [`Cluster::reload`].
    pub fn configure(&self, settings: &[(&str, &str)]) {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(self.data().join("postgresql.conf"))
            .expect("initdb has made postgresql.conf");
        for (name, value) in settings {
            writeln!(file, "{name} = '{}'", value.replace('\'', "''")).expect("postgresql.conf is writable");
        }
    }

    pub fn reload(&self) {
        run(self.pg_ctl().arg("reload"));
    }

    /// Starts the stopped server.
    pub fn start_server(&self) {
        let output = self.pg_ctl().args(["start", "-w", "-t", "60", "-l"]).arg(self.log_path()).output();
        let output = output.expect("pg_ctl runs");
        assert!(output.status.success(), "PostgreSQL did not start:\n{}", self.log());
    }

    pub fn stop(&self, how: Stop) {
        run(self.pg_ctl().args(["stop", "-w", "-t", "60", "-m", how.as_str()]));
    }

    pub fn restart(&self) {
        self.stop(Stop::Fast);
        self.start_server();
    }

    /// A session in the database `postgres`.
    pub fn connect(&self) -> Client {
        self.connect_as("postgres", "postgres")
    }

    pub fn connect_to(&self, database: &str) -> Client {
        self.connect_as("postgres", database)
    }

    pub fn connect_as(&self, user: &str, database: &str) -> Client {
        self.try_connect(user, database).unwrap_or_else(|failure| panic!("{failure}\n{}", self.log()))
    }

    /// A session whose notices and warnings go to `hear`.
    pub fn connect_and_hear(&self, hear: impl Fn(postgres::error::DbError) + Send + Sync + 'static) -> Client {
        let mut config = self.config("postgres", "postgres");
        config.notice_callback(hear);
        config.connect(NoTls).unwrap_or_else(|failure| panic!("{failure}\n{}", self.log()))
    }

    pub fn try_connect(&self, user: &str, database: &str) -> Result<Client, postgres::Error> {
        self.config(user, database).connect(NoTls)
    }

    fn config(&self, user: &str, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(&self.folder).port(PORT).user(user).dbname(database);
        config
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// What PostgreSQL has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Model servers of this cluster, also one whose supervisor is gone.
    pub fn server_pids(&self) -> Vec<i32> {
        process::named_in(SERVER, &self.data())
    }

    /// The one model server of this cluster.
    pub fn server_pid(&self) -> i32 {
        let pids = self.server_pids();
        assert_eq!(pids.len(), 1, "one model server expected, not {pids:?}");
        pids[0]
    }

    pub fn supervisor_pids(&self) -> Vec<i32> {
        process::titled_in("pg_rag supervisor", &self.data())
    }

    /// Kills the model server as the kernel does when memory runs out.
    pub fn kill_server_process(&self) {
        let pid = self.server_pid();
        process::send_signal("KILL", pid);
        // Until it is reaped, one of its threads may still hold its sockets open.
        wait_until("the killed server is gone", || !process::exists(pid));
    }

    /// A program of PostgreSQL that will run as the cluster's user.
    fn program(&self, name: &str) -> Command {
        account::command(bindir().join(name))
    }

    fn pg_ctl(&self) -> Command {
        let mut command = self.program("pg_ctl");
        // A server that starts keeps these; a pipe would never end.
        command.arg("-D").arg(self.data()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// A client program of PostgreSQL that will connect to this cluster.
    pub fn client_program(&self, name: &str) -> Command {
        let mut command = self.program(name);
        command.env("PGHOST", &self.folder).env("PGPORT", PORT.to_string()).env("PGUSER", "postgres");
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the cluster:\n{}", self.log());
        }
        drop(self.guard.stdin.take());
        // The guard cannot be helped if it fails.
        let _ = self.guard.wait();
    }
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|failure| panic!("{command:?}: {failure}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Folder of PostgreSQL's programs.
fn bindir() -> &'static Path {
    static BINDIR: OnceLock<PathBuf> = OnceLock::new();
    BINDIR.get_or_init(|| {
        let pg_config = std::env::var_os("PG_CONFIG").unwrap_or_else(|| "pg_config".into());
        let output = run(Command::new(pg_config).arg("--bindir"));
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    })
}
